/*
 * vas-load: the kernel's clocksource against the ACPI PM timer
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * QEMU's PM timer counts the host's time, whatever runs the vCPU.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/io.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

#define NS          1000000000ll
#define PM_HERTZ    3579545
#define PM_WRAP     0x1000000
#define SAMPLES     1000
#define OF_ROUND    100

static uint16_t port;
static int64_t pm_counts;
static int64_t first_clock, last_clock;

typedef struct Sample {
    int64_t clock, pm;              /* ns */
} Sample;

static Sample first;

/* Nothing that adjtime and the like slew. */
static int64_t clock_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC_RAW, &t);
    return t.tv_sec * NS + t.tv_nsec;
}

/*
 * The PM timer's counts go on from @pm_counts to the number with those lower 24
 * bits that is nearest to what @elapsed by the clock makes.
 */
static void count(uint32_t pm, int64_t elapsed)
{
    int64_t about = pm_counts + elapsed * PM_HERTZ / NS;
    int64_t apart = (pm - about) & (PM_WRAP - 1);

    pm_counts = about + (apart < PM_WRAP / 2 ? apart : apart - PM_WRAP);
}

static Sample read_both(void)
{
    int64_t clock = clock_now();
    uint32_t pm = inl(port);

    check_true("drift: clock stepped back", clock >= last_clock,
               "no ns less", clock - last_clock);
    count(pm, clock - last_clock);
    last_clock = clock;
    return (Sample) { clock - first_clock, pm_counts * NS / PM_HERTZ };
}

static int by_lead(const void *a, const void *b)
{
    const Sample *one = a, *other = b;
    int64_t lead = one->clock - one->pm;
    int64_t other_lead = other->clock - other->pm;

    return (lead > other_lead) - (lead < other_lead);
}

/*
 * Of many the one in which the clock is ahead of all but a tenth: time goes by
 * between its readings, and a clock that counts ticks stands still while one is
 * late; for a moment one may be ahead, too, where the host's TSC is unstable.
 */
static Sample sample(void)
{
    static Sample samples[SAMPLES];

    for (int i = 0; i < SAMPLES; i++) {
        samples[i] = read_both();
    }
    qsort(samples, SAMPLES, sizeof(Sample), by_lead);
    return samples[SAMPLES - SAMPLES / 10];
}

bool drift_begin(uint16_t pm_timer)
{
    port = pm_timer;
    if (iopl(3)) {
        return false;
    }
    pm_counts = inl(port);
    first_clock = last_clock = clock_now();
    first = sample();
    return true;
}

void drift_round(void)
{
    for (int i = 0; i < OF_ROUND; i++) {
        read_both();
    }
    usleep(200000);
}

void drift_end(void)
{
    Sample now;

    if (!port) {
        return;
    }
    now = sample();
    printf("vas-load: drift %lld ns in %lld ns\n",
           (long long)((now.clock - first.clock) - (now.pm - first.pm)),
           (long long)(now.pm - first.pm));
}
