/*
 * A barrier for the host kernel's high resolution timers
 *
 * A timer that is due need not have fired: its interrupt may be late, and
 * nothing tells by how much.  But a CPU runs the due timers of one clock in
 * the order of their expiry.  So whoever sleeps on that CPU until now, and is
 * woken, knows that what was due before has fired.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include <sched.h>
#include "qemu/thread.h"
#include "qemu/timer.h"
#include "internal.h"

/* As many as Linux can have. */
#define MAX_HOST_CPUS   8192
#define HOST_CPUS_SIZE  CPU_ALLOC_SIZE(MAX_HOST_CPUS)

/* Kernel: such a CPU gives its timers to others. */
static bool host_has_nohz_full(void)
{
    static gsize has;

    /* 1 for no, 2 for yes: it does not change while the host runs. */
    if (g_once_init_enter(&has)) {
        g_autofree char *cpus = NULL;
        bool found = g_file_get_contents("/sys/devices/system/cpu/nohz_full",
                                         &cpus, NULL, NULL) &&
                     strpbrk(cpus, "0123456789");

        g_once_init_leave(&has, found ? 2 : 1);
    }
    return has == 2;
}

static bool sleep_on_cpu(int host_cpu, cpu_set_t *set)
{
    struct timespec until;
    int ret;

    CPU_ZERO_S(HOST_CPUS_SIZE, set);
    CPU_SET_S(host_cpu, HOST_CPUS_SIZE, set);
    if (sched_setaffinity(0, HOST_CPUS_SIZE, set) < 0) {
        return false;
    }
    clock_gettime(CLOCK_MONOTONIC, &until);
    do {
        ret = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    } while (ret == EINTR);
    return ret == 0;
}

typedef struct HrtimerBarrier {
    int thread_id;
    bool certain;
} HrtimerBarrier;

/* A thread of its own, as it goes from CPU to CPU. */
static void *hrtimer_barrier_fn(void *opaque)
{
    HrtimerBarrier *b = opaque;
    cpu_set_t *allowed = CPU_ALLOC(MAX_HOST_CPUS);
    cpu_set_t *one = CPU_ALLOC(MAX_HOST_CPUS);

    CPU_ZERO_S(HOST_CPUS_SIZE, allowed);
    b->certain = sched_getaffinity(b->thread_id, HOST_CPUS_SIZE, allowed) >= 0;
    for (int i = 0; i < MAX_HOST_CPUS; i++) {
        if (CPU_ISSET_S(i, HOST_CPUS_SIZE, allowed) && !sleep_on_cpu(i, one)) {
            b->certain = false;
        }
    }
    CPU_FREE(one);
    CPU_FREE(allowed);
    return NULL;
}

bool switch_fire_hrtimers(int thread_id)
{
    HrtimerBarrier b = { .thread_id = thread_id };
    QemuThread thread;

    qemu_thread_create(&thread, "hrtimers", hrtimer_barrier_fn, &b,
                       QEMU_THREAD_JOINABLE);
    qemu_thread_join(&thread);
    return b.certain && !host_has_nohz_full();
}
