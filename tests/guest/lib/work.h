/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The work that the guests of ./vas bench have done.  They count it in their
 * memory, which the host maps and reads.  So the guest need not leave KVM to
 * report.
 */
#ifndef GUEST_WORK_H
#define GUEST_WORK_H

#include "lib/long.h"

/* Units of work of vCPU @n, a cache line each. */
#define WORK_PAGE       0x600
#define WORK_STRIDE     64
#define WORK_DONE(n) \
    ((volatile uint64_t *)(uintptr_t)(WORK_PAGE + WORK_STRIDE * (n)))
#define WORK_VCPUS      8

/* The number of vCPUs that work; 0 is 1. */
#define VCPUS_WANTED    0x508

/* A payload's trap(): the program at CPL3 ends a lap by UD2. */
static inline void end_lap_by_trap(Frame *frame, const char *what,
                                   uint64_t expected, uint64_t got)
{
    if (frame->vector == VECTOR_UD && frame->cs == USER_CS) {
        verify(what, expected, got);
        lap_done();
        frame->rip += 2;
        return;
    }
    check_value("no exception, at RIP", frame->rip, frame->vector);
    debug_exit(2);
}

#endif
