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

/*
 * Kernel: a CPU with nohz_full gives its timers to others, and so does KVM with
 * pi_inject_timer.  Constant.
 */
static bool timers_are_elsewhere;

void switch_init_hrtimers(void)
{
    g_autofree char *cpus = NULL, *inject = NULL;

    timers_are_elsewhere =
        (g_file_get_contents("/sys/devices/system/cpu/nohz_full", &cpus, NULL,
                             NULL) &&
         strpbrk(cpus, "0123456789")) ||
        (g_file_get_contents("/sys/module/kvm/parameters/pi_inject_timer",
                             &inject, NULL, NULL) &&
         g_ascii_strtoll(inject, NULL, 10) > 0);
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

/* How often the thread has slept, and how often the CPU was taken from it */
typedef struct ContextSwitches {
    long slept, taken;
} ContextSwitches;

static bool context_switches(ContextSwitches *c)
{
    struct rusage usage;

    if (getrusage(RUSAGE_THREAD, &usage) < 0) {
        return false;
    }
    c->slept = usage.ru_nvcsw;
    c->taken = usage.ru_nivcsw;
    return true;
}

/*
 * A thread goes to another CPU only by a context switch.  So it is still on the
 * CPU to which it has brought the timers if there was none but its sleep.
 */
bool switch_fire_hrtimers(bool (*bring_here)(void *opaque), void *opaque)
{
    for (int i = 0; i < ATTEMPTS && !timers_are_elsewhere; i++) {
        ContextSwitches before, here, after;

        if (!context_switches(&before) || !bring_here(opaque) ||
            !context_switches(&here) || !sleep_until_now() ||
            !context_switches(&after)) {
            return false;
        }
        if (here.slept == before.slept && after.slept <= here.slept + 1 &&
            after.taken == before.taken) {
            return true;
        }
    }
    return false;
}
