/*
 * What KVM holds after an import, against what it was given
 *
 * A KVM that drops or changes something without a word would have the guest
 * go wrong much later: on hosts whose KVM has no paging outside long mode,
 * for one, CR0.PG is accepted and stays clear.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "switch/kvm/kvm.h"
#include "switch/x86-switch.h"

void switch_arch_saw_ioctl(CPUState *cs, unsigned long type, const void *arg)
{
    X86SwitchCPU *sc = x86_switch_cpu(cs);

    switch (type) {
    case KVM_GET_MSRS:
        if (sc->taking_msrs) {
            x86_kvm_took_msrs(sc, arg);
        }
        break;
    case KVM_GET_VCPU_EVENTS:
        sc->taken.interrupt_shadow =
            ((const struct kvm_vcpu_events *)arg)->interrupt.shadow;
        break;
    case KVM_GET_LAPIC:
        x86_kvm_took_lapic(sc, arg);
        break;
    }
    x86_kvm_state_saw(&sc->put, type, arg);
}

void x86_kvm_forget_puts(X86SwitchCPU *sc)
{
    sc->put.have = 0;
    sc->put.nmsrs = 0;
}

const char *switch_arch_msr_name(uint32_t index)
{
    return x86_state_msr_name(index);
}

bool x86_kvm_read_back(CPUState *cs, Error **errp)
{
    X86SwitchCPU *sc = x86_switch_cpu(cs);
    g_autofree X86KVMState *put = g_memdup2(&sc->put, sizeof(sc->put));
    g_autofree X86KVMState *held = g_new(X86KVMState, 1);
    g_autofree char *diff = NULL;
    uint64_t pdptes[4];
    int ret = x86_kvm_state_get(cs, held, put);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "reading back what KVM was given");
        return false;
    }
    if (held->tsc_offset != put->tsc_offset &&
        x86_kvm_tsc_offset_moves(cs)) {
        held->have &= ~X86_KVM_TSC_OFFSET;
    }
    for (int i = 0; i < ARRAY_SIZE(pdptes); i++) {
        pdptes[i] = held->sregs.pdptrs[i];
    }
    if (held->have & X86_KVM_PDPTRS &&
        x86_kvm_pdptes_differ(cs, held->sregs.cr3, pdptes)) {
        /* KVM_SET_SREGS says nothing of those that it does not take. */
        error_setg(errp, "vCPU %d: KVM has loaded other page directory pointers"
                   " (PDPTEs) than those in memory", cs->cpu_index);
        return false;
    }
    x86_state_canonicalise(put, X86_READ_BACK);
    x86_state_canonicalise(held, X86_READ_BACK);
    diff = x86_state_diff(held, put, X86_READ_BACK, cpu_env(cs)->features);
    if (diff) {
        error_setg(errp, "vCPU %d: KVM does not hold what it was given: %s",
                   cs->cpu_index, diff);
        return false;
    }
    return true;
}
