/*
 * What this host's KVM modules were loaded with
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TARGET_I386_SWITCH_KVM_MODULE_H
#define TARGET_I386_SWITCH_KVM_MODULE_H

/* Read the modules' parameters, which do not change while a VM exists. */
void x86_kvm_module_init(void);

/* All below: as without the module, if it is not there.  Any thread. */

/*
 * kvm_intel.preemption_timer: the LAPIC's timer is VMX's, of which KVM takes
 * notice in the guest, or when it blocks
 */
bool x86_kvm_has_preemption_timer(void);

/*
 * kvm.tsc_tolerance_ppm: a guest's TSC whose rate differs from the host's by no
 * more than that is not scaled (kernel: kvm_set_tsc_khz()); 250 by default
 */
unsigned x86_kvm_tsc_tolerance_ppm(void);

/*
 * kvm_intel.ept, kvm_amd.npt: the processor walks the guest's page tables
 * itself, and KVM derives nothing from them
 */
bool x86_kvm_has_nested_paging(void);

/*
 * kvm_amd.vnmi: the processor keeps a pending NMI, in the VMCB.
 * KVM_GET_VCPU_EVENTS shows it; KVM_SET_VCPU_EVENTS can't take it back
 * (kernel: kvm_get_nr_pending_nmis(), kvm_vcpu_ioctl_x86_set_vcpu_events()).
 */
bool x86_kvm_has_vnmi(void);

/*
 * kvm_intel.enable_apicv, kvm_amd.avic: the processor delivers interrupts of
 * the LAPIC itself, and KVM injects none
 */
bool x86_kvm_has_virtual_apic(void);

/*
 * Is it KVM without hardware virtualization (kvm-pvm)?  Its guest gets the
 * debug exceptions of KVM's single steps itself.
 */
bool x86_kvm_is_pvm(void);

#endif
