/*
 * KVM's paravirtual features, but for its clock, while the guest is in TCG
 *
 * What they are: Linux, Documentation/virt/kvm/x86/msr.rst and cpuid.rst.
 * tcg/msrs.c has their MSRs.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "exec/address-spaces.h"
#include "standard-headers/asm-x86/kvm_para.h"
#include "switch/x86-switch.h"

/*
 * KVM sets "preempted" when a vCPU is scheduled out, and before Linux 5.19
 * whenever it stops, and clears it when that enters the guest again.  In TCG
 * it would stay set: other vCPUs would not wait for this one's locks, and ask
 * it for a flush of its TLB that never comes.  A flush that was asked for
 * before is done by the switch (kernel: record_steal_time(),
 * kvm_steal_time_set_preempted()).
 */
void x86_switch_clear_preempted(CPUX86State *env)
{
    hwaddr page = env->steal_time_msr & KVM_STEAL_VALID_BITS;
    uint8_t running = 0;

    if (env->features[FEAT_KVM] & CPUID_KVM_STEAL_TIME &&
        env->steal_time_msr & KVM_MSR_ENABLED &&
        !switch_omits(SWITCH_FIXUP_STEAL_TIME)) {
        address_space_rw(&address_space_memory,
                         page + offsetof(struct kvm_steal_time, preempted),
                         (MemTxAttrs) { .memory = true }, &running,
                         sizeof(running), true);
    }
}

void x86_switch_paravirtual_to_tcg(void)
{
    CPUState *cs;

    CPU_FOREACH(cs) {
        x86_switch_clear_preempted(cpu_env(cs));
    }
}

bool x86_switch_is_ram(hwaddr address)
{
    hwaddr offset, length = 1;
    MemoryRegion *mr;

    RCU_READ_LOCK_GUARD();
    mr = address_space_translate(&address_space_memory, address, &offset,
                                 &length, true,
                                 (MemTxAttrs) { .memory = true });
    return memory_access_is_direct(mr, true, (MemTxAttrs) { .memory = true });
}
