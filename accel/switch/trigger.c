/*
 * Triggers: what opens windows by itself while the guest runs under KVM
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/clone-visitor.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-accel-window-target.h"
#include "qapi/qapi-events-accel-window-target.h"
#include "qapi/qapi-visit-accel-window-target.h"
#include "qapi/util.h"
#include "qemu/guest-random.h"
#include "qemu/id.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "block/aio.h"
#include "exec/cpu-common.h"
#include "hw/boards.h"
#include "system/cpus.h"
#include "system/kvm.h"
#include "system/reset.h"
#include "system/runstate.h"
#include "internal.h"
#include "kvm-trace.h"
#include "trace.h"

#define SWITCH_PERIOD_LEAST_NS (100 * SCALE_US)

/* All: BQL. */
typedef struct SwitchTrigger {
    AccelTrigger *spec;
    vaddr address[2];
    int addresses;              /* how many of these are in use */
    QEMUTimer *timer;           /* of @clock */
    QEMUClockType clock;
    uint64_t due;               /* the timer's next begin, without jitter */
    uint64_t hits, filtered, windows, refused;
    QTAILQ_ENTRY(SwitchTrigger) next;
} SwitchTrigger;

static QTAILQ_HEAD(, SwitchTrigger) triggers =
    QTAILQ_HEAD_INITIALIZER(triggers);

static QEMUBH *drop_last;

static SwitchTrigger *trigger_find(const char *id)
{
    SwitchTrigger *t;

    QTAILQ_FOREACH(t, &triggers, next) {
        if (g_str_equal(t->spec->id, id)) {
            return t;
        }
    }
    return NULL;
}

static bool trigger_is_armed(const SwitchTrigger *t)
{
    return !t->spec->has_count || t->windows < t->spec->count;
}

bool switch_triggers_armed(void)
{
    SwitchTrigger *t;

    QTAILQ_FOREACH(t, &triggers, next) {
        if (trigger_is_armed(t)) {
            return true;
        }
    }
    return false;
}

int switch_trigger_addresses(vaddr address[SWITCH_BREAKPOINTS])
{
    SwitchTrigger *t;
    int count = 0;

    QTAILQ_FOREACH(t, &triggers, next) {
        for (int i = 0; trigger_is_armed(t) && i < t->addresses; i++) {
            bool known = false;

            for (int j = 0; j < count; j++) {
                known |= address[j] == t->address[i];
            }
            if (!known) {
                if (count == SWITCH_BREAKPOINTS) {
                    return SWITCH_BREAKPOINTS + 1;
                }
                address[count++] = t->address[i];
            }
        }
    }
    return count;
}

/* Hits */

/*
 * Each window costs a share of a second.  Triggers may be in debt for one
 * second.
 */
static bool trigger_has_time(void)
{
    static int64_t paid_until;
    int64_t now = get_clock(), until;

    if (!switch_state->max_windows_per_second) {
        return true;
    }
    until = MAX(now, paid_until) +
            NANOSECONDS_PER_SECOND / switch_state->max_windows_per_second;
    if (until > now + NANOSECONDS_PER_SECOND) {
        return false;
    }
    paid_until = until;
    return true;
}

static bool trigger_lets_pass(const SwitchTrigger *t, CPUState *cpu)
{
    static const AccelTriggerFilter none;
    const AccelTriggerFilter *f = t->spec->filter ?: &none;
    const AccelTriggerSyscall *call =
        t->spec->on->type == ACCEL_TRIGGER_TYPE_SYSCALL &&
        t->spec->on->u.syscall.has_number ? &t->spec->on->u.syscall : NULL;
    SwitchPlace at;

    if (f->has_cpu_index && f->cpu_index != cpu->cpu_index) {
        return false;
    }
    if (!f->has_cr3 && !f->has_cpl && !call) {
        return true;
    }
    switch_arch_get_place(cpu, &at);
    return (!f->has_cr3 || !((f->cr3 ^ at.cr3) & at.cr3_address)) &&
           (!f->has_cpl || f->cpl == at.cpl) &&
           (!call || call->number == at.eax);
}

/* A hit that the filter lets pass: is it the turn of a window? */
static bool trigger_takes(SwitchTrigger *t)
{
    const AccelTrigger *spec = t->spec;
    uint64_t skip = spec->has_skip ? spec->skip : 0;
    uint64_t hit = t->hits++;

    return trigger_is_armed(t) && hit >= skip &&
           (hit - skip) % (spec->has_every ? spec->every : 1) == 0;
}

/* The condition of @t is met at @cpu: count it.  True if a window is due. */
static bool trigger_is_hit(SwitchTrigger *t, CPUState *cpu)
{
    if (!trigger_lets_pass(t, cpu)) {
        t->filtered++;
        return false;
    }
    return trigger_takes(t);
}

/* The machine has been reset so many times; what was hit before is gone. */
static unsigned resets;

typedef struct TriggerHit {
    char *id;                   /* the trigger may be deleted meanwhile */
    unsigned resets;
    CPUState *cpu;
    bool at_breakpoint;
} TriggerHit;

/* Main thread: the vCPU of @opaque, if any, is held where it hit. */
static void trigger_open_bh(void *opaque)
{
    TriggerHit *hit = opaque;
    SwitchTrigger *t = trigger_find(hit->id);
    const SwitchWindow window = {
        .id = hit->id, .spec = t ? t->spec->window : NULL,
        .cpu = hit->cpu, .at_instruction = hit->at_breakpoint,
        .at_breakpoint = hit->at_breakpoint,
    };
    const SwitchRequest request = {
        .to = SWITCHABLE_ACCEL_TCG, .by_guest = true, .window = &window,
    };
    g_autoptr(AccelSwitchInfo) info = NULL;
    g_autoptr(Error) err = NULL;

    if (!t || hit->resets != resets) {
        /* There is nothing to open any more. */
    } else if (!runstate_is_running()) {
        t->refused++;
    } else if (accel_switch_to(&request, &info, &err) != SWITCH_OK) {
        trace_accel_switch_trigger_refused(t->spec->id, error_get_pretty(err));
        t->refused++;
    }
    if (hit->cpu && !info) {
        switch_release_vcpu(hit->cpu, SWITCH_HOLD_HIT);
        switch_hold_stopped_vcpus();
        resume_all_vcpus();
    }
    g_free(hit->id);
    g_free(hit);
}

/* Open @t's window, at a vCPU or (NULL) anywhere.  True if it stands still. */
static bool trigger_open(SwitchTrigger *t, CPUState *cpu, bool at_breakpoint)
{
    TriggerHit *hit;

    if (!trigger_has_time()) {
        t->refused++;
        return false;
    }
    trace_accel_switch_trigger_hit(t->spec->id, cpu ? cpu->cpu_index : -1);
    hit = g_new0(TriggerHit, 1);
    hit->id = g_strdup(t->spec->id);
    hit->cpu = cpu;
    hit->at_breakpoint = at_breakpoint;
    hit->resets = resets;
    if (cpu) {
        switch_hold_vcpu(cpu, SWITCH_HOLD_HIT);
    }
    aio_bh_schedule_oneshot(iohandler_get_aio_context(), trigger_open_bh, hit);
    return true;
}

/* The same, and open the window that is due.  True if @cpu stands still. */
static bool trigger_met(SwitchTrigger *t, CPUState *cpu, bool at_breakpoint)
{
    return trigger_is_hit(t, cpu) && trigger_open(t, cpu, at_breakpoint);
}

bool switch_trigger_breakpoint(CPUState *cpu, vaddr address)
{
    SwitchTrigger *t;
    bool stops = false;

    QTAILQ_FOREACH(t, &triggers, next) {
        for (int i = 0; i < t->addresses; i++) {
            if (t->address[i] == address && trigger_is_armed(t)) {
                /* One of them opens the window; the others have seen it. */
                stops = trigger_met(t, cpu, true) || stops;
                break;
            }
        }
    }
    return stops;
}

static bool trigger_is_on(const SwitchTrigger *t, AccelTriggerType type)
{
    return t->spec->on->type == type && trigger_is_armed(t);
}

void switch_trigger_port(CPUState *cpu, uint8_t number)
{
    SwitchTrigger *t;

    if (!kvm_enabled()) {
        return;
    }
    QTAILQ_FOREACH(t, &triggers, next) {
        if (trigger_is_on(t, ACCEL_TRIGGER_TYPE_PORT) &&
            t->spec->on->u.port.number == number) {
            trigger_met(t, cpu, false);
        }
    }
}

/*
 * An instruction that KVM can't execute is met again after each attempt that
 * comes to nothing: it is counted once.
 */
static char **kvm_errors;       /* by cpu_index: the trigger's id, or NULL */

bool switch_trigger_kvm_error(CPUState *cpu)
{
    char **id = &kvm_errors[cpu->cpu_index];
    SwitchTrigger *t;

    if (*id && trigger_find(*id)) {
        return true;
    }
    g_clear_pointer(id, g_free);
    QTAILQ_FOREACH(t, &triggers, next) {
        if (trigger_is_on(t, ACCEL_TRIGGER_TYPE_KVM_ERROR) &&
            trigger_is_hit(t, cpu)) {
            *id = g_strdup(t->spec->id);
            return true;
        }
    }
    return false;
}

bool switch_trigger_kvm_error_window(CPUState *cpu, SwitchWindow *window)
{
    const char *id = kvm_errors[cpu->cpu_index];
    SwitchTrigger *t = id ? trigger_find(id) : NULL;

    if (!t) {
        return false;
    }
    *window = (SwitchWindow) {
        .id = t->spec->id, .spec = t->spec->window, .cpu = cpu,
        .at_instruction = true,
    };
    return true;
}

void switch_trigger_kvm_error_done(CPUState *cpu, bool refused)
{
    char **id = &kvm_errors[cpu->cpu_index];
    SwitchTrigger *t = *id ? trigger_find(*id) : NULL;

    if (t && refused) {
        t->refused++;
    }
    g_clear_pointer(id, g_free);
}

void switch_trigger_opened(const char *id)
{
    SwitchTrigger *t = trigger_find(id);

    t->windows++;
    if (t->addresses && !trigger_is_armed(t)) {
        switch_arch_set_breakpoints(NULL);
    }
}

static void trigger_set_timer(SwitchTrigger *t, int64_t from)
{
    const AccelTriggerTimer *on = &t->spec->on->u.timer;
    uint64_t random = 0;

    t->due = from + on->period_ns;
    if (on->has_jitter_ns && on->jitter_ns) {
        qemu_guest_getrandom_nofail(&random, sizeof(random));
        random %= on->jitter_ns;
    }
    timer_mod(t->timer, t->due + random);
}

static void trigger_time_out(void *opaque)
{
    SwitchTrigger *t = opaque;
    const AccelTriggerTimer *on = &t->spec->on->u.timer;
    int64_t now = qemu_clock_get_ns(t->clock);

    if (!trigger_is_armed(t)) {
        return;
    }
    if (kvm_enabled() && runstate_is_running() && trigger_takes(t)) {
        trigger_open(t, NULL, false);
    }
    /* What is late by more than a period is left out. */
    trigger_set_timer(t, t->due + on->period_ns > now ? t->due : now);
}

/* The list of triggers */

static bool trigger_check_filter(const AccelTrigger *spec, Error **errp)
{
    const AccelTriggerFilter *f = spec->filter;

    if (!f) {
        return true;
    }
    if (spec->on->type == ACCEL_TRIGGER_TYPE_TIMER) {
        error_setg(errp, "a trigger of type 'timer' has no filter: no vCPU"
                   " meets it");
        return false;
    }
    if (f->has_cpu_index && !qemu_get_cpu(f->cpu_index)) {
        error_setg(errp, "there is no vCPU %" PRIu32, f->cpu_index);
        return false;
    }
    if (f->has_cpl && f->cpl > 3) {
        error_setg(errp, "cpl must be from 0 to 3");
        return false;
    }
    return true;
}

static bool trigger_check_on(const AccelTriggerOn *on, Error **errp)
{
    switch (on->type) {
    case ACCEL_TRIGGER_TYPE_PORT:
        if (on->u.port.number < SWITCH_PORT_NUMBERS) {
            error_setg(errp, "the port's numbers are from %d to 255",
                       SWITCH_PORT_NUMBERS);
            return false;
        }
        return true;
    case ACCEL_TRIGGER_TYPE_TIMER:
        if (on->u.timer.period_ns < SWITCH_PERIOD_LEAST_NS ||
            on->u.timer.period_ns > INT64_MAX / 4) {
            error_setg(errp, "period-ns must be from %d to %" PRId64,
                       SWITCH_PERIOD_LEAST_NS, INT64_MAX / 4);
            return false;
        }
        if (on->u.timer.has_jitter_ns &&
            on->u.timer.jitter_ns >= on->u.timer.period_ns) {
            error_setg(errp, "jitter-ns must be less than period-ns");
            return false;
        }
        return true;
    default:
        return true;
    }
}

static bool trigger_check(const AccelTrigger *spec, Error **errp)
{
    AccelTriggerType type = spec->on->type;
    bool at_function = type == ACCEL_TRIGGER_TYPE_ADDRESS;

    if (!accel_switch_configured()) {
        error_setg(errp, "QEMU was started without -accel switch");
        return false;
    }
    if (switch_trace_runs()) {
        error_setg(errp, "a trace runs (kvm-trace-stop ends it)");
        return false;
    }
    if (!id_wellformed(spec->id)) {
        error_setg(errp, "'%s' is no name for a trigger: it must begin with a"
                   " letter and have only letters, digits, '-', '.' and '_'",
                   spec->id);
        return false;
    }
    if (trigger_find(spec->id)) {
        error_setg(errp, "there is a trigger '%s' already", spec->id);
        return false;
    }
    if (spec->has_every && !spec->every) {
        error_setg(errp, "every must be at least 1");
        return false;
    }
    if (spec->has_count && !spec->count) {
        error_setg(errp, "count must be at least 1");
        return false;
    }
    return trigger_check_on(spec->on, errp) &&
           trigger_check_filter(spec, errp) &&
           switch_window_check(spec->window, at_function, errp);
}

/* Find the breakpoints of @t, if it needs any. */
static bool trigger_resolve(SwitchTrigger *t, Error **errp)
{
    switch (t->spec->on->type) {
    case ACCEL_TRIGGER_TYPE_ADDRESS:
        t->address[0] = t->spec->on->u.address.address;
        t->addresses = 1;
        return true;
    case ACCEL_TRIGGER_TYPE_SYSCALL:
        t->addresses = switch_arch_syscall_entries(t->address, errp);
        return t->addresses;
    case ACCEL_TRIGGER_TYPE_INTERRUPT:
        t->addresses = switch_arch_interrupt_entry(
            t->spec->on->u.interrupt.vector, t->address, errp);
        return t->addresses;
    default:
        return true;
    }
}

static void trigger_free(SwitchTrigger *t)
{
    if (t->timer) {
        timer_free(t->timer);
    }
    qapi_free_AccelTrigger(t->spec);
    g_free(t);
}

void qmp_accel_trigger_add(AccelTrigger *spec, Error **errp)
{
    SwitchTrigger *t;

    if (!trigger_check(spec, errp)) {
        return;
    }
    t = g_new0(SwitchTrigger, 1);
    t->spec = QAPI_CLONE(AccelTrigger, spec);
    if (!trigger_resolve(t, errp)) {
        trigger_free(t);
        return;
    }
    QTAILQ_INSERT_TAIL(&triggers, t, next);
    if (t->addresses && !switch_arch_set_breakpoints(errp)) {
        QTAILQ_REMOVE(&triggers, t, next);
        trigger_free(t);
        return;
    }
    if (spec->on->type == ACCEL_TRIGGER_TYPE_TIMER) {
        AccelTriggerTimer *on = &spec->on->u.timer;

        t->clock = on->has_clock && on->clock == ACCEL_TRIGGER_CLOCK_HOST
                   ? QEMU_CLOCK_REALTIME : QEMU_CLOCK_VIRTUAL;
        t->timer = timer_new_ns(t->clock, trigger_time_out, t);
        trigger_set_timer(t, qemu_clock_get_ns(t->clock));
    }
}

static void trigger_delete(SwitchTrigger *t)
{
    QTAILQ_REMOVE(&triggers, t, next);
    if (t->addresses) {
        switch_arch_set_breakpoints(NULL);
    }
    trigger_free(t);
}

void qmp_accel_trigger_del(const char *id, Error **errp)
{
    SwitchTrigger *t = trigger_find(id);

    if (!t) {
        error_setg(errp, "there is no trigger '%s'", id);
        return;
    }
    trigger_delete(t);
}

AccelTriggerInfoList *qmp_query_accel_triggers(Error **errp)
{
    AccelTriggerInfoList *list = NULL, **tail = &list;
    SwitchTrigger *t;

    QTAILQ_FOREACH(t, &triggers, next) {
        AccelTriggerInfo *info = g_new0(AccelTriggerInfo, 1);
        g_autofree AccelTrigger *spec = QAPI_CLONE(AccelTrigger, t->spec);

        *qapi_AccelTriggerInfo_base(info) = *spec;
        info->armed = trigger_is_armed(t);
        info->hits = t->hits;
        info->filtered = t->filtered;
        info->windows = t->windows;
        info->refused = t->refused;
        QAPI_LIST_APPEND(tail, info);
    }
    return list;
}

const char *switch_trigger_of_plugin(const char *id)
{
    SwitchTrigger *t;

    QTAILQ_FOREACH(t, &triggers, next) {
        const AccelWindow *window = t->spec->window;
        const strList *l = window ? window->plugins : NULL;

        for (; l; l = l->next) {
            if (g_str_equal(l->value, id)) {
                return t->spec->id;
            }
        }
    }
    return NULL;
}

static void trigger_drop(SwitchTrigger *t, const char *why)
{
    qapi_event_send_accel_trigger_dropped(t->spec->id, why);
    trigger_delete(t);
}

/* The guest's handlers are gone, and their addresses with them. */
static void switch_triggers_reset(void *opaque)
{
    SwitchTrigger *t, *next;

    QTAILQ_FOREACH_SAFE(t, &triggers, next, next) {
        AccelTriggerType type = t->spec->on->type;

        if (type == ACCEL_TRIGGER_TYPE_SYSCALL ||
            type == ACCEL_TRIGGER_TYPE_INTERRUPT) {
            trigger_drop(t, "the machine was reset");
        }
    }
}

/* Drop one; if that is not enough, a vCPU asks again before it runs. */
static void trigger_drop_last_bh(void *opaque)
{
    SwitchTrigger *t;

    if (!switch_arch_lacks_breakpoints()) {
        return;
    }
    QTAILQ_FOREACH_REVERSE(t, &triggers, next) {
        if (t->addresses && trigger_is_armed(t)) {
            trigger_drop(t, "the guest, or a debugger, needs its breakpoint"
                         " register");
            return;
        }
    }
}

void switch_trigger_drop_last(void)
{
    qemu_bh_schedule(drop_last);
}

static void switch_triggers_any_reset(void *opaque)
{
    resets++;
    for (int i = 0; i < current_machine->smp.max_cpus; i++) {
        g_clear_pointer(&kvm_errors[i], g_free);
    }
}

void switch_init_triggers(void)
{
    kvm_errors = g_new0(char *, current_machine->smp.max_cpus);
    drop_last = aio_bh_new(iohandler_get_aio_context(), trigger_drop_last_bh,
                           NULL);
    /* A load of a snapshot resets the machine, too, and brings handlers. */
    qemu_register_reset_nosnapshotload(switch_triggers_reset, NULL);
    qemu_register_reset(switch_triggers_any_reset, NULL);
}
