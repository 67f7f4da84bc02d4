/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * debug32: single steps and hardware breakpoints at CPL3, armed under one
 * accelerator and met under the other (SDM vol. 3B, chapter 17).
 *
 * In each lap: steps (EFLAGS.TF) through code that asks for a switch itself,
 * so that the step's trap is pending meanwhile, with another switch after
 * each step; an instruction breakpoint, left by EFLAGS.RF; a watchpoint.
 */
#include "lib/flat.h"
#include "lib/monitor.h"
#include "debug32.h"

#define FLAGS_TF        0x100
#define FLAGS_RF        0x10000

#define DR6_CLEAR       0xffff0ff0
#define DR6_B0          0x1
#define DR6_B1          0x2
#define DR6_BS          0x4000
#define DR6_CAUSES      0xe00f
/* DR0 executed; DR1 written, 4 bytes; both exact */
#define DR7_ARMED       (0x400 | 0x300 | 0x2 | 0x8 | 0x1 << 20 | 0x3 << 22)
#define DR7_NONE        0x400

static uint8_t user_stack[256] __attribute__((aligned(16)));

#define GET_DR(n) ({ uint32_t v_; asm volatile("mov %%dr" #n ", %0" \
                                               : "=r" (v_)); v_; })
#define SET_DR(n, v) asm volatile("mov %0, %%dr" #n : : "r" (v))

/* Why there was a #DB, which the processor adds to what DR6 has. */
static uint32_t causes(void)
{
    uint32_t dr6 = GET_DR(6);

    SET_DR(6, DR6_CLEAR);
    return dr6 & DR6_CAUSES;
}

static void go_on(Entry *entry, const Trap *trap)
{
    entry->regs = trap->regs;
    entry->to = trap->from;
}

static void check_steps(void)
{
    Entry entry = user_entry((void (*)(void))stepped,
                             user_stack + sizeof(user_stack));
    const Trap *trap;

    entry.to.eflags |= FLAGS_TF;
    for (const uint32_t *step = steps; step < steps_end; step++) {
        trap = run(&entry);
        check("step: vector", VECTOR_DB, trap->vector);
        check("step: EIP", *step, trap->from.eip);
        check("step: DR6", DR6_BS, causes());
        check("step: TF", FLAGS_TF, trap->from.eflags & FLAGS_TF);
        go_on(&entry, trap);
        ask_switch();
    }
    /* INT clears TF, and is not stepped over. */
    trap = run(&entry);
    check("steps' end: vector", VECTOR_BACK, trap->vector);
    check("steps' end: DR6", 0, causes());
    check("steps' end: EBX", 0x5a5a5a5b, trap->regs.ebx);
    check("steps' end: TF, pushed", FLAGS_TF, trap->regs.ecx & FLAGS_TF);
    check("steps' end: ESP", (uintptr_t)user_stack + sizeof(user_stack),
          trap->from.esp);
}

static void check_breakpoints(void)
{
    Entry entry = user_entry((void (*)(void))broken,
                             user_stack + sizeof(user_stack));
    const Trap *trap;

    watched = 0;
    SET_DR(0, broken_here);
    SET_DR(1, &watched);
    SET_DR(7, DR7_ARMED);
    trap = run(&entry);
    check("breakpoint: vector", VECTOR_DB, trap->vector);
    check("breakpoint: EIP", (uintptr_t)broken_here, trap->from.eip);
    check("breakpoint: DR6", DR6_B0, causes());
    check("breakpoint: EBX", entry.regs.ebx + 1, trap->regs.ebx);

    go_on(&entry, trap);
    entry.to.eflags |= FLAGS_RF;
    ask_switch();
    check("DR0", (uintptr_t)broken_here, GET_DR(0));
    check("DR1", (uintptr_t)&watched, GET_DR(1));
    check("DR7", DR7_ARMED, GET_DR(7));
    trap = run(&entry);
    check("watchpoint: vector", VECTOR_DB, trap->vector);
    check("watchpoint: EIP", (uintptr_t)broken_stored, trap->from.eip);
    check("watchpoint: DR6", DR6_B1, causes());
    check("watchpoint: EBX", 0xb0b0b0b2, trap->regs.ebx);
    check("watchpoint: what was written", 0x600df00d, watched);

    SET_DR(7, DR7_NONE);
    go_on(&entry, trap);
    ask_switch();
    trap = run(&entry);
    check("breakpoints' end: vector", VECTOR_BACK, trap->vector);
    check("breakpoints' end: DR6", 0, causes());
    check("breakpoints' end: ECX", 0x600df00d, trap->regs.ecx);

    /* Disarmed under the other accelerator, and armed again. */
    SET_DR(7, DR7_ARMED);
    ask_switch();
    SET_DR(7, DR7_NONE);
    ask_switch();
    SET_DR(7, DR7_ARMED);
    SET_DR(7, DR7_NONE);
}

void flat_main(void)
{
    put_string("debug32\n");
    setup_monitor();
    SET_DR(6, DR6_CLEAR);
    for (;;) {
        check_steps();
        check_breakpoints();
        lap_done();
    }
}
