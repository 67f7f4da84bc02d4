/*
 * KVM's ioctls while a switch is under way
 *
 * All of them pass through here.  What fails is kept, so that the switch is
 * refused with the ioctl's name even where QEMU's own code goes on without
 * it, and what succeeds is shown to the target.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include <sys/ioctl.h>
#include <linux/kvm.h>
#include "hw/core/cpu.h"
#include "internal.h"

#define IOCTL(name) { name, #name }

static const struct {
    unsigned long type;
    const char *name;
} switch_ioctl_names[] = {
    IOCTL(KVM_CHECK_EXTENSION),
    IOCTL(KVM_GET_CLOCK),
    IOCTL(KVM_GET_DEBUGREGS),
    IOCTL(KVM_GET_DEVICE_ATTR),
    IOCTL(KVM_GET_LAPIC),
    IOCTL(KVM_GET_MP_STATE),
    IOCTL(KVM_GET_MSRS),
    IOCTL(KVM_GET_NESTED_STATE),
    IOCTL(KVM_GET_REGS),
    IOCTL(KVM_GET_SREGS),
    IOCTL(KVM_GET_SREGS2),
    IOCTL(KVM_GET_TSC_KHZ),
    IOCTL(KVM_GET_VCPU_EVENTS),
    IOCTL(KVM_GET_XCRS),
    IOCTL(KVM_GET_XSAVE),
    IOCTL(KVM_GET_XSAVE2),
    IOCTL(KVM_RUN),
    IOCTL(KVM_SET_DEBUGREGS),
    IOCTL(KVM_SET_DEVICE_ATTR),
    IOCTL(KVM_SET_GSI_ROUTING),
    IOCTL(KVM_SET_LAPIC),
    IOCTL(KVM_SET_MP_STATE),
    IOCTL(KVM_SET_MSRS),
    IOCTL(KVM_SET_NESTED_STATE),
    IOCTL(KVM_SET_REGS),
    IOCTL(KVM_SET_SIGNAL_MASK),
    IOCTL(KVM_SET_SREGS),
    IOCTL(KVM_SET_SREGS2),
    IOCTL(KVM_SET_USER_MEMORY_REGION),
    IOCTL(KVM_SET_VCPU_EVENTS),
    IOCTL(KVM_SET_XCRS),
    IOCTL(KVM_SET_XSAVE),
};

bool accel_switch_watching;

static __thread bool joined;

/* Begins and ends with the BQL held, in the main thread or at a save. */
static struct {
    QemuMutex lock;
    int err;                    /* 0: none failed */
    int cpu_index;              /* -1: the VM's */
    unsigned long type;
    uint32_t msr;               /* of KVM_GET_MSRS, KVM_SET_MSRS */
} first_failure;

static void keep_failure(CPUState *cpu, unsigned long type, int err,
                         uint32_t msr)
{
    QEMU_LOCK_GUARD(&first_failure.lock);
    if (!first_failure.err) {
        first_failure.err = err;
        first_failure.cpu_index = cpu ? cpu->cpu_index : -1;
        first_failure.type = type;
        first_failure.msr = msr;
    }
}

/* The number of MSRs that KVM is asked for or given, or 0 */
static uint32_t msr_count(unsigned long type, void *arg)
{
    return type == KVM_GET_MSRS || type == KVM_SET_MSRS
           ? ((struct kvm_msrs *)arg)->nmsrs : 0;
}

int accel_switch_watched_ioctl(CPUState *cpu, int fd, unsigned long type,
                               void *arg)
{
    int ret;

    if (!bql_locked() && !joined) {
        /* Another thread's; those with the BQL wait for us. */
        return ioctl(fd, type, arg);
    }
    if (cpu) {
        ret = switch_arch_before_ioctl(cpu, type, arg);
        if (ret < 0) {
            errno = -ret;
            return -1;
        }
    }
    if (!switch_selftest_fails_ioctl(fd, type, arg, &ret)) {
        ret = ioctl(fd, type, arg);
    }

    /* KVM_RUN: a signal, or INIT. */
    if (ret < 0 &&
        !(type == KVM_RUN && (errno == EINTR || errno == EAGAIN))) {
        keep_failure(cpu, type, errno, 0);
    } else if (ret >= 0 && ret < msr_count(type, arg)) {
        keep_failure(cpu, type, EINVAL,
                     ((struct kvm_msrs *)arg)->entries[ret].index);
    }
    if (cpu) {
        int err = errno;

        switch_arch_saw_ioctl(cpu, type, arg);
        errno = err;
    }
    return ret;
}

void switch_ioctl_join(bool join)
{
    joined = join;
}

void switch_init_ioctl(void)
{
    qemu_mutex_init(&first_failure.lock);
}

void switch_ioctl_watch(SwitchableAccel to)
{
    switch_selftest_watch(to);
    first_failure.err = 0;
    accel_switch_watching = true;
}

static const char *ioctl_name(unsigned long type)
{
    for (int i = 0; i < ARRAY_SIZE(switch_ioctl_names); i++) {
        if (switch_ioctl_names[i].type == type) {
            return switch_ioctl_names[i].name;
        }
    }
    return "a KVM ioctl";
}

bool switch_ioctl_unwatch(Error **errp)
{
    g_autofree char *vcpu = NULL, *value = NULL, *rule = NULL;

    assert(accel_switch_watching);
    accel_switch_watching = false;
    switch_selftest_unwatch();
    if (!first_failure.err) {
        return true;
    }
    if (first_failure.cpu_index >= 0) {
        vcpu = g_strdup_printf("vCPU %d: ", first_failure.cpu_index);
        if (first_failure.err == EINVAL &&
            !switch_selftest_has_failed()) {
            rule = switch_arch_explain_refusal(first_failure.cpu_index);
        }
    }
    if (first_failure.msr) {
        const char *name = switch_arch_msr_name(first_failure.msr);

        value = g_strdup_printf(" of %s (MSR 0x%" PRIx32 ")",
                                name ?: "a register without a name",
                                first_failure.msr);
    }
    error_setg(errp, "%s%s%s: %s%s%s", vcpu ?: "",
               ioctl_name(first_failure.type), value ?: "",
               strerror(first_failure.err), rule ? ": " : "", rule ?: "");
    return false;
}
