/*
 * KVM's hypercalls in TCG: a guest that calls KVM gets KVM's answers
 *
 * KVM has them whether its CPUID leaves are shown or not, by VMCALL and by
 * VMMCALL, whatever the processor's own is (kernel: kvm_emulate_hypercall()).
 * The calls of features that the guest has not are not here; unless it is told
 * to (kvm-pv-enforce-cpuid), KVM answers these, too.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "cpu.h"
#include "standard-headers/linux/kvm_para.h"
#include "system/accel-switch.h"

static int64_t answer(uint64_t number)
{
    switch (number) {
    case KVM_HC_VAPIC_POLL_IRQ:
        return 0;
    case KVM_HC_CLOCK_PAIRING:
        /* KVM says so on a host whose clock is not the TSC. */
        return -KVM_EOPNOTSUPP;
    default:
        return -KVM_ENOSYS;
    }
}

void x86_tcg_hypercall(CPUX86State *env)
{
    bool is_64_bit = env->hflags & HF_CS64_MASK;
    uint64_t number = env->regs[R_EAX];
    int64_t result = env->hflags & HF_CPL_MASK
                     ? -KVM_EPERM : answer(is_64_bit ? number
                                                     : (uint32_t)number);

    env->regs[R_EAX] = is_64_bit ? result : (uint32_t)result;
}
