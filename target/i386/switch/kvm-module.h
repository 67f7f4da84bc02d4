/*
 * What this host's KVM modules were loaded with
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TARGET_I386_SWITCH_KVM_MODULE_H
#define TARGET_I386_SWITCH_KVM_MODULE_H

/* Read the modules' parameters, which do not change while a VM exists. */
void x86_kvm_module_init(void);

/* All below: false without the module.  Any thread, after the above. */

/*
 * kvm_intel.preemption_timer: the LAPIC's timer is VMX's, of which KVM takes
 * notice in the guest, or when it blocks
 */
bool x86_kvm_has_preemption_timer(void);

/*
 * kvm_amd.vnmi: the processor keeps a pending NMI, in the VMCB.
 * KVM_GET_VCPU_EVENTS shows it; KVM_SET_VCPU_EVENTS can't take it back
 * (kernel: kvm_get_nr_pending_nmis(), kvm_vcpu_ioctl_x86_set_vcpu_events()).
 */
bool x86_kvm_has_vnmi(void);

#endif
