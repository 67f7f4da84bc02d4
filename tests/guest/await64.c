/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * await64: the local APIC's timer over long times: what is left of them is not
 * begun anew.
 *
 * For a guest that is saved and loaded: KVM's timer runs on until the guest,
 * which was stopped, is saved, and may tick that much too early.  No time goes
 * by without a timer, as on a busy host a save can't tell whether an expired
 * one was served: then it ticks again.  The HPET tells the time.
 */
#include "lib/ticks.h"

#define LVT_PERIODIC    0x20000

/* The timer counts at 1 GHz; all below in ns. */
#define ONE_SHOT        (800 * MS)
#define PERIOD          (400 * MS)
/* More than a busy host takes from the stop to the save */
#define EARLY           (700 * MS)
/* How far the count may be off, and how long a start and a look may take */
#define OFF             (20 * MS)
#define START           (5 * MS)
#define LOOK            (1 * MS)
#define STARTS          100

/* How often the count was looked at, in a lap */
static uint32_t looks;

void trap(Frame *frame)
{
    take_tick(frame);
}

/* Returns when it was started, to within START, whatever a busy host does. */
static uint64_t start(uint32_t count, uint32_t lvt)
{
    uint64_t before, after;

    for (int i = 0; i < STARTS; i++) {
        before = start_timer(count, lvt, &after);
        if (after - before < START) {
            return before;
        }
        *lapic(LAPIC_TIMER_ICR) = 0;
        /* It may have ticked. */
        take_interrupts(SPINS);
    }
    verify("a start that takes less than 5 ms", true, false);
    return before;
}

/*
 * Look at the timer until @count ticks have come, for ten seconds at most.
 * Returns 0 if its count was that of the time since @begin all the while, else
 * how far it was off, in ns.
 */
static uint64_t watch(uint64_t begin, uint64_t period, uint32_t count)
{
    uint64_t end = begin + 10 * SECOND, before, after = begin, worst = 0;

    while (ticks < count && after < end) {
        uint32_t left;

        before = hpet_ns();
        left = *lapic(LAPIC_TIMER_CCR);
        after = hpet_ns();
        if (after - before < LOOK && left) {
            uint64_t off = (before - begin + left) % period;

            off = off < period - off ? off : period - off;
            worst = off > worst ? off : worst;
            looks++;
        }
        take_interrupts(SPINS);
    }
    return worst < OFF ? 0 : worst;
}

static void check_one_shot(void)
{
    uint64_t begin = start(ONE_SHOT, 0);

    verify("one shot: the count, ns off", 0, watch(begin, ONE_SHOT, 1));
    verify("one shot: not early", true, hpet_ns() + EARLY >= begin + ONE_SHOT);
}

static void check_periodic(void)
{
    uint64_t begin = start(PERIOD, LVT_PERIODIC);
    uint64_t worst = 0;

    for (uint32_t n = 1; n <= PERIODS; n++) {
        uint64_t off = watch(begin, PERIOD, n);

        worst = off > worst ? off : worst;
    }
    *lapic(LAPIC_TIMER_ICR) = 0;
    verify("periodic: the count, ns off", 0, worst);
}

void kernel_main(void)
{
    put_string("await64\n");
    setup_idt();
    setup_pic();
    hpet_start();
    setup_lapic();
    for (;;) {
        looks = 0;
        check_one_shot();
        check_periodic();
        verify("it was looked at", true, looks > 0);
        lap_done();
    }
}
