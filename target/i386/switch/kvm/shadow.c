/*
 * KVM's shadow pages of the guest's page tables
 *
 * Where the processor does not page by EPT or NPT, KVM derives shadow pages
 * from the guest's page tables, and does not notice what TCG or a load writes
 * to these (hazard F2).  KVM makes shadow pages only as a vCPU runs.  So a
 * thread of its own has KVM drop them as soon as the guest runs in TCG: the
 * next switch to KVM need not do it while vCPUs are paused.
 *
 * With EPT or NPT nothing is derived from the guest's page tables, but for
 * those of a nested guest.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qemu/main-loop.h"
#include "qemu/memalign.h"
#include "qemu/rcu.h"
#include "qemu/thread.h"
#include "qemu/units.h"
#include "exec/address-spaces.h"
#include "system/kvm.h"
#include "system/kvm_int.h"
#include "switch/kvm/kvm.h"
#include "switch/kvm/module.h"

static struct {
    QemuMutex lock;
    QemuCond cond;              /* busy has changed */
    bool started;               /* the thread; main loop only */
    bool busy;                  /* the thread is asked to drop them, or does */
    bool stale;                 /* they are to be dropped before KVM_RUN */
    hwaddr addr;                /* where the slot below is made */
    void *backing;              /* of the slot below */
} shadow;

static bool kvm_makes_shadow_pages(void)
{
    return !x86_kvm_has_nested_paging() ||
           cpu_env(first_cpu)->features[FEAT_1_ECX] & CPUID_EXT_VMX ||
           cpu_env(first_cpu)->features[FEAT_8000_0001_ECX] & CPUID_EXT3_SVM;
}

/* A guest-physical page that is neither RAM nor a device's.  BQL held. */
static bool find_unused_page(hwaddr *addr)
{
    /* Between the IOAPIC and the HPET; the LAPIC and the BIOS are above. */
    for (hwaddr page = 0xfec10000; page < 0xfecff000; page += 4 * KiB) {
        MemoryRegionSection s = memory_region_find(get_system_memory(), page,
                                                   4 * KiB);

        if (!s.mr) {
            *addr = page;
            return true;
        }
        memory_region_unref(s.mr);
    }
    return false;
}

/*
 * Deleting a memory slot makes KVM forget all shadow pages, and with new roots
 * the hardware's TLBs (kernel: kvm_arch_flush_shadow_memslot()), so one is made
 * to be deleted.  KVM waits for grace periods of SRCU meanwhile, which take
 * long on a busy host.
 *
 * The lock keeps others from making a slot at the same @addr.  If one was made
 * since @addr was found, KVM refuses.  Any thread, with or without the BQL.
 * Returns 0 or a negative errno.
 */
static int drop_shadow_pages(hwaddr addr)
{
    struct kvm_userspace_memory_region region = {
        .slot = kvm_state->nr_slots_max - 1,
        .memory_size = 4 * KiB,
        .guest_phys_addr = addr,
        .userspace_addr = (uintptr_t)shadow.backing,
    };
    int ret;

    accel_switch_lock_slots();
    if (kvm_state->memory_listener.nr_slots_allocated >=
        kvm_state->nr_slots_max) {
        ret = -ENOSPC;
    } else {
        ret = kvm_vm_ioctl(kvm_state, KVM_SET_USER_MEMORY_REGION, &region);
        if (ret == 0) {
            region.memory_size = 0;
            ret = kvm_vm_ioctl(kvm_state, KVM_SET_USER_MEMORY_REGION, &region);
        }
    }
    accel_switch_unlock_slots();
    return ret;
}

/* The same, BQL held */
static int drop_shadow_pages_now(void)
{
    hwaddr addr;

    return find_unused_page(&addr) ? drop_shadow_pages(addr) : -ENOSPC;
}

static void *shadow_thread(void *opaque)
{
    rcu_register_thread();
    for (;;) {
        int ret;

        WITH_QEMU_LOCK_GUARD(&shadow.lock) {
            while (!shadow.busy) {
                qemu_cond_wait(&shadow.cond, &shadow.lock);
            }
        }
        ret = drop_shadow_pages(shadow.addr);
        WITH_QEMU_LOCK_GUARD(&shadow.lock) {
            /* If it has failed, the switch tries again, and reports it. */
            shadow.stale = ret < 0;
            shadow.busy = false;
            qemu_cond_broadcast(&shadow.cond);
        }
    }
    return NULL;
}

void x86_kvm_init_shadow(void)
{
    qemu_mutex_init(&shadow.lock);
    qemu_cond_init(&shadow.cond);
    shadow.backing = qemu_memalign(4 * KiB, 4 * KiB);
    memset(shadow.backing, 0, 4 * KiB);
}

static void start_thread(void)
{
    QemuThread thread;

    if (!shadow.started) {
        shadow.started = true;
        qemu_thread_create(&thread, "shadow", shadow_thread, NULL,
                           QEMU_THREAD_DETACHED);
    }
}

void switch_arch_resumed_tcg(void)
{
    if (switch_omits(SWITCH_FIXUP_SHADOW_FLUSH) || !kvm_makes_shadow_pages()) {
        return;
    }
    start_thread();
    WITH_QEMU_LOCK_GUARD(&shadow.lock) {
        shadow.stale = true;
        /*
         * Else the switch drops them: because it can't be done here, or so that
         * its ioctls fail in turn.
         */
        if (find_unused_page(&shadow.addr) && !switch_selftest_fails_ioctls()) {
            shadow.busy = true;
            qemu_cond_broadcast(&shadow.cond);
        }
    }
}

void switch_arch_await_kvm(void)
{
    if (!qatomic_read(&shadow.busy)) {
        return;
    }
    bql_unlock();
    WITH_QEMU_LOCK_GUARD(&shadow.lock) {
        while (shadow.busy) {
            qemu_cond_wait(&shadow.cond, &shadow.lock);
        }
    }
    bql_lock();
}

int x86_kvm_import_shadow(void)
{
    int ret = shadow.stale ? drop_shadow_pages_now() : 0;

    if (ret == 0) {
        shadow.stale = false;
    }
    return ret;
}

int x86_kvm_load_shadow(void)
{
    return switch_omits(SWITCH_FIXUP_SHADOW_FLUSH) ||
           !kvm_makes_shadow_pages() ? 0 : drop_shadow_pages_now();
}
