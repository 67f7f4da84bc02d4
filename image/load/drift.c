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
#define PM_MASK     0xffffff
#define TRIES       100

static uint16_t port;
static uint64_t pm_counts;          /* since the first reading */
static uint32_t pm_last;
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

/* The closest of some. */
static Sample sample(void)
{
    Sample best = { .width = INT64_MAX };

    for (int i = 0; i < TRIES; i++) {
        int64_t before = clock_now();
        uint32_t pm = inl(port) & PM_MASK;
        int64_t after = clock_now();

        pm_counts += (pm - pm_last) & PM_MASK;
        pm_last = pm;
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
    pm_last = inl(port) & PM_MASK;
    first_clock = last_clock = clock_now();
    first = sample();
    return true;
}

/* The PM timer's 24 bits last for 4.7 s. */
void drift_round(void)
{
    int64_t now;

    sample();
    now = clock_now();
    check_true("drift: between two readings of the PM timer",
               now >= last_clock && now - last_clock < 4 * NS,
               "from 0 to 4 s in ns", now - last_clock);
    last_clock = now;
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
