/*
 * The target's part of the switch's self-tests
 *
 * Unless a comment says otherwise: main loop, BQL held, all vCPUs paused.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TARGET_I386_SWITCH_SELFTEST_SELFTEST_H
#define TARGET_I386_SWITCH_SELFTEST_SELFTEST_H

#include "switch/state/table.h"
#include "switch/x86-switch.h"

/* clocks.c: one reading of the clocks, which run on during a round trip */
typedef struct X86Clocks {
    int64_t read_from;      /* get_clock() as the reading began */
    int64_t read_to;        /* and as it ended */
    int64_t timer_left;     /* until the LAPIC's timer expires; ns */
    int64_t timer_period;   /* the timer's, in ns; 0: one-shot */
    int timer_step;         /* one count of the timer, in ns */
    bool has_tsc;           /* the TSC's offset must not change */
    int64_t tsc_offset;     /* ticks */
} X86Clocks;

/* Begin a reading: comes before any clock is read. */
void x86_selftest_clocks_begin(X86Clocks *c);
void x86_selftest_clocks_take_kvm(X86Clocks *c,
                                  const struct kvm_lapic_state *page);
void x86_selftest_clocks_take_tcg(X86Clocks *c, CPUState *cs);
/* What is wrong, for the caller to free, or NULL. */
char *x86_selftest_clocks_diff(const X86Clocks *before, const X86Clocks *after);

/*
 * poison.c: whether KVM has part @p of the table.  It may lack those that a
 * capability or a device attribute stands for.
 */
bool x86_selftest_has_part(CPUState *cs, const X86StatePart *p);

/*
 * poison.c: overwrite what KVM holds of vCPU @cs, with the MSRs in @all, while
 * TCG has the guest.  False and @errp set if KVM refuses.
 */
bool x86_selftest_poison_kvm(CPUState *cs, const X86KVMState *all,
                             Error **errp);

#endif
