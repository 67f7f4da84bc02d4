/*
 * Triggers' breakpoints in KVM
 *
 * KVM_SET_GUEST_DEBUG gives a vCPU breakpoint registers in place of the guest's
 * own, which stay as they are and stop nothing meanwhile.  So the guest's own
 * are put among these, and what they stop is given back to the guest.  KVM
 * makes no exit when the guest writes a debug register: they are read anew
 * before each KVM_RUN.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/bswap.h"
#include "exec/cpu-common.h"
#include "hw/core/cpu.h"
#include "kvm/kvm_i386.h"
#include "system/hw_accel.h"
#include "system/kvm.h"
#include "system/kvm_int.h"
#include "accel/kvm/kvm-cpus.h"
#include "accel/switch/window.h"
#include "switch/kvm/kvm.h"

/* SDM vol. 3B, "Debug Registers" */
#define DR7_LE_GE       0x0600
#define DR7_ENABLED(n)  (3 << ((n) * 2))
#define DR7_GLOBAL(n)   (2 << ((n) * 2))
#define DR7_KIND_SHIFT(n) (16 + (n) * 4)
#define DR7_KIND        0xf
/* Every register of the kind that is no access to memory */
#define DR7_NO_KIND     0x22220000
#define DR6_WHICH       0xf
#define DR6_CAUSES      (0xe000 | DR6_WHICH)

static int guests_count(uint64_t dr7)
{
    int count = 0;

    for (int n = 0; n < SWITCH_BREAKPOINTS; n++) {
        count += !!(dr7 & DR7_ENABLED(n));
    }
    return count;
}

static bool is_active(const X86GuestDebug *d)
{
    return d->count || d->changed;
}

void x86_kvm_pre_run(CPUState *cs)
{
    X86GuestDebug *d = &x86_switch_cpu(cs)->debug;
    struct kvm_debugregs own;

    if (!is_active(d) || kvm_vcpu_ioctl(cs, KVM_GET_DEBUGREGS, &own) < 0) {
        return;
    }
    if (!d->changed && own.dr7 == d->dr7 &&
        !memcmp(own.db, d->dr, sizeof(d->dr))) {
        return;
    }
    d->dr7 = switch_omits(SWITCH_FIXUP_GUEST_BREAKPOINTS) ? 0 : own.dr7;
    memcpy(d->dr, own.db, sizeof(d->dr));
    if (kvm_update_guest_debug(cs, 0) == 0) {
        d->changed = false;
    }
}

/* A register that is free; -1 if none is. */
static int free_slot(const struct kvm_guest_debug *dbg)
{
    for (int n = 0; n < SWITCH_BREAKPOINTS; n++) {
        if (!(dbg->arch.debugreg[7] & DR7_ENABLED(n))) {
            return n;
        }
    }
    return -1;
}

static void fill_slot(struct kvm_guest_debug *dbg, int n, vaddr address,
                      unsigned kind)
{
    dbg->arch.debugreg[n] = address;
    dbg->arch.debugreg[7] |= DR7_GLOBAL(n) |
                             (uint32_t)kind << DR7_KIND_SHIFT(n);
}

void x86_kvm_add_breakpoints(CPUState *cs, struct kvm_guest_debug *dbg)
{
    X86GuestDebug *d = &x86_switch_cpu(cs)->debug;

    memset(d->slot, 0, sizeof(d->slot));
    qatomic_set(&d->lacks, false);
    if (!d->count) {
        return;
    }
    if (!(dbg->control & KVM_GUESTDBG_USE_HW_BP)) {
        dbg->arch.debugreg[7] = DR7_LE_GE;
    }
    dbg->control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
    dbg->arch.debugreg[7] |= d->dr7 & DR7_GD;
    for (int i = 0; i < SWITCH_BREAKPOINTS; i++) {
        int n = free_slot(dbg);

        if (d->dr7 & DR7_ENABLED(i) && n >= 0) {
            fill_slot(dbg, n, d->dr[i],
                      d->dr7 >> DR7_KIND_SHIFT(i) & DR7_KIND);
            d->slot[n].owner = X86_DEBUG_GUEST;
            d->slot[n].guests = i;
        }
    }
    for (int i = 0; i < d->count; i++) {
        int n = free_slot(dbg);

        if (n < 0) {
            qatomic_set(&d->lacks, true);
            switch_trigger_drop_last();
            return;
        }
        fill_slot(dbg, n, d->wanted[i], 0);
        d->slot[n].owner = X86_DEBUG_TRIGGER;
    }
}

/*
 * KVM shows DR6 with its fixed bits, and does not take them back: it would flip
 * those that are active low (kernel: kvm_deliver_exception_payload()).
 */
static void give_to_guest(struct kvm_debug_exit_arch *arch, unsigned which)
{
    arch->dr6 = (arch->dr6 & DR6_CAUSES & ~DR6_WHICH) | which |
                (kvm_has_exception_payload() ? 0 : DR6_FIXED_1);
    /* QEMU gives the guest what no debugger has asked for. */
    arch->dr7 = DR7_NO_KIND;
}

/*
 * kvm-amd steps a vCPU itself when it waits to inject an NMI, and with
 * KVM_GUESTDBG_USE_HW_BP makes an exit for that step (kernel:
 * svm_enable_nmi_window(), db_interception()).  The guest must not see it.
 */
static bool is_step_of_kvm(CPUState *cs, uint64_t dr6)
{
    struct kvm_vcpu_events events;
    struct kvm_regs regs;

    return (dr6 & DR6_CAUSES) == DR6_BS &&
           kvm_vcpu_ioctl(cs, KVM_GET_REGS, &regs) == 0 &&
           !(regs.rflags & TF_MASK) &&
           kvm_vcpu_ioctl(cs, KVM_GET_VCPU_EVENTS, &events) == 0 &&
           events.nmi.pending;
}

bool x86_kvm_handle_debug(CPUState *cs, struct kvm_debug_exit_arch *arch,
                          int *ret)
{
    X86GuestDebug *d = &x86_switch_cpu(cs)->debug;
    bool trigger = false, guest = false, debugger = false;
    unsigned which = 0;

    if (arch->exception != EXCP01_DB) {
        return false;
    }
    if (!is_active(d)) {
        /* Breakpoints, if any, are a debugger's alone. */
        *ret = 0;
        return !cs->singlestep_enabled && is_step_of_kvm(cs, arch->dr6);
    }
    debugger = arch->dr6 & DR6_BS && cs->singlestep_enabled;
    for (int n = 0; n < SWITCH_BREAKPOINTS; n++) {
        if (arch->dr6 & 1 << n) {
            trigger |= d->slot[n].owner == X86_DEBUG_TRIGGER;
            debugger |= d->slot[n].owner == X86_DEBUG_FREE;
            if (d->slot[n].owner == X86_DEBUG_GUEST) {
                guest = true;
                which |= 1 << d->slot[n].guests;
            }
        }
    }
    if (debugger) {
        return false;
    }
    if (trigger) {
        bool stops = switch_trigger_breakpoint(cs, arch->pc);

        if (stops || !guest) {
            switch_arch_pass_breakpoint(cs);
            *ret = stops ? EXCP_INTERRUPT : 0;
            return true;
        }
    }
    if (is_step_of_kvm(cs, arch->dr6)) {
        *ret = 0;
        return true;
    }
    give_to_guest(arch, which);
    return false;
}

void switch_arch_pass_breakpoint(CPUState *cs)
{
    struct kvm_regs regs;

    if (cs->vcpu_dirty) {
        cpu_env(cs)->eflags |= RF_MASK;
    } else if (kvm_vcpu_ioctl(cs, KVM_GET_REGS, &regs) == 0) {
        regs.rflags |= RF_MASK;
        kvm_vcpu_ioctl(cs, KVM_SET_REGS, &regs);
    }
}

void switch_arch_arrived_at_breakpoint(CPUState *cs)
{
    cpu_env(cs)->eflags &= ~RF_MASK;
}

void switch_arch_get_place(CPUState *cs, SwitchPlace *place)
{
    struct kvm_sregs sregs = {};
    struct kvm_regs regs = {};

    if (cs->vcpu_dirty) {
        CPUX86State *env = cpu_env(cs);

        *place = (SwitchPlace) {
            .cr3 = env->cr[3], .eax = env->regs[R_EAX],
            .cr3_address = x86_cr3_address(env->cr[4], env->efer),
            .cpl = env->hflags & HF_CPL_MASK,
        };
        return;
    }
    kvm_vcpu_ioctl(cs, KVM_GET_SREGS, &sregs);
    kvm_vcpu_ioctl(cs, KVM_GET_REGS, &regs);
    /* SS.DPL is the CPL (SDM vol. 3C, "Checks on Guest Segment Registers") */
    *place = (SwitchPlace) {
        .cr3 = sregs.cr3, .eax = regs.rax, .cpl = sregs.ss.dpl,
        .cr3_address = x86_cr3_address(sregs.cr4, sregs.efer),
    };
}

static void do_set_breakpoints(CPUState *cs, run_on_cpu_data data)
{
    X86GuestDebug *d = &x86_switch_cpu(cs)->debug;

    d->count = MIN(switch_trigger_addresses(d->wanted), SWITCH_BREAKPOINTS);
    d->changed = true;
    d->lacks = false;
}

bool switch_arch_lacks_breakpoints(void)
{
    CPUState *cs;

    CPU_FOREACH(cs) {
        if (qatomic_read(&x86_switch_cpu(cs)->debug.lacks)) {
            return true;
        }
    }
    return false;
}

bool switch_arch_set_breakpoints(Error **errp)
{
    vaddr address[SWITCH_BREAKPOINTS];
    int count = switch_trigger_addresses(address);
    int debuggers = switch_debugger_registers();
    CPUState *cs;

    if (errp && !kvm_supports_guest_debug()) {
        error_setg(errp, "this KVM has no breakpoints for a debugger"
                   " (KVM_CAP_SET_GUEST_DEBUG)");
        return false;
    }
    CPU_FOREACH(cs) {
        cpu_synchronize_state(cs);
        if (errp && guests_count(cpu_env(cs)->dr[7]) + count +
                    debuggers > SWITCH_BREAKPOINTS) {
            error_setg(errp, "there are %d breakpoint registers; of vCPU %d's"
                       " the guest uses %d itself, and a debugger %d",
                       SWITCH_BREAKPOINTS, cs->cpu_index,
                       guests_count(cpu_env(cs)->dr[7]), debuggers);
            return false;
        }
    }
    /* A vCPU that runs is in KVM_RUN again only after x86_kvm_pre_run(). */
    CPU_FOREACH(cs) {
        run_on_cpu(cs, do_set_breakpoints, RUN_ON_CPU_NULL);
    }
    return true;
}
