/*
 * A rehearsal once more, in whole translation blocks
 *
 * A guest that runs in TCG is translated in blocks, and optimized in them.
 * After each block the vCPU must be as it was after one of the single steps.
 *
 * Nothing may be executed that is not in these: it may be port I/O.  So it is
 * always known which step the vCPU is at, and a block has no more instructions
 * than there are steps.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "hw/core/cpu.h"
#include "exec/translation-block.h"
#include "switch/insn.h"
#include "switch/tcg/rehearse.h"
#include "switch/x86-switch.h"

#define MAX_BLOCK_INSNS 64

/* TCG leaves a repeated string instruction now and then. */
#define MAX_STRING_BLOCKS 1024

/*
 * BT, BTS, BTR and BTC leave these undefined (SDM vol. 2A, "BT").  TCG makes
 * of them what suits the instruction before.
 */
#define BIT_TEST_UNDEFINED (CC_O | CC_S | CC_A | CC_P)

typedef struct Walk {
    CPUState *cs;
    Rehearsal *r;
    unsigned at;                /* the step that the vCPU is at */
    uint64_t undefined;         /* flags that may differ from it */
} Walk;

static X86Insn insn_at(const SwitchSteps *steps, unsigned n)
{
    const X86Step *step = x86_step_at(steps, n);

    return x86_insn_parse(step->code, step->bytes, step->mode);
}

/* Can the vCPU stop within the instruction, or behind it, without a step? */
static bool is_alone(const SwitchSteps *steps, unsigned n)
{
    X86Insn insn = insn_at(steps, n);

    return x86_insn_is_string(&insn) ||
           x86_insn_is_mov_ss(&insn, x86_step_at(steps, n)->mode);
}

/*
 * How many instructions from step @at on a block may have, at most @most.  All
 * must lead to different steps, to tell from where it has come to how far it
 * is.  One that has raised an exception is the last: what follows it in memory
 * was not executed.  An RF that is set is cleared by a block's end.
 */
static unsigned count_insns(const SwitchSteps *steps, unsigned at,
                            unsigned most)
{
    unsigned count = 1;

    if (x86_step_at(steps, at)->rflags & RF_MASK) {
        return 1;
    }
    while (count < most && x86_step_at(steps, at + count)->vector < 0 &&
           !is_alone(steps, at + count) &&
           !x86_steps_find(steps, at + 1, at + count,
                           x86_step_at(steps, at + count + 1),
                           BIT_TEST_UNDEFINED)) {
        count++;
    }
    return count;
}

/* Execute a block; false if that has ended otherwise than by its end. */
static bool execute(Walk *w, unsigned count, X86Step *step)
{
    SwitchSteps *steps = w->r->steps;

    steps->blocks++;
    steps->block_end = x86_rehearse_execute(w->cs, w->r, count);
    x86_rehearse_look(w->cs, step);
    return steps->block_end == ACCEL_COMPARE_END_COUNT;
}

/* Has it come to one of the next @count steps?  Then it is at that one. */
static bool arrive(Walk *w, unsigned count, const X86Step *step)
{
    const SwitchSteps *steps = w->r->steps;
    unsigned found;

    for (unsigned i = 0; i < count; i++) {
        X86Insn insn = insn_at(steps, w->at + i);

        if (x86_insn_is_bit_test(&insn)) {
            w->undefined = BIT_TEST_UNDEFINED;
        }
    }
    found = x86_steps_find(steps, w->at + 1, w->at + count, step, 0);
    if (found) {
        w->undefined = 0;
    } else if (w->undefined) {
        found = x86_steps_find(steps, w->at + 1, w->at + count, step,
                               w->undefined);
    }
    w->at = found ?: w->at;
    return found;
}

static bool run_string(Walk *w, X86Step *step)
{
    uint64_t pc = x86_step_at(w->r->steps, w->at)->pc;

    for (int i = 0; i < MAX_STRING_BLOCKS; i++) {
        if (!execute(w, 1, step)) {
            return false;
        }
        if (arrive(w, 1, step)) {
            return true;
        }
        if (step->pc != pc) {
            break;
        }
    }
    return false;
}

/* With the instruction in its shadow, which is no step of its own */
static bool run_mov_ss(Walk *w, X86Step *step)
{
    return execute(w, 1, step) &&
           (arrive(w, 1, step) ||
            (cpu_env(w->cs)->hflags & HF_INHIBIT_IRQ_MASK &&
             execute(w, 1, step) && arrive(w, 1, step)));
}

static bool run_block(Walk *w, unsigned last, X86Step *step)
{
    const SwitchSteps *steps = w->r->steps;
    X86Insn insn = insn_at(steps, w->at);
    unsigned count;

    if (x86_insn_is_string(&insn)) {
        return run_string(w, step);
    }
    if (x86_insn_is_mov_ss(&insn, x86_step_at(steps, w->at)->mode)) {
        return run_mov_ss(w, step);
    }
    /* A power of two: its TBs may be there already. */
    count = pow2floor(count_insns(steps, w->at,
                                  MIN(last - w->at, MAX_BLOCK_INSNS)));
    return execute(w, count, step) && arrive(w, count, step);
}

static void run_blocks(CPUState *cs, Rehearsal *r)
{
    SwitchSteps *steps = r->steps;
    unsigned last = switch_arch_count_steps(steps);
    Walk w = { .cs = cs, .r = r };
    CPUX86State *env = cpu_env(cs);

    steps->blocks = 0;
    if (switch_omits(SWITCH_FIXUP_COMPARE_BLOCKS)) {
        memcpy(env->regs, steps->end->regs, sizeof(env->regs));
    }
    steps->block_differs = false;
    while (w.at < last && !r->stuck && !steps->block_differs) {
        unsigned from = w.at;

        if (!run_block(&w, last, &steps->block_to)) {
            steps->block_differs = true;
            steps->block_from = from;
        }
    }
    if (switch_omits(SWITCH_FIXUP_COMPARE_BLOCKS_END)) {
        env->xmm_regs[0].ZMM_Q(0) ^= 1;
    }
}

void switch_arch_rehearse_blocks(CPUState *cpu, SwitchSteps *steps)
{
    Rehearsal r = {
        .run = run_blocks, .steps = steps, .state = &steps->blocks_end,
    };

    if (!x86_rehearse(cpu, &r)) {
        steps->blocks = 0;
    }
}
