/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tscorder64: a TSC that one vCPU has read and written to memory is never
 * ahead of one that the other vCPU reads after it has seen that memory.
 *
 * Each vCPU has a word of its own.  It loads the other's word, executes
 * LFENCE, RDTSC, LFENCE (SDM vol. 2, RDTSC), compares, and stores its TSC.
 * There is no lock: a processor that executes RDTSC before the load is done
 * is caught within a few million rounds.
 */
#include "lib/smp.h"

#define ROUNDS  20000

/* A cache line each. */
static volatile struct {
    uint64_t tsc;
} __attribute__((aligned(64))) seen[2];

static volatile uint32_t steps_back[2];
static volatile uint32_t laps_ap;
static volatile bool ap_runs;

static uint64_t ordered_rdtsc(void)
{
    uint64_t tsc;

    asm volatile("lfence" : : : "memory");
    tsc = rdtsc();
    asm volatile("lfence" : : : "memory");
    return tsc;
}

static void compare(unsigned self, uint32_t rounds)
{
    while (rounds--) {
        uint64_t other = seen[!self].tsc;
        uint64_t own = ordered_rdtsc();

        steps_back[self] += own < other;
        seen[self].tsc = own;
    }
}

void ap_main(void)
{
    ap_runs = true;
    for (;;) {
        compare(1, ROUNDS / 100);
        laps_ap++;
    }
}

void trap(Frame *frame)
{
    check_value("no exception, at RIP", frame->rip, frame->vector);
    debug_exit(2);
}

void kernel_main(void)
{
    put_string("tscorder64\n");
    setup_idt();
    setup_pic();
    setup_lapic();
    copy_ap_code();
    send_ipi(AP_ID, ICR_INIT);
    send_ipi(AP_ID, ICR_STARTUP | AP_PAGE >> 12);
    while (!ap_runs) {
        continue;
    }
    for (;;) {
        uint32_t before = laps_ap;

        compare(0, ROUNDS / 2);
        ask_switch();
        compare(0, ROUNDS / 2);
        while (laps_ap == before) {
            compare(0, ROUNDS / 100);
        }
        check_value("steps back of this vCPU's TSC", 0, steps_back[0]);
        check_value("steps back of the other vCPU's TSC", 0, steps_back[1]);
        lap_done();
    }
}
