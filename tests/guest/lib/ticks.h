/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A timer's ticks: each comes once, none early; for payloads whose trap()
 * counts them.
 */
#ifndef GUEST_TICKS_H
#define GUEST_TICKS_H

#include "lib/long.h"
#include "lib/hpet.h"

#define WITNESS         2
#define WITNESS_PIN     23
#define PERIODS         3
#define SPINS           100

static volatile uint32_t ticks;

/* The trap() of a payload that has no interrupt but the LAPIC's timer's */
static inline void take_tick(Frame *frame)
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

/*
 * Start the LAPIC's timer with that initial @count.  Returns a time of the HPET
 * before that, in ns; *@after is one after it, as a switch may come in between.
 */
static inline uint64_t start_timer(uint32_t count, uint32_t lvt,
                                   uint64_t *after)
{
    uint64_t before = hpet_ns();

    ticks = 0;
    /* TCG's would go on with the old count, if it is periodic now. */
    *lapic(LAPIC_TIMER_ICR) = 0;
    *lapic(LAPIC_LVT_TIMER) = VECTOR_TIMER | lvt;
    *lapic(LAPIC_TIMER_ICR) = count;
    *after = hpet_ns();
    return before;
}

/* With interrupts on until there were @count ticks, for ten seconds at most. */
static inline void wait_ticks(uint32_t count)
{
    uint64_t end = hpet_ns() + 10 * SECOND;

    while (ticks < count && hpet_ns() < end) {
        take_interrupts(SPINS);
    }
}

/*
 * The HPET's timer 2, which no switch concerns, tells whether the host runs
 * timers on time.  It sets its bit in the status, but makes no interrupt.
 */
static inline void witness_start(uint64_t period)
{
    uint64_t config = HPET_LEVEL | HPET_PERIODIC | HPET_ROUTE(WITNESS_PIN);
    uint64_t count = period / hpet_ns_per_count;

    *HPET(HPET_TIMER(WITNESS)) = config | HPET_SET_VALUE;
    *HPET(HPET_COMPARATOR(WITNESS)) = *HPET(HPET_COUNTER) + count;
    *HPET(HPET_COMPARATOR(WITNESS)) = count;
    *HPET(HPET_TIMER(WITNESS)) = config;
}

static inline void witness_stop(void)
{
    hpet_stop(WITNESS, WITNESS_PIN);
    *HPET(HPET_STATUS) = 1 << WITNESS;
}

static inline bool witness_ticked(void)
{
    bool ticked = *HPET(HPET_STATUS) & 1 << WITNESS;

    if (ticked) {
        *HPET(HPET_STATUS) = 1 << WITNESS;
    }
    return ticked;
}

/*
 * Watch a periodic timer, which was started at @begin, for PERIODS: a switch in
 * each, and tick n comes after n of them, at most @slack early; with @phase the
 * first may come at any time.  *@early says whether one came too early.  All in
 * ns.
 *
 * Returns whether PERIODS ticks must have come: the vCPU never was away for
 * long, and the host ran its timers on time, as two that it runs late are one.
 * A line "LATE" or "ON TIME" tells who runs the payload.
 */
static inline bool watch_periods(uint64_t begin, uint64_t period, bool phase,
                                 uint64_t slack, bool *early)
{
    uint64_t at = begin, last = begin, longest = 0, due;
    uint32_t seen = 0;
    bool asked = false;

    *early = false;
    witness_start(period);
    due = hpet_ns() + period;
    while (at < begin + PERIODS * period + period * 3 / 4) {
        uint32_t count;
        uint64_t late;

        take_interrupts(SPINS);
        count = ticks;
        at = hpet_ns();
        longest = at - last > longest ? at - last : longest;
        late = at > due ? at - due : 0;
        longest = late > longest ? late : longest;
        last = at;
        if (witness_ticked()) {
            due += (late / period + 1) * period;
        }
        if (count != seen) {
            *early |= at + slack < begin + (count - phase) * period;
            seen = count;
            asked = false;
        } else if (!asked) {
            asked = true;
            ask_switch();
        }
    }
    witness_stop();
    put_string(longest >= period / 2 ? "LATE\n" : "ON TIME\n");
    return longest < period / 2;
}

#endif
