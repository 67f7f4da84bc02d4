/*
 * x-accel-roundtrip: to the other accelerator and back without running one
 * instruction, which must change nothing
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-accel-switch-target.h"
#include "system/cpus.h"
#include "switch-internal.h"

static bool round_trip(Error **errp)
{
    SwitchableAccel here = switch_state->active;
    SwitchableAccel there = here == SWITCHABLE_ACCEL_KVM ? SWITCHABLE_ACCEL_TCG
                                                         : SWITCHABLE_ACCEL_KVM;
    AccelSwitchPhases phases;
    SwitchSnapshot *before, *after = NULL;
    bool ok;

    before = switch_arch_take_snapshot(errp);
    ok = before && switch_move(there, &phases, errp) &&
         switch_move(here, &phases, errp);
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
    if (!switch_check(errp)) {
        return;
    }
    switch_state->in_progress = true;
    pause_all_vcpus();
    round_trip(errp);
    resume_all_vcpus();
    switch_state->in_progress = false;
}
