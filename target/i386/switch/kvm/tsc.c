/*
 * The guest's TSC across a switch
 *
 * Under either accelerator the guest's TSC is the host's plus an offset.
 * The offset is read from KVM, used by TCG, and put back: the TSC neither
 * stops nor jumps (hazard C13).  If the host's TSC is not stable, the guest's
 * follows the host's clock under KVM, and so it does in TCG.  A TSC that KVM
 * scales is refused: at start, or at the switch if a stream has set its rate.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/seqlock.h"
#include "qemu/timer.h"
#include "system/cpu-timers-internal.h"
#include "system/cpu-timers.h"
#include "system/kvm.h"
#include "system/reset.h"
#include "system/runstate.h"
#include "system/tcg.h"
#include "switch/kvm/kvm.h"
#include "switch/kvm/module.h"
#include "switch/x86-switch.h"

/*
 * The rate of each vCPU's TSC as KVM has made it: the host's.  A stream may
 * have set CPUX86State.tsc_khz to another one.
 */
static uint32_t tsc_khz;

uint32_t x86_switch_tsc_khz(void)
{
    return tsc_khz;
}

static int x86_kvm_tsc_attr(CPUState *cs, int ioctl, int64_t *offset)
{
    struct kvm_device_attr attr = {
        .group = KVM_VCPU_TSC_CTRL,
        .attr = KVM_VCPU_TSC_OFFSET,
        .addr = (uintptr_t)offset,
    };

    return kvm_vcpu_ioctl(cs, ioctl, &attr);
}

int x86_kvm_get_tsc_offset(CPUState *cs, int64_t *offset)
{
    return x86_kvm_tsc_attr(cs, KVM_GET_DEVICE_ATTR, offset);
}

/*
 * Without TSC scaling, a kernel that has measured the TSC's frequency anew
 * since KVM was loaded leaves a new vCPU with the scaling ratio 0: for KVM the
 * host's TSC stands still, the guest's is its offset, and kvm-clock runs twice
 * as fast (kernel: set_tsc_khz(), kvm_scale_tsc()).
 */
static bool x86_kvm_tsc_stands_still(CPUState *cs)
{
    int64_t offset;
    uint64_t tsc;

    return x86_kvm_get_tsc_offset(cs, &offset) == 0 &&
           x86_kvm_get_msr(cs, MSR_IA32_TSC, &tsc) == 0 && tsc == offset;
}

bool x86_kvm_check_tsc_khz(const CPUX86State *env, Error **errp)
{
    if (env->user_tsc_khz &&
        env->user_tsc_khz != kvm_vm_ioctl(kvm_state, KVM_GET_TSC_KHZ)) {
        error_setg(errp, "-accel switch does not work with TSC scaling"
                   " (tsc-frequency=)");
        return false;
    }
    return true;
}

bool x86_kvm_init_tsc(CPUState *cs, X86SwitchCPU *sc, Error **errp)
{
    tsc_khz = cpu_env(cs)->tsc_khz;
    sc->tsc_khz = tsc_khz;
    /* Linux 5.16 and later; before, the MSR itself must do. */
    sc->has_tsc_offset_attr =
        x86_kvm_tsc_attr(cs, KVM_HAS_DEVICE_ATTR, NULL) == 0;

    if (sc->has_tsc_offset_attr && x86_kvm_tsc_stands_still(cs)) {
        error_setg(errp, "KVM miscounts its guests' TSC, as the TSC's frequency"
                   " was measured anew since KVM was loaded: reload"
                   " kvm_intel or kvm_amd, and kvm");
        return false;
    }
    return true;
}

static bool is_scaled(const X86SwitchCPU *sc)
{
    uint64_t differs = ABS((int64_t)sc->tsc_khz - tsc_khz);

    return differs * 1000000 > (uint64_t)tsc_khz * x86_kvm_tsc_tolerance_ppm();
}

bool x86_kvm_check_tsc(CPUState *cs, Error **errp)
{
    const X86SwitchCPU *sc = x86_switch_cpu(cs);

    if (!is_scaled(sc)) {
        return true;
    }
    error_setg(errp, "vCPU %d: the migrated guest's TSC runs at %u kHz and this"
               " host's at %u kHz, and TCG can't scale a TSC",
               cs->cpu_index, sc->tsc_khz, tsc_khz);
    return false;
}

/* The MSR, read between two readings of the host's TSC. */
static int x86_kvm_read_tsc_msr(CPUState *cs, int64_t *offset)
{
    int64_t before = cpu_get_host_ticks(), after;
    uint64_t tsc;
    int ret = x86_kvm_get_msr(cs, MSR_IA32_TSC, &tsc);

    after = cpu_get_host_ticks();
    if (ret < 0) {
        return ret;
    }
    *offset = tsc - (before + (after - before) / 2);
    return 0;
}

/* The guest's TSC now, less its sc->tsc_offset. */
static int64_t x86_kvm_tsc_base(const X86SwitchCPU *sc)
{
    return sc->tsc_by_clock ? x86_host_tsc_by_clock(tsc_khz)
                            : cpu_get_host_ticks();
}

int64_t x86_kvm_tsc_base_at(const X86SwitchCPU *sc, const X86HostTSC *host)
{
    return sc->tsc_by_clock ? host->by_clock : host->counted;
}

/*
 * Where the host's TSC is not stable, KVM has the guest's stand still from the
 * vCPU's last entry to its next one, when it is set forward, at the least to
 * what it would be by the host's clock since it was last set, at the frequency
 * that the kernel believes it to have (kernel: kvm_arch_vcpu_load(),
 * kvm_guest_time_update()).
 *
 * KVM and QEMU each sample two clocks one after the other.  Their sampling
 * errors would accumulate over switches, so the old offset stays if the new one
 * is within 20 ms.
 */
int x86_kvm_settle_tsc(CPUState *cs, X86SwitchCPU *sc)
{
    int64_t about = 20ll * tsc_khz;     /* 20 ms */
    X86HostTSC host;
    int64_t offset;
    int ret = x86_kvm_catch_up_tsc(cs, &offset);

    if (ret < 0) {
        return ret;
    }
    host = x86_host_tsc(tsc_khz);
    sc->tsc_least = host.counted + offset;
    offset = sc->tsc_least - host.by_clock;
    if (!sc->tsc_by_clock || !sc->tsc_offset_given ||
        ABS(offset - sc->tsc_offset) > about) {
        sc->tsc_by_clock = true;
        sc->tsc_offset = offset;
    }
    return 0;
}

static int x86_kvm_export_tsc_offset(CPUState *cs, X86SwitchCPU *sc)
{
    int64_t first, offset;
    int ret = x86_kvm_get_tsc_offset(cs, &first) ?:
              x86_kvm_get_tsc_offset(cs, &offset);

    if (ret < 0) {
        return ret;
    }
    sc->tsc_moves = offset != first;
    if (!sc->tsc_moves) {
        sc->tsc_least = cpu_get_host_ticks() + offset;
        sc->tsc_by_clock = false;
        sc->tsc_offset = offset;
    }
    return 0;
}

int x86_kvm_export_tsc(CPUState *cs, X86SwitchCPU *sc)
{
    int ret;

    if (sc->has_tsc_offset_attr) {
        return x86_kvm_export_tsc_offset(cs, sc);
    }
    ret = x86_kvm_read_tsc_msr(cs, &sc->tsc_offset);
    sc->tsc_least = cpu_get_host_ticks() + sc->tsc_offset;
    return ret;
}

/*
 * After the MSRs were put: writing MSR_IA32_TSC on a host whose TSC is not
 * stable moves the guest's by the VM's age (hazard C13).
 */
int x86_kvm_import_tsc(CPUState *cs, X86SwitchCPU *sc,
                       const X86HostTSC *host)
{
    int64_t offset = sc->tsc_offset;
    int ret;

    if (!sc->has_tsc_offset_attr || switch_omits(SWITCH_FIXUP_TSC_OFFSET)) {
        return 0;
    }
    if (sc->tsc_by_clock) {
        offset += host->by_clock - host->counted;
    }
    ret = x86_kvm_tsc_attr(cs, KVM_SET_DEVICE_ATTR, &offset);
    sc->tsc_offset_given = ret == 0;
    return ret;
}

#ifdef CONFIG_ACCEL_SWITCH_SELFTEST
int x86_kvm_poison_tsc(CPUState *cs)
{
    const X86SwitchCPU *sc = x86_switch_cpu(cs);
    int64_t offset = sc->tsc_offset + (1ll << 40);

    /* Where the host's is not stable, KVM goes on from what it had. */
    return sc->has_tsc_offset_attr && !sc->tsc_by_clock
           ? x86_kvm_tsc_attr(cs, KVM_SET_DEVICE_ATTR, &offset) : 0;
}
#endif

/* QEMU sets the TSC at a reset, and when it loads the machine's state. */
void x86_kvm_forget_tsc(void)
{
    CPUState *cs;

    CPU_FOREACH(cs) {
        x86_switch_cpu(cs)->tsc_offset_given = false;
    }
}

/*
 * A reset in KVM sets every TSC to 0.  In TCG they go on, and those that the
 * guest has moved come back to the others.
 */
static void x86_kvm_reset_tsc(void *opaque)
{
    CPUState *cs;

    x86_kvm_forget_tsc();
    if (tcg_enabled()) {
        CPU_FOREACH(cs) {
            x86_switch_move_tsc(cpu_env(cs), -cpu_env(cs)->tsc_adjust);
            cpu_env(cs)->tsc_adjust = 0;
        }
    }
}

bool x86_kvm_tsc_offset_moves(CPUState *cs)
{
    int64_t first, second;

    return x86_kvm_get_tsc_offset(cs, &first) < 0 ||
           x86_kvm_get_tsc_offset(cs, &second) < 0 ||
           first != second;
}

/*
 * QEMU_CLOCK_VIRTUAL minus the host's clock, when the machine last started.  0:
 * it has not, since another guest was loaded.
 */
static int64_t clock_offset;

int64_t x86_kvm_stopped_for(void)
{
    return runstate_is_running() || !clock_offset
           ? 0 : get_clock() + clock_offset -
                 qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
}

/*
 * A load into KVM.  @by_first: @tsc is that of the first vCPU that was loaded,
 * @host the host's at that time.
 */
static struct {
    bool by_first;
    X86HostTSC host;
    uint64_t tsc;
} kvm_load;

void switch_arch_discard(void)
{
    CPUState *cs;

    CPU_FOREACH(cs) {
        X86SwitchCPU *sc = x86_switch_cpu(cs);

        /* A stream that was loaded before has had KVM scale it. */
        if (is_scaled(sc) &&
            kvm_vcpu_ioctl(cs, KVM_SET_TSC_KHZ, (unsigned long)tsc_khz) == 0) {
            sc->tsc_khz = tsc_khz;
        }
    }
}

void x86_kvm_tsc_load_begins(void)
{
    x86_kvm_forget_tsc();
    clock_offset = 0;
    kvm_load.by_first = false;
}

/*
 * KVM takes a TSC that differs by less than a second from its own for an
 * attempt to synchronize vCPUs, and ignores it (kernel: kvm_synchronize_tsc()):
 * the TSC of a snapshot's guest could go back.  So put the offset itself.  As
 * in KVM, vCPUs whose TSCs differ by less than a second get the same one: they
 * were read one after the other.
 *
 * A stream from a host whose TSC has another rate has KVM scale the TSC, if it
 * can: then it is not the host's plus an offset, KVM's own offset stays, and
 * x86_kvm_check_tsc() refuses a switch.
 */
void x86_kvm_load_tsc(CPUState *cs)
{
    CPUX86State *env = cpu_env(cs);
    X86SwitchCPU *sc = x86_switch_cpu(cs);
    int64_t second = tsc_khz * 1000ll;
    int64_t offset;

    sc->tsc_khz = kvm_vcpu_ioctl(cs, KVM_GET_TSC_KHZ);
    if (is_scaled(sc) || !sc->has_tsc_offset_attr) {
        return;
    }
    if (!kvm_load.by_first) {
        kvm_load.by_first = true;
        kvm_load.host = x86_host_tsc(tsc_khz);
        kvm_load.tsc = env->tsc;
    }
    offset = (ABS((int64_t)(env->tsc - kvm_load.tsc)) < second
              ? kvm_load.tsc : env->tsc) - kvm_load.host.counted;
    /* Where that fails the TSC is what KVM made of it, as without a switch. */
    x86_kvm_tsc_attr(cs, KVM_SET_DEVICE_ATTR, &offset);
}

/* Compared so that the TSC may wrap around. */
static uint64_t not_below(uint64_t tsc, uint64_t least)
{
    return (int64_t)(tsc - least) < 0 ? least : tsc;
}

/* Set between a load into TCG and the first use of what was loaded. */
static bool tsc_loaded;

/* TCG counts the host's TSC, whatever the rate where the guest was saved. */
static void use_loaded_tsc_khz(CPUState *cs)
{
    X86SwitchCPU *sc = x86_switch_cpu(cs);
    CPUX86State *env = cpu_env(cs);

    sc->tsc_khz = env->tsc_khz ?: tsc_khz;
    if (is_scaled(sc) && cs == first_cpu) {
        warn_report("the guest was saved with a TSC of %u kHz, and has one of"
                    " %u kHz here", sc->tsc_khz, tsc_khz);
    }
    sc->tsc_khz = tsc_khz;
    env->tsc_khz = tsc_khz;
}

/*
 * The host's TSC when the machine was stopped, after all vCPUs had paused.
 * Valid while it stands still, and nothing was loaded since.
 */
static struct {
    bool valid;
    X86HostTSC host;
} stop;

/* Go on from the TSC that was loaded: one reading of the host's for all. */
void x86_kvm_use_loaded_tsc(void)
{
    X86HostTSC host;
    CPUState *cs;

    if (!tsc_loaded) {
        return;
    }
    tsc_loaded = false;
    host = x86_host_tsc(tsc_khz);
    CPU_FOREACH(cs) {
        X86SwitchCPU *sc = x86_switch_cpu(cs);

        sc->tsc_least = cpu_env(cs)->tsc;
        sc->tsc_offset = sc->tsc_least - x86_kvm_tsc_base_at(sc, &host);
        use_loaded_tsc_khz(cs);
    }
    stop.host = host;
    stop.valid = !runstate_is_running();
}

/*
 * The TSC is saved as of the stop.  One that a vCPU had in KVM later, as it was
 * switched after the stop, is saved for all: their TSCs stay together.
 */
void switch_arch_pre_save_tcg(void)
{
    int64_t later = 0;

    CPUState *cs;

    x86_kvm_use_loaded_tsc();
    if (!stop.valid) {
        /* It has not run yet. */
        stop.host = x86_host_tsc(tsc_khz);
        stop.valid = true;
    }
    CPU_FOREACH(cs) {
        const X86SwitchCPU *sc = x86_switch_cpu(cs);

        cpu_env(cs)->tsc = x86_kvm_tsc_base_at(sc, &stop.host) +
                           sc->tsc_offset;
        later = MAX(later, (int64_t)(sc->tsc_least - cpu_env(cs)->tsc));
    }
    CPU_FOREACH(cs) {
        cpu_env(cs)->tsc += later;
    }
}

/*
 * Plain QEMU's TSC in TCG is cpu_get_ticks(), one for all vCPUs, whose value at
 * the machine's stop is in a section of its own.
 */
void switch_arch_pre_save_plain_tcg(void)
{
    uint64_t tsc = cpu_env(first_cpu)->tsc;
    CPUState *cs;

    CPU_FOREACH(cs) {
        tsc = not_below(tsc, cpu_env(cs)->tsc);
    }
    seqlock_write_lock(&timers_state.vm_clock_seqlock,
                       &timers_state.vm_clock_lock);
    timers_state.cpu_ticks_offset = tsc;
    seqlock_write_unlock(&timers_state.vm_clock_seqlock,
                         &timers_state.vm_clock_lock);
}

void switch_arch_loaded_plain_tcg(void)
{
    CPUState *cs;

    CPU_FOREACH(cs) {
        cpu_env(cs)->tsc = timers_state.cpu_ticks_offset;
    }
}

void switch_arch_post_load_tcg(void)
{
    /* The vCPUs' sections, with the TSC, are still to come. */
    tsc_loaded = true;
    stop.valid = false;
    clock_offset = 0;
}

static void x86_kvm_tsc_vm_state_change(void *opaque, bool running,
                                        RunState state)
{
    if (running) {
        clock_offset = timers_state.cpu_clock_offset;
        x86_kvm_use_loaded_tsc();
        stop.valid = false;
    } else {
        stop.host = x86_host_tsc(tsc_khz);
        stop.valid = true;
    }
}

void x86_kvm_init_tsc_load(void)
{
    qemu_register_reset(x86_kvm_reset_tsc, NULL);
    /* Before kvm-clock's pages are filled, which is at priority 1. */
    qemu_add_vm_change_state_handler_prio(x86_kvm_tsc_vm_state_change,
                                          NULL, 0);
}

/*
 * On the host's processor: whatever was loaded before is there, and nothing
 * after it is loaded yet (SDM vol. 2, LFENCE; AMD's does so, too, as Linux sets
 * DE_CFG.LFENCE_SERIALIZE).
 */
static void load_fence(void)
{
    if (!switch_omits(SWITCH_FIXUP_TSC_ORDER)) {
        asm volatile("lfence" : : : "memory");
    }
}

/*
 * A guest orders its RDTSC by an LFENCE before it, which TCG makes a barrier
 * for memory alone.  The host's RDTSC is therefore ordered here: otherwise a
 * vCPU can load the TSC that another vCPU has stored, and read less than that.
 */
uint64_t x86_switch_get_tsc(CPUX86State *env)
{
    CPUState *cs = env_cpu(env);
    const X86SwitchCPU *sc = x86_switch_cpu(cs);
    uint64_t tsc;

    load_fence();
    tsc = x86_kvm_tsc_base(sc) + sc->tsc_offset;
    load_fence();
    return not_below(tsc, sc->tsc_least);
}

int64_t x86_switch_write_tsc(CPUX86State *env, uint64_t value)
{
    X86SwitchCPU *sc = x86_switch_cpu(env_cpu(env));
    int64_t offset = value - x86_kvm_tsc_base(sc);
    int64_t moved = offset - sc->tsc_offset;

    sc->tsc_offset = offset;
    sc->tsc_least = value;
    return moved;
}

void x86_switch_move_tsc(CPUX86State *env, int64_t by)
{
    X86SwitchCPU *sc = x86_switch_cpu(env_cpu(env));

    sc->tsc_offset += by;
    sc->tsc_least += by;
}
