/*
 * x-fail-ioctls: each ioctl of a switch fails in turn, with each of some errors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include <sys/ioctl.h>
#include <linux/kvm.h>
#include "accel/switch/internal.h"

/* One after the other */
static const int fault_errnos[] = { EINVAL, ENOMEM, EFAULT, EIO };

static SwitchableAccel watched_to;
static unsigned watched_ioctls;
static bool fault_injected;
/* Which ioctl of the next switch to fails, and with which errno. */
static unsigned fault_ioctl[SWITCHABLE_ACCEL__MAX];
static unsigned fault_errno[SWITCHABLE_ACCEL__MAX];

void switch_selftest_watch(SwitchableAccel to)
{
    watched_to = to;
    watched_ioctls = 0;
    fault_injected = false;
}

bool switch_selftest_has_failed(void)
{
    return fault_injected;
}

static int inject_fault(int fd, unsigned long type, void *arg)
{
    bool msrs = type == KVM_GET_MSRS || type == KVM_SET_MSRS;
    int err = fault_errnos[fault_errno[watched_to]], ret = -1;

    fault_injected = true;
    if (msrs && err == EINVAL && ((struct kvm_msrs *)arg)->nmsrs) {
        /* KVM refuses an MSR by doing those before it only. */
        struct kvm_msrs *list = arg;
        uint32_t count = list->nmsrs;

        list->nmsrs = count / 2;
        ret = ioctl(fd, type, arg);
        list->nmsrs = count;
    } else {
        errno = err;
    }
    return ret;
}

bool switch_selftest_fails_ioctl(int fd, unsigned long type, void *arg,
                                 int *ret)
{
    if (!switch_state->fail_ioctls || fault_injected ||
        watched_ioctls++ != fault_ioctl[watched_to]) {
        return false;
    }
    *ret = inject_fault(fd, type, arg);
    return true;
}

/* The next attempt fails otherwise; after all ioctls were had, begin anew. */
void switch_selftest_unwatch(void)
{
    unsigned *at = &fault_ioctl[watched_to], *which = &fault_errno[watched_to];

    if (!switch_state->fail_ioctls) {
        return;
    }
    if (!fault_injected) {
        *at = *which = 0;
    } else if (++*which == ARRAY_SIZE(fault_errnos)) {
        *which = 0;
        ++*at;
    }
}
