/*
 * A vCPU's state in KVM's own form
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TARGET_I386_SWITCH_STATE_STATE_H
#define TARGET_I386_SWITCH_STATE_STATE_H

#include <linux/kvm.h>

/* Bits of X86KVMState.have: each is what one pair of ioctls moves. */
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
    X86_KVM_PDPTRS      = 1 << 9,       /* of sregs; stays the last */
    X86_KVM_ALL         = 2 * X86_KVM_PDPTRS - 1,
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

#endif
