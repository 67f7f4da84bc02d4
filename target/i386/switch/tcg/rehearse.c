/*
 * A rehearsal: a vCPU executes instructions in TCG, one by one
 * (rehearse-blocks.c: in whole translation blocks)
 *
 * It does so in its own thread, by the single steps that a debugger has
 * (SSTEP_NOIRQ holds interrupts back), while the main thread waits.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "exec/cpu-common.h"
#include "exec/cputlb.h"
#include "exec/translation-block.h"
#include "hw/core/cpu.h"
#include "tcg/helper-tcg.h"
#include "switch/insn.h"
#include "switch/steps.h"
#include "switch/tcg/rehearse.h"

#define DR7_ANY_ENABLED 0xff

/* ES in x87's status word: an exception is pending (SDM vol. 1, 8.1.3). */
#define X87_ES 0x80

/* TCG may return without having executed the instruction: then once more. */
#define ATTEMPTS 10

/*
 * The most iterations of string instructions.  Each is a step for KVM, and the
 * main loop waits meanwhile.
 */
#define ITERATIONS 16384

static int read_code(CPUState *cs, uint64_t pc, uint8_t *code, int size)
{
    int first = MIN(size, TARGET_PAGE_SIZE - (pc & ~TARGET_PAGE_MASK));

    if (cpu_memory_rw_debug(cs, pc, code, first, false) < 0) {
        return 0;
    }
    if (first < size &&
        cpu_memory_rw_debug(cs, pc + first, code + first, size - first,
                            false) < 0) {
        return first;
    }
    return size;
}

void x86_rehearse_look(CPUState *cs, X86Step *s)
{
    const CPUX86State *env = cpu_env(cs);

    *s = (X86Step) {
        .mode = env->hflags & HF_CS64_MASK ? 8
                : env->hflags & HF_CS32_MASK ? 4 : 2,
        .rflags = cpu_compute_eflags(cpu_env(cs)),
        .cpl = env->hflags & HF_CPL_MASK,
        .vector = switch_rehearsal_take_vector(),
    };
    s->pc = s->mode == 8 ? env->eip
                         : (uint32_t)(env->segs[R_CS].base + env->eip);
    for (int i = 0; i < CPU_NB_REGS; i++) {
        s->regs[i] = env->regs[i];
    }
    for (int i = 0; i < ARRAY_SIZE(s->selectors); i++) {
        s->selectors[i] = env->segs[i].selector;
    }
    s->bytes = read_code(cs, s->pc, s->code, sizeof(s->code));
}

/* With CR0.NE clear it is told to a PIC (SDM vol. 1, 8.7). */
static bool tells_pic(const CPUX86State *env, const X86Insn *insn)
{
    return !(env->cr[0] & CR0_NE_MASK) && env->fpus & X87_ES &&
           (insn->op == 0x9b || (insn->op & 0xf8) == 0xd8);
}

AccelCompareEnd x86_rehearse_execute(CPUState *cs, Rehearsal *r,
                                     uint32_t cflags)
{
    uint64_t eip = cpu_env(cs)->eip;

    for (int i = 0; i < ATTEMPTS; i++) {
        AccelCompareEnd stop;
        int result;

        cs->cflags_next_tb = cs->tcg_cflags | CF_NO_GOTO_TB | CF_NO_GOTO_PTR |
                             CF_NOIRQ | cflags;
        bql_unlock();
        cpu_exec_start(cs);
        result = cpu_exec(cs);
        cpu_exec_end(cs);
        bql_lock();
        stop = switch_rehearsal_take_stop();
        /* PAUSE leaves TCG as an interrupt does. */
        if (stop != ACCEL_COMPARE_END_COUNT || result == EXCP_DEBUG ||
            (result == EXCP_INTERRUPT && cpu_env(cs)->eip != eip)) {
            return stop;
        }
        if (result != EXCP_INTERRUPT) {
            return ACCEL_COMPARE_END_SHUTDOWN;
        }
    }
    r->stuck = true;
    return ACCEL_COMPARE_END_SHUTDOWN;
}

static AccelCompareEnd run(CPUState *cs, Rehearsal *r)
{
    CPUX86State *env = cpu_env(cs);
    bool in_shadow = false;
    int iterations = 0;
    X86Step step;
    X86Insn insn;

    for (;;) {
        unsigned before = r->steps->list->len;
        AccelCompareEnd end;

        x86_rehearse_look(cs, &step);
        insn = x86_insn_parse(step.code, step.bytes, step.mode);
        end = cs->halted ? ACCEL_COMPARE_END_HALT
              : tells_pic(env, &insn) ? ACCEL_COMPARE_END_PORT
              : x86_insn_reaches(&insn);
        if (env->dr[7] & DR7_ANY_ENABLED || env->eflags & TF_MASK) {
            end = ACCEL_COMPARE_END_DEBUG;
        }
        /* KVM's steps do not stop in the shadow of MOV SS either. */
        if (!in_shadow && x86_steps_add(r->steps, &step) > r->max) {
            return ACCEL_COMPARE_END_COUNT;
        }
        if (end != ACCEL_COMPARE_END_COUNT) {
            r->partial = in_shadow;
            return end;
        }
        if (!in_shadow && r->steps->list->len == before &&
            ++iterations > ITERATIONS) {
            r->partial = true;
            return ACCEL_COMPARE_END_STRING;
        }
        end = x86_rehearse_execute(cs, r, CF_SINGLE_STEP | 1);
        if (end != ACCEL_COMPARE_END_COUNT) {
            r->partial = true;
            return end;
        }
        in_shadow = !in_shadow && env->hflags & HF_INHIBIT_IRQ_MASK &&
                    x86_insn_is_mov_ss(&insn, step.mode);
    }
}

static void run_steps(CPUState *cs, Rehearsal *r)
{
    r->partial = false;
    g_array_set_size(r->steps->list, 0);
    r->end = run(cs, r);
}

static void rehearse(CPUState *cs, run_on_cpu_data data)
{
    Rehearsal *r = data.host_ptr;
    CPUX86State *env = cpu_env(cs);
    g_autofree CPUX86State *before = g_memdup2(env, sizeof(*env));
    uint32_t halted = cs->halted;
    int32_t exception = cs->exception_index;
    uint32_t cflags = cs->tcg_cflags;

    cs->singlestep_enabled = SSTEP_ENABLE | SSTEP_NOIRQ | SSTEP_NOTIMER;
    /* Other vCPUs stand still: no instruction needs to be alone. */
    cs->tcg_cflags &= ~CF_PARALLEL;
    r->stuck = false;
    r->run(cs, r);
    cs->singlestep_enabled = 0;
    cs->tcg_cflags = cflags;
    cs->cflags_next_tb = -1;
    update_mxcsr_from_sse_status(env);
    g_free(*r->state);
    *r->state = g_memdup2(env, sizeof(*env));

    *env = *before;
    cs->halted = halted;
    cs->exception_index = exception;
    tlb_flush(cs);
}

bool x86_rehearse(CPUState *cpu, Rehearsal *r)
{
    run_on_cpu(cpu, rehearse, RUN_ON_CPU_HOST_PTR(r));
    if (r->stuck) {
        /* By now TCG has made room. */
        switch_rehearsal_restart();
        run_on_cpu(cpu, rehearse, RUN_ON_CPU_HOST_PTR(r));
    }
    return !r->stuck;
}

AccelCompareEnd switch_arch_rehearse(CPUState *cpu, unsigned max,
                                     SwitchSteps *steps)
{
    Rehearsal r = {
        .run = run_steps, .max = max, .steps = steps, .state = &steps->end,
    };
    AccelCompareEnd end;

    x86_rehearse(cpu, &r);
    end = r.end;
    if (r.partial) {
        /* To the end of the step before, with what it has written. */
        r.max = switch_arch_count_steps(steps);
        switch_rehearsal_restart();
        x86_rehearse(cpu, &r);
    }
    return end;
}
