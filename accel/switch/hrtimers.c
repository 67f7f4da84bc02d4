/*
 * Certainty that the host kernel has fired a vCPU's timers
 *
 * A timer that is due need not have fired: its interrupt may be late, and
 * nothing tells by how much.  But a host CPU runs the due timers of one clock
 * in the order of their expiry.  So whoever sleeps on that CPU until now, and
 * is woken, knows that what was due before has fired.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include <sys/resource.h>
#include "internal.h"

/* A busy host takes the CPU away in the middle of an attempt. */
#define ATTEMPTS        16

/* Kernel: such a CPU gives its timers to others.  Constant. */
static bool host_has_nohz_full;

void switch_init_hrtimers(void)
{
    g_autofree char *cpus = NULL;

    host_has_nohz_full =
        g_file_get_contents("/sys/devices/system/cpu/nohz_full", &cpus, NULL,
                            NULL) &&
        strpbrk(cpus, "0123456789");
}

static bool sleep_until_now(void)
{
    struct timespec now;
    int ret;

    clock_gettime(CLOCK_MONOTONIC, &now);
    do {
        ret = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &now, NULL);
    } while (ret == EINTR);
    return ret == 0;
}

/*
 * A thread that runs goes to another CPU only by a context switch that it did
 * not ask for.  The one that it asks for is the sleep.
 */
bool switch_fire_hrtimers(bool (*bring_here)(void *opaque), void *opaque)
{
    for (int i = 0; i < ATTEMPTS && !host_has_nohz_full; i++) {
        struct rusage before, after;

        if (getrusage(RUSAGE_THREAD, &before) < 0 || !bring_here(opaque) ||
            !sleep_until_now() || getrusage(RUSAGE_THREAD, &after) < 0) {
            return false;
        }
        if (after.ru_nivcsw == before.ru_nivcsw &&
            after.ru_nvcsw <= before.ru_nvcsw + 1) {
            return true;
        }
    }
    return false;
}
