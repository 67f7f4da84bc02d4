/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * deadline64: the local APIC's timer in TSC-deadline mode: each tick comes
 * once, and none early (SDM vol. 3A, "TSC-Deadline Mode").
 *
 * Running, stopped, set anew and in the past; with switches while it runs,
 * while its interrupt is pending, after it was served, and in the moment when
 * it expires.  Not masked: KVM keeps the tick until the timer is unmasked.
 */
#include "lib/ticks.h"

#define MSR_TSC_DEADLINE 0x6e0

#define LVT_DEADLINE    0x40000

/* KVM may start so much early, and waits for the rest if it can. */
#define EARLY           (5 * US)
#define LATE            (500 * US)
/* So far off that no switch comes near it */
#define FAR             (4 * SECOND)

static uint64_t ticks_per_ms;
static volatile uint64_t ticked_at;

void trap(Frame *frame)
{
    if (frame->vector == VECTOR_TIMER) {
        ticked_at = rdtsc();
    }
    take_tick(frame);
}

static uint64_t in_ticks(uint64_t ns)
{
    return ns * ticks_per_ms / MS;
}

static void measure_tsc(void)
{
    uint64_t begin = hpet_ns(), first = rdtsc(), end;

    wait_until(begin + 20 * MS);
    end = hpet_ns();
    ticks_per_ms = (rdtsc() - first) * MS / (end - begin);
}

/* Returns the deadline. */
static uint64_t start_at(uint64_t tsc)
{
    ticks = 0;
    *lapic(LAPIC_LVT_TIMER) = VECTOR_TIMER | LVT_DEADLINE;
    asm volatile("mfence" : : : "memory");
    wrmsr(MSR_TSC_DEADLINE, tsc);
    return tsc;
}

static uint64_t start_in(uint64_t ns)
{
    return start_at(rdtsc() + in_ticks(ns));
}

static void wait_tsc(uint64_t tsc)
{
    while (rdtsc() < tsc) {
        asm volatile("pause");
    }
}

/* One that was served does not come again. */
static void check_served(const char *what, uint64_t deadline)
{
    wait_ticks(1);
    verify(what, 1, ticks);
    verify("not early", true, ticked_at + in_ticks(EARLY) >= deadline);
    verify("the MSR of one that has expired", 0, rdmsr(MSR_TSC_DEADLINE));
    ask_switch();
    take_interrupts(SPINS);
    verify("the MSR, after a switch", 0, rdmsr(MSR_TSC_DEADLINE));
    ask_switch();
    take_interrupts(SPINS);
    verify(what, 1, ticks);
}

static void check_switched(void)
{
    uint64_t deadline = start_in(8 * MS), read;

    ask_switch();
    read = rdmsr(MSR_TSC_DEADLINE);
    if (rdtsc() < deadline) {
        /* Not in the digest, as not each lap comes here. */
        check_value("the MSR in a switch", deadline, read);
    }
    ask_switch();
    check_served("after two switches", deadline);
}

static void check_expiring(uint64_t ns)
{
    uint64_t deadline = start_in(ns);

    ask_switch();
    check_served("in a switch", deadline);
}

static void check_pending(void)
{
    uint64_t deadline = start_in(200 * US);

    wait_tsc(deadline + in_ticks(LATE));
    ask_switch();
    take_interrupts(SPINS);
    check_served("pending in a switch", deadline);
}

static void check_past(void)
{
    start_at(1);
    ask_switch();
    check_served("in the past", 0);
}

static void check_again(void)
{
    start_in(FAR);
    ask_switch();
    check_served("set anew", start_in(2 * MS));
}

static void check_no_tick(const char *what, uint64_t deadline)
{
    wait_tsc(deadline + in_ticks(LATE));
    take_interrupts(SPINS);
    verify(what, 0, ticks);
    verify("the MSR without a deadline", 0, rdmsr(MSR_TSC_DEADLINE));
    ask_switch();
    take_interrupts(SPINS);
    verify(what, 0, ticks);
}

static void check_stopped(void)
{
    uint64_t deadline = start_in(FAR);

    ask_switch();
    wrmsr(MSR_TSC_DEADLINE, 0);
    verify("the MSR of one that was stopped", 0, rdmsr(MSR_TSC_DEADLINE));
    check_no_tick("stopped", deadline - in_ticks(FAR - 5 * MS));
}

/* Another mode ends the deadline, and has none; this one has no count. */
static void check_modes(void)
{
    uint64_t deadline = start_in(FAR);

    ask_switch();
    *lapic(LAPIC_LVT_TIMER) = VECTOR_TIMER;
    verify("the MSR in one-shot mode", 0, rdmsr(MSR_TSC_DEADLINE));
    wrmsr(MSR_TSC_DEADLINE, rdtsc() + in_ticks(US));
    verify("the MSR in one-shot mode, written", 0, rdmsr(MSR_TSC_DEADLINE));
    *lapic(LAPIC_LVT_TIMER) = VECTOR_TIMER | LVT_DEADLINE;
    check_no_tick("in another mode", deadline - in_ticks(FAR - 5 * MS));
    *lapic(LAPIC_TIMER_ICR) = 10 * US;
    ask_switch();
    verify("no count", 0, *lapic(LAPIC_TIMER_CCR));
    take_interrupts(SPINS);
    verify("no tick by a count", 0, ticks);
}

void kernel_main(void)
{
    put_string("deadline64\n");
    setup_idt();
    setup_pic();
    hpet_start();
    setup_lapic();
    measure_tsc();
    for (uint32_t lap = 0; ; lap++) {
        check_served("a deadline", start_in(MS));
        check_switched();
        for (uint64_t ns = 20 * US; ns < 3 * MS; ns *= 2) {
            check_expiring(ns + lap % 16 * ns / 16);
        }
        check_pending();
        check_past();
        check_again();
        check_stopped();
        check_modes();
        lap_done();
    }
}
