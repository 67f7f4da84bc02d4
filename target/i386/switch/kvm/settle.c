/*
 * What KVM keeps until a vCPU runs, and no KVM_GET_* shows
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include <sys/ioctl.h>
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "system/kvm.h"
#include "system/kvm_int.h"
#include "accel/kvm/kvm-cpus.h"
#include "switch/kvm/kvm.h"
#include "switch/kvm/module.h"
#include "switch/x86-switch.h"

/*
 * Restore what KVM had.  The switch's watch does not see this ioctl: no test
 * makes it fail, and the read-back does not compare it.
 */
static int put_back(CPUState *cs, unsigned long type, void *arg)
{
    return ioctl(cs->kvm_fd, type, arg) < 0 ? -errno : 0;
}

/*
 * (kvm_run.immediate_exit would end KVM_RUN before it has done anything.)  The
 * signal must be one that only KVM_RUN takes.
 */
int x86_kvm_enter_with_signal(CPUState *cs, int (*enter)(CPUState *cs))
{
    g_autofree struct kvm_signal_mask *mask =
        g_malloc0(sizeof(*mask) + sizeof(sigset_t));
    sigset_t ipi, usual;
    int ret;

    sigemptyset(&ipi);
    sigaddset(&ipi, SIG_IPI);
    pthread_sigmask(SIG_BLOCK, &ipi, &usual);
    mask->len = kvm_state->sigmask_len;
    memcpy(mask->sigset, &usual, mask->len);
    ret = kvm_vcpu_ioctl(cs, KVM_SET_SIGNAL_MASK, mask);
    if (ret == 0) {
        pthread_kill(pthread_self(), SIG_IPI);
        qatomic_set(&cs->exit_request, 0);
        qatomic_set(&cs->kvm_run->immediate_exit, 0);
        ret = enter(cs);
        put_back(cs, KVM_SET_SIGNAL_MASK, NULL);
    }
    pthread_sigmask(SIG_SETMASK, &usual, NULL);
    return ret;
}

static bool may_enter(CPUState *cs)
{
    switch (cs->kvm_run->exit_reason) {
    case KVM_EXIT_DEBUG:
    case KVM_EXIT_FAIL_ENTRY:
    case KVM_EXIT_INTERNAL_ERROR:   /* KVM is not to try that again */
        return false;
    default:
        return true;
    }
}

/*
 * An EOI for a level at the IOAPIC, which is QEMU's, is an exit of the next
 * KVM_RUN (kernel: KVM_REQ_IOAPIC_EOI_EXIT).  Without it the level would stay
 * blocked in TCG.
 */
int switch_arch_pausing_kvm(CPUState *cs)
{
    if (cs->kvm_run->exit_reason == KVM_EXIT_UNKNOWN || !may_enter(cs)) {
        return EXCP_INTERRUPT;      /* it has not run yet, or must not now */
    }
    return x86_kvm_enter_with_signal(cs, kvm_cpu_exec);
}

static int kvm_run_ioctl(CPUState *cs)
{
    int ret = kvm_vcpu_ioctl(cs, KVM_RUN, 0);

    return ret == -EINTR || ret == -EAGAIN ? 0 : ret;
}

static int set_mp_state(CPUState *cs, uint32_t state)
{
    struct kvm_mp_state mp_state = { .mp_state = state };

    return kvm_vcpu_ioctl(cs, KVM_SET_MP_STATE, &mp_state);
}

static int put_back_mp_state(CPUState *cs, uint32_t state)
{
    struct kvm_mp_state mp_state = { .mp_state = state };

    return put_back(cs, KVM_SET_MP_STATE, &mp_state);
}

static int get_mp_state(CPUState *cs, uint32_t *state)
{
    struct kvm_mp_state mp_state;
    int ret = kvm_vcpu_ioctl(cs, KVM_GET_MP_STATE, &mp_state);

    *state = mp_state.mp_state;
    return ret;
}

/*
 * Enter with interrupts and NMIs held back, so that none is injected or wakes
 * a halted vCPU.  @events are what was there before, and is again, but for
 * pending NMIs and SMIs: these stay in KVM, which may get more meanwhile.
 */
static int enter_undisturbed(CPUState *cs, const struct kvm_vcpu_events *events,
                             uint32_t state)
{
    struct kvm_vcpu_events held = *events, before = *events;
    int ret, restored;

    before.flags &= ~(KVM_VCPUEVENT_VALID_NMI_PENDING |
                      KVM_VCPUEVENT_VALID_SMM);
    held.flags = before.flags | KVM_VCPUEVENT_VALID_SHADOW;
    held.interrupt.shadow = KVM_X86_SHADOW_INT_STI;
    held.nmi.masked = 1;
    ret = kvm_vcpu_ioctl(cs, KVM_SET_VCPU_EVENTS, &held) ?:
          set_mp_state(cs, state) ?:
          x86_kvm_enter_with_signal(cs, kvm_run_ioctl);
    restored = put_back(cs, KVM_SET_VCPU_EVENTS, &before);
    return restored ?: ret;
}

/* An SMI can't be held back; nor is an NMI that the processor keeps (vNMI). */
static bool may_hold(const struct kvm_vcpu_events *events)
{
    return !events->smi.pending &&
           !(events->nmi.pending && x86_kvm_has_vnmi());
}

/*
 * KVM starts the LAPIC's timer on the host CPU that the vCPU is loaded on.  If
 * the vCPU is then loaded on another, KVM_RUN moves the timer there before it
 * does anything else (kernel: KVM_REQ_MIGRATE_TIMER).
 */
static bool bring_timer_here(void *opaque)
{
    CPUState *cs = opaque;
    struct kvm_vcpu_events events;
    uint32_t state;
    int ret = get_mp_state(cs, &state) ?:
              kvm_vcpu_ioctl(cs, KVM_GET_VCPU_EVENTS, &events);

    if (ret < 0 || !may_enter(cs) || !may_hold(&events) ||
        (state != KVM_MP_STATE_RUNNABLE && state != KVM_MP_STATE_HALTED)) {
        return false;
    }
    ret = enter_undisturbed(cs, &events, KVM_MP_STATE_RUNNABLE);
    return (put_back_mp_state(cs, state) ?: ret) == 0;
}

/*
 * VMX's preemption timer runs only in the guest.  KVM has a software timer in
 * its place, and so looks whether it is over, for a halted vCPU which nothing
 * wakes (kernel: vcpu_block()).
 */
static int take_preemption_timer(CPUState *cs, uint32_t *after)
{
    struct kvm_vcpu_events events;
    int ret = kvm_vcpu_ioctl(cs, KVM_GET_VCPU_EVENTS, &events);

    if (ret == 0 && may_hold(&events)) {
        ret = enter_undisturbed(cs, &events, KVM_MP_STATE_HALTED) ?:
              get_mp_state(cs, after);
    }
    return ret;
}

/*
 * A vCPU that is halted executes nothing, whatever KVM it is, but KVM looks
 * at its timer.
 */
int x86_kvm_take_lapic_timer(CPUState *cs, bool *has_fired,
                             bool *was_runnable)
{
    uint32_t state, after = KVM_MP_STATE_HALTED;
    int ret;

    if (has_fired) {
        *has_fired = switch_fire_hrtimers(bring_timer_here, cs);
    }
    ret = get_mp_state(cs, &state);
    if (ret == 0 &&
        (state == KVM_MP_STATE_RUNNABLE || state == KVM_MP_STATE_HALTED)) {
        ret = set_mp_state(cs, KVM_MP_STATE_HALTED);
        if (ret == 0) {
            /* One that an interrupt in IRR wakes does not start here. */
            ret = x86_kvm_enter_with_signal(cs, kvm_run_ioctl) ?:
                  get_mp_state(cs, &after);
            if (ret == 0 && after == KVM_MP_STATE_RUNNABLE &&
                x86_kvm_has_preemption_timer()) {
                ret = take_preemption_timer(cs, &after);
            }
            ret = put_back_mp_state(cs, state) ?: ret;
        }
    }
    *was_runnable = after == KVM_MP_STATE_RUNNABLE;
    return ret;
}

/*
 * KVM reads two of the host's clocks one after the other, and so do we: who
 * loses the host's CPU in between has the TSC too far forward, where it then
 * stands until its time has come, or reads it too late.  Two readings that
 * differ by less than a part of the time between them are right.
 */
#define CATCH_UP_TRIES  100
#define CATCH_UP_PART   4

int x86_kvm_catch_up_tsc(CPUState *cs, int64_t *offset)
{
    int64_t last, last_read_at, read_at = 0;
    struct kvm_vcpu_events events;
    uint32_t state;
    int tries = 1;
    int ret = get_mp_state(cs, &state) ?:
              kvm_vcpu_ioctl(cs, KVM_GET_VCPU_EVENTS, &events);

    *offset = 0;
    if (may_enter(cs) && may_hold(&events)) {
        tries = CATCH_UP_TRIES;
    }
    for (int i = 0; ret == 0 && i < tries; i++) {
        last = *offset;
        last_read_at = read_at;
        if (tries > 1) {
            ret = enter_undisturbed(cs, &events, KVM_MP_STATE_RUNNABLE);
            ret = put_back_mp_state(cs, state) ?: ret;
        }
        ret = ret ?: x86_kvm_get_tsc_offset(cs, offset);
        read_at = cpu_get_host_ticks();
        if (i > 0 &&
            ABS(*offset - last) < (read_at - last_read_at) / CATCH_UP_PART) {
            break;
        }
    }
    return ret;
}

typedef struct Settling {
    QemuCond done;
    unsigned left;              /* vCPUs; BQL */
} Settling;

/* vCPUs do this at the same time: without the BQL. */
static void settle_vcpu(CPUState *cs, run_on_cpu_data data)
{
    X86SwitchCPU *sc = x86_switch_cpu(cs);
    Settling *s = data.host_ptr;

    bql_unlock();
    switch_ioctl_join(true);
    sc->settled = sc->lapic_timer.unsettled ? x86_kvm_settle_lapic_timer(cs, sc)
                                            : 0;
    if (sc->settled == 0 && sc->tsc_moves) {
        sc->settled = x86_kvm_settle_tsc(cs, sc);
    }
    sc->lapic_timer.unsettled = sc->tsc_moves = false;
    switch_ioctl_join(false);
    bql_lock();
    if (--s->left == 0) {
        qemu_cond_signal(&s->done);
    }
}

SwitchResult x86_kvm_settle(Error **errp)
{
    Settling s = {};
    CPUState *cs;

    qemu_cond_init(&s.done);
    CPU_FOREACH(cs) {
        X86SwitchCPU *sc = x86_switch_cpu(cs);

        sc->settled = 0;
        if (sc->lapic_timer.unsettled || sc->tsc_moves) {
            s.left++;
            async_run_on_cpu(cs, settle_vcpu, RUN_ON_CPU_HOST_PTR(&s));
            /* Ioctls that are to fail in turn have an order. */
            while (switch_selftest_fails_ioctls() && s.left) {
                qemu_cond_wait_bql(&s.done);
            }
        }
    }
    while (s.left) {
        qemu_cond_wait_bql(&s.done);
    }
    qemu_cond_destroy(&s.done);
    CPU_FOREACH(cs) {
        int ret = x86_switch_cpu(cs)->settled;

        if (ret < 0) {
            /* accel/switch/ioctl.c knows which ioctl failed. */
            error_setg_errno(errp, -ret, "vCPU %d", cs->cpu_index);
            return SWITCH_REFUSED;
        }
    }
    return SWITCH_OK;
}
