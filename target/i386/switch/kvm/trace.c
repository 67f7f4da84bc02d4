/*
 * Traces: a vCPU's thread steps its vCPU, and knows where it has been
 *
 * KVM steps by RFLAGS.TF, which the guest must not find in what is pushed or
 * copied of its flags, and which an instruction or a delivery may clear.  So:
 *
 *  - PUSHF, INT n, SYSCALL and task switches, which copy the flags, are
 *    executed without TF: a breakpoint stands where each leads to.
 *  - Exceptions push the flags with TF, and clear it.  Breakpoints stand at the
 *    handlers of those that the next instruction may raise.  There are four
 *    registers: one for #PF, one for #GP, two by the kind of instruction.  The
 *    handler's first instruction is still to come when TF is taken out of what
 *    was pushed.
 *  - Interrupts are held back (KVM_GUESTDBG_BLOCKIRQ).  From time to time KVM
 *    is asked which one it would inject.  That is delivered without TF, with a
 *    breakpoint at its handler.
 *
 * In this way all these are no gaps.  Where the guest uses TF or breakpoints
 * itself the trace pauses: they stay the guest's.
 *
 * KVM clears TF when it emulates an instruction (kernel:
 * x86_emulate_instruction()), so it is told to step again before each step.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "hw/boards.h"
#include "system/accel-switch.h"
#include "system/kvm.h"
#include "system/kvm_int.h"
#include "accel/kvm/kvm-cpus.h"
#include "accel/switch/arch.h"
#include "accel/switch/selftest/selftest.h"
#include "switch/kvm/module.h"
#include "switch/kvm/trace.h"

/* So long a vCPU may be away after HLT before it is stepped elsewhere */
#define AWAIT_NS (100 * SCALE_MS)

#define DR6_WHICH 0xf
#define DR7_LE_GE 0x0600
#define DR7_GLOBAL(n) (2 << ((n) * 2))
#define DR7_ANY_ENABLED 0xff

#define NEEDED_FLAGS (KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | \
                      KVM_GUESTDBG_USE_HW_BP | KVM_GUESTDBG_BLOCKIRQ)

bool accel_switch_tracing;

static X86Trace **traces;       /* by cpu_index; each its vCPU's thread's */

X86Trace *x86_trace_of(CPUState *cs)
{
    return traces ? traces[cs->cpu_index] : NULL;
}

static void stop_at(X86TraceRun *r, const X86Trace *t, uint64_t address,
                    int vector)
{
    /* A breakpoint where the vCPU stands would stop it there for ever. */
    if (address && r->count < SWITCH_BREAKPOINTS &&
        (!t->at || t->at->pc != address)) {
        r->stop[r->count].address = address;
        r->stop[r->count++].vector = vector;
    }
}

static void stop_at_handlers(CPUState *cs, X86Trace *t, X86TraceRun *r)
{
    const uint8_t *likely = t->at->insn.may_raise;
    /* #NM comes before the others of x87 and SSE. */
    bool no_device = (likely[0] == X86_TRACE_XM || likely[0] == EXCP10_COPR) &&
                     t->sregs.cr0 & (CR0_TS_MASK | CR0_EM_MASK);
    const uint8_t vectors[] = {
        EXCP0E_PAGE, EXCP0D_GPF, no_device ? EXCP07_PREX : likely[0],
        likely[1],
    };

    if (switch_omits(SWITCH_FIXUP_TRACE_HANDLERS)) {
        return;
    }
    for (int i = 0; i < ARRAY_SIZE(vectors); i++) {
        stop_at(r, t, x86_trace_handler(cs, t, vectors[i]), vectors[i]);
    }
}

static int tell_kvm(CPUState *cs, X86Trace *t, const X86TraceRun *r)
{
    struct kvm_guest_debug dbg = { .control = r->control };

    if (r->control) {
        dbg.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
        dbg.arch.debugreg[7] = DR7_LE_GE;
    }
    for (int n = 0; n < r->count; n++) {
        dbg.arch.debugreg[n] = r->stop[n].address;
        dbg.arch.debugreg[7] |= DR7_GLOBAL(n);
    }
    t->single_steps = r->control & KVM_GUESTDBG_SINGLESTEP;
    return kvm_vcpu_ioctl(cs, KVM_SET_GUEST_DEBUG, &dbg);
}

/* Records */

static bool is_wanted(const X86Trace *t)
{
    const KvmTraceOptions *o = switch_trace_options();

    return (!o->has_cr3 || !((o->cr3 ^ t->sregs.cr3) &
                             x86_cr3_address(t->sregs.cr4, t->sregs.efer))) &&
           (!o->has_cpl || o->cpl == t->sregs.ss.dpl);
}

static void record(X86Trace *t, X86TraceCode *c, bool wanted)
{
    if (!wanted) {
        switch_trace_filtered(&t->buffer);
        return;
    }
    switch_trace_step(&t->buffer, c->pc, c->in_file ? NULL : c->code,
                      c->bytes, c->mode);
    c->in_file = true;
}

/* Steps */

/* A comparison has no use for what is not a step. */
static void end_steps(const X86Trace *t)
{
    if (t->steps) {
        switch_trace_end(KVM_TRACE_END_REASON_COMMAND);
    }
}

/* @awaited is where the vCPU comes to after HLT. */
static void await(X86Trace *t, uint64_t awaited)
{
    switch_trace_gap(&t->buffer, KVM_TRACE_GAP_HALT, 0);
    end_steps(t);
    t->awaited = awaited;
    t->awaited_since = get_clock();
    t->at = NULL;
}

static void pause_trace(X86Trace *t)
{
    if (!t->paused) {
        switch_trace_gap(&t->buffer, KVM_TRACE_GAP_GUEST_DEBUG, 0);
    }
    end_steps(t);
    t->paused = true;
    t->at = NULL;
}

static bool guest_debugs_itself(const X86Trace *t)
{
    /* KVM shows no TF while it steps, and the guest has none then. */
    return t->debugregs.dr7 & DR7_ANY_ENABLED ||
           (!t->single_steps && t->regs.rflags & TF_MASK);
}

/* An event that KVM delivers before the next instruction; -1: none */
static int event_to_deliver(const X86Trace *t)
{
    if (t->events.exception.injected || t->events.exception.pending) {
        return t->events.exception.nr;
    }
    if (t->events.interrupt.injected && !t->events.interrupt.soft) {
        return t->events.interrupt.nr;
    }
    return t->events.nmi.injected ? EXCP02_NMI : -1;
}

/* Fill @r for the instruction that the vCPU is at.  False: the trace pauses. */
static bool prepare(CPUState *cs, X86Trace *t, X86TraceRun *r)
{
    const X86TraceInsn *insn = &t->at->insn;
    uint64_t target;

    r->control = KVM_GUESTDBG_BLOCKIRQ;
    switch (insn->kind) {
    case X86_TRACE_PUSHF:
        stop_at(r, t, t->at->pc + insn->bytes, -1);
        break;
    case X86_TRACE_INT:
        x86_trace_look(cs, t);
        stop_at(r, t, x86_trace_handler(cs, t, insn->vector), insn->vector);
        if (insn->vector == EXCP04_INTO) {
            stop_at(r, t, t->at->pc + insn->bytes, -1);
        }
        break;
    case X86_TRACE_SYSCALL:
        x86_trace_look(cs, t);
        stop_at(r, t, x86_trace_syscall_entry(cs, t), -1);
        break;
    case X86_TRACE_HLT:
        r->control = KVM_GUESTDBG_ENABLE;
        stop_at(r, t, t->at->pc + insn->bytes, -1);
        break;
    case X86_TRACE_ICEBP:
        return false;
    case X86_TRACE_POPF:
    case X86_TRACE_IRET:
    case X86_TRACE_SYSRET:
        x86_trace_look(cs, t);
        if (insn->kind == X86_TRACE_IRET) {
            target = x86_trace_task_entry(cs, t, 0);
            if (target) {
                stop_at(r, t, target, -1);
                break;
            }
        }
        if (x86_trace_flags_to_load(cs, t, insn, &target) & TF_MASK) {
            return false;
        }
        r->control |= KVM_GUESTDBG_SINGLESTEP;
        stop_at(r, t, target, -1);
        break;
    case X86_TRACE_FAR:
        target = insn->selector
                 ? x86_trace_task_entry(cs, t, insn->selector) : 0;
        stop_at(r, t, target, -1);
        r->control |= target ? 0 : KVM_GUESTDBG_SINGLESTEP;
        break;
    default:
        r->control |= KVM_GUESTDBG_SINGLESTEP;
        break;
    }
    stop_at_handlers(cs, t, r);
    return true;
}

/* The vCPU stands at @pc, as KVM's exit says, and has executed t->at. */
static void go_on(CPUState *cs, X86Trace *t, uint64_t pc, bool look)
{
    X86TraceKind kind = t->at ? t->at->insn.kind : X86_TRACE_CONTEXT;

    if (kind == X86_TRACE_MOV_SS && !look &&
        pc != t->at->pc + t->at->insn.bytes) {
        switch_trace_gap(&t->buffer, KVM_TRACE_GAP_MOV_SS, t->at->pc);
    }
    if (look || (kind != X86_TRACE_PLAIN && kind != X86_TRACE_PUSHF)) {
        x86_trace_look(cs, t);
        if (guest_debugs_itself(t)) {
            pause_trace(t);
            return;
        }
        look = true;
    }
    t->at = x86_trace_code(cs, t, pc);
    if (look) {
        x86_trace_note_step(t, &t->regs, &t->sregs);
    } else {
        x86_trace_note_step(t, &cs->kvm_run->s.regs.regs,
                            &cs->kvm_run->s.regs.sregs);
    }
}

/*
 * After an exception of the instruction @c: was that its fetch?  Then it has
 * not begun.
 */
static bool is_fetch(const X86Trace *t, const X86TraceCode *c, int vector)
{
    return !c->bytes ||
           (vector == EXCP0E_PAGE && t->sregs.cr2 - c->pc < c->bytes);
}

/*
 * KVM may have an instruction's exception to deliver when a signal ends
 * KVM_RUN: the instruction has begun.
 */
static bool is_exception(int vector)
{
    return vector < X86_TRACE_VECTORS && vector != EXCP02_NMI;
}

/*
 * The vCPU has come to @pc: by a step (@vector -2), to where its instruction
 * leads (-1) or to the handler of @vector.  @delivered: the vector that KVM had
 * for it before, or -1.
 */
static void arrive(CPUState *cs, X86Trace *t, uint64_t pc, int vector,
                   int delivered)
{
    X86TraceCode *c = t->at;
    bool wanted = is_wanted(t);

    if (delivered >= 0) {
        end_steps(t);
    }
    if (t->awaited) {
        t->awaited = 0;
        go_on(cs, t, pc, true);
    } else if (vector >= 0) {
        go_on(cs, t, pc, true);
        if ((delivered < 0 || is_exception(delivered)) &&
            !is_fetch(t, c, vector)) {
            record(t, c, wanted);
        }
        if (delivered < 0 && !switch_omits(SWITCH_FIXUP_TRACE_FLAGS)) {
            x86_trace_clear_pushed_tf(cs, t, vector);
        }
        if (is_wanted(t)) {
            switch_trace_event(&t->buffer, vector);
        }
    } else {
        if (delivered < 0) {
            record(t, c, wanted);
        } else {
            switch_trace_gap(&t->buffer, KVM_TRACE_GAP_LOST, pc);
        }
        if (c->insn.kind == X86_TRACE_HLT) {
            switch_trace_gap(&t->buffer, KVM_TRACE_GAP_HALT, 0);
        }
        go_on(cs, t, pc, delivered >= 0);
    }
}

/*
 * KVM_EXIT_DEBUG after a run with @r.  @delivered: the vector that it was for,
 * or -1.  False: it is not the trace's.
 */
static bool stopped(CPUState *cs, X86Trace *t, const X86TraceRun *r,
                    int delivered)
{
    const struct kvm_debug_exit_arch *arch = &cs->kvm_run->debug.arch;
    int vector = -2;
    bool step = arch->dr6 & DR6_BS;

    if (arch->exception != EXCP01_DB) {
        return false;
    }
    for (int n = 0; n < r->count; n++) {
        if (arch->dr6 & DR6_WHICH & 1 << n && r->stop[n].address == arch->pc) {
            vector = r->stop[n].vector;
        }
    }
    if (vector == -2 && !step) {
        return false;
    }
    arrive(cs, t, arch->pc, step && vector != -1 ? -2 : vector, delivered);
    return true;
}

/*
 * The vCPU has come into a call of accel_switch_traced_run(): what became of
 * the instruction that it was at?
 */
static void come_back(CPUState *cs, X86Trace *t)
{
    uint64_t pc = x86_trace_pc(t);
    struct kvm_mp_state mp_state = {};
    X86TraceCode *was = t->at;
    bool smm = t->events.smi.smm;

    if (smm && !t->in_smm) {
        switch_trace_gap(&t->buffer, KVM_TRACE_GAP_SMI, 0);
        was = NULL;
        t->awaited = 0;
    }
    t->in_smm = smm;
    t->at = NULL;
    if (t->awaited) {
        kvm_vcpu_ioctl(cs, KVM_GET_MP_STATE, &mp_state);
        if (mp_state.mp_state == KVM_MP_STATE_HALTED ||
            get_clock() - t->awaited_since < AWAIT_NS) {
            return;
        }
        t->awaited = 0;
    }
    if (was && was->pc != pc) {
        if (was->insn.kind == X86_TRACE_HLT &&
            pc == was->pc + was->insn.bytes) {
            record(t, was, is_wanted(t));
            await(t, pc);
            return;
        }
        if (t->last_exit == KVM_EXIT_INTR) {
            switch_trace_gap(&t->buffer, KVM_TRACE_GAP_LOST, pc);
        } else {
            /* The exit was the instruction's, and KVM has completed it. */
            record(t, was, is_wanted(t));
        }
    }
    if (guest_debugs_itself(t)) {
        pause_trace(t);
        return;
    }
    t->paused = false;
    t->at = x86_trace_code(cs, t, pc);
    if (!was || was->pc != pc) {
        x86_trace_note_step(t, &t->regs, &t->sregs);
    }
}

/*
 * A host's interrupt has come when the vCPU was at a breakpoint of @r, and
 * before that could stop it: what was pushed has TF.  After HLT the vCPU may
 * have slept there, with an interrupt to come.
 */
static void look_for_arrival(CPUState *cs, X86Trace *t, const X86TraceRun *r,
                             int delivered)
{
    uint64_t pc;

    if (!t->at || t->at->insn.kind == X86_TRACE_HLT || !x86_trace_look(cs, t)) {
        return;
    }
    pc = x86_trace_pc(t);
    for (int n = 0; n < r->count && pc != t->at->pc; n++) {
        if (r->stop[n].address == pc) {
            arrive(cs, t, pc, r->stop[n].vector, delivered);
            return;
        }
    }
}

static int run_vcpu(CPUState *cs)
{
    return kvm_vcpu_ioctl(cs, KVM_RUN, 0);
}

/*
 * Have KVM complete what its last exit was for, and execute nothing.  If that
 * ends a step of the trace's, nobody else is to see it.
 */
static int run_nothing(CPUState *cs)
{
    const struct kvm_debug_exit_arch *arch = &cs->kvm_run->debug.arch;
    int ret;

    qatomic_set(&cs->kvm_run->immediate_exit, 1);
    ret = run_vcpu(cs);
    if (ret == 0 && cs->kvm_run->exit_reason == KVM_EXIT_DEBUG &&
        arch->exception == EXCP01_DB && arch->dr6 & DR6_BS &&
        !cs->singlestep_enabled) {
        return -EINTR;
    }
    return ret;
}

/*
 * Have KVM take what interrupt it has for the vCPU.  It is delivered by the
 * next KVM_RUN.  Returns what KVM_RUN does: -EINTR, or 0 with an exit.
 */
static int let_interrupts_in(CPUState *cs, X86Trace *t)
{
    static const X86TraceRun without = { .control = KVM_GUESTDBG_ENABLE };

    t->since_interrupts = 0;
    return tell_kvm(cs, t, &without) < 0
           ? -EINTR : x86_kvm_enter_with_signal(cs, run_vcpu);
}

/* One KVM_RUN.  *@left: it is the caller's turn, with what is returned. */
static int run_once(CPUState *cs, X86Trace *t, bool *left)
{
    X86TraceRun r = {};
    int ret, event = t->at ? event_to_deliver(t) : -1;

    if (t->awaited) {
        r.control = KVM_GUESTDBG_ENABLE;
        stop_at(&r, t, t->awaited, -1);
    } else if (t->at && event >= 0) {
        r.control = KVM_GUESTDBG_BLOCKIRQ;
        stop_at(&r, t, x86_trace_handler(cs, t, event), event);
        stop_at_handlers(cs, t, &r);
    } else if (t->at && !prepare(cs, t, &r)) {
        pause_trace(t);
        r = (X86TraceRun) {};
    }
    *left = true;
    if (tell_kvm(cs, t, &r) < 0) {
        switch_trace_end(KVM_TRACE_END_REASON_KVM_ERROR);
        return run_nothing(cs);
    }
    ret = run_vcpu(cs);
    t->last_exit = ret == 0 ? cs->kvm_run->exit_reason : KVM_EXIT_INTR;
    if (ret == 0 && t->last_exit == KVM_EXIT_DEBUG &&
        (t->at || t->awaited) && stopped(cs, t, &r, event)) {
        t->events = (struct kvm_vcpu_events) {};
        t->since_interrupts++;
        *left = false;
    } else if (ret == -EINTR) {
        look_for_arrival(cs, t, &r, event);
    }
    return ret;
}

int accel_switch_traced_run(CPUState *cs)
{
    X86Trace *t = x86_trace_of(cs);
    bool left = false;
    int ret = -EINTR;

    if (!t) {
        return run_vcpu(cs);
    }
    if (switch_debugger_has_points() || cs->singlestep_enabled) {
        switch_trace_end(KVM_TRACE_END_REASON_DEBUGGER);
    }
    if (!switch_trace_is_on()) {
        /* It is about to go, and leaves KVM with what a debugger has set. */
        return run_nothing(cs);
    }
    if (!x86_trace_look(cs, t)) {
        return run_vcpu(cs);
    }
    if (!t->begun) {
        t->begun = true;
        switch_trace_gap(&t->buffer, KVM_TRACE_GAP_BEGIN, 0);
    }
    come_back(cs, t);
    while (!left) {
        ret = run_once(cs, t, &left);
        if (!left && (qatomic_read(&cs->exit_request) ||
                      !switch_trace_is_on())) {
            ret = -EINTR;
            t->last_exit = KVM_EXIT_INTR;
            break;
        }
        if (!left && t->at && t->since_interrupts >=
            switch_trace_options()->interrupts_every) {
            ret = let_interrupts_in(cs, t);
            t->last_exit = ret == 0 ? cs->kvm_run->exit_reason : KVM_EXIT_INTR;
            break;
        }
    }
    return ret;
}

/* Begin and end */

static void trace_vcpu(CPUState *cs, run_on_cpu_data data)
{
    X86Trace *t = traces[cs->cpu_index];

    if (data.host_int && !t) {
        t = g_new0(X86Trace, 1);
        t->buffer.cpu_index = cs->cpu_index;
        t->buffer.bytes = g_byte_array_new();
        t->codes = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL,
                                         g_free);
        traces[cs->cpu_index] = t;
        qatomic_set(&accel_switch_tracing, true);
    } else if (!data.host_int && t) {
        kvm_update_guest_debug(cs, 0);
        switch_trace_flush(&t->buffer);
        g_byte_array_free(t->buffer.bytes, true);
        g_hash_table_destroy(t->codes);
        g_free(t);
        traces[cs->cpu_index] = NULL;
    }
}

void switch_arch_trace(CPUState *cs, bool on)
{
    CPUState *other;

    if (!traces) {
        traces = g_new0(X86Trace *, current_machine->smp.max_cpus);
    }
    run_on_cpu(cs, trace_vcpu, RUN_ON_CPU_HOST_INT(on));
    if (!on) {
        CPU_FOREACH(other) {
            if (traces[other->cpu_index]) {
                return;
            }
        }
        qatomic_set(&accel_switch_tracing, false);
    }
}

bool switch_arch_can_trace(Error **errp)
{
    int flags = kvm_check_extension(kvm_state, KVM_CAP_SET_GUEST_DEBUG2);

    if (!kvm_supports_guest_debug()) {
        error_setg(errp, "this KVM has no single steps"
                   " (KVM_CAP_SET_GUEST_DEBUG)");
    } else if (x86_kvm_is_pvm()) {
        error_setg(errp, "kvm-pvm gives the debug exceptions of single steps"
                   " to the guest; a trace needs kvm-amd or kvm-intel");
    } else if (x86_kvm_has_virtual_apic()) {
        error_setg(errp, "with APIC virtualization KVM lets no interrupt in"
                   " between steps; load kvm_intel with enable_apicv=0 or"
                   " kvm_amd with avic=0");
    } else if ((flags & NEEDED_FLAGS) != NEEDED_FLAGS) {
        error_setg(errp, "this KVM can't hold back interrupts while it steps"
                   " (KVM_CAP_SET_GUEST_DEBUG2, KVM_GUESTDBG_BLOCKIRQ)");
    } else {
        return true;
    }
    return false;
}
