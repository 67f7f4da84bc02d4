/*
 * The switch: one transaction on the main loop
 *
 *   check -> quiesce -> export -> convert -> import -> swap -> resume
 *
 * QEMU's CPUX86State is the master copy in between.  Anything that fails
 * before the swap leaves the guest running where it was; nothing after it
 * can fail.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/clone-visitor.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-accel-switch-target.h"
#include "qapi/qapi-events-accel-switch-target.h"
#include "qapi/qapi-visit-accel-switch-target.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "block/aio.h"
#include "migration/misc.h"
#include "system/cpus.h"
#include "system/kvm.h"
#include "system/runstate.h"
#include "system/tcg.h"
#include "internal.h"
#include "trace.h"

/* How long accel_switch_to_co() waits between two attempts. */
#define SWITCH_FIRST_PAUSE_NS   SCALE_MS
#define SWITCH_LAST_PAUSE_NS    (50 * SCALE_MS)

/* How long a vCPU stands still at an instruction that KVM can't execute. */
#define SWITCH_KVM_ERROR_PAUSE_NS (10 * SCALE_MS)

/*
 * The globals that say which accelerator runs: they change as a set, with
 * all vCPUs paused.  Exactly one of kvm_allowed and
 * tcg_allowed is true at any time.  kvm_msi_via_irqfd_allowed is false for
 * good; kvm_gsi_routing_allowed is about KVM's tables, which stay.
 */
static void switch_set_globals(SwitchableAccel to)
{
    bool kvm = to == SWITCHABLE_ACCEL_KVM;

    kvm_allowed = kvm;
    tcg_allowed = !kvm;
    kvm_kernel_irqchip = kvm;
    kvm_split_irqchip = kvm;
    kvm_async_interrupts_allowed = kvm;
    kvm_halt_in_kernel_allowed = kvm;
    switch_state->active = to;
}

/* How long a switch waits for a guest. */
static int64_t switch_wait_ns(void)
{
    return switch_state ? switch_state->wait * NANOSECONDS_PER_SECOND : 0;
}

/* Time since the last call, in ns. */
static uint64_t switch_lap(int64_t *mark)
{
    int64_t now = get_clock();
    uint64_t lap = now - *mark;

    *mark = now;
    return lap;
}

/*
 * Run @step, which talks to KVM.  If one of its ioctls failed, so did the
 * step, and the ioctl's name is what @errp says.
 */
static bool switch_watched(bool (*step)(Error **errp), SwitchableAccel to,
                           Error **errp)
{
    g_autoptr(Error) err = NULL;
    bool ok;

    switch_ioctl_watch(to);
    ok = step(&err);
    if (!switch_ioctl_unwatch(errp)) {
        switch_state->retryable = false;
        return false;
    }
    error_propagate(errp, g_steal_pointer(&err));
    return ok;
}

static bool switch_check_vcpus(Error **errp)
{
    SwitchVerdict verdict = switch_arch_check(errp);

    switch_state->retryable = verdict == SWITCH_NOT_NOW;
    return verdict == SWITCH_POSSIBLE;
}

static bool switch_to_tcg(AccelSwitchPhases *ph, Error **errp)
{
    int64_t mark = get_clock();

    /*
     * Writes that the guest has made and QEMU has not seen (E9): what they do
     * to the LAPICs is to be exported, too.
     */
    if (!switch_omits(SWITCH_FIXUP_COALESCED_MMIO)) {
        kvm_flush_coalesced_mmio_buffer();
    }
    if (!switch_watched(switch_arch_export_kvm, SWITCHABLE_ACCEL_TCG, errp)) {
        switch_arch_abandon_export();
        return false;
    }
    ph->export_ns = switch_lap(&mark);
    trace_accel_switch_exported(ph->export_ns);
    if (!switch_check_vcpus(errp)) {
        switch_arch_abandon_export();
        return false;
    }

    switch_arch_convert_to_tcg();
    switch_set_globals(SWITCHABLE_ACCEL_TCG);
    ph->convert_ns = switch_lap(&mark);
    trace_accel_switch_converted(ph->convert_ns);

    switch_arch_commit_tcg();
    ph->import_ns = switch_lap(&mark);
    trace_accel_switch_imported(ph->import_ns);
    return true;
}

static bool switch_to_kvm(AccelSwitchPhases *ph, Error **errp)
{
    int64_t mark = get_clock();

    if (!switch_check_vcpus(errp)) {
        return false;
    }
    ph->export_ns = switch_lap(&mark);
    trace_accel_switch_exported(ph->export_ns);

    switch_arch_convert_to_kvm();
    ph->convert_ns = switch_lap(&mark);
    trace_accel_switch_converted(ph->convert_ns);

    /* KVM's code that puts the registers goes by the globals. */
    switch_set_globals(SWITCHABLE_ACCEL_KVM);
    if (!switch_watched(switch_arch_import_kvm, SWITCHABLE_ACCEL_KVM, errp)) {
        switch_set_globals(SWITCHABLE_ACCEL_TCG);
        switch_arch_restore_tcg();
        return false;
    }
    switch_arch_commit_kvm();
    ph->import_ns = switch_lap(&mark);
    trace_accel_switch_imported(ph->import_ns);
    return true;
}

bool switch_move(SwitchableAccel to, AccelSwitchPhases *phases, Error **errp)
{
    return to == SWITCHABLE_ACCEL_TCG ? switch_to_tcg(phases, errp)
                                      : switch_to_kvm(phases, errp);
}

bool switch_check(Error **errp)
{
    g_autoptr(strList) blockers = switch_blockers();

    if (blockers) {
        error_setg(errp, "can't switch: %s", blockers->value);
        trace_accel_switch_refused(blockers->value);
        return false;
    }
    return true;
}

AccelSwitchInfo *switch_new_info(SwitchableAccel to)
{
    AccelSwitchInfo *info = g_new0(AccelSwitchInfo, 1);

    info->from = switch_state->active;
    info->to = to;
    info->phases = g_new0(AccelSwitchPhases, 1);
    return info;
}

void switch_announce(AccelSwitchInfo *info, bool by_guest)
{
    AccelSwitched event = { .has_by_guest = by_guest, .by_guest = by_guest };

    switch_state->switches++;
    qapi_free_AccelSwitchInfo(switch_state->last);
    switch_state->last = QAPI_CLONE(AccelSwitchInfo, info);
    *qapi_AccelSwitched_base(&event) = *info;
    qapi_event_send_accel_switched(&event);
}

AccelSwitchInfo *switch_transact(SwitchableAccel to, Error **errp)
{
    ERRP_GUARD();
    g_autoptr(AccelSwitchInfo) info = switch_new_info(to);
    AccelSwitchPhases *ph = info->phases;
    int64_t start, mark;
    bool ok;

    trace_accel_switch_begin(SwitchableAccel_str(info->from),
                             SwitchableAccel_str(to));
    switch_state->in_progress = true;
    switch_state->retryable = false;
    start = mark = get_clock();

    pause_all_vcpus();
    ph->quiesce_ns = switch_lap(&mark);
    trace_accel_switch_quiesced(ph->quiesce_ns);

    ok = switch_move(to, ph, errp);
    switch_lap(&mark);

    resume_all_vcpus();
    ph->resume_ns = switch_lap(&mark);
    info->downtime_ns = mark - start;
    switch_state->in_progress = false;

    if (!ok) {
        error_prepend(errp, "can't switch: ");
        trace_accel_switch_refused(error_get_pretty(*errp));
        return NULL;
    }
    trace_accel_switch_resumed(ph->resume_ns, info->downtime_ns);
    return g_steal_pointer(&info);
}

AccelSwitchInfo *accel_switch_to(SwitchableAccel to, bool by_guest,
                                 Error **errp)
{
    AccelSwitchInfo *info;

    if (accel_switch_configured()) {
        switch_state->retryable = false;
        if (!switch_state->in_progress && switch_state->active == to) {
            return switch_new_info(to);
        }
    }
    info = switch_check(errp) ? switch_transact(to, errp) : NULL;
    if (info) {
        switch_announce(info, by_guest);
    }
    return info;
}

/* After a refusal: is it one that ends by itself? */
static bool switch_may_wait(int64_t deadline)
{
    return accel_switch_configured() && switch_state->retryable &&
           runstate_is_running() && get_clock() < deadline;
}

static void coroutine_fn switch_sleep_co(int64_t ns)
{
    qemu_co_sleep_ns(QEMU_CLOCK_REALTIME, ns);
}

static void switch_sleep_blocking(int64_t ns)
{
    bql_unlock();
    g_usleep(ns / SCALE_US);
    bql_lock();
}

/*
 * Neither accelerator tells when a vCPU leaves SMM or unmasks A20.  Anything
 * may happen to the guest while @sleep sleeps but another switch: the next
 * attempt checks all again.
 */
static AccelSwitchInfo *switch_when_possible(SwitchableAccel to, bool by_guest,
                                             void (*sleep)(int64_t ns),
                                             Error **errp)
{
    int64_t deadline = get_clock() + switch_wait_ns();
    int64_t pause = SWITCH_FIRST_PAUSE_NS;

    for (;;) {
        g_autoptr(Error) err = NULL;
        AccelSwitchInfo *info = accel_switch_to(to, by_guest, &err);

        if (info) {
            return info;
        }
        if (!switch_may_wait(deadline)) {
            error_propagate(errp, g_steal_pointer(&err));
            return NULL;
        }
        switch_state->in_progress = true;
        sleep(pause);
        switch_state->in_progress = false;
        pause = MIN(2 * pause, SWITCH_LAST_PAUSE_NS);
    }
}

AccelSwitchInfo *coroutine_fn accel_switch_to_co(SwitchableAccel to,
                                                 bool by_guest, Error **errp)
{
    /*
     * Not where a device that waits for its requests may run a coroutine: in
     * a vCPU's thread, or in the middle of a reset.  That polls QEMU's main
     * context, and never this one, which the main loop polls.
     */
    aio_co_schedule(iohandler_get_aio_context(), qemu_coroutine_self());
    qemu_coroutine_yield();
    return switch_when_possible(to, by_guest, switch_sleep_co, errp);
}

AccelSwitchInfo *accel_switch_to_blocking(SwitchableAccel to, Error **errp)
{
    return switch_when_possible(to, false, switch_sleep_blocking, errp);
}

/* Let the vCPUs go that stand at an instruction that KVM can't execute. */
static void switch_kvm_error_retry(void *opaque)
{
    CPUState *cpu;

    if (!runstate_is_running() || !kvm_enabled()) {
        return;
    }
    CPU_FOREACH(cpu) {
        if (cpu->kvm_run->exit_reason == KVM_EXIT_INTERNAL_ERROR) {
            cpu_resume(cpu);
        }
    }
}

static void switch_kvm_error_retry_later(void)
{
    static QEMUTimer *timer;

    if (!timer) {
        timer = timer_new_ns(QEMU_CLOCK_REALTIME, switch_kvm_error_retry,
                             NULL);
    }
    timer_mod(timer, qemu_clock_get_ns(QEMU_CLOCK_REALTIME) +
                     SWITCH_KVM_ERROR_PAUSE_NS);
}

/*
 * In the main loop's own context, as accel_switch_to_co() has it.  A vCPU
 * that is let go, now or when the machine starts again, meets the instruction
 * again, and has us called again.
 */
static void switch_kvm_error_bh(void *opaque)
{
    static int64_t first, last;
    CPUState *cpu = opaque;
    g_autoptr(Error) err = NULL;
    g_autoptr(AccelSwitchInfo) info = NULL;
    int64_t now = get_clock();

    if (!runstate_is_running()) {
        return;
    }
    if (switch_state->in_progress) {
        /* One that waits, and will try again. */
        cpu_resume(cpu);
        return;
    }
    if (now - last > NANOSECONDS_PER_SECOND) {
        first = now;
    }
    last = now;
    info = accel_switch_to(SWITCHABLE_ACCEL_TCG, true, &err);
    if (info) {
        last = 0;
        return;
    }
    if (migration_is_running()) {
        /* Its end may be far: the guest stops then, or can be switched. */
        first = now;
    }
    if (switch_may_wait(first + switch_wait_ns())) {
        return;
    }
    if (switch_is_blocked_for_now() && now < first + switch_wait_ns()) {
        /* No attempt was made, which would have let the vCPU go. */
        switch_kvm_error_retry_later();
        return;
    }
    error_reportf_err(g_steal_pointer(&err),
                      "KVM could not execute an instruction: ");
    vm_stop(RUN_STATE_INTERNAL_ERROR);
}

bool accel_switch_on_kvm_error(CPUState *cpu)
{
    if (!accel_switch_configured() ||
        switch_state->on_kvm_error != ON_KVM_ERROR_TCG ||
        cpu->kvm_run->internal.suberror != KVM_INTERNAL_ERROR_EMULATION ||
        switch_arch_retry_instruction(cpu) < 0) {
        return false;
    }
    trace_accel_switch_kvm_error(cpu->cpu_index);
    /*
     * Not back into KVM_RUN before the switch: the instruction would fail
     * again.  resume_all_vcpus() at the switch's end undoes the stop.
     */
    cpu->stop = true;
    aio_bh_schedule_oneshot(iohandler_get_aio_context(), switch_kvm_error_bh,
                            cpu);
    return true;
}
