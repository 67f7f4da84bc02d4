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
    /* In TCG: compare code with TBs made before the stay in KVM (hazard F3) */
    SWITCH_FIXUP_TB_VALIDATE,
    /*
     * To KVM: drop its shadow pages and the hardware's TLB entries, as stores
     * to page tables in TCG left stale ones (hazards F1, F2)
     */
    SWITCH_FIXUP_SHADOW_FLUSH,
    /* To TCG: deliver KVM's event in delivery, or it is lost (hazard C6) */
    SWITCH_FIXUP_REINJECT,
    /* Give KVM the PIC's vectors where GET ioctls show them (hazard C6) */
    SWITCH_FIXUP_EXTINT,
    /* To TCG: keep LAPIC timer ticks that no GET ioctl shows (hazard E2) */
    SWITCH_FIXUP_LAPIC_EXPIRED,
    /* Carry the LAPIC timer's count, which QEMU leaves out (hazard E2) */
    SWITCH_FIXUP_LAPIC_COUNT,
    /* Carry the TSC, so that it neither stops nor jumps (hazard C13) */
    SWITCH_FIXUP_TSC_OFFSET,
    /* In TCG: order RDTSC after loads, or vCPUs see it go back (hazard C13) */
    SWITCH_FIXUP_TSC_ORDER,
    /* To KVM: name all XSAVE components, or KVM resets them (hazard C10) */
    SWITCH_FIXUP_XSTATE_BV,
    /* KVM keeps x87 registers in stack order, TCG in physical (hazard C1) */
    SWITCH_FIXUP_X87_ORDER,
    /* Carry STI's and MOV SS's shadow, which QEMU leaves out (hazard C7) */
    SWITCH_FIXUP_INTERRUPT_SHADOW,
    /* To KVM: TR busy, segments Accessed, or entry fails (hazards C4, C12) */
    SWITCH_FIXUP_DESCRIPTORS,
    /* In TCG: refuse register values that KVM would refuse (hazard C20) */
    SWITCH_FIXUP_GUEST_VALUES,
    /* To TCG: carry out MMIO writes that KVM has buffered (hazard E9) */
    SWITCH_FIXUP_COALESCED_MMIO,
    /* Load into KVM: KVM_RUN's "ready for interrupt" is stale (hazard C6) */
    SWITCH_FIXUP_INTERRUPT_READY,
    /* To KVM: put kvm-clock's MSRs as the guest set them in TCG (hazard E14) */
    SWITCH_FIXUP_KVM_CLOCK,
    /* To TCG: clear steal time's "preempted" (hazard D8) */
    SWITCH_FIXUP_STEAL_TIME,
    /* In TCG: answer CPUID from KVM's table, so that it stays (hazard D2) */
    SWITCH_FIXUP_CPUID,
    /* In KVM, with triggers: keep the guest's own breakpoints (hazard C8) */
    SWITCH_FIXUP_GUEST_BREAKPOINTS,
    /* A window at an address begins with the instruction that is there */
    SWITCH_FIXUP_FIRST_INSTRUCTION,
    /* A debugger's breakpoints go along with a switch */
    SWITCH_FIXUP_DEBUGGER,
    /* A trace: stop at the handlers of exceptions, or theirs are missing */
    SWITCH_FIXUP_TRACE_HANDLERS,
    /* A trace: take TF out of what an exception has pushed */
    SWITCH_FIXUP_TRACE_FLAGS,
    /* A comparison: undo what TCG has written */
    SWITCH_FIXUP_COMPARE_UNDO,
    /* A comparison: whole blocks begin with the registers of the beginning */
    SWITCH_FIXUP_COMPARE_BLOCKS,
    /* A comparison: whole blocks end with the right XMM0 and memory */
    SWITCH_FIXUP_COMPARE_BLOCKS_END,
    SWITCH_FIXUP__MAX,
} SwitchFixup;

#ifdef CONFIG_ACCEL_SWITCH_SELFTEST

static inline bool switch_omits(SwitchFixup f)
{
    return switch_state->omit & (1ull << f);
}

/* options.c: the properties x-omit, x-fail-ioctls, x-slow and x-wait */
void switch_selftest_class_init(ObjectClass *oc);

/* Take 500 ms if @phase is the one that x-slow names. */
void switch_selftest_slow(const char *phase);

/* failing-ioctls.c.  All: main thread, BQL held. */

/* A switch to @to begins; it has ended. */
void switch_selftest_watch(SwitchableAccel to);
void switch_selftest_unwatch(void);
/* Whether this ioctl is to fail: then @ret is its result, and errno is set. */
bool switch_selftest_fails_ioctl(int fd, unsigned long type, void *arg,
                                 int *ret);
/* Whether one has failed in this switch. */
bool switch_selftest_has_failed(void);
/* Whether each is to fail in turn. */
static inline bool switch_selftest_fails_ioctls(void)
{
    return switch_state->fail_ioctls;
}

/* All state of the vCPUs that the active accelerator shows. */
typedef struct SwitchSnapshot SwitchSnapshot;
SwitchSnapshot *switch_arch_take_snapshot(Error **errp);
void switch_arch_free_snapshot(SwitchSnapshot *snapshot);
/*
 * Overwrite KVM's copy of the vCPUs, while TCG has the guest.  The copy must
 * be put anew afterwards, also on failure (false, @errp set).
 */
bool switch_arch_poison_kvm(const SwitchSnapshot *before, Error **errp);
/*
 * Compare two snapshots of one accelerator, after a change of both to canonical
 * form.  If they differ, returns false, and @errp names the field.
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

static inline void switch_selftest_slow(const char *phase)
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

static inline bool switch_selftest_fails_ioctls(void)
{
    return false;
}

#endif

#endif
