/*
 * Monitor commands of windows, triggers and traces, for people
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "monitor/hmp.h"
#include "monitor/hmp-target.h"
#include "monitor/monitor.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-accel-window-target.h"
#include "qapi/qapi-commands-kvm-trace-target.h"
#include "qapi/qapi-visit-accel-window-target.h"
#include "qapi/qobject-input-visitor.h"
#include "qapi/util.h"
#include "qemu/keyval.h"
#include "qobject/qdict.h"

void hmp_accel_trigger_add(Monitor *mon, const QDict *qdict)
{
    Error *err = NULL;
    QDict *args = keyval_parse(qdict_get_str(qdict, "trigger"), "id", NULL,
                               &err);
    AccelTrigger *trigger = NULL;
    Visitor *v;

    if (args) {
        v = qobject_input_visitor_new_keyval(QOBJECT(args));
        if (visit_type_AccelTrigger(v, NULL, &trigger, &err)) {
            qmp_accel_trigger_add(trigger, &err);
        }
        visit_free(v);
        qapi_free_AccelTrigger(trigger);
        qobject_unref(args);
    }
    hmp_handle_error(mon, err);
}

void hmp_accel_trigger_del(Monitor *mon, const QDict *qdict)
{
    Error *err = NULL;

    qmp_accel_trigger_del(qdict_get_str(qdict, "id"), &err);
    hmp_handle_error(mon, err);
}

static void hmp_print_what(Monitor *mon, const AccelTriggerOn *on)
{
    switch (on->type) {
    case ACCEL_TRIGGER_TYPE_ADDRESS:
        monitor_printf(mon, " 0x%" PRIx64, on->u.address.address);
        break;
    case ACCEL_TRIGGER_TYPE_SYSCALL:
        if (on->u.syscall.has_number) {
            monitor_printf(mon, " %" PRIu32, on->u.syscall.number);
        }
        break;
    case ACCEL_TRIGGER_TYPE_INTERRUPT:
        monitor_printf(mon, " %d", on->u.interrupt.vector);
        break;
    case ACCEL_TRIGGER_TYPE_PORT:
        monitor_printf(mon, " %d", on->u.port.number);
        break;
    case ACCEL_TRIGGER_TYPE_TIMER:
        monitor_printf(mon, " %" PRIu64 " ns", on->u.timer.period_ns);
        break;
    default:
        break;
    }
}

void hmp_info_accel_triggers(Monitor *mon, const QDict *qdict)
{
    g_autoptr(AccelTriggerInfoList) list =
        qmp_query_accel_triggers(&error_abort);

    if (!list) {
        monitor_printf(mon, "no triggers\n");
    }
    for (AccelTriggerInfoList *l = list; l; l = l->next) {
        AccelTriggerInfo *t = l->value;

        monitor_printf(mon, "%s: %s", t->id,
                       AccelTriggerType_str(t->on->type));
        hmp_print_what(mon, t->on);
        monitor_printf(mon, "%s: %" PRIu64 " hits, %" PRIu64 " filtered, %"
                       PRIu64 " windows, %" PRIu64 " refused\n",
                       t->armed ? "" : " (not armed)", t->hits, t->filtered,
                       t->windows, t->refused);
    }
}

void hmp_kvm_trace_start(Monitor *mon, const QDict *qdict)
{
    int64_t max = qdict_get_try_int(qdict, "max-instructions", -1);
    Error *err = NULL;

    qmp_kvm_trace_start(qdict_get_str(qdict, "file"), false, 0, NULL,
                        max != -1, max, false, 0, false, false, &err);
    hmp_handle_error(mon, err);
}

void hmp_kvm_trace_stop(Monitor *mon, const QDict *qdict)
{
    Error *err = NULL;

    qmp_kvm_trace_stop(&err);
    hmp_handle_error(mon, err);
}

void hmp_info_kvm_trace(Monitor *mon, const QDict *qdict)
{
    g_autoptr(KvmTraceInfo) info = qmp_query_kvm_trace(&error_abort);

    if (!info->file) {
        monitor_printf(mon, "no trace\n");
        return;
    }
    monitor_printf(mon, "%s: %s, %" PRIu64 " instructions, %" PRIu64 " gaps\n",
                   info->file, info->running ? "running" : "ended",
                   info->instructions, info->gaps);
}

#ifdef CONFIG_PLUGIN
void hmp_plugin_add(Monitor *mon, const QDict *qdict)
{
    g_auto(GStrv) words = g_strsplit(qdict_get_str(qdict, "file"), ",", 0);
    PluginOptions options = {
        .id = (char *)qdict_get_str(qdict, "id"),
        .file = words[0] ?: (char *)"",
    };
    strList **tail = &options.arguments;
    Error *err = NULL;

    for (int i = 1; words[0] && words[i]; i++) {
        QAPI_LIST_APPEND(tail, g_strdup(words[i]));
    }
    options.has_arguments = options.arguments;
    qmp_plugin_add(&options, &err);
    qapi_free_strList(options.arguments);
    hmp_handle_error(mon, err);
}

void hmp_plugin_del(Monitor *mon, const QDict *qdict)
{
    Error *err = NULL;

    qmp_plugin_del(qdict_get_str(qdict, "id"), &err);
    hmp_handle_error(mon, err);
}

void hmp_info_plugins(Monitor *mon, const QDict *qdict)
{
    g_autoptr(PluginInfoList) list = qmp_query_plugins(&error_abort);

    if (!list) {
        monitor_printf(mon, "no plugins\n");
    }
    for (PluginInfoList *l = list; l; l = l->next) {
        PluginInfo *p = l->value;

        monitor_printf(mon, "%s: %s", p->id, p->file);
        for (strList *a = p->arguments; a; a = a->next) {
            monitor_printf(mon, ",%s", a->value);
        }
        monitor_printf(mon, "%s%s\n", p->windows ? " (in windows)" : "",
                       p->active ? ", active" : "");
    }
}
#endif
