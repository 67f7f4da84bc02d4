/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * await64: the local APIC's timer over long times: what is left of them is not
 * begun anew, and each tick comes once.
 *
 * For a guest that is saved and loaded: KVM's timer runs on until the guest,
 * which was stopped, is saved, and may tick that much too early.  The HPET
 * tells the time.
 */
#include "lib/ticks.h"

#define LVT_PERIODIC    0x20000

/* The timer counts at 1 GHz; all below in ns. */
#define ONE_SHOT        (400 * MS)
#define PERIOD          (150 * MS)
#define EARLY           (50 * MS)

void trap(Frame *frame)
{
    if (interrupts_taken(frame)) {
        return;
    }
    if (frame->vector != VECTOR_TIMER) {
        check_value("no other trap, at RIP", frame->rip, frame->vector);
        debug_exit(2);
    }
    ticks++;
    lapic_eoi();
}

static uint64_t start(uint32_t count, uint32_t lvt)
{
    uint64_t begin = hpet_ns();

    ticks = 0;
    *lapic(LAPIC_TIMER_ICR) = 0;
    *lapic(LAPIC_LVT_TIMER) = VECTOR_TIMER | lvt;
    *lapic(LAPIC_TIMER_ICR) = count;
    return begin;
}

/* The count is that of the time left, whether the guest was saved or not. */
static void check_one_shot(void)
{
    uint64_t begin = start(ONE_SHOT, 0);
    uint32_t last = ONE_SHOT;
    bool falls = true;

    while (!ticks && hpet_ns() < begin + 10 * SECOND) {
        uint32_t count = *lapic(LAPIC_TIMER_CCR);

        falls &= count <= last;
        last = count;
        take_interrupts(SPINS);
    }
    verify("one shot: the count falls", true, falls);
    verify("one shot: not early", true, hpet_ns() + EARLY >= begin + ONE_SHOT);
    wait_until(hpet_ns() + EARLY);
    take_interrupts(SPINS);
    verify("one shot: once", 1, ticks);
    verify("one shot: count of one that has expired", 0,
           *lapic(LAPIC_TIMER_CCR));
}

static void check_periodic(void)
{
    uint64_t begin = start(PERIOD, LVT_PERIODIC);
    bool early = false;

    for (uint32_t n = 1; n <= PERIODS; n++) {
        wait_ticks(n);
        early |= hpet_ns() + EARLY < begin + n * PERIOD;
    }
    *lapic(LAPIC_TIMER_ICR) = 0;
    verify("periodic: early", false, early);
}

void kernel_main(void)
{
    put_string("await64\n");
    setup_idt();
    setup_pic();
    hpet_start();
    setup_lapic();
    for (;;) {
        check_one_shot();
        check_periodic();
        lap_done();
    }
}
