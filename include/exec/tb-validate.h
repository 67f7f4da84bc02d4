/*
 * Translations that outlive a time in which nothing tells TCG of stores
 *
 * While another accelerator runs the guest, code changes and no TB is dropped
 * for it (hazard F3).  So each TB keeps the bytes that it was made of.  When
 * the guest is back in TCG, all pages of code are stale: a page is compared
 * with those bytes before the first of its TBs is executed, and only TBs that
 * differ are dropped.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef EXEC_TB_VALIDATE_H
#define EXEC_TB_VALIDATE_H

#include "exec/cpu-common.h"
#include "exec/translation-block.h"

/**
 * tb_validate_init: have each TB keep the bytes that it is made of
 *
 * Before the first TB.  Costs as much of the translation buffer as the guest
 * has code there.
 */
void tb_validate_init(void);

/**
 * tb_validate_all: the guest's memory may have changed behind TCG's back
 *
 * All vCPUs are paused, outside of cpu_exec(), and their TLBs are flushed
 * before they run again.  BQL held.  Needs tb_validate_init().
 */
void tb_validate_all(void);

/**
 * tb_validate_is_wasteful: is most of what is kept of no use?
 *
 * The translation buffer gets the room of a TB that was dropped back by
 * tb_flush() alone.  True if that is more than half of the TBs, and worth it.
 * As tb_validate_all(), which is then to be replaced by tb_flush().
 */
bool tb_validate_is_wasteful(void);

/* Counts since QEMU was started */
typedef struct TBValidateStats {
    uint64_t made;              /* TBs translated */
    uint64_t kept;              /* compared TBs, whose code had not changed */
    uint64_t dropped;           /* compared TBs, whose code had changed */
    uint64_t pages;             /* pages compared */
    uint64_t flushes;           /* how often all TBs were dropped */
} TBValidateStats;

/* Any thread */
void tb_validate_get_stats(TBValidateStats *stats);

/* The rest is for accel/tcg. */

#ifdef CONFIG_USER_ONLY

static inline void tb_validate_page(tb_page_addr_t addr)
{
}

static inline void tb_validate_saw_code(int64_t offset, const void *bytes,
                                        size_t len)
{
}

static inline int tb_validate_save(TranslationBlock *tb, void *block, int size)
{
    return size;
}

#else

/**
 * tb_validate_page: if the page of code at @addr is stale, compare its TBs
 *
 * To be called before a TB that begins there is looked up or made.  Any vCPU's
 * thread; no page is locked.
 */
void tb_validate_page(tb_page_addr_t addr);

/*
 * The translator has read @len bytes of code, @offset bytes behind the TB's
 * start, as in @bytes.
 */
void tb_validate_saw_code(int64_t offset, const void *bytes, size_t len);

/**
 * tb_validate_save: put the code of @tb behind its search data
 * @block: where the search data begin, in the translation buffer
 * @size: of the search data, in bytes; -1 if they had no room
 *
 * Returns the size of both, or -1 if there is no room.  The thread that has
 * translated @tb.
 */
int tb_validate_save(TranslationBlock *tb, void *block, int size);

#endif

#endif
