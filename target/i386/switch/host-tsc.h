/*
 * The host's TSC: as it counts, and by the host's clock
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TARGET_I386_SWITCH_HOST_TSC_H
#define TARGET_I386_SWITCH_HOST_TSC_H

/* Both at one time, in ticks. */
typedef struct X86HostTSC {
    int64_t counted;
    int64_t by_clock;
} X86HostTSC;

/**
 * x86_host_tsc_by_clock: ticks at @khz since some point in the past
 *
 * By the clock by which KVM sets guests' TSCs where it doesn't trust the
 * host's.  Any thread.
 */
int64_t x86_host_tsc_by_clock(uint32_t khz);

/* Both, read as one as well as can be.  Any thread. */
X86HostTSC x86_host_tsc(uint32_t khz);

#endif
