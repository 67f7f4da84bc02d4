/*
 * The switch: one transaction on the main loop
 *
 *   to TCG: quiesce, export, check, convert, swap, commit, resume
 *   to KVM: quiesce, check, convert, swap, import, commit, resume
 *
 * CPUX86State is the master copy between export and import.  A step that fails
 * leaves the guest running where it was: on the way to TCG all that can fail
 * comes before the swap of the globals; on the way to KVM a failed import swaps
 * them back, and restores the copy of TCG's state that convert has kept.
 * Nothing can fail after commit has begun.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/timer.h"
#include "system/cpus.h"
#include "system/kvm.h"
#include "system/tcg.h"
#include "internal.h"
#include "trace.h"
#include "window.h"

/*
 * The globals that say which accelerator runs: they change as a set, with
 * all vCPUs paused.  Exactly one of kvm_allowed and tcg_allowed is true at any
 * time.  kvm_msi_via_irqfd_allowed is false for
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
    switch_moved_for_streams();
}

/* Time since the last call, in ns. */
static uint64_t switch_lap(int64_t *mark)
{
    int64_t now = get_clock();
    uint64_t lap = now - *mark;

    *mark = now;
    return lap;
}

bool switch_is_in_time(void)
{
    return !switch_state->give_up_at || get_clock() < switch_state->give_up_at;
}

/* The end of @phase, which has taken @ns: too late to go on? */
static SwitchResult switch_check_time(const char *phase, uint64_t ns,
                                      Error **errp)
{
    if (switch_is_in_time()) {
        return SWITCH_OK;
    }
    error_setg(errp, "it takes longer than max-downtime-ms allows: the phase"
               " '%s' alone took %.1f ms", phase, ns / (double)SCALE_MS);
    return SWITCH_REFUSED;
}

/*
 * Run @step, the switch's @phase since @mark, which issues KVM ioctls.  If one
 * of them fails, so does the step, and @errp names the ioctl.
 */
static SwitchResult switch_watched(SwitchResult (*step)(Error **errp),
                                   SwitchableAccel to, const char *phase,
                                   int64_t mark, Error **errp)
{
    g_autoptr(Error) err = NULL;
    SwitchResult result;

    switch_ioctl_watch(to);
    result = step(&err);
    switch_selftest_slow(phase);
    if (!switch_ioctl_unwatch(errp)) {
        return SWITCH_REFUSED;
    }
    if (err) {
        error_propagate(errp, g_steal_pointer(&err));
        return result;
    }
    return switch_check_time(phase, get_clock() - mark, errp);
}

static SwitchResult switch_to_tcg(AccelSwitchPhases *ph, Error **errp)
{
    int64_t mark = get_clock();
    SwitchResult result;

    /*
     * KVM has buffered MMIO writes that QEMU has not seen.  Carry them out
     * before the export, which then has the interrupts that they raise; in TCG
     * QEMU does not look into KVM's buffer (hazard E9).
     */
    if (!switch_omits(SWITCH_FIXUP_COALESCED_MMIO)) {
        kvm_flush_coalesced_mmio_buffer();
    }
    result = switch_watched(switch_arch_export_kvm, SWITCHABLE_ACCEL_TCG,
                            "export", mark, errp);
    if (result == SWITCH_OK) {
        result = switch_arch_check(errp);
    }
    if (result != SWITCH_OK) {
        switch_arch_abandon_export();
        return result;
    }
    ph->export_ns = switch_lap(&mark);
    trace_accel_switch_exported(ph->export_ns);

    switch_arch_convert_to_tcg();
    switch_set_globals(SWITCHABLE_ACCEL_TCG);
    ph->convert_ns = switch_lap(&mark);
    trace_accel_switch_converted(ph->convert_ns);

    switch_arch_commit_tcg();
    ph->import_ns = switch_lap(&mark);
    trace_accel_switch_imported(ph->import_ns);
    return SWITCH_OK;
}

static SwitchResult switch_to_kvm(AccelSwitchPhases *ph, Error **errp)
{
    int64_t mark = get_clock();
    SwitchResult result = switch_arch_check(errp);

    if (result != SWITCH_OK) {
        return result;
    }
    ph->export_ns = switch_lap(&mark);
    trace_accel_switch_exported(ph->export_ns);

    switch_arch_convert_to_kvm();
    ph->convert_ns = switch_lap(&mark);
    trace_accel_switch_converted(ph->convert_ns);

    /* The code that puts registers into KVM reads these globals. */
    switch_set_globals(SWITCHABLE_ACCEL_KVM);
    result = switch_watched(switch_arch_import_kvm, SWITCHABLE_ACCEL_KVM,
                            "import", mark, errp);
    if (result != SWITCH_OK) {
        switch_set_globals(SWITCHABLE_ACCEL_TCG);
        switch_arch_restore_tcg();
        return result;
    }
    switch_arch_commit_kvm();
    ph->import_ns = switch_lap(&mark);
    trace_accel_switch_imported(ph->import_ns);
    return SWITCH_OK;
}

SwitchResult switch_move(SwitchableAccel to, AccelSwitchPhases *phases,
                         Error **errp)
{
    return to == SWITCHABLE_ACCEL_TCG ? switch_to_tcg(phases, errp)
                                      : switch_to_kvm(phases, errp);
}

static SwitchResult switch_move_with_debugger(SwitchableAccel to,
                                              AccelSwitchPhases *phases,
                                              Error **errp)
{
    bool moves = !switch_omits(SWITCH_FIXUP_DEBUGGER);
    SwitchResult result = moves ? switch_debugger_leave(errp) : SWITCH_OK;

    if (result == SWITCH_OK) {
        result = switch_move(to, phases, errp);
        if (moves) {
            switch_debugger_arrive();
        }
    }
    return result;
}

AccelSwitchInfo *switch_new_info(SwitchableAccel to)
{
    AccelSwitchInfo *info = g_new0(AccelSwitchInfo, 1);

    info->from = switch_state->active;
    info->to = to;
    info->phases = g_new0(AccelSwitchPhases, 1);
    return info;
}

SwitchResult switch_transact(const SwitchRequest *request,
                             AccelSwitchInfo **done, Error **errp)
{
    ERRP_GUARD();
    g_autoptr(AccelSwitchInfo) info = switch_new_info(request->to);
    AccelSwitchPhases *ph = info->phases;
    SwitchResult result;
    int64_t start, mark;

    trace_accel_switch_begin(SwitchableAccel_str(info->from),
                             SwitchableAccel_str(info->to));
    switch_state->in_progress = true;
    if (info->to == SWITCHABLE_ACCEL_KVM) {
        switch_arch_await_kvm();
    }
    start = mark = get_clock();
    switch_state->give_up_at = request->max_downtime_ns
                               ? start + request->max_downtime_ns : 0;

    switch_hold_stopped_vcpus();
    pause_all_vcpus();
    switch_selftest_slow("quiesce");
    ph->quiesce_ns = switch_lap(&mark);
    trace_accel_switch_quiesced(ph->quiesce_ns);

    result = switch_check_time("quiesce", ph->quiesce_ns, errp);
    if (result == SWITCH_OK) {
        result = switch_move_with_debugger(info->to, ph, errp);
    }
    if (result == SWITCH_OK && info->to == SWITCHABLE_ACCEL_KVM) {
        switch_window_close(start + ph->quiesce_ns);
    } else if (result == SWITCH_OK && request->window) {
        switch_window_begin(request->window);
    }
    /* After a failed attempt a vCPU at a window's end may have to run on. */
    switch_release_vcpus(SWITCH_HOLD_END |
                         (result == SWITCH_OK ? SWITCH_HOLD_HIT : 0));
    switch_lap(&mark);

    resume_all_vcpus();
    ph->resume_ns = switch_lap(&mark);
    info->downtime_ns = mark - start;
    if (result == SWITCH_OK && info->to == SWITCHABLE_ACCEL_TCG) {
        switch_arch_resumed_tcg();
    }
    switch_state->give_up_at = 0;
    switch_state->in_progress = false;

    if (result != SWITCH_OK) {
        error_prepend(errp, "can't switch: ");
        trace_accel_switch_refused(error_get_pretty(*errp));
        return result;
    }
    trace_accel_switch_resumed(ph->resume_ns, info->downtime_ns);
    *done = g_steal_pointer(&info);
    return SWITCH_OK;
}
