/*
 * What KVM holds of one vCPU, in KVM's own form: read and noted
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TARGET_I386_SWITCH_KVM_VCPU_H
#define TARGET_I386_SWITCH_KVM_VCPU_H

#include "switch/state/table.h"

/*
 * All below: main loop, BQL held, vCPUs paused.
 */

/**
 * x86_kvm_get_msr, x86_kvm_put_msr: one MSR out of KVM, or into it
 *
 * Also called by the vCPU's thread.  Returns 0 or a negative errno, -EINVAL if
 * KVM refuses it.
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
 * x86_kvm_state_get_part, x86_kvm_state_put_part: what one ioctl moves
 * @part: one bit of X86KVMState.have, but for X86_KVM_PDPTRS
 *
 * Returns 0 or a negative errno.
 */
int x86_kvm_state_get_part(CPUState *cs, X86KVMState *s, unsigned part);
int x86_kvm_state_put_part(CPUState *cs, X86KVMState *s, unsigned part);

/**
 * x86_kvm_state_saw: note what an ioctl has put
 *
 * Does nothing for ioctls that put no state.
 */
void x86_kvm_state_saw(X86KVMState *s, unsigned long type, const void *arg);

#endif
