/*
 * What tests ask of the switch: fix-ups to leave out, ioctls that are
 * to fail, and a round trip
 *
 * QEMU has it if it was configured with -Daccel_switch_selftest=true.  Without
 * it the functions below are constants, for which the compiler drops the
 * branches, and there are no properties and no x-accel-roundtrip.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef ACCEL_SWITCH_SELFTEST_H
#define ACCEL_SWITCH_SELFTEST_H

#include "accel/switch/switch.h"

/* A fix-up that a test may leave out (x-omit=NAME[:NAME…]) */
typedef enum SwitchFixup {
    SWITCH_FIXUP_TB_FLUSH,          /* F3: translated code */
    SWITCH_FIXUP_SHADOW_FLUSH,      /* F1, F2: hardware TLB, shadow pages */
    SWITCH_FIXUP_REINJECT,          /* C6: events in delivery */
    SWITCH_FIXUP_EXTINT,            /* C6: PIC vector given to KVM */
    SWITCH_FIXUP_LAPIC_EXPIRED,     /* E2: expired LAPIC timer */
    SWITCH_FIXUP_LAPIC_COUNT,       /* E2: LAPIC timer's current count */
    SWITCH_FIXUP_TSC_OFFSET,        /* C13: TSC goes on */
    SWITCH_FIXUP_TSC_ORDER,         /* C13: RDTSC waits for loads before it */
    SWITCH_FIXUP_XSTATE_BV,         /* C10: XSTATE_BV */
    SWITCH_FIXUP_X87_ORDER,         /* C1: x87 stack order */
    SWITCH_FIXUP_INTERRUPT_SHADOW,  /* C7: STI and MOV SS */
    SWITCH_FIXUP_DESCRIPTORS,       /* C4, C12: TR busy, Accessed bits */
    SWITCH_FIXUP_GUEST_VALUES,      /* C20: what TCG lets a guest write */
    SWITCH_FIXUP_COALESCED_MMIO,    /* E9: writes that KVM has kept */
    SWITCH_FIXUP_INTERRUPT_READY,   /* C6: what KVM_RUN said before a load */
    SWITCH_FIXUP_KVM_CLOCK,         /* E14: its MSRs, set in TCG */
    SWITCH_FIXUP_CPUID,             /* D2: KVM's table in TCG */
    SWITCH_FIXUP__MAX,
} SwitchFixup;

#ifdef CONFIG_ACCEL_SWITCH_SELFTEST

static inline bool switch_omits(SwitchFixup f)
{
    return switch_state->omit & (1ull << f);
}

/* options.c: the properties x-omit, x-fail-ioctls and x-wait */
void switch_selftest_class_init(ObjectClass *oc);

/* failing-ioctls.c.  All: main thread, BQL held. */

/* A switch to @to begins; it has ended. */
void switch_selftest_watch(SwitchableAccel to);
void switch_selftest_unwatch(void);
/* Whether this ioctl is to fail: then @ret is its result, and errno is set. */
bool switch_selftest_fails_ioctl(int fd, unsigned long type, void *arg,
                                 int *ret);
/* Whether one has failed in this switch. */
bool switch_selftest_has_failed(void);

/* All that can be seen of the vCPUs, under the accelerator that runs. */
typedef struct SwitchSnapshot SwitchSnapshot;
SwitchSnapshot *switch_arch_take_snapshot(Error **errp);
void switch_arch_free_snapshot(SwitchSnapshot *snapshot);
/*
 * Overwrite KVM's copy of the vCPUs, while TCG has the guest.  False and @errp
 * set on failure: the copy is to be put anew in any case.
 */
bool switch_arch_poison_kvm(const SwitchSnapshot *before, Error **errp);
/*
 * False, and @errp names the field, if two of one accelerator differ.  What
 * may differ is taken out of both.
 */
bool switch_arch_compare_snapshots(SwitchSnapshot *before,
                                   SwitchSnapshot *after, Error **errp);

#else

static inline bool switch_omits(SwitchFixup f)
{
    return false;
}

static inline void switch_selftest_class_init(ObjectClass *oc)
{
}

static inline void switch_selftest_watch(SwitchableAccel to)
{
}

static inline void switch_selftest_unwatch(void)
{
}

static inline bool switch_selftest_fails_ioctl(int fd, unsigned long type,
                                               void *arg, int *ret)
{
    return false;
}

static inline bool switch_selftest_has_failed(void)
{
    return false;
}

#endif

#endif
