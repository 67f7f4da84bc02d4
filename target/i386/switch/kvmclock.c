/*
 * kvm-clock while the guest runs in TCG
 *
 * The guest computes its time from a page that KVM filled and from the TSC,
 * which goes on (kvm/tsc.c): so a page filled under KVM stays right.  A
 * page that the guest registers in TCG is filled here, from KVM's own clock,
 * which runs on; back under KVM, KVM fills it again.
 *
 * Layout and rules: Linux, Documentation/virt/kvm/x86/msr.rst.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "qemu/error-report.h"
#include "qemu/host-utils.h"
#include "qemu/timer.h"
#include "exec/address-spaces.h"
#include "system/kvm.h"
#include "system/runstate.h"
#include "system/tcg.h"
#include "standard-headers/asm-x86/kvm_para.h"
#include "switch/kvm/kvm.h"
#include "switch/x86-switch.h"

#define PVCLOCK_TSC_STABLE_BIT 1

typedef struct QEMU_PACKED PVClockTime {
    uint32_t version;
    uint32_t pad0;
    uint64_t tsc_timestamp;
    uint64_t system_time;
    uint32_t tsc_to_system_mul;
    int8_t   tsc_shift;
    uint8_t  flags;
    uint8_t  pad[2];
} PVClockTime;

typedef struct QEMU_PACKED PVWallClock {
    uint32_t version;
    uint32_t sec;
    uint32_t nsec;
} PVWallClock;

/*
 * KVM's clock and the host's TSC, read as one.  One reading serves all
 * vCPUs, so that their clocks agree.
 */
static struct {
    bool valid;
    bool stable;
    uint64_t clock_ns;
    X86HostTSC host;
} reference;
static QemuMutex reference_lock;

static bool kvmclock_get_reference(uint32_t khz)
{
    struct kvm_clock_data data = {};
    X86HostTSC before, after;

    if (reference.valid) {
        return true;
    }
    before = x86_host_tsc(khz);
    if (kvm_vm_ioctl(kvm_state, KVM_GET_CLOCK, &data) < 0) {
        warn_report_once("KVM_GET_CLOCK failed: TCG can't keep the guest's"
                         " kvm-clock; have it use another clocksource");
        return false;
    }
    reference.clock_ns = data.clock;
    after = x86_host_tsc(khz);
    reference.host.counted = data.flags & KVM_CLOCK_HOST_TSC ? data.host_tsc
        : before.counted + (after.counted - before.counted) / 2;
    reference.host.by_clock =
        before.by_clock + (after.by_clock - before.by_clock) / 2;
    reference.stable = data.flags & KVM_CLOCK_TSC_STABLE;
    reference.valid = true;
    return true;
}

/*
 * The guest computes ns = (ticks << shift) * mul / 2^32: choose the shift
 * that makes the most of @mul's 32 bits, for a TSC of @khz.
 */
static void kvmclock_time_scale(uint64_t khz, uint32_t *mul, int8_t *shift)
{
    uint64_t hz = khz * 1000;

    *shift = 0;
    for (; hz > 2 * NANOSECONDS_PER_SECOND; hz >>= 1) {
        (*shift)--;
    }
    for (; hz <= NANOSECONDS_PER_SECOND; hz <<= 1) {
        (*shift)++;
    }
    *mul = ((uint64_t)NANOSECONDS_PER_SECOND << 32) / hz;
}

/*
 * To RAM and nothing else, as KVM knows no other memory: a guest may give the
 * address of a device, which must not be written to.
 */
static bool kvmclock_access(hwaddr addr, void *data, size_t size, bool write)
{
    return address_space_rw(&address_space_memory, addr,
                            (MemTxAttrs) { .memory = true }, data, size,
                            write) == MEMTX_OK;
}

/* The version is odd while the rest is written. */
static void kvmclock_write(hwaddr addr, void *page, size_t size)
{
    uint32_t *version = page;

    if (!kvmclock_access(addr, version, sizeof(*version), false)) {
        return;
    }
    *version = (*version + 1) | 1;
    if (!kvmclock_access(addr, version, sizeof(*version), true)) {
        return;
    }
    /* Another vCPU that reads the page sees the odd version first… */
    smp_wmb();
    kvmclock_access(addr + sizeof(*version), version + 1,
                    size - sizeof(*version), true);
    /* …and the even one last. */
    smp_wmb();
    (*version)++;
    kvmclock_access(addr, version, sizeof(*version), true);
}

static void kvmclock_fill(CPUX86State *env)
{
    X86SwitchCPU *sc = x86_switch_cpu(env_cpu(env));
    PVClockTime time = {};
    uint32_t mul;
    int8_t shift;

    if (!(env->system_time_msr & 1) || !x86_switch_tsc_khz()) {
        return;
    }
    QEMU_LOCK_GUARD(&reference_lock);
    if (!kvmclock_get_reference(x86_switch_tsc_khz())) {
        return;
    }
    time.tsc_timestamp = x86_kvm_tsc_base_at(sc, &reference.host) +
                         sc->tsc_offset;
    time.system_time = reference.clock_ns;
    kvmclock_time_scale(x86_switch_tsc_khz(), &mul, &shift);
    time.tsc_to_system_mul = mul;
    time.tsc_shift = shift;
    time.flags = reference.stable ? PVCLOCK_TSC_STABLE_BIT : 0;
    kvmclock_write(env->system_time_msr & ~1ull, &time, sizeof(time));
}

static void kvmclock_fill_wall(CPUX86State *env, hwaddr addr)
{
    PVWallClock wall = {};
    struct kvm_clock_data data = {};
    int64_t boot_ns;

    if (!addr || kvm_vm_ioctl(kvm_state, KVM_GET_CLOCK, &data) < 0) {
        return;
    }
    boot_ns = get_clock_realtime() - data.clock;
    wall.sec = boot_ns / NANOSECONDS_PER_SECOND;
    wall.nsec = boot_ns % NANOSECONDS_PER_SECOND;
    kvmclock_write(addr, &wall, sizeof(wall));
}

bool x86_switch_kvmclock_wrmsr(CPUX86State *env, uint32_t msr, uint64_t value)
{
    uint32_t features = env->features[FEAT_KVM];
    CPUState *cs;

    switch (msr) {
    case MSR_KVM_WALL_CLOCK:
    case MSR_KVM_WALL_CLOCK_NEW:
        if (!(features & (msr == MSR_KVM_WALL_CLOCK ? CPUID_KVM_CLOCK
                                                    : CPUID_KVM_CLOCK2))) {
            return false;
        }
        /* A VM has one. */
        CPU_FOREACH(cs) {
            cpu_env(cs)->wall_clock_msr = value;
        }
        kvmclock_fill_wall(env, value);
        return true;
    case MSR_KVM_SYSTEM_TIME:
    case MSR_KVM_SYSTEM_TIME_NEW:
        if (!(features & (msr == MSR_KVM_SYSTEM_TIME ? CPUID_KVM_CLOCK
                                                     : CPUID_KVM_CLOCK2))) {
            return false;
        }
        env->system_time_msr = value;
        kvmclock_fill(env);
        return true;
    default:
        return false;
    }
}

bool x86_switch_kvmclock_rdmsr(CPUX86State *env, uint32_t msr, uint64_t *value)
{
    switch (msr) {
    case MSR_KVM_WALL_CLOCK:
    case MSR_KVM_WALL_CLOCK_NEW:
        *value = env->wall_clock_msr;
        return true;
    case MSR_KVM_SYSTEM_TIME:
    case MSR_KVM_SYSTEM_TIME_NEW:
        *value = env->system_time_msr;
        return true;
    default:
        return false;
    }
}

void x86_switch_kvmclock_follow_tsc(CPUX86State *env)
{
    kvmclock_fill(env);
}

/* INIT clears a vCPU's copy in TCG, of what KVM keeps for the VM. */
void x86_switch_share_wall_clock(void)
{
    uint64_t value = 0;
    CPUState *cs;

    CPU_FOREACH(cs) {
        value = value ?: cpu_env(cs)->wall_clock_msr;
    }
    CPU_FOREACH(cs) {
        cpu_env(cs)->wall_clock_msr = value;
    }
}

/*
 * The page of each vCPU is filled by KVM from then on.  The wall clock, which
 * KVM writes to the guest's memory whenever its MSR is put, is put only if it
 * is another one: the guest may use that memory for something else by now.
 */
int x86_switch_import_kvmclock(CPUState *cs)
{
    CPUX86State *env = cpu_env(cs);
    uint64_t wall;
    int ret;

    if (!(env->features[FEAT_KVM] & (CPUID_KVM_CLOCK | CPUID_KVM_CLOCK2)) ||
        switch_omits(SWITCH_FIXUP_KVM_CLOCK)) {
        return 0;
    }
    ret = x86_kvm_put_msr(cs, MSR_KVM_SYSTEM_TIME, env->system_time_msr) ?:
          x86_kvm_get_msr(cs, MSR_KVM_WALL_CLOCK, &wall);
    if (ret < 0 || wall == env->wall_clock_msr) {
        return ret;
    }
    return x86_kvm_put_msr(cs, MSR_KVM_WALL_CLOCK, env->wall_clock_msr);
}

void x86_switch_kvmclock_to_tcg(void)
{
    reference.valid = false;
}

/*
 * After a stop KVM's clock is set back to where it stopped (hw/i386/kvm/
 * clock.c), and under KVM the pages follow; in TCG they follow here.
 */
static void kvmclock_vm_state_change(void *opaque, bool running,
                                     RunState state)
{
    CPUState *cs;

    reference.valid = false;
    if (!running || !tcg_enabled()) {
        return;
    }
    CPU_FOREACH(cs) {
        kvmclock_fill(cpu_env(cs));
    }
}

void x86_switch_init_kvmclock(void)
{
    qemu_mutex_init(&reference_lock);
    /* After the kvmclock device's handler, which has priority 0. */
    qemu_add_vm_change_state_handler_prio(kvmclock_vm_state_change, NULL, 1);
}
