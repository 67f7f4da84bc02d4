/*
 * The host's TSC: as it counts, and by the host's clock
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qemu/host-utils.h"
#include "qemu/timer.h"
#include "switch/host-tsc.h"

/*
 * Of so many readings the one that took the least time is taken.  One that
 * ended on a CPU whose TSC is behind took a negative time: the most of all.
 */
#define READINGS    5

int64_t x86_host_tsc_by_clock(uint32_t khz)
{
    struct timespec now;

    /* Kernel: get_kvmclock_base_ns() */
    clock_gettime(CLOCK_MONOTONIC_RAW, &now);
    return muldiv64(now.tv_sec * NANOSECONDS_PER_SECOND + now.tv_nsec, khz,
                    SCALE_MS);
}

X86HostTSC x86_host_tsc(uint32_t khz)
{
    X86HostTSC best;
    uint64_t least = UINT64_MAX;

    for (int i = 0; i < READINGS; i++) {
        int64_t before = cpu_get_host_ticks();
        int64_t by_clock = x86_host_tsc_by_clock(khz);
        uint64_t took = cpu_get_host_ticks() - before;

        if (took < least) {
            least = took;
            best.counted = before + took / 2;
            best.by_clock = by_clock;
        }
    }
    return best;
}
