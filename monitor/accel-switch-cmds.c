/*
 * Monitor commands of the accelerator switch
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "block/aio.h"
#include "exec/tb-validate.h"
#include "monitor/hmp.h"
#include "monitor/hmp-target.h"
#include "monitor/monitor.h"
#include "qapi/clone-visitor.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-accel-switch-target.h"
#include "qapi/qapi-builtin-visit.h"
#include "qapi/qapi-visit-accel-switch-target.h"
#include "qemu/main-loop.h"
#include "qobject/qdict.h"
#include "qemu/accel.h"
#include "accel/switch/switch.h"
#include "accel/switch/window.h"

/* @ms: how long the switch may take at most, if there is a limit. */
static bool accel_switch_request(SwitchRequest *request, SwitchableAccel to,
                                 bool limited, int64_t ms, Error **errp)
{
    if (limited && (ms < 1 || ms > UINT32_MAX)) {
        error_setg(errp, "max-downtime-ms must be from 1 to %" PRIu32,
                   UINT32_MAX);
        return false;
    }
    *request = (SwitchRequest) {
        .to = to,
        .max_downtime_ns = limited ? ms * SCALE_MS : 0,
    };
    return true;
}

AccelSwitchInfo *coroutine_fn qmp_switch_accel(SwitchableAccel accel,
                                               bool has_max_downtime_ms,
                                               uint32_t max_downtime_ms,
                                               AccelWindow *spec,
                                               Error **errp)
{
    AccelSwitchInfo *info;
    SwitchRequest request;
    const SwitchWindow window = { .spec = spec };

    if (!accel_switch_request(&request, accel, has_max_downtime_ms,
                              max_downtime_ms, errp)) {
        return NULL;
    }
    if (spec) {
        if (accel != SWITCHABLE_ACCEL_TCG) {
            error_setg(errp, "a window is a stay in TCG");
            return NULL;
        }
        if (!switch_window_check(spec, false, errp)) {
            return NULL;
        }
        request.window = &window;
    }
    info = accel_switch_to_co(&request, errp);

    /*
     * Back to where commands run.  QEMU's end waits for them, looks after the
     * other context once, and sleeps until this one has something to do.
     */
    aio_co_schedule(qemu_get_aio_context(), qemu_coroutine_self());
    qemu_coroutine_yield();
    return info;
}

static AccelTranslations *accel_translations(void)
{
    AccelTranslations *t = g_new0(AccelTranslations, 1);
    TBValidateStats stats;

    tb_validate_get_stats(&stats);
    t->made = stats.made;
    t->kept = stats.kept;
    t->dropped = stats.dropped;
    t->pages_compared = stats.pages;
    t->flushes = stats.flushes;
    return t;
}

AccelInfo *qmp_query_accel(Error **errp)
{
    AccelInfo *info = g_new0(AccelInfo, 1);
    strList **tail = &info->available;

    info->blockers = accel_switch_blockers();
    if (!accel_switch_configured()) {
        const char *type = object_get_typename(OBJECT(current_accel()));

        info->active = g_strndup(type, strlen(type) -
                                       strlen(ACCEL_CLASS_SUFFIX));
        QAPI_LIST_APPEND(tail, g_strdup(info->active));
        return info;
    }
    info->active = g_strdup(SwitchableAccel_str(switch_state->active));
    for (int i = 0; i < SWITCHABLE_ACCEL__MAX; i++) {
        QAPI_LIST_APPEND(tail, g_strdup(SwitchableAccel_str(i)));
    }
    info->switches = switch_state->switches;
    if (switch_state->last) {
        info->last = QAPI_CLONE(AccelSwitchInfo, switch_state->last);
    }
    info->translations = accel_translations();
    info->has_features_lost = true;
    info->features_lost = QAPI_CLONE(strList, switch_state->features_lost);
    return info;
}

static void hmp_print_switch(Monitor *mon, const AccelSwitchInfo *info)
{
    const AccelSwitchPhases *ph = info->phases;

    monitor_printf(mon, "%s -> %s: downtime %" PRIu64 " us (quiesce %" PRIu64
                   ", export %" PRIu64 ", convert %" PRIu64 ", import %" PRIu64
                   ", resume %" PRIu64 ")\n",
                   SwitchableAccel_str(info->from),
                   SwitchableAccel_str(info->to), info->downtime_ns / SCALE_US,
                   ph->quiesce_ns / SCALE_US, ph->export_ns / SCALE_US,
                   ph->convert_ns / SCALE_US, ph->import_ns / SCALE_US,
                   ph->resume_ns / SCALE_US);
}

void hmp_switch_accel(Monitor *mon, const QDict *qdict)
{
    const char *name = qdict_get_try_str(qdict, "accel");
    bool limited = qdict_haskey(qdict, "max-downtime-ms");
    int64_t ms = qdict_get_try_int(qdict, "max-downtime-ms", 0);
    g_autoptr(AccelSwitchInfo) info = NULL;
    Error *err = NULL;
    SwitchRequest request;
    SwitchableAccel to;

    if (name) {
        to = qapi_enum_parse(&SwitchableAccel_lookup, name, -1, NULL);
        if (to == (SwitchableAccel)-1) {
            monitor_printf(mon, "Error: there is no accelerator '%s' to switch"
                           " to; use kvm or tcg\n", name);
            return;
        }
    } else {
        to = accel_switch_configured() &&
             switch_state->active == SWITCHABLE_ACCEL_KVM
             ? SWITCHABLE_ACCEL_TCG : SWITCHABLE_ACCEL_KVM;
    }
    if (accel_switch_request(&request, to, limited, ms, &err)) {
        info = accel_switch_to_blocking(&request, &err);
    }
    if (hmp_handle_error(mon, err)) {
        return;
    }
    if (info->from == info->to) {
        monitor_printf(mon, "the guest runs under %s already\n",
                       SwitchableAccel_str(to));
    } else {
        hmp_print_switch(mon, info);
    }
}

#ifdef CONFIG_ACCEL_SWITCH_SELFTEST
void hmp_x_accel_roundtrip(Monitor *mon, const QDict *qdict)
{
    Error *err = NULL;

    qmp_x_accel_roundtrip(&err);
    if (!hmp_handle_error(mon, err)) {
        monitor_printf(mon, "nothing has changed\n");
    }
}
#endif

void hmp_info_accel(Monitor *mon, const QDict *qdict)
{
    g_autoptr(AccelInfo) info = qmp_query_accel(&error_abort);

    monitor_printf(mon, "active: %s\navailable:", info->active);
    for (strList *l = info->available; l; l = l->next) {
        monitor_printf(mon, " %s", l->value);
    }
    monitor_printf(mon, "\nswitches: %" PRIu64 "\n", info->switches);
    if (info->last) {
        monitor_printf(mon, "last: ");
        hmp_print_switch(mon, info->last);
    }
    if (info->translations) {
        AccelTranslations *t = info->translations;

        monitor_printf(mon, "translations: %" PRIu64 " made, %" PRIu64
                       " kept, %" PRIu64 " dropped (%" PRIu64
                       " pages compared, %" PRIu64 " flushes)\n",
                       t->made, t->kept, t->dropped, t->pages_compared,
                       t->flushes);
    }
    if (info->has_features_lost) {
        monitor_printf(mon, "features lost:%s",
                       info->features_lost ? "" : " none");
        for (strList *l = info->features_lost; l; l = l->next) {
            monitor_printf(mon, " %s", l->value);
        }
        monitor_printf(mon, "\n");
    }
    for (AccelBlockerList *l = info->blockers; l; l = l->next) {
        monitor_printf(mon, "blocked: %s\n", l->value->reason);
    }
}
