/*
 * vas-load: the kernel's clocksource against the ACPI PM timer
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * QEMU's PM timer counts the host's time, whatever runs the vCPU.
 */
#include <stdio.h>
#include <sys/io.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

#define NS          1000000000ll
#define PM_HERTZ    3579545
#define PM_WRAP     0x1000000
#define TRIES       100

static uint16_t port;
static int64_t pm_counts;
static int64_t first_clock, last_clock;

typedef struct Sample {
    int64_t clock, pm;              /* ns */
    int64_t width;                  /* ns; how exactly they belong together */
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

/* The closest of some. */
static Sample sample(void)
{
    Sample best = { .width = INT64_MAX };

    for (int i = 0; i < TRIES; i++) {
        int64_t before = clock_now();
        uint32_t pm = inl(port);
        int64_t after = clock_now();

        check_true("drift: clock stepped back", before >= last_clock,
                   "no ns less", before - last_clock);
        count(pm, before - last_clock);
        last_clock = before;
        if (after - before < best.width) {
            best.width = after - before;
            best.clock = before + best.width / 2 - first_clock;
            best.pm = pm_counts * NS / PM_HERTZ;
        }
    }
    return best;
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
    sample();
    usleep(200000);
}

void drift_end(void)
{
    Sample now;

    if (!port) {
        return;
    }
    now = sample();
    printf("vas-load: drift %lld ns in %lld ns, uncertainty %lld ns\n",
           (long long)((now.clock - first.clock) - (now.pm - first.pm)),
           (long long)(now.pm - first.pm),
           (long long)(first.width + now.width) / 2);
}
