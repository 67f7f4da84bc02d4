/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * adjust64: IA32_TSC_ADJUST moves the TSC, and a write of the TSC moves
 * IA32_TSC_ADJUST, by as much; both under one accelerator, and seen under the
 * other (SDM vol. 3B, "IA32_TSC_ADJUST MSR").
 */
#include "lib/fault.h"

#define MSR_TSC         0x10
#define MSR_TSC_ADJUST  0x3b

/* In ticks; what else goes by is far less. */
#define STEP            (1ull << 40)
#define FAR_LESS        (1ull << 39)

void trap(Frame *frame)
{
    check_value("no trap, at RIP", frame->rip, frame->vector);
    debug_exit(2);
}

/* @later is @expected, or somewhat later. */
static void verify_about(const char *what, uint64_t expected, uint64_t later)
{
    verify(what, true, later - expected < FAR_LESS);
}

static void check_adjust(uint64_t step)
{
    uint64_t adjust = rdmsr(MSR_TSC_ADJUST), before = rdtsc();

    wrmsr(MSR_TSC_ADJUST, adjust + step);
    verify_about("the TSC, moved", before + step, rdtsc());
    ask_switch();
    verify_about("the TSC, moved before a switch", before + step, rdtsc());
    verify("TSC_ADJUST", true, rdmsr(MSR_TSC_ADJUST) == adjust + step);
}

static void check_tsc(uint64_t step)
{
    uint64_t adjust = rdmsr(MSR_TSC_ADJUST), moved;

    wrmsr(MSR_TSC, rdtsc() + step);
    moved = rdmsr(MSR_TSC_ADJUST);
    /* Less by the time between the reading and the writing */
    verify_about("TSC_ADJUST after a write of the TSC", moved, adjust + step);
    ask_switch();
    verify("TSC_ADJUST after a switch", true, rdmsr(MSR_TSC_ADJUST) == moved);
}

void kernel_main(void)
{
    put_string("adjust64\n");
    setup_idt();
    for (;;) {
        check_adjust(-STEP);
        check_tsc(-STEP);
        check_tsc(STEP);
        check_adjust(STEP);
        lap_done();
    }
}
