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
#include "system/reset.h"
#include "switch/x86-switch.h"

/*
 * KVM marks a vCPU as preempted whenever it stops, until it enters the guest
 * again.  In TCG the mark would stay: other vCPUs would not wait for this one's
 * locks, and ask it for a flush of its TLB that never comes.  A flush that was
 * asked for before is done by the switch (kernel: record_steal_time(),
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
        x86_switch_cpu(cs)->poll_control = cpu_env(cs)->poll_control_msr;
    }
}

void x86_switch_paravirtual_to_kvm(void)
{
    CPUState *cs;

    CPU_FOREACH(cs) {
        cpu_env(cs)->poll_control_msr = x86_switch_cpu(cs)->poll_control;
    }
}

/* Linux has the host poll until a guest asks it not to. */
static void reset_poll_control(void *opaque)
{
    CPUState *cs;

    CPU_FOREACH(cs) {
        x86_switch_cpu(cs)->poll_control = 1;
    }
}

void x86_switch_init_paravirtual(void)
{
    qemu_register_reset(reset_poll_control, NULL);
}
