/*
 * Import into KVM
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "hw/i386/apic.h"
#include "system/kvm.h"
#include "system/runstate.h"
#include "kvm/kvm_i386.h"
#include "switch/kvm/kvm.h"
#include "switch/x86-switch.h"

bool x86_kvm_may_inject(const struct kvm_run *run)
{
    switch (run->exit_reason) {
    case KVM_EXIT_IO:
    case KVM_EXIT_MMIO:
    case KVM_EXIT_HYPERCALL:
    case KVM_EXIT_X86_RDMSR:
    case KVM_EXIT_X86_WRMSR:
        return false;
    default:
        return true;
    }
}

/*
 * Put only the events that KVM_SET_VCPU_EVENTS always sets.  Others may change
 * in the kernel between GET and SET (an NMI or SMI from another vCPU), and must
 * not be put back.  @more_flags: KVM_VCPUEVENT_VALID_* of others to put.
 */
static int put_own_events(CPUState *cs, struct kvm_vcpu_events *events,
                          uint32_t more_flags)
{
    events->flags &= KVM_VCPUEVENT_VALID_PAYLOAD |
                     KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
    events->flags |= more_flags;
    return kvm_vcpu_ioctl(cs, KVM_SET_VCPU_EVENTS, events);
}

int x86_switch_inject_extint(CPUState *cs, int vector)
{
    struct kvm_interrupt intr = { .irq = vector };
    struct kvm_vcpu_events events;
    struct kvm_mp_state mp;
    int ret;

    if (switch_omits(SWITCH_FIXUP_EXTINT)) {
        return kvm_vcpu_ioctl(cs, KVM_INTERRUPT, &intr);
    }
    ret = kvm_vcpu_ioctl(cs, KVM_GET_VCPU_EVENTS, &events);
    if (ret < 0) {
        return ret;
    }
    events.interrupt.injected = 1;
    events.interrupt.nr = vector;
    events.interrupt.soft = 0;
    ret = put_own_events(cs, &events, 0);
    if (ret < 0) {
        return ret;
    }
    /* Unlike KVM_INTERRUPT, this does not wake a vCPU from HLT. */
    ret = kvm_vcpu_ioctl(cs, KVM_GET_MP_STATE, &mp);
    if (ret == 0 && mp.mp_state == KVM_MP_STATE_HALTED) {
        mp.mp_state = KVM_MP_STATE_RUNNABLE;
        ret = kvm_vcpu_ioctl(cs, KVM_SET_MP_STATE, &mp);
    }
    return ret;
}

/*
 * KVM queues a #UD before it gives up (kernel: handle_emulation_failure()):
 * take it back.
 */
int switch_arch_retry_instruction(CPUState *cs)
{
    struct kvm_vcpu_events events;
    int ret = kvm_vcpu_ioctl(cs, KVM_GET_VCPU_EVENTS, &events);

    if (ret < 0 || events.exception.nr != EXCP06_ILLOP) {
        return ret;
    }
    events.exception.injected = 0;
    events.exception.pending = 0;
    return put_own_events(cs, &events, 0);
}

/*
 * Take an INIT or SIPI that TCG has not taken yet: outside of SMM, no ioctl
 * gives KVM a pending one (hazard C15).
 */
static void fold_init_sipi(X86CPU *cpu)
{
    CPUState *cs = CPU(cpu);

    if (cs->interrupt_request & CPU_INTERRUPT_INIT) {
        do_cpu_init(cpu);
    }
    if (cs->interrupt_request & CPU_INTERRUPT_SIPI) {
        cpu_reset_interrupt(cs, CPU_INTERRUPT_SIPI);
        do_cpu_sipi(cpu);
    }
}

void x86_kvm_settle_tcg(void)
{
    CPUState *cs;

    CPU_FOREACH(cs) {
        fold_init_sipi(X86_CPU(cs));
    }
    x86_switch_share_wall_clock();
}

void switch_arch_convert_to_kvm(void)
{
    CPUState *cs;

    x86_kvm_settle_tcg();
    x86_kvm_use_loaded_tsc();
    CPU_FOREACH(cs) {
        X86CPU *cpu = X86_CPU(cs);
        X86SwitchCPU *sc = x86_switch_cpu(cs);

        sc->saved.env = cpu->env;
        sc->saved.interrupt_request = cs->interrupt_request;
        sc->saved.exception_index = cs->exception_index;
        sc->saved.halted = cs->halted;
        x86_switch_convert_to_kvm(cpu, sc);
    }
}

void switch_arch_restore_tcg(void)
{
    CPUState *cs;

    CPU_FOREACH(cs) {
        X86SwitchCPU *sc = x86_switch_cpu(cs);

        X86_CPU(cs)->env = sc->saved.env;
        cs->interrupt_request = sc->saved.interrupt_request;
        cs->exception_index = sc->saved.exception_index;
        cs->halted = sc->saved.halted;
        cs->vcpu_dirty = true;
        sc->stopped_timer.kept = false;
    }
    x86_switch_paravirtual_to_tcg();
}

/*
 * QEMU leaves the interrupt shadow out (hazard C7).
 *
 * TCG does not tell STI's shadow from MOV SS's.  With IF clear it was MOV SS,
 * and must be: VM entry fails for blocking by STI with IF clear (SDM vol. 3C,
 * checks on guest non-register state).
 */
static void add_interrupt_shadow(CPUState *cs, bool shadow,
                                 struct kvm_vcpu_events *events)
{
    events->interrupt.shadow = !shadow ? 0
                               : cpu_env(cs)->eflags & IF_MASK
                               ? KVM_X86_SHADOW_INT_STI
                               : KVM_X86_SHADOW_INT_MOV_SS;
    events->flags |= KVM_VCPUEVENT_VALID_SHADOW;
}

static int put_interrupt_shadow(CPUState *cs, bool shadow)
{
    struct kvm_vcpu_events events;
    int ret = kvm_vcpu_ioctl(cs, KVM_GET_VCPU_EVENTS, &events);

    if (ret < 0 || switch_omits(SWITCH_FIXUP_INTERRUPT_SHADOW)) {
        return ret;
    }
    add_interrupt_shadow(cs, shadow, &events);
    return put_own_events(cs, &events, KVM_VCPUEVENT_VALID_SHADOW);
}

/*
 * Say whether KVM would take an interrupt now (kernel:
 * kvm_vcpu_ready_for_interrupt_injection()).  KVM_RUN sets this flag at each
 * exit, but the last exit was before the vCPU's registers were put.  QEMU goes
 * by it when the PIC has an interrupt.  A stale 1 would have it inject into an
 * interrupt shadow, or behind an NMI in delivery, where the interrupt would
 * come with IF clear; a stale 0 would let a halted vCPU sleep on (hazard C6).
 */
static void say_ready_for_interrupt(CPUState *cs, bool interrupt_shadow)
{
    CPUX86State *env = cpu_env(cs);

    cs->kvm_run->ready_for_interrupt_injection =
        !interrupt_shadow && env->interrupt_injected < 0 &&
        !env->exception_injected && !env->exception_pending &&
        !env->nmi_injected && apic_accept_pic_intr(X86_CPU(cs)->apic_state);
    /*
     * The exit's instruction was completed before the switch or load;
     * x86_kvm_may_inject() would still wait for it.
     */
    if (!x86_kvm_may_inject(cs->kvm_run)) {
        cs->kvm_run->exit_reason = KVM_EXIT_INTR;
    }
}

/* Set by a load into KVM, until the machine starts or is switched. */
static bool kvm_loaded;

/*
 * The load has written the guest's page tables behind KVM's back, as TCG does
 * (hazard F2).  The vCPUs' sections are still to come.
 */
int switch_arch_post_load_kvm(void)
{
    x86_kvm_tsc_load_begins();
    kvm_loaded = true;
    return x86_kvm_load_shadow();
}

void switch_arch_loaded_kvm(CPUState *cs)
{
    if (kvm_loaded) {
        x86_kvm_load_tsc(cs);
        if (cpu_env(cs)->tsc_deadline) {
            /* Armed by the TSC as it was; KVM takes it in its mode alone. */
            x86_kvm_put_msr(cs, MSR_IA32_TSCDEADLINE,
                            cpu_env(cs)->tsc_deadline);
        }
    }
}

/* If this fails, KVM has refused the registers, too: QEMU has reported it. */
void switch_arch_put_kvm(CPUState *cs)
{
    put_interrupt_shadow(cs, cpu_env(cs)->hflags & HF_INHIBIT_IRQ_MASK);
}

/* While the machine is stopped, env holds what was loaded. */
static void start_loaded(void *opaque, bool running, RunState state)
{
    CPUState *cs;

    if (!running || !kvm_loaded || !kvm_enabled()) {
        return;
    }
    kvm_loaded = false;
    if (switch_omits(SWITCH_FIXUP_INTERRUPT_READY)) {
        return;
    }
    CPU_FOREACH(cs) {
        CPUX86State *env = cpu_env(cs);

        say_ready_for_interrupt(cs, env->hflags & HF_INHIBIT_IRQ_MASK);
        /* KVM keeps the shadow now: the next snapshot must not have it. */
        env->hflags &= ~HF_INHIBIT_IRQ_MASK;
    }
}

void x86_kvm_init_load_kvm(void)
{
    qemu_add_vm_change_state_handler(start_loaded, NULL);
}

/*
 * The hardware's TLB holds what the guest's page tables said when the vCPU
 * last ran under KVM.  Registers that come back as they were do not flush it
 * (kernel: __set_sregs_common() looks for a difference): put others first
 * (hazard F1).  Both structures begin alike.
 */
static int force_mmu_reset(CPUState *cs, unsigned long type,
                           struct kvm_sregs *sregs)
{
    int ret;

    if (switch_omits(SWITCH_FIXUP_SHADOW_FLUSH)) {
        return 0;
    }
    sregs->cr4 ^= CR4_PGE_MASK;
    ret = kvm_vcpu_ioctl(cs, type, sregs);
    sregs->cr4 ^= CR4_PGE_MASK;
    return ret;
}

/*
 * KVM takes no pending SMI for a vCPU that waits for SIPI (kernel:
 * kvm_vcpu_ioctl_x86_set_vcpu_events()).  It may have waited when it was last
 * in KVM; what it does now is put after the events (hazard C15).
 */
static int let_take_smi(CPUState *cs, const struct kvm_vcpu_events *events)
{
    struct kvm_mp_state state = { .mp_state = KVM_MP_STATE_RUNNABLE };

    return events->smi.pending ? kvm_vcpu_ioctl(cs, KVM_SET_MP_STATE, &state)
                               : 0;
}

int switch_arch_before_ioctl(CPUState *cs, unsigned long type, void *arg)
{
    X86SwitchCPU *sc = x86_switch_cpu(cs);
    int ret = 0;

    if (!sc->putting) {
        return 0;
    }
    sc->putting = false;
    switch (type) {
    case KVM_SET_SREGS:
    case KVM_SET_SREGS2:
        ret = force_mmu_reset(cs, type, arg);
        break;
    case KVM_SET_VCPU_EVENTS:
        ret = let_take_smi(cs, arg);
        if (!switch_omits(SWITCH_FIXUP_INTERRUPT_SHADOW)) {
            add_interrupt_shadow(cs, sc->interrupt_shadow, arg);
        }
        break;
    }
    sc->putting = true;
    return ret;
}

/*
 * KVM_SET_TSC_KHZ is left out: no switch changes the TSC's frequency.  A host
 * whose kernel has measured its own TSC again since the vCPU was made (refined
 * calibration) would refuse the call, or adjust the TSC at each entry from then
 * on.  kvm-clock's MSRs are left to x86_switch_import_kvmclock().
 */
static int put_registers(CPUState *cs, Error **errp)
{
    CPUX86State *env = cpu_env(cs);
    uint64_t kvm_features = env->features[FEAT_KVM];
    int64_t khz = env->tsc_khz;
    int ret;

    env->tsc_khz = 0;
    env->features[FEAT_KVM] &= ~(CPUID_KVM_CLOCK | CPUID_KVM_CLOCK2);
    x86_switch_cpu(cs)->putting = true;
    ret = kvm_arch_put_registers(cs, KVM_PUT_FULL_STATE, errp);
    x86_switch_cpu(cs)->putting = false;
    env->features[FEAT_KVM] = kvm_features;
    env->tsc_khz = khz;
    return ret;
}

/* All vCPUs get their TSC by the same reading. */
static X86HostTSC host_tsc;

/*
 * The order matters: what KVM derives from other state is put after it.
 *
 *   registers first: they hold the APIC base, by which KVM takes or resets its
 *     LAPIC, and the TSC, which moves the TSC's offset; with them the interrupt
 *     shadow, and what resets the MMU
 *   the TSC's offset after the TSC: it is what counts
 *   the LAPIC after both: with VMX's preemption timer its timer's deadline is
 *     made of the guest's TSC as it is when the LAPIC is put (kernel:
 *     set_target_expiration(), vmx_set_hv_timer()), and an offset that comes
 *     later would move it
 */
static SwitchResult import_vcpu(CPUState *cs, Error **errp)
{
    ERRP_GUARD();
    X86SwitchCPU *sc = x86_switch_cpu(cs);
    SwitchResult result;
    int ret;

    x86_kvm_forget_puts(sc);
    if (put_registers(cs, errp) < 0) {
        error_prepend(errp, "vCPU %d: ", cs->cpu_index);
        return SWITCH_REFUSED;
    }
    ret = x86_switch_import_kvmclock(cs);
    if (ret < 0) {
        goto fail;
    }
    ret = x86_kvm_import_tsc(cs, sc, &host_tsc);
    if (ret < 0) {
        goto fail;
    }
    ret = x86_kvm_import_lapic(X86_CPU(cs));
    if (ret < 0) {
        goto fail;
    }
    say_ready_for_interrupt(cs, sc->interrupt_shadow);
    result = switch_state->check_rules ? x86_kvm_check_rules(cs, errp)
                                       : SWITCH_OK;
    if (result == SWITCH_OK && switch_state->read_back &&
        !x86_kvm_read_back(cs, errp)) {
        return SWITCH_REFUSED;
    }
    return result;

fail:
    /* accel/switch/ioctl.c knows which ioctl failed. */
    error_setg_errno(errp, -ret, "vCPU %d", cs->cpu_index);
    return SWITCH_REFUSED;
}

SwitchResult switch_arch_import_kvm(Error **errp)
{
    int ret = x86_kvm_import_shadow();

    if (ret < 0) {
        error_setg_errno(errp, -ret, "KVM_SET_USER_MEMORY_REGION");
        return SWITCH_REFUSED;
    }
    host_tsc = x86_host_tsc(x86_switch_tsc_khz());
    return switch_each_vcpu(import_vcpu, errp);
}

void switch_arch_commit_kvm(void)
{
    CPUState *cs;

    kvm_loaded = false;
    CPU_FOREACH(cs) {
        APICCommonState *apic = x86_switch_lapic(X86_CPU(cs));

        timer_del(apic->timer);
        cs->vcpu_dirty = false;
        cpu_env(cs)->tsc_valid = false;
    }
}
