/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the guests of ./vas bench tell the host: how much work they have done.
 * The host maps the guest's memory and reads it there, so that the guest need
 * not leave KVM to tell.
 */
#ifndef GUEST_WORK_H
#define GUEST_WORK_H

/* Units of work of vCPU @n, a cache line each. */
#define WORK_PAGE       0x600
#define WORK_STRIDE     64
#define WORK_DONE(n) \
    ((volatile uint64_t *)(uintptr_t)(WORK_PAGE + WORK_STRIDE * (n)))
#define WORK_VCPUS      8

/* The number of vCPUs that work; 0 is 1. */
#define VCPUS_WANTED    0x508

#endif
