/*
 * Comparisons of TCG with KVM, instruction by instruction
 *
 * compare.c has the command.  rehearsal.c keeps guest memory as it was before
 * TCG wrote it; the target executes and compares instructions:
 *
 *   in TCG   rehearse, rewind guest memory and the vCPU; once more in whole
 *            translation blocks, compare with the first time; switch
 *   in KVM   step as far, compare guest memory, switch
 *   in TCG   compare registers and the vCPU's state
 *
 * The guest is stopped, and the main thread waits for the vCPU's: no device
 * changes guest memory.  The main loop stands still meanwhile.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef ACCEL_SWITCH_COMPARE_H
#define ACCEL_SWITCH_COMPARE_H

#include "qapi/qapi-types-accel-compare-target.h"

/* So many differences a comparison lists. */
#define SWITCH_COMPARE_LISTED 64

/* rehearsal.c: hexadecimal digits, to be freed.  Any thread. */
char *switch_compare_digits(const uint8_t *bytes, int count);

/*
 * rehearsal.c.  Main thread, BQL held, guest stopped and in TCG, but where a
 * comment says otherwise.
 */

/* From now on keep each page that TCG is about to write, and stop at MMIO. */
void switch_rehearsal_begin(void);
/*
 * The vCPU's thread, after each of its instructions: why it was not executed,
 * ACCEL_COMPARE_END_COUNT if it was; and the exception that it raised, or -1.
 * Both are forgotten.
 */
AccelCompareEnd switch_rehearsal_take_stop(void);
int switch_rehearsal_take_vector(void);
/* Keep what the pages have become, and have them as they were. */
void switch_rehearsal_rewind(void);
/* Rewind, forget the pages, and begin again. */
void switch_rehearsal_restart(void);
/* After a rewind: keep its pages, and begin again for a second run. */
void switch_rehearsal_repeat(void);
/*
 * After the rewind of that: words of memory that differ between the runs.  In
 * these @kvm is the first run's.  The second's pages are freed, and the first's
 * are the current ones again.
 */
AccelCompareValueList *switch_rehearsal_compare_runs(void);
/* In KVM: how many pages there are, what differs from what they had become */
void switch_rehearsal_compare(AccelComparison *result);
/* Forget them.  In any accelerator. */
void switch_rehearsal_end(void);

/* The target's.  Main thread, BQL held, guest stopped. */
typedef struct SwitchSteps SwitchSteps;

SwitchSteps *switch_arch_new_steps(void);
void switch_arch_free_steps(SwitchSteps *steps);
/* How many instructions are in it; the one after them is not. */
unsigned switch_arch_count_steps(const SwitchSteps *steps);

/*
 * In TCG: execute at most @max instructions of @cpu, between begin and rewind,
 * and then have the vCPU as it was.  Returns why there are no more.  Drops the
 * BQL.
 */
AccelCompareEnd switch_arch_rehearse(CPUState *cpu, unsigned max,
                                     SwitchSteps *steps);
/*
 * In TCG, between repeat and rewind: execute what is in @steps once more, in
 * whole translation blocks.  Drops the BQL.
 */
void switch_arch_rehearse_blocks(CPUState *cpu, SwitchSteps *steps);
/* Fills in what @result says of blocks.  Takes @memory, where they differ. */
void switch_arch_compare_blocks(const SwitchSteps *steps,
                                AccelCompareValueList *memory,
                                AccelComparison *result);
/*
 * In KVM: execute as many as are in @tcg, or fewer, if it takes another way.
 * Drops the BQL.
 */
void switch_arch_step_kvm(CPUState *cpu, const SwitchSteps *tcg,
                          SwitchSteps *steps);
/*
 * In TCG again: fills in the rest of @result but for @pages and @memory.  True
 * if both have come to the same end; if not, guest memory can't be compared.
 */
bool switch_arch_compare_steps(CPUState *cpu, const SwitchSteps *kvm,
                               const SwitchSteps *tcg, AccelCompareEnd end,
                               AccelComparison *result);

#endif
