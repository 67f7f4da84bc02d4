/*
 * KVM's paravirtual features, but for its clock, while the guest is in TCG
 *
 * Linux describes them in Documentation/virt/kvm/x86/msr.rst and cpuid.rst.
 * tcg/msrs.c has their MSRs.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "exec/address-spaces.h"
#include "standard-headers/asm-x86/kvm_para.h"
#include "switch/kvm/kvm.h"
#include "switch/x86-switch.h"

static bool has_steal_time(CPUX86State *env)
{
    return env->features[FEAT_KVM] & CPUID_KVM_STEAL_TIME &&
           env->steal_time_msr & KVM_MSR_ENABLED &&
           !switch_omits(SWITCH_FIXUP_STEAL_TIME);
}

/*
 * KVM sets "preempted" when a vCPU is scheduled out, and before Linux 5.19
 * whenever it stops, and clears it when that enters the guest again.  In TCG
 * it would stay set: other vCPUs would not wait for this one's locks, and ask
 * it for a flush of its TLB that never comes.  A flush that was asked for
 * before is done by the switch (kernel: record_steal_time(),
 * kvm_steal_time_set_preempted()).  It also makes an odd version even, which
 * would have the guest wait.
 */
void x86_switch_clear_preempted(CPUX86State *env)
{
    const MemTxAttrs attrs = { .memory = true };
    hwaddr page = env->steal_time_msr & KVM_STEAL_VALID_BITS;
    hwaddr version = page + offsetof(struct kvm_steal_time, version);
    uint8_t running = 0, low;

    if (!has_steal_time(env)) {
        return;
    }
    address_space_rw(&address_space_memory,
                     page + offsetof(struct kvm_steal_time, preempted),
                     attrs, &running, sizeof(running), true);
    address_space_rw(&address_space_memory, version, attrs, &low, sizeof(low),
                     false);
    if (low & 1) {
        low--;
        address_space_rw(&address_space_memory, version, attrs, &low,
                         sizeof(low), true);
    }
}

/*
 * An ioctl can have KVM schedule a vCPU out, too: without the MSR it does not
 * write to the page, which the guest may give to something else.  The next
 * switch to KVM puts the MSR back.
 */
void x86_switch_paravirtual_to_tcg(void)
{
    CPUState *cs;

    CPU_FOREACH(cs) {
        if (has_steal_time(cpu_env(cs))) {
            x86_kvm_put_msr(cs, MSR_KVM_STEAL_TIME, 0);
        }
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
