/*
 * Can the vCPUs be switched as they stand?
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "hw/i386/apic.h"
#include "system/kvm.h"
#include "system/tcg.h"
#include "switch/kvm/kvm.h"
#include "switch/kvm/module.h"
#include "switch/tcg/tcg.h"
#include "switch/x86-switch.h"

/* False, and @errp says why, if the vCPU can't be switched, now or later. */
static bool can_be_switched(CPUState *cs, Error **errp)
{
    CPUX86State *env = cpu_env(cs);

    if (env->hflags & HF_GUEST_MASK || env->efer & MSR_EFER_SVME) {
        error_setg(errp, "vCPU %d may run a nested guest, which no switch"
                   " carries: EFER.SVME is set", cs->cpu_index);
        return false;
    }
    if ((x86_switch_lapic(X86_CPU(cs))->apicbase & MSR_IA32_APICBASE_BASE)
        != APIC_DEFAULT_ADDRESS) {
        /* KVM moves the registers there; QEMU's MMIO region stays */
        error_setg(errp, "vCPU %d has moved its local APIC (MSR"
                   " IA32_APIC_BASE 0x%" PRIx64 ")", cs->cpu_index,
                   (uint64_t)x86_switch_lapic(X86_CPU(cs))->apicbase);
        return false;
    }
    if (!x86_kvm_check_tsc(cs, errp) ||
        !x86_tcg_check_used_features(cs, errp)) {
        return false;
    }
    return true;
}

/* The same for transient states, which end when the vCPU runs on. */
static bool can_be_switched_now(CPUState *cs, Error **errp)
{
    CPUX86State *env = cpu_env(cs);

    if (env->hflags & HF_SMM_MASK) {
        /* Let RSM find what its own accelerator saved (hazard F7) */
        error_setg(errp, "vCPU %d is in System Management Mode, and must"
                   " run on until it leaves it", cs->cpu_index);
        return false;
    }
    if (tcg_enabled() && cs->interrupt_request & CPU_INTERRUPT_SMI &&
        x86_switch_lapic(X86_CPU(cs))->wait_for_sipi) {
        /* KVM takes no such state (hazard C15) */
        error_setg(errp, "vCPU %d waits for its startup and has an SMI pending;"
                   " it must run on until it takes it", cs->cpu_index);
        return false;
    }
    if (env->a20_mask != ~0) {
        /* TCG applies the A20 mask to addresses, KVM ignores it (hazard C9) */
        error_setg(errp, "vCPU %d has its A20 line masked, and must run"
                   " on until it unmasks it", cs->cpu_index);
        return false;
    }
    if (x86_kvm_has_vnmi() &&
        (kvm_enabled() ? env->nmi_pending
                       : cs->interrupt_request & CPU_INTERRUPT_NMI)) {
        /*
         * KVM would keep a second NMI while TCG delivers this one: after a
         * switch to TCG, or after one to KVM that has failed
         */
        error_setg(errp, "vCPU %d has an NMI pending and must run on until it"
                   " takes it: with kvm_amd.vnmi=1 KVM can't give it back",
                   cs->cpu_index);
        return false;
    }
    if (tcg_enabled() && cs->watchpoint_hit) {
        /*
         * A locked instruction has hit it; TCG still has to raise the #DB, of
         * which KVM would know nothing (hazard C8)
         */
        error_setg(errp, "vCPU %d has hit a watchpoint and must run on until"
                   " its debug exception is delivered", cs->cpu_index);
        return false;
    }
    if (kvm_enabled() && env->pdptrs_valid &&
        x86_kvm_pdptes_differ(cs, env->cr[3], env->pdptrs)) {
        /* The guest goes by the loaded ones, TCG by memory (hazard C11) */
        error_setg(errp, "vCPU %d: the page directory pointers (PDPTEs) in"
                   " memory differ from those that it has loaded; it must"
                   " run on until it loads them", cs->cpu_index);
        return false;
    }
    return true;
}

SwitchResult switch_arch_check(Error **errp)
{
    CPUState *cs;

    CPU_FOREACH(cs) {
        if (!can_be_switched(cs, errp)) {
            return SWITCH_REFUSED;
        }
    }
    CPU_FOREACH(cs) {
        if (!can_be_switched_now(cs, errp)) {
            return SWITCH_NOT_NOW;
        }
    }
    return SWITCH_OK;
}
