/*
 * What KVM holds of one vCPU, in KVM's own form: read, noted, compared
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TARGET_I386_SWITCH_KVM_STATE_H
#define TARGET_I386_SWITCH_KVM_STATE_H

#include <linux/kvm.h>

/* Bits of X86KVMState.have. */
enum {
    X86_KVM_REGS        = 1 << 0,
    X86_KVM_SREGS       = 1 << 1,
    X86_KVM_XSAVE       = 1 << 2,
    X86_KVM_XCRS        = 1 << 3,
    X86_KVM_EVENTS      = 1 << 4,
    X86_KVM_DEBUGREGS   = 1 << 5,
    X86_KVM_MP_STATE    = 1 << 6,
    X86_KVM_LAPIC       = 1 << 7,
    X86_KVM_TSC_OFFSET  = 1 << 8,
    X86_KVM_PDPTRS      = 1 << 9,       /* of sregs */
};

#define X86_KVM_MSRS_MAX 512

/*
 * A vCPU's state as it was put into KVM, or as it was read from there.  What
 * @have doesn't name is zero.
 */
typedef struct X86KVMState {
    unsigned have;
    struct kvm_regs regs;
    struct kvm_sregs2 sregs;
    struct kvm_xcrs xcrs;
    struct kvm_vcpu_events events;
    struct kvm_debugregs debugregs;
    struct kvm_mp_state mp_state;
    struct kvm_lapic_state lapic;
    int64_t tsc_offset;                 /* ticks */
    /* standard format (SDM vol. 1, 13.4); aligned as X86LegacyXSaveArea is */
    struct kvm_xsave xsave QEMU_ALIGNED(16);
    uint32_t nmsrs;
    struct kvm_msr_entry msrs[X86_KVM_MSRS_MAX]; /* each index once */
} X86KVMState;

/*
 * All below: main loop, BQL held, vCPUs paused.
 */

/**
 * x86_kvm_get_msr, x86_kvm_put_msr: one MSR out of KVM, or into it
 *
 * Returns 0 or a negative errno, -EINVAL if KVM refuses it.
 */
int x86_kvm_get_msr(CPUState *cs, uint32_t index, uint64_t *value);
int x86_kvm_put_msr(CPUState *cs, uint32_t index, uint64_t value);

/**
 * x86_kvm_state_get: read from KVM what @like has, and the MSRs it lists
 *
 * Fills @s.  Returns 0 or a negative errno.
 */
int x86_kvm_state_get(CPUState *cs, X86KVMState *s, const X86KVMState *like);

/**
 * x86_kvm_state_saw: note what an ioctl has put
 *
 * Does nothing for ioctls that put no state.
 */
void x86_kvm_state_saw(X86KVMState *s, unsigned long type, const void *arg);

/**
 * x86_kvm_state_normalise: take out what has no meaning, or two forms of one
 *
 * The hidden part of an unusable segment, a register of a component that
 * XSTATE_BV says is in its initial state, what runs by itself (LAPIC timer's
 * current count)…
 */
void x86_kvm_state_normalise(X86KVMState *s);
/* Give a component that is in its initial state the initial values. */
void x86_kvm_state_normalise_xsave(X86KVMState *s);

/**
 * x86_kvm_state_diff: the fields that both have and that differ
 *
 * Returns "FIELD is A, not B, …", for the caller to free, or NULL.
 */
char *x86_kvm_state_diff(const X86KVMState *a, const X86KVMState *b);

#endif
