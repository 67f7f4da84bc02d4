/*
 * A step of a switch for each vCPU, on several host CPUs at once
 *
 * The main thread holds the BQL and waits for the others: nobody else can take
 * it, and each vCPU is one thread's.  But the BQL keeps these threads from one
 * another no more: a step touches its vCPU and guest RAM alone, and no device
 * but the vCPU's LAPIC.  vCPUs' own threads are parked, and need the BQL to
 * wake up, so these are others.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/rcu.h"
#include "qemu/thread.h"
#include "internal.h"

/* To wake another thread takes as long as some vCPUs do. */
#define VCPUS_PER_THREAD 4

static struct {
    QemuMutex lock;
    QemuCond work, done;
    int helpers;                /* threads besides the main thread; constant */

    /* All below: the lock.  A batch of vCPUs in the order of their indices. */
    SwitchVCPUStep step;
    GPtrArray *cpus;
    guint next;                 /* to be begun */
    guint left;                 /* to be finished */
    guint failed;               /* the first that failed, or their number */
    SwitchResult result;        /* its */
    Error *err;
} batch;

/* A switch that takes too long is refused, without an error here. */
static SwitchResult do_step(SwitchVCPUStep step, CPUState *cpu, Error **errp)
{
    return switch_is_in_time() ? step(cpu, errp) : SWITCH_REFUSED;
}

/* Take the next vCPU, if there is one.  Called with the lock held. */
static bool do_one(void)
{
    guint i = batch.next;
    SwitchResult result;
    Error *err = NULL;

    if (i >= batch.cpus->len) {
        return false;
    }
    batch.next++;
    qemu_mutex_unlock(&batch.lock);
    result = do_step(batch.step, g_ptr_array_index(batch.cpus, i), &err);
    qemu_mutex_lock(&batch.lock);
    if (result != SWITCH_OK && i < batch.failed) {
        error_free(batch.err);
        batch.failed = i;
        batch.result = result;
        batch.err = g_steal_pointer(&err);
    }
    error_free(err);
    if (--batch.left == 0) {
        qemu_cond_signal(&batch.done);
    }
    return true;
}

static void *parallel_thread(void *opaque)
{
    rcu_register_thread();
    accel_switch_share_bql();
    switch_ioctl_join(true);
    qemu_mutex_lock(&batch.lock);
    for (;;) {
        if (!do_one()) {
            qemu_cond_wait(&batch.work, &batch.lock);
        }
    }
    return NULL;
}

void switch_init_parallel(void)
{
    int vcpus = 0;
    CPUState *cpu;

    CPU_FOREACH(cpu) {
        vcpus++;
    }
    batch.helpers = MIN(DIV_ROUND_UP(vcpus, VCPUS_PER_THREAD),
                        g_get_num_processors()) - 1;
    batch.cpus = g_ptr_array_new();
    qemu_mutex_init(&batch.lock);
    qemu_cond_init(&batch.work);
    qemu_cond_init(&batch.done);
    for (int i = 0; i < batch.helpers; i++) {
        QemuThread thread;

        qemu_thread_create(&thread, "switch", parallel_thread, NULL,
                           QEMU_THREAD_DETACHED);
    }
}

static SwitchResult one_after_the_other(SwitchVCPUStep step, Error **errp)
{
    CPUState *cpu;

    CPU_FOREACH(cpu) {
        SwitchResult result = do_step(step, cpu, errp);

        if (result != SWITCH_OK) {
            return result;
        }
    }
    return SWITCH_OK;
}

SwitchResult switch_each_vcpu(SwitchVCPUStep step, Error **errp)
{
    CPUState *cpu;

    /* Ioctls that are to fail in turn have an order. */
    if (batch.helpers < 1 || switch_selftest_fails_ioctls()) {
        return one_after_the_other(step, errp);
    }
    qemu_mutex_lock(&batch.lock);
    g_ptr_array_set_size(batch.cpus, 0);
    CPU_FOREACH(cpu) {
        g_ptr_array_add(batch.cpus, cpu);
    }
    batch.step = step;
    batch.next = 0;
    batch.left = batch.failed = batch.cpus->len;
    batch.result = SWITCH_OK;
    batch.err = NULL;
    qemu_cond_broadcast(&batch.work);
    while (do_one()) {
        /* as the others do */
    }
    while (batch.left) {
        qemu_cond_wait(&batch.done, &batch.lock);
    }
    qemu_mutex_unlock(&batch.lock);
    error_propagate(errp, batch.err);
    return batch.result;
}
