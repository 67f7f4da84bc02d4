/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * timer64: the local APIC's timer: each tick comes once, and none early.
 *
 * One-shot, periodic, stopped and masked; with switches while it runs, while
 * its interrupt is pending, after it was served, and in the moment when it
 * expires.  The HPET tells the time.
 */
#include "lib/ticks.h"

#define LVT_PERIODIC    0x20000
#define LVT_MASKED      0x10000

/* The timer counts at 1 GHz; all below in ns. */
#define PERIOD          (80 * MS)
/* A switch rounds the time that is left down to the timer's resolution. */
#define EARLY           (5 * US)
/* And is not to lose it, but for what the host takes to read and write it. */
#define LATE            (500 * US)

static uint64_t expires_by;

void trap(Frame *frame)
{
    take_tick(frame);
}

/*
 * Returns when it expires at the earliest; expires_by is when at the latest,
 * as a switch may have come in between.
 */
static uint64_t start(uint32_t count, uint32_t lvt)
{
    uint64_t after, before = start_timer(count, lvt, &after);

    expires_by = after + count;
    return before + count;
}

/* One that was served does not come again. */
static void check_served(const char *what)
{
    verify(what, 1, ticks);
    verify("count of one that has expired", 0, *lapic(LAPIC_TIMER_CCR));
    ask_switch();
    take_interrupts(SPINS);
    ask_switch();
    take_interrupts(SPINS);
    verify(what, 1, ticks);
}

/* Nobody has written the divide configuration register yet: it says 2. */
static void check_divider(void)
{
    uint64_t before = hpet_ns(), start, end, counted;

    *lapic(LAPIC_TIMER_ICR) = 1000 * MS;
    start = hpet_ns();
    wait_until(start + MS);
    end = hpet_ns();
    counted = 1000 * MS - *lapic(LAPIC_TIMER_CCR);
    verify("divides by 2 after a reset", true,
           2 * counted >= end - start &&
           2 * counted <= hpet_ns() - before + EARLY);
    *lapic(LAPIC_TIMER_ICR) = 0;
}

static void check_one_shot(void)
{
    uint64_t end = start(MS, 0);

    wait_ticks(1);
    verify("not early", true, hpet_ns() + EARLY >= end);
    check_served("one shot");
}

static void check_switched(void)
{
    uint64_t end = start(8 * MS, 0);
    uint32_t before = *lapic(LAPIC_TIMER_CCR);
    uint32_t after;

    ask_switch();
    after = *lapic(LAPIC_TIMER_CCR);
    verify("counts down", true, after <= before);
    ask_switch();
    wait_ticks(1);
    verify("not early after two switches", true, hpet_ns() + EARLY >= end);
    check_served("one shot after two switches");
}

/* The time from @count to 0 is about that of a switch. */
static void check_expiring(uint32_t count)
{
    uint64_t end = start(count, 0);

    ask_switch();
    wait_ticks(1);
    verify("not early in a switch", true, hpet_ns() + EARLY >= end);
    check_served("one shot in a switch");
}

static void check_pending(void)
{
    start(200 * US, 0);
    wait_until(expires_by + LATE);
    ask_switch();
    /* IRR has it from the next moment on when the vCPU could have taken it. */
    take_interrupts(SPINS);
    wait_ticks(1);
    check_served("one shot, pending in a switch");
}

static void check_in_service(void)
{
    start(100 * US, 0);
    wait_ticks(1);
    start(100 * US, 0);
    ask_switch();
    wait_ticks(1);
    check_served("one shot, started again");
}

static void check_stopped(void)
{
    uint64_t end = start(5 * MS, 0);

    ask_switch();
    *lapic(LAPIC_TIMER_ICR) = 0;
    if (hpet_ns() + EARLY >= end) {
        /* Too late to stop it. */
        wait_ticks(1);
        return;
    }
    ask_switch();
    /* Not in the digest, as not each lap comes here. */
    check_value("count of one that was stopped", 0, *lapic(LAPIC_TIMER_CCR));
    wait_until(expires_by + LATE);
    take_interrupts(SPINS);
    check_value("stopped", 0, ticks);
}

static void check_masked(void)
{
    start(300 * US, LVT_MASKED);
    ask_switch();
    wait_until(expires_by + LATE);
    take_interrupts(SPINS);
    verify("masked", 0, ticks);
    verify("count of one that was masked", 0, *lapic(LAPIC_TIMER_CCR));
    ask_switch();
    take_interrupts(SPINS);
    verify("masked, after a switch", 0, ticks);
}

static void check_periodic(void)
{
    uint64_t begin = start(PERIOD, LVT_PERIODIC) - PERIOD;
    bool early, lost = false;
    bool on_time = watch_periods(begin, PERIOD, false, EARLY, &early);

    *lapic(LAPIC_TIMER_ICR) = 0;
    take_interrupts(SPINS);
    if (on_time) {
        /* One that is pending is not lost. */
        wait_ticks(PERIODS);
        lost = ticks < PERIODS;
    }
    verify("periodic: early", false, early);
    verify("periodic: lost", false, lost);
}

void kernel_main(void)
{
    put_string("timer64\n");
    setup_idt();
    setup_pic();
    hpet_start();
    check_divider();
    setup_lapic();
    for (uint32_t lap = 0; ; lap++) {
        check_one_shot();
        check_switched();
        for (uint32_t count = 20 * US; count < 3 * MS; count *= 2) {
            check_expiring(count + lap % 16 * count / 16);
        }
        check_pending();
        check_in_service();
        check_stopped();
        check_masked();
        check_periodic();
        lap_done();
    }
}
