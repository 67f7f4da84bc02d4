/*
 * A rehearsal: TCG executes instructions that are then undone
 *
 * TCG sees each store to a page that some dirty-memory client calls clean.  So
 * all RAM is made clean for migration, which does not run, and made dirty again
 * at the end.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/util.h"
#include "qemu/rcu.h"
#include "exec/cputlb.h"
#include "exec/exec-all.h"
#include "exec/ram_addr.h"
#include "exec/ramlist.h"
#include "system/tcg.h"
#include "internal.h"
#include "compare.h"

/* So many bytes of a difference are shown. */
#define SHOWN 16

typedef struct Page {
    ram_addr_t ram_addr;
    hwaddr address;             /* physical */
    uint8_t before[TARGET_PAGE_SIZE];
    uint8_t after[TARGET_PAGE_SIZE];
} Page;

bool accel_switch_rehearsing;

static GHashTable *pages;       /* by Page.ram_addr */
static GHashTable *first_pages; /* those of the first run, in the second */
static AccelCompareEnd stop;
static int vector;

static uint8_t *host_page(const Page *page)
{
    return qemu_map_ram_ptr(NULL, page->ram_addr);
}

void accel_switch_rehearse_write(ram_addr_t ram_addr, hwaddr address)
{
    Page *page;

    ram_addr &= TARGET_PAGE_MASK;
    if (g_hash_table_contains(pages, &ram_addr)) {
        return;
    }
    page = g_new(Page, 1);
    page->ram_addr = ram_addr;
    page->address = address & TARGET_PAGE_MASK;
    memcpy(page->before, host_page(page), TARGET_PAGE_SIZE);
    g_hash_table_insert(pages, &page->ram_addr, page);
}

void accel_switch_rehearse_mmio(CPUState *cpu, uintptr_t retaddr)
{
    stop = ACCEL_COMPARE_END_MMIO;
    cpu->exception_index = EXCP_INTERRUPT;
    cpu_loop_exit_restore(cpu, retaddr);
}

void accel_switch_rehearse_exception(CPUState *cpu, int exception)
{
    vector = exception;
}

void accel_switch_rehearse_shutdown(CPUState *cpu)
{
    stop = ACCEL_COMPARE_END_SHUTDOWN;
    cpu->exception_index = EXCP_INTERRUPT;
    cpu_loop_exit(cpu);
}

AccelCompareEnd switch_rehearsal_take_stop(void)
{
    AccelCompareEnd taken = stop;

    stop = ACCEL_COMPARE_END_COUNT;
    return taken;
}

int switch_rehearsal_take_vector(void)
{
    int taken = vector;

    vector = -1;
    return taken;
}

static int make_clean(RAMBlock *block, void *opaque)
{
    cpu_physical_memory_test_and_clear_dirty(block->offset, block->used_length,
                                             DIRTY_MEMORY_MIGRATION);
    return 0;
}

static int make_dirty(RAMBlock *block, void *opaque)
{
    cpu_physical_memory_set_dirty_range(block->offset, block->used_length,
                                        1 << DIRTY_MEMORY_MIGRATION);
    return 0;
}

void switch_rehearsal_begin(void)
{
    CPUState *cpu;

    pages = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, g_free);
    stop = ACCEL_COMPARE_END_COUNT;
    vector = -1;
    qemu_ram_foreach_block(make_clean, NULL);
    CPU_FOREACH(cpu) {
        tlb_flush(cpu);
    }
    accel_switch_rehearsing = true;
}

void switch_rehearsal_rewind(void)
{
    GHashTableIter iter;
    Page *page;

    RCU_READ_LOCK_GUARD();
    accel_switch_rehearsing = false;
    g_hash_table_iter_init(&iter, pages);
    while (g_hash_table_iter_next(&iter, NULL, (void **)&page)) {
        uint8_t *now = host_page(page);

        memcpy(page->after, now, TARGET_PAGE_SIZE);
        if (switch_omits(SWITCH_FIXUP_COMPARE_UNDO)) {
            continue;
        }
        tb_invalidate_phys_range(page->ram_addr,
                                 page->ram_addr + TARGET_PAGE_SIZE - 1);
        memcpy(now, page->before, TARGET_PAGE_SIZE);
    }
    qemu_ram_foreach_block(make_dirty, NULL);
}

char *switch_compare_digits(const uint8_t *bytes, int count)
{
    GString *s = g_string_new(NULL);

    for (int i = 0; i < count; i++) {
        g_string_append_printf(s, "%02x", bytes[i]);
    }
    return g_string_free(s, false);
}

static void compare_page(const Page *page, const uint8_t *kvm,
                         AccelCompareMemoryList ***tail, int *room)
{
    for (int i = 0; i < TARGET_PAGE_SIZE && *room; i++) {
        AccelCompareMemory *m;
        int count = 0;

        while (count < SHOWN && i + count < TARGET_PAGE_SIZE &&
               kvm[i + count] != page->after[i + count]) {
            count++;
        }
        if (!count) {
            continue;
        }
        m = g_new0(AccelCompareMemory, 1);
        m->address = page->address + i;
        m->kvm = switch_compare_digits(kvm + i, count);
        m->tcg = switch_compare_digits(page->after + i, count);
        m->before = switch_compare_digits(page->before + i, count);
        QAPI_LIST_APPEND(*tail, m);
        i += count - 1;
        --*room;
    }
}

void switch_rehearsal_compare(AccelComparison *result)
{
    AccelCompareMemoryList **tail = &result->memory;
    int room = SWITCH_COMPARE_LISTED;
    GHashTableIter iter;
    Page *page;

    RCU_READ_LOCK_GUARD();
    result->pages = g_hash_table_size(pages);
    g_hash_table_iter_init(&iter, pages);
    while (g_hash_table_iter_next(&iter, NULL, (void **)&page)) {
        compare_page(page, host_page(page), &tail, &room);
    }
}

void switch_rehearsal_restart(void)
{
    switch_rehearsal_rewind();
    g_hash_table_destroy(pages);
    switch_rehearsal_begin();
}

void switch_rehearsal_repeat(void)
{
    first_pages = pages;
    switch_rehearsal_begin();
}

/* Words of a page that differ between two runs */
static void compare_runs(AccelCompareValueList ***tail, int *room,
                         hwaddr address, const uint8_t *first,
                         const uint8_t *second)
{
    for (int i = 0; i < TARGET_PAGE_SIZE && *room; i += sizeof(uint64_t)) {
        uint64_t a = ldq_le_p(first + i), b = ldq_le_p(second + i);
        AccelCompareValue *value;

        if (a == b) {
            continue;
        }
        value = g_new0(AccelCompareValue, 1);
        value->name = g_strdup_printf("0x%" HWADDR_PRIx, address + i);
        value->kvm = a;
        value->tcg = b;
        QAPI_LIST_APPEND(*tail, value);
        --*room;
    }
}

AccelCompareValueList *switch_rehearsal_compare_runs(void)
{
    AccelCompareValueList *list = NULL, **tail = &list;
    int room = SWITCH_COMPARE_LISTED;
    GHashTableIter iter;
    Page *page;

    g_hash_table_iter_init(&iter, pages);
    while (g_hash_table_iter_next(&iter, NULL, (void **)&page)) {
        const Page *first = g_hash_table_lookup(first_pages, &page->ram_addr);

        if (switch_omits(SWITCH_FIXUP_COMPARE_BLOCKS_END)) {
            page->after[0] ^= 1;
        }
        compare_runs(&tail, &room, page->address,
                     first ? first->after : page->before, page->after);
    }
    g_hash_table_iter_init(&iter, first_pages);
    while (g_hash_table_iter_next(&iter, NULL, (void **)&page)) {
        if (!g_hash_table_contains(pages, &page->ram_addr)) {
            compare_runs(&tail, &room, page->address, page->after,
                         page->before);
        }
    }
    g_hash_table_destroy(pages);
    pages = g_steal_pointer(&first_pages);
    return list;
}

void switch_rehearsal_end(void)
{
    g_clear_pointer(&pages, g_hash_table_destroy);
}
