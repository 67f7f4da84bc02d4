/*
 * Saves and loads: a stream or snapshot of either accelerator
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
#include "accel/switch/arch.h"
#include "internal.h"
#include "kvm-trace.h"
#include "window.h"

/* BQL */
static struct {
    bool begun;
    bool restarts;              /* what is said at its start is said again */
    bool named;                 /* it is known where the guest was saved */
    bool plain;                 /* a stream without our section is plain's */
    bool plain_tcg;             /* it was, and the guest was in TCG */
    Error *refused;             /* why it can't come from there; or NULL */
    bool due;                   /* the guest is still to be switched to @to */
    SwitchableAccel to;
    SwitchableAccel was;        /* active when the load began */
    AccelSwitchInfo *last;      /* the last switch of this load; or NULL */
} load;

bool switch_plain_accel(SwitchableAccel *accel)
{
    *accel = switch_state->streams == ACCEL_STREAMS_PLAIN_KVM
             ? SWITCHABLE_ACCEL_KVM : SWITCHABLE_ACCEL_TCG;
    return switch_state->streams != ACCEL_STREAMS_SWITCH;
}

/*
 * QEMU's own copy of a vCPU under KVM, which all have by now, lacks the LAPIC
 * timer's count and what KVM keeps until the vCPU runs.  A switch has them.
 */
static void switch_save_kvm(void)
{
    g_autoptr(Error) err = NULL, failed = NULL;
    bool saved;

    switch_ioctl_watch(SWITCHABLE_ACCEL_TCG);
    saved = switch_arch_pre_save_kvm(&err);
    switch_ioctl_unwatch(&failed);
    if (!saved) {
        warn_report("the LAPIC's timers will begin anew where this guest is"
                    " loaded: %s", error_get_pretty(failed ?: err));
    }
}

void switch_before_save(void)
{
    if (switch_state->active == SWITCHABLE_ACCEL_KVM) {
        switch_save_kvm();
    } else {
        switch_arch_pre_save_tcg();
        if (switch_state->streams == ACCEL_STREAMS_PLAIN_TCG) {
            switch_arch_pre_save_plain_tcg();
        }
    }
}

static SwitchResult switch_in_load(SwitchableAccel to, Error **errp)
{
    const SwitchRequest request = { .to = to };
    /* A switch that waits for the old guest will look at the new one. */
    bool waits = switch_state->in_progress;
    AccelSwitchInfo *info = NULL;
    SwitchResult result = switch_transact(&request, &info, errp);

    switch_state->in_progress = waits;
    if (result == SWITCH_OK) {
        qapi_free_AccelSwitchInfo(load.last);
        load.last = info;
    }
    return result;
}

/*
 * The guest that is there is not to run any more: it does not matter whether
 * KVM holds its state, and could run it.
 */
static SwitchResult switch_discarded(SwitchableAccel to, Error **errp)
{
    SwitchState *s = switch_state;
    bool read_back = s->read_back, check_rules = s->check_rules;
    SwitchResult result;

    if (switch_debugger_has_points()) {
        /* They would be looked for in memory that is the new guest's. */
        error_setg(errp, "a debugger has breakpoints set: it must delete them"
                   " first");
        return SWITCH_REFUSED;
    }
    switch_trace_end_now(KVM_TRACE_END_REASON_LOAD);
    switch_arch_discard();
    s->read_back = s->check_rules = false;
    result = switch_in_load(to, errp);
    s->read_back = read_back;
    s->check_rules = check_rules;
    return result;
}

bool switch_load_begin(SwitchableAccel saved, Error **errp)
{
    SwitchableAccel active = switch_state->active;

    if (active != saved) {
        if (!load.due) {
            /* A window is left for KVM. */
            load.to = switch_window_is_open() ? SWITCHABLE_ACCEL_KVM : active;
        }
        if (!switch_check_devices(errp) ||
            switch_discarded(saved, errp) != SWITCH_OK) {
            return false;
        }
        load.due = load.to != saved;
        load.restarts = true;
        cpu_synchronize_all_pre_loadvm();
        load.restarts = false;
    }
    load.named = true;
    return true;
}

/*
 * Before QEMU loads a section.  No section of plain QEMU's says under which
 * accelerator the guest was saved.
 */
void switch_load_starts(CPUState *cpu)
{
    SwitchableAccel plain;

    if (cpu != first_cpu || load.restarts) {
        return;
    }
    load.begun = true;
    load.named = load.plain = load.plain_tcg = false;
    load.was = switch_state->active;
    g_clear_pointer(&load.refused, error_free);
    if (switch_plain_accel(&plain)) {
        load.plain = switch_load_begin(plain, &load.refused);
        load.named = false;
    }
}

int switch_load_vcpus(void)
{
    load.plain = false;
    if (switch_state->active == SWITCHABLE_ACCEL_KVM) {
        return switch_arch_post_load_kvm();
    }
    switch_arch_post_load_tcg();
    return 0;
}

bool accel_switch_may_load_vcpus(void)
{
    if (!accel_switch_configured() || load.named) {
        return true;
    }
    if (load.refused) {
        error_reportf_err(g_steal_pointer(&load.refused), "streams=%s: ",
                          AccelStreams_str(switch_state->streams));
        return false;
    }
    if (!load.plain) {
        error_report("the stream does not name the accelerator that it was"
                     " saved under: if plain QEMU saved it, give -accel"
                     " switch,streams=plain-kvm or streams=plain-tcg");
        return false;
    }
    load.named = true;
    load.plain_tcg = switch_state->active == SWITCHABLE_ACCEL_TCG;
    return switch_load_vcpus() == 0;
}

/* To those outside the switches of a load are one, or none. */
static void switch_load_announce(void)
{
    AccelSwitchInfo *info = load.last;

    load.last = NULL;
    if (info && switch_state->active != load.was) {
        info->from = load.was;
        switch_announce(info, false);
    }
    qapi_free_AccelSwitchInfo(info);
}

void switch_load_end(void)
{
    g_autoptr(Error) err = NULL;
    SwitchResult result;

    if (!load.begun) {
        return;
    }
    load.begun = load.named = false;
    if (load.plain_tcg) {
        load.plain_tcg = false;
        switch_arch_loaded_plain_tcg();
    }
    if (load.due) {
        result = switch_in_load(load.to, &err);
        load.due = result == SWITCH_NOT_NOW;
        if (result != SWITCH_OK) {
            warn_report("the guest stays in %s, where it was saved%s: %s",
                        SwitchableAccel_str(switch_state->active),
                        load.due ? ", until it can be switched" : "",
                        error_get_pretty(err));
        }
    }
    switch_load_announce();
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

    if (info) {
        return;
    }
    if (!runstate_is_running()) {
        load.due = true;        /* when it is started again */
        return;
    }
    warn_report("the guest stays in %s, where it was saved: %s",
                SwitchableAccel_str(switch_state->active),
                error_get_pretty(err));
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
