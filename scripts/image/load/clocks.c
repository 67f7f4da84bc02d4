/*
 * vas-load: clocks and timers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * CLOCK_REALTIME and CLOCK_MONOTONIC must go at the same rate and neither may
 * step back; nor may the TSC on one CPU.  All of these come from one counter
 * in most guests, so the CMOS clock, which is a device of its own, is read at
 * the start and at the end.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/rtc.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

#define NS 1000000000ll
#define CPUS 64

static int64_t mono_start, real_start, start_slack, mono_last, real_last;
static int64_t rtc_start = -1;
static uint64_t tsc_last[CPUS];

static int64_t now(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return t.tv_sec * NS + t.tv_nsec;
}

static uint64_t rdtsc(void)
{
    uint32_t low, high;

    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}

/* Seconds of the CMOS clock, or -1 where there is none to read. */
static int64_t rtc_seconds(void)
{
    int fd = open("/dev/rtc0", O_RDONLY | O_CLOEXEC);
    struct rtc_time t;
    struct tm tm = { 0 };
    int failed;

    if (fd < 0) {
        return -1;
    }
    failed = ioctl(fd, RTC_RD_TIME, &t);
    close(fd);
    if (failed) {
        return -1;
    }
    tm.tm_sec = t.tm_sec;
    tm.tm_min = t.tm_min;
    tm.tm_hour = t.tm_hour;
    tm.tm_mday = t.tm_mday;
    tm.tm_mon = t.tm_mon;
    tm.tm_year = t.tm_year;
    return timegm(&tm);
}

static void rates(void)
{
    /* Between the two readings the thread may have been put aside. */
    int64_t before = now(CLOCK_MONOTONIC);
    int64_t real = now(CLOCK_REALTIME);
    int64_t mono = now(CLOCK_MONOTONIC);
    int64_t elapsed = mono - mono_start, slack = mono - before;
    int64_t apart = (real - real_start) - elapsed;
    /* adjtime and the like may slew by 500 ppm */
    int64_t limit = start_slack + slack + 2000000 + elapsed / 2000;

    check_true("clocks: monotonic stepped back", before >= mono_last,
               "no ns less", before - mono_last);
    check_true("clocks: realtime stepped back", real >= real_last,
               "no ns less", real - real_last);
    check_true("clocks: realtime against monotonic",
               apart <= limit && apart >= -limit, "few ns apart", apart);
    mono_last = mono;
    real_last = real;
}

static void tsc(void)
{
    for (int i = 0; i < 10; i++) {
        int cpu = sched_getcpu();
        uint64_t t = rdtsc();

        /* a reading counts only if it was taken on the CPU that we think */
        if (cpu < 0 || cpu >= CPUS || sched_getcpu() != cpu) {
            continue;
        }
        check_true("clocks: TSC stepped back", t >= tsc_last[cpu],
                   "no tick less", (int64_t)(t - tsc_last[cpu]));
        tsc_last[cpu] = t;
    }
}

/* A sleep never ends early; a lost timer shows as a load that stands still. */
static void sleeps(void)
{
    struct timespec pause = { .tv_nsec = load.light ? 1000000 : 5000000 };
    int64_t start = now(CLOCK_MONOTONIC), slept;

    clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
    slept = now(CLOCK_MONOTONIC) - start;
    check_true("clocks: sleep ended early", slept >= pause.tv_nsec,
               "the whole sleep", slept);
    check_true("clocks: sleep ended late", slept < 300 * NS,
               "under 300 s", slept);
}

static void periodic_timer(void)
{
    struct itimerspec period = {
        .it_interval.tv_nsec = 1000000,
        .it_value.tv_nsec = 1000000,
    };
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    int64_t start = now(CLOCK_MONOTONIC), elapsed;
    uint64_t fired = 0, times;

    if (fd < 0 || timerfd_settime(fd, 0, &period, NULL)) {
        check_errno("clocks: timerfd");
        return;
    }
    while (fired < 3 && read(fd, &times, sizeof(times)) == sizeof(times)) {
        fired += times;
    }
    elapsed = now(CLOCK_MONOTONIC) - start;
    close(fd);
    check_true("clocks: timer fired too often",
               (int64_t)fired <= elapsed / 1000000,
               "at most once a ms", fired);
}

void clock_begin(void)
{
    rtc_start = rtc_seconds();
    /* All later readings are held against these: take the closest of some. */
    for (int i = 0; i < 16; i++) {
        int64_t before = now(CLOCK_MONOTONIC);
        int64_t real = now(CLOCK_REALTIME);
        int64_t mono = now(CLOCK_MONOTONIC);

        if (i == 0 || mono - before < start_slack) {
            start_slack = mono - before;
            real_start = real_last = real;
            mono_start = mono_last = mono;
        }
    }
}

void clock_round(void)
{
    rates();
    tsc();
    sleeps();
    periodic_timer();
    tsc();
    rates();
}

void clock_end(void)
{
    int64_t rtc = rtc_start < 0 ? -1 : rtc_seconds();
    int64_t elapsed = (now(CLOCK_MONOTONIC) - mono_start) / NS;
    int64_t apart;

    if (rtc < 0) {
        printf("vas-load: no CMOS clock to compare with\n");
        return;
    }
    /*
     * Whole seconds, read by a guest that may stand still in between; and the
     * guest's kernel has measured its counter's frequency by itself, on a
     * machine that may have been busy.
     */
    apart = elapsed - (rtc - rtc_start);
    printf("vas-load: monotonic %lld s, CMOS clock %lld s\n",
           (long long)elapsed, (long long)(rtc - rtc_start));
    check_true("clocks: monotonic against the CMOS clock",
               apart <= 5 + elapsed / 20 && apart >= -5 - elapsed / 20,
               "few s apart", apart);
}
