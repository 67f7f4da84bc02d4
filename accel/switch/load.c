/*
 * Loads: a stream or snapshot of either accelerator
 *
 * The form of what a stream has of a vCPU (x87 order, MSRs, kvm-clock) is that
 * of the accelerator under which it was saved.  So it is loaded under that one:
 * the guest that the load replaces is switched first, if need be.  When all is
 * loaded, the new guest is switched to where the old one was.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/coroutine.h"
#include "qemu/error-report.h"
#include "system/cpus.h"
#include "system/runstate.h"
#include "internal.h"
#include "kvm-trace.h"
#include "window.h"

/* BQL */
static struct {
    bool named;                 /* the stream has said where it was saved */
    bool due;                   /* the guest is still to be switched to @to */
    SwitchableAccel to;
} load;

void switch_load_starts(void)
{
    load.named = false;
}

bool accel_switch_may_load_vcpus(void)
{
    if (accel_switch_configured() && !load.named) {
        error_report("the stream does not name the accelerator that it was"
                     " saved under: it was not saved under -accel switch");
        return false;
    }
    return true;
}

/*
 * The guest that is there is not to run any more: it does not matter whether
 * KVM holds its state, and could run it.
 */
static SwitchResult switch_discarded(const SwitchRequest *request,
                                     AccelSwitchInfo **info, Error **errp)
{
    SwitchState *s = switch_state;
    bool read_back = s->read_back, check_rules = s->check_rules;
    SwitchResult result;

    s->read_back = s->check_rules = false;
    result = switch_transact(request, info, errp);
    s->read_back = read_back;
    s->check_rules = check_rules;
    return result;
}

bool switch_load_begin(SwitchableAccel saved, Error **errp)
{
    const SwitchRequest request = { .to = saved };
    SwitchableAccel was = switch_state->active;
    g_autoptr(AccelSwitchInfo) info = NULL;

    load.named = true;
    if (was == saved) {
        return true;
    }
    if (!switch_check_devices(errp)) {
        return false;
    }
    if (!load.due) {
        /* A window is left for KVM. */
        load.to = switch_window_is_open() ? SWITCHABLE_ACCEL_KVM : was;
    }
    switch_trace_end_now(KVM_TRACE_END_REASON_LOAD);
    if (switch_discarded(&request, &info, errp) != SWITCH_OK) {
        return false;
    }
    load.due = load.to != saved;
    if (!load.due) {
        switch_announce(info, false);
    }
    /* As before any load: what is loaded is to be put into the accelerator. */
    cpu_synchronize_all_pre_loadvm();
    load.named = true;
    return true;
}

void switch_load_end(void)
{
    const SwitchRequest request = { .to = load.to };
    g_autoptr(AccelSwitchInfo) info = NULL;
    g_autoptr(Error) err = NULL;
    SwitchResult result;

    if (!load.due) {
        return;
    }
    result = switch_transact(&request, &info, &err);
    load.due = result == SWITCH_NOT_NOW;
    if (result == SWITCH_OK) {
        return;
    }
    warn_report("the guest stays in %s, where it was saved%s: %s",
                SwitchableAccel_str(switch_state->active),
                load.due ? ", until it can be switched" : "",
                error_get_pretty(err));
    /* To those outside, this switch was made. */
    info = switch_new_info(switch_state->active);
    info->from = load.to;
    switch_announce(info, false);
}

void switch_load_overruled(void)
{
    load.due = false;
}

static void coroutine_fn switch_loaded_co(void *opaque)
{
    const SwitchRequest request = { .to = load.to };
    g_autoptr(Error) err = NULL;
    g_autoptr(AccelSwitchInfo) info = accel_switch_to_co(&request, &err);

    if (!info) {
        warn_report("the guest stays in %s, where it was saved: %s",
                    SwitchableAccel_str(switch_state->active),
                    error_get_pretty(err));
    }
}

static void switch_loaded_starts(void *opaque, bool running, RunState state)
{
    if (running && load.due) {
        load.due = false;
        qemu_coroutine_enter(qemu_coroutine_create(switch_loaded_co, NULL));
    }
}

void switch_init_load(void)
{
    qemu_add_vm_change_state_handler(switch_loaded_starts, NULL);
}
