/*
 * Blockers: the reasons for which a switch is refused before it is tried
 *
 * Each is registered by the part of QEMU that can tell it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/util.h"
#include "qemu/queue.h"
#include "system/runstate.h"
#include "internal.h"
#include "trace.h"

static QSIMPLEQ_HEAD(, SwitchBlocker) switch_blockers =
    QSIMPLEQ_HEAD_INITIALIZER(switch_blockers);

void switch_add_blocker(SwitchBlocker *blocker)
{
    QSIMPLEQ_INSERT_TAIL(&switch_blockers, blocker, next);
}

static char *switch_in_progress_reason(void)
{
    return switch_state->in_progress
           ? g_strdup("a switch is already in progress") : NULL;
}

static char *switch_no_vcpu_reason(void)
{
    return first_cpu ? NULL : g_strdup("the machine has no vCPU");
}

static char *switch_run_state_reason(void)
{
    RunState state = runstate_get();

    switch (state) {
    case RUN_STATE_RUNNING:
    case RUN_STATE_PAUSED:
    case RUN_STATE_DEBUG:
    case RUN_STATE_PRELAUNCH:
    case RUN_STATE_SUSPENDED:
    case RUN_STATE_IO_ERROR:
    case RUN_STATE_WATCHDOG:
        return NULL;
    case RUN_STATE_INMIGRATE:
        return g_strdup("the guest is still to come in by migration"
                        " (-incoming)");
    case RUN_STATE_POSTMIGRATE:
    case RUN_STATE_FINISH_MIGRATE:
        return g_strdup("the guest has been migrated away");
    case RUN_STATE_SHUTDOWN:
        return g_strdup("the guest has shut down");
    case RUN_STATE_GUEST_PANICKED:
        return g_strdup("the guest has panicked");
    case RUN_STATE_INTERNAL_ERROR:
        return g_strdup("the guest is lost after an internal error;"
                        " system_reset revives it");
    default:
        return g_strdup_printf("the guest is in state '%s'",
                               RunState_str(state));
    }
}

void switch_init_blockers(void)
{
    static SwitchBlocker own[] = {
        { .id = "in-progress", .reason = switch_in_progress_reason },
        { .id = "no-vcpu", .reason = switch_no_vcpu_reason },
        { .id = "run-state", .reason = switch_run_state_reason },
    };

    for (int i = 0; i < ARRAY_SIZE(own); i++) {
        switch_add_blocker(&own[i]);
    }
}

static AccelBlocker *switch_new_blocker(const char *id, char *reason)
{
    AccelBlocker *blocker = g_new0(AccelBlocker, 1);

    blocker->id = g_strdup(id);
    blocker->reason = reason;
    return blocker;
}

AccelBlockerList *accel_switch_blockers(void)
{
    AccelBlockerList *list = NULL, **tail = &list;
    SwitchBlocker *b;

    if (!accel_switch_configured()) {
        QAPI_LIST_APPEND(tail, switch_new_blocker("not-configured",
            g_strdup("QEMU was started without -accel switch")));
        return list;
    }
    if (switch_state->ending) {
        /* What the others ask may be freed already. */
        QAPI_LIST_APPEND(tail, switch_new_blocker("ending",
            g_strdup("QEMU is ending")));
        return list;
    }
    QSIMPLEQ_FOREACH(b, &switch_blockers, next) {
        char *reason = b->reason();

        if (reason) {
            QAPI_LIST_APPEND(tail, switch_new_blocker(b->id, reason));
        }
    }
    return list;
}

bool switch_is_blocked_for_now(void)
{
    SwitchBlocker *b;

    QSIMPLEQ_FOREACH(b, &switch_blockers, next) {
        g_autofree char *reason = b->passes ? b->reason() : NULL;

        if (reason) {
            return true;
        }
    }
    return false;
}

bool switch_check(Error **errp)
{
    g_autoptr(AccelBlockerList) blockers = accel_switch_blockers();

    if (blockers) {
        error_setg(errp, "can't switch: %s", blockers->value->reason);
        trace_accel_switch_refused(blockers->value->reason);
        return false;
    }
    return true;
}
