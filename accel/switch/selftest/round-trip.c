/*
 * x-accel-roundtrip: to the other accelerator and back without running one
 * instruction, which must change nothing
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-accel-switch-target.h"
#include "qemu/timer.h"
#include "system/cpus.h"
#include "accel/switch/internal.h"
#include "accel/switch/window.h"

static bool there_and_back(const SwitchSnapshot *before, AccelSwitchInfo *out,
                           Error **errp)
{
    AccelSwitchPhases back;

    if (switch_move(out->to, out->phases, errp) != SWITCH_OK) {
        return false;
    }
    /* What is not put on the way back is not to be found there as it was. */
    return (out->to == SWITCHABLE_ACCEL_KVM ||
            switch_arch_poison_kvm(before, errp)) &&
           switch_move(out->from, &back, errp) == SWITCH_OK;
}

/* The way there is @out's: all that is left if there is none back. */
static bool round_trip(AccelSwitchInfo *out, Error **errp)
{
    SwitchSnapshot *before, *after = NULL;
    bool ok;

    before = switch_arch_take_snapshot(errp);
    ok = before && there_and_back(before, out, errp);
    if (ok) {
        after = switch_arch_take_snapshot(errp);
        ok = after && switch_arch_compare_snapshots(before, after, errp);
    }
    switch_arch_free_snapshot(before);
    switch_arch_free_snapshot(after);
    return ok;
}

void qmp_x_accel_roundtrip(Error **errp)
{
    g_autoptr(AccelSwitchInfo) out = NULL;
    int64_t start;

    if (!switch_check(errp)) {
        return;
    }
    out = switch_new_info(switch_state->active == SWITCHABLE_ACCEL_KVM
                          ? SWITCHABLE_ACCEL_TCG : SWITCHABLE_ACCEL_KVM);
    start = get_clock();
    switch_state->in_progress = true;
    switch_arch_await_kvm();
    switch_hold_stopped_vcpus();
    pause_all_vcpus();
    if (switch_debugger_leave(errp) == SWITCH_OK) {
        round_trip(out, errp);
        switch_debugger_arrive();
    }
    resume_all_vcpus();
    if (switch_state->active == SWITCHABLE_ACCEL_TCG) {
        switch_arch_resumed_tcg();
    }
    switch_state->in_progress = false;
    if (switch_state->active == out->to) {
        out->downtime_ns = get_clock() - start;
        switch_announce(out, false);
    }
}
