/*
 * Something else in KVM than the guest: between the two ways of a round trip
 *
 * KVM keeps its copy of a vCPU while the guest is in TCG.  What the way back
 * forgets to put would be found there as it was, and not missed; so it is
 * overwritten first.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "system/kvm.h"
#include "switch/kvm/kvm.h"
#include "switch/kvm/module.h"
#include "switch/selftest/selftest.h"
#include "switch/x86-switch.h"

bool x86_selftest_has_part(CPUState *cs, const X86StatePart *p)
{
    switch (p->part) {
    case X86_KVM_XCRS:
        return kvm_check_extension(kvm_state, KVM_CAP_XCRS);
    case X86_KVM_TSC_OFFSET:
        return x86_switch_cpu(cs)->has_tsc_offset_attr;
    default:
        return true;
    }
}

static void fill(X86KVMState *s, const X86StateField *f)
{
    for (int i = 0; i < f->size; i += f->word) {
        stn_he_p((char *)s + f->offset + i, f->word, f->poison);
    }
}

/*
 * No other value than these is legal in every vCPU.  Since Linux 6.4 a pending
 * NMI ends a HLT even if the next KVM_SET_VCPU_EVENTS has none (KVM_REQ_NMI);
 * with vNMI (kvm_amd.vnmi) KVM does not take it back at all.
 */
static void poison_what_depends(X86KVMState *s, unsigned part, bool runs)
{
    switch (part) {
    case X86_KVM_SREGS:
        s->sregs.apic_base &= ~(uint64_t)MSR_IA32_APICBASE_EXTD;
        s->sregs.apic_base |= MSR_IA32_APICBASE_ENABLE;
        break;
    case X86_KVM_MP_STATE:
        s->mp_state.mp_state = s->mp_state.mp_state == KVM_MP_STATE_RUNNABLE
                               ? KVM_MP_STATE_HALTED : KVM_MP_STATE_RUNNABLE;
        break;
    case X86_KVM_EVENTS:
        if (!runs || x86_kvm_has_vnmi()) {
            s->events.nmi.pending = 0;
        }
        break;
    }
}

static int poison_part(CPUState *cs, const X86StatePart *p, bool runs)
{
    g_autofree X86KVMState *s = g_new0(X86KVMState, 1);
    int ret = x86_kvm_state_get_part(cs, s, p->part);

    if (ret < 0) {
        return ret;
    }
    for (int i = 0; i < x86_state_field_count; i++) {
        const X86StateField *f = &x86_state_fields[i];

        if (f->part == p->part && f->poisoned == X86_POISON_VALUE) {
            fill(s, f);
        }
    }
    poison_what_depends(s, p->part, runs);
    return x86_kvm_state_put_part(cs, s, p->part);
}

/*
 * Those that QEMU takes, and that hold what the guest has set.  KVM may refuse
 * 0 for some.
 */
static void poison_msrs(CPUState *cs, const X86KVMState *all)
{
    for (int i = 0; i < all->nmsrs; i++) {
        uint32_t index = all->msrs[i].index;
        const X86StateMSR *row = x86_state_msr(index);

        if (row && row->how == X86_MSR_CARRIED &&
            x86_kvm_takes_msr(cs, index)) {
            x86_kvm_put_msr(cs, index, 0);
        }
    }
}

/*
 * The system registers come before the LAPIC, whose mode they hold, and both
 * before the events: a reset of the LAPIC drops an NMI that is pending.
 */
bool x86_selftest_poison_kvm(CPUState *cs, const X86KVMState *all, Error **errp)
{
    static const unsigned order[] = {
        X86_KVM_REGS, X86_KVM_SREGS, X86_KVM_XSAVE, X86_KVM_XCRS,
        X86_KVM_DEBUGREGS, X86_KVM_MP_STATE, X86_KVM_LAPIC, X86_KVM_EVENTS,
    };
    /* x86_kvm_poison_tsc() has the offset, the system registers the PDPTEs. */
    unsigned left = X86_KVM_ALL & ~(X86_KVM_TSC_OFFSET | X86_KVM_PDPTRS);
    bool runs = all->mp_state.mp_state == KVM_MP_STATE_RUNNABLE;

    poison_msrs(cs, all);
    for (int i = 0; i < ARRAY_SIZE(order); i++) {
        const X86StatePart *p = x86_state_part(order[i]);
        int ret = x86_selftest_has_part(cs, p) ? poison_part(cs, p, runs) : 0;

        left &= ~p->part;
        if (ret < 0) {
            error_setg_errno(errp, -ret, "vCPU %d: overwriting KVM's %s",
                             cs->cpu_index, p->name);
            return false;
        }
    }
    /* A new part needs its place in the order. */
    g_assert(left == 0);
    if (x86_kvm_poison_tsc(cs) < 0) {
        error_setg(errp, "vCPU %d: overwriting KVM's TSC", cs->cpu_index);
        return false;
    }
    return true;
}
