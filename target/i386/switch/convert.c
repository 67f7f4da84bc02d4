/*
 * One vCPU's registers between the forms that KVM and TCG keep them in
 *
 * One function for each concern, named after it.  None can fail, and none talks
 * to KVM.  The numbers of hazards are those of docs/internals/hazards.rst.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "exec/breakpoint.h"
#include "fpu/softfloat-helpers.h"
#include "hw/i386/apic.h"
#include "hw/intc/i8259.h"
#include "system/runstate.h"
#include "tcg/helper-tcg.h"
#include "switch/kvm/kvm.h"
#include "switch/x86-switch.h"

/*
 * KVM's x87 registers are in stack order, from ST0; TCG's are in physical
 * order: ST(i) is register (fpstt + i) % 8 (hazard C1).
 */
static void convert_x87_order(CPUX86State *env, bool to_tcg)
{
    FPReg old[8];

    if (switch_omits(SWITCH_FIXUP_X87_ORDER)) {
        return;
    }
    memcpy(old, env->fpregs, sizeof(old));
    for (int st = 0; st < 8; st++) {
        int phys = (env->fpstt + st) & 7;

        env->fpregs[to_tcg ? phys : st] = old[to_tcg ? st : phys];
    }
}

/*
 * TCG computes with softfloat's form of the x87 and SSE control registers.
 * QEMU sets that up only at a reset in TCG: without it the guest's first NaN
 * would fail an assertion (hazard C2).
 */
static void convert_fp_to_tcg(CPUX86State *env)
{
    convert_x87_order(env, true);
    env->fpus &= ~0x3800;               /* the top of the stack is in fpstt */
    if (!(env->fpus & 0x80)) {
        /* KVM's guest has cleared the error, on which a chipset ends IGNNE#. */
        env->hflags2 &= ~HF2_IGNNE_MASK;
    }
    cpu_init_fp_statuses(env);
    update_fp_status(env);
    update_mxcsr_status(env);
}

static void convert_fp_to_kvm(CPUX86State *env)
{
    update_mxcsr_from_sse_status(env);
    /*
     * Under KVM softfloat's flags are stale.  A register dump or a debugger
     * calls the function above, too, which would set them in MXCSR, and so in
     * the guest's.
     */
    set_float_exception_flags(0, &env->sse_status);
    convert_x87_order(env, false);
    /*
     * TCG does not maintain XSTATE_BV, and KVM puts a component that is not in
     * it into its initial state (hazard C10).  Name also the components that
     * XCR0 turns off: PKRU is in use with CR4.PKE alone.  And no others: a
     * stream of plain QEMU's may name PKRU in a guest that lacks it.
     */
    if (!switch_omits(SWITCH_FIXUP_XSTATE_BV)) {
        env->xstate_bv = env->features[FEAT_XSAVE_XCR0_LO] | XSTATE_FP_MASK |
                         XSTATE_SSE_MASK;
    }
}

static void convert_flags_to_tcg(CPUX86State *env)
{
    env->cc_op = CC_OP_EFLAGS;
    env->cc_src = env->eflags & (CC_O | CC_S | CC_Z | CC_A | CC_P | CC_C);
    env->df = env->eflags & DF_MASK ? -1 : 1;
}

/*
 * x86_update_hflags() keeps old values of some flags, such as those of AVX and
 * SMAP: a guest that has turned AVX on in KVM would get #UD (hazard C3).
 */
static void convert_hflags_to_tcg(CPUX86State *env, X86SwitchCPU *sc)
{
    cpu_load_efer(env, env->efer);
    cpu_x86_update_cr4(env, env->cr[4]);
    /* TCG takes these from EFLAGS at each TB; in hflags they would stick. */
    env->hflags &= ~(HF_TF_MASK | HF_VM_MASK | HF_IOPL_MASK |
                     HF_INHIBIT_IRQ_MASK);
    if (sc->interrupt_shadow &&
        !switch_omits(SWITCH_FIXUP_INTERRUPT_SHADOW)) {
        env->hflags |= HF_INHIBIT_IRQ_MASK;
    }
}

static void convert_debug_to_tcg(X86CPU *cpu)
{
    CPUX86State *env = &cpu->env;
    target_ulong dr7 = env->dr[7];

    cpu_breakpoint_remove_all(CPU(cpu), BP_CPU);
    cpu_watchpoint_remove_all(CPU(cpu), BP_CPU);
    /* These point to breakpoints and watchpoints that are gone. */
    memset(env->cpu_breakpoint, 0, sizeof(env->cpu_breakpoint));
    /*
     * cpu_x86_update_dr7() inserts only what DR7 did not enable before: show it
     * all as disabled, or no breakpoint would hit in TCG (hazard C8).
     */
    env->dr[7] = dr7 & ~(DR7_GLOBAL_BP_MASK | DR7_LOCAL_BP_MASK);
    cpu_x86_update_dr7(env, dr7);
}

/*
 * VM entry demands of descriptor caches what TCG does not keep: a busy TSS in
 * TR, Accessed in what is loaded, SS.DPL equal to the CPL (hazards C4, C12).
 */
static void convert_segments_to_kvm(CPUX86State *env)
{
    bool protected = env->cr[0] & CR0_PE_MASK;

    if (switch_omits(SWITCH_FIXUP_DESCRIPTORS)) {
        return;
    }
    if (!(env->tr.flags & DESC_P_MASK)) {
        /* TR was never loaded, or with a null selector; it must be usable. */
        env->tr.flags = DESC_P_MASK | (11 << DESC_TYPE_SHIFT);
    }
    env->tr.flags |= DESC_TSS_BUSY_MASK;
    if (env->hflags & HF_LMA_MASK) {
        /* After INIT AMD's KVM has a 16-bit TSS, until the guest loads TR. */
        env->tr.flags |= 8 << DESC_TYPE_SHIFT;
    }
    if (!(env->ldt.selector & 0xfffc) && !env->ldt.limit) {
        /* TCG's LLDT of a null selector keeps the flags of the last LDT. */
        env->ldt.flags = 0;
    }
    for (int i = 0; i < 6; i++) {
        SegmentCache *seg = &env->segs[i];

        if (!protected && !(seg->flags & DESC_P_MASK)) {
            /*
             * The segment was null in protected mode.  In real mode a load
             * changes only selector and base, and TCG does not look at P.
             */
            seg->flags = DESC_P_MASK | DESC_S_MASK | DESC_W_MASK | DESC_A_MASK;
            seg->limit = 0xffff;
        }
        if (seg->flags & DESC_P_MASK && seg->flags & DESC_S_MASK) {
            seg->flags |= DESC_A_MASK;
        }
        if (!protected) {
            seg->flags &= ~DESC_DPL_MASK;
        }
    }
    if (protected && !(env->eflags & VM_MASK)) {
        /* The CPL is SS.DPL (SDM vol. 3C, checks on guest segments). */
        env->segs[R_SS].flags &= ~DESC_DPL_MASK;
        env->segs[R_SS].flags |= (env->hflags & HF_CPL_MASK) << DESC_DPL_SHIFT;
    }
}

static void convert_segments_to_tcg(CPUX86State *env)
{
    if (!switch_omits(SWITCH_FIXUP_DESCRIPTORS)) {
        env->tr.flags &= ~DESC_TSS_BUSY_MASK;
    }
}

/*
 * A pending exception's payload goes where the exception would put it
 * (kernel: kvm_deliver_exception_payload()).
 */
static void deliver_exception_payload(CPUX86State *env)
{
    uint64_t payload = env->exception_payload;

    switch (env->exception_nr) {
    case EXCP01_DB:
        env->dr[6] &= ~(uint64_t)0xf;
        env->dr[6] |= DR6_FIXED_1;
        env->dr[6] |= payload;
        env->dr[6] ^= payload & DR6_FIXED_1;
        break;
    case EXCP0E_PAGE:
        env->cr[2] = payload;
        break;
    }
    env->exception_has_payload = false;
    env->exception_payload = 0;
}

/*
 * RIP is still at the instruction, so that TCG executes it anew.  INT3 and INTO
 * then raise #BP and #OF again, and an instruction that TCG does not know
 * either raises #UD.  KVM also queues a #UD when its emulator lacks an
 * instruction, before it gives up (kernel: handle_emulation_failure()): the
 * guest must not see that one.
 */
static bool exception_is_kept(int nr)
{
    return nr != EXCP03_INT3 && nr != EXCP04_INTO && nr != EXCP06_ILLOP;
}

/* A second such exception in its delivery makes a #DF (SDM vol. 3A, "#DF"). */
static bool exception_is_first_of_two(int nr)
{
    return nr == EXCP00_DIVZ || nr == EXCP08_DBLE ||
           (nr >= EXCP0A_TSS && nr <= EXCP0E_PAGE);
}

/*
 * TCG does not look at the fields in which KVM shows an event in delivery.  An
 * interrupt there is in ISR already, and would be lost (hazard C6).  A software
 * interrupt or exception is dropped: RIP is still at the instruction, which TCG
 * executes anew.
 */
static void convert_events_to_tcg(X86CPU *cpu)
{
    CPUState *cs = CPU(cpu);
    CPUX86State *env = &cpu->env;
    bool reinject = !switch_omits(SWITCH_FIXUP_REINJECT);

    cs->exception_index = -1;
    env->old_exception = -1;

    if (env->exception_pending) {
        if (env->exception_has_payload) {
            deliver_exception_payload(env);
        }
        if (env->exception_nr == EXCP01_DB) {
            env->dr[7] &= ~DR7_GD;
        }
        env->exception_pending = 0;
        env->exception_injected = 1;
    }
    if (env->exception_injected && exception_is_kept(env->exception_nr) &&
        reinject) {
        cs->exception_index = env->exception_nr;
        if (exception_is_first_of_two(env->exception_nr)) {
            env->old_exception = env->exception_nr;
        }
        env->exception_is_int = 0;
        env->exception_next_eip = env->eip;
        cs->halted = 0;
    }
    env->exception_injected = 0;
    env->exception_nr = -1;

    if (env->soft_interrupt) {
        env->interrupt_injected = -1;
        env->soft_interrupt = 0;
    }
    if (env->nmi_injected) {
        /* AMD's KVM says that NMIs are masked before this one is delivered. */
        env->hflags2 &= ~HF2_NMI_MASK;
    }
    if ((env->nmi_injected || env->interrupt_injected >= 0) && reinject) {
        cs->interrupt_request |= CPU_INTERRUPT_INJECTED;
        cs->halted = 0;
    } else {
        env->nmi_injected = false;
        env->interrupt_injected = -1;
    }
    if (env->nmi_pending) {
        cs->interrupt_request |= CPU_INTERRUPT_NMI;
        env->nmi_pending = false;
    }
    if (env->triple_fault_pending) {
        env->triple_fault_pending = false;
        qemu_system_reset_request(SHUTDOWN_CAUSE_GUEST_RESET);
    }
}

static bool exception_pushes_error_code(int nr)
{
    return nr == EXCP08_DBLE || (nr >= EXCP0A_TSS && nr <= EXCP0E_PAGE) ||
           nr == EXCP11_ALGN;
}

static void convert_events_to_kvm(X86CPU *cpu)
{
    CPUState *cs = CPU(cpu);
    CPUX86State *env = &cpu->env;

    env->exception_pending = 0;
    env->exception_injected = 0;
    env->exception_has_payload = false;
    env->exception_payload = 0;
    env->exception_nr = -1;
    env->has_error_code = 0;
    env->soft_interrupt = 0;
    env->triple_fault_pending = false;

    /*
     * An exception that TCG has raised, or was given by the last switch, and
     * has not delivered yet.  A software interrupt's instruction is executed
     * anew.
     */
    if (cs->exception_index >= 0 && cs->exception_index < 32 &&
        !env->exception_is_int) {
        env->exception_nr = cs->exception_index;
        env->exception_injected = 1;
        env->has_error_code = (env->cr[0] & CR0_PE_MASK) &&
                              exception_pushes_error_code(env->exception_nr);
    }
    cs->exception_index = -1;

    if (!(cs->interrupt_request & CPU_INTERRUPT_INJECTED)) {
        env->nmi_injected = false;
        env->interrupt_injected = -1;
    }
    env->nmi_pending = !!(cs->interrupt_request & CPU_INTERRUPT_NMI);
    cs->interrupt_request &= ~(CPU_INTERRUPT_INJECTED | CPU_INTERRUPT_NMI);
}

/*
 * QEMU's import from KVM sets CPUState.halted only for a HLT: a vCPU that waits
 * for SIPI would execute the reset vector in TCG (hazard C5).
 */
static void convert_mp_state_to_tcg(X86CPU *cpu)
{
    CPUState *cs = CPU(cpu);
    APICCommonState *apic = x86_switch_lapic(cpu);
    uint32_t mp_state = cpu->env.mp_state;

    apic->wait_for_sipi = mp_state == KVM_MP_STATE_UNINITIALIZED ||
                          mp_state == KVM_MP_STATE_INIT_RECEIVED;
    cs->halted = apic->wait_for_sipi || mp_state == KVM_MP_STATE_HALTED;
    if (mp_state == KVM_MP_STATE_SIPI_RECEIVED) {
        apic->wait_for_sipi = 1;
        apic->sipi_vector = cpu->env.sipi_vector;
        cs->halted = 1;
        cs->interrupt_request |= CPU_INTERRUPT_SIPI;
    }
}

static void convert_mp_state_to_kvm(X86CPU *cpu)
{
    CPUState *cs = CPU(cpu);

    /*
     * TCG does not keep mp_state: make it of TCG's flags.  A vCPU that waits
     * for SIPI has had its INIT; KVM would ignore a SIPI in another state
     * (hazard C15).
     */
    cpu->env.mp_state = x86_switch_lapic(cpu)->wait_for_sipi
                        ? KVM_MP_STATE_INIT_RECEIVED
                        : cs->halted ? KVM_MP_STATE_HALTED
                                     : KVM_MP_STATE_RUNNABLE;
    if (cpu->env.mp_state == KVM_MP_STATE_HALTED &&
        (cpu->env.exception_injected || cpu->env.nmi_injected ||
         cpu->env.interrupt_injected >= 0)) {
        cpu->env.mp_state = KVM_MP_STATE_RUNNABLE;
    }
    cs->halted = cpu->env.mp_state != KVM_MP_STATE_RUNNABLE;
}

/*
 * HARD means "the PIC has an interrupt" to KVM with a split irqchip, for the
 * first vCPU only, and "the LAPIC or the PIC has one" to TCG.  A HARD of the
 * LAPIC's would have QEMU read a spurious vector from the PIC under KVM
 * (hazards C16, E12).
 */
static void convert_lines(X86CPU *cpu, bool to_tcg)
{
    CPUState *cs = CPU(cpu);
    bool pic = isa_pic && pic_get_output(isa_pic);

    cs->interrupt_request &= ~(CPU_INTERRUPT_HARD | CPU_INTERRUPT_POLL |
                               CPU_INTERRUPT_VIRQ | CPU_INTERRUPT_TPR |
                               CPU_INTERRUPT_EXITTB);
    if (to_tcg) {
        /* Have the vCPU's thread look at its LAPIC first of all. */
        cs->interrupt_request |= CPU_INTERRUPT_POLL;
        pic &= apic_accept_pic_intr(cpu->apic_state);
    } else {
        pic &= cs == first_cpu;
    }
    if (pic) {
        cs->interrupt_request |= CPU_INTERRUPT_HARD;
    }
}

/*
 * For migration QEMU sets the bits above the address width in the masks that it
 * reads from KVM.  A guest in TCG would read them so (hazard C19).
 */
static void convert_mtrrs_to_tcg(X86CPU *cpu)
{
    uint64_t mask = MAKE_64BIT_MASK(0, cpu->phys_bits);

    for (int i = 0; i < MSR_MTRRcap_VCNT; i++) {
        cpu->env.mtrr_var[i].mask &= mask;
    }
}

void x86_switch_convert_to_tcg(X86CPU *cpu, X86SwitchCPU *sc)
{
    CPUX86State *env = &cpu->env;

    convert_flags_to_tcg(env);
    convert_fp_to_tcg(env);
    convert_segments_to_tcg(env);
    convert_hflags_to_tcg(env, sc);
    convert_mtrrs_to_tcg(cpu);
    convert_mp_state_to_tcg(cpu);
    convert_events_to_tcg(cpu);
    convert_debug_to_tcg(cpu);
    convert_lines(cpu, true);
    x86_kvm_lapic_to_tcg(cpu, sc);
}

void x86_switch_convert_to_kvm(X86CPU *cpu, X86SwitchCPU *sc)
{
    CPUX86State *env = &cpu->env;

    /* EFLAGS are whole outside of cpu_exec(), and a debugger writes them. */
    convert_fp_to_kvm(env);
    convert_segments_to_kvm(env);
    convert_events_to_kvm(cpu);
    convert_mp_state_to_kvm(cpu);
    convert_lines(cpu, false);
    sc->interrupt_shadow = env->hflags & HF_INHIBIT_IRQ_MASK;
    env->hflags &= ~HF_INHIBIT_IRQ_MASK;
    /*
     * env has the PDPTEs of the last stay in KVM: have KVM read those that are
     * in memory now (hazard C11).
     */
    env->pdptrs_valid = false;
    if (!switch_omits(SWITCH_FIXUP_TSC_OFFSET)) {
        env->tsc = x86_switch_get_tsc(env);
    }
    env->tsc_valid = true;
}
