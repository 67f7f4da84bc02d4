/*
 * A window: a stay in TCG that ends by itself
 *
 * While it is open, each vCPU counts its instructions by the decrementer that
 * -icount has, without the clock of -icount: TBs have CF_USE_ICOUNT then, and
 * those of other stays are kept beside them.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/clone-visitor.h"
#include "qapi/error.h"
#include "qapi/qapi-events-accel-window-target.h"
#include "qapi/qapi-visit-accel-switch-target.h"
#include "qemu/coroutine.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "qemu/units.h"
#include "block/aio.h"
#include "exec/translation-block.h"
#include "system/cpus.h"
#include "system/tcg.h"
#include "internal.h"
#include "window.h"

/* A number of instructions that no window reaches */
#define ENDLESS INT64_MAX
/* A return removes at most so many bytes from the stack, with arguments. */
#define SWITCH_RETURN_POPS (4 * KiB)
/* The pause between two attempts to end a window, if the first is refused */
#define SWITCH_STUCK_PAUSE_NS (100 * SCALE_MS)

typedef struct WindowVCPU {
    uint64_t executed;          /* before its present budget */
    uint64_t budget;            /* instructions, given to the decrementer */
    bool at_end;                /* stands at the window's end address */
} WindowVCPU;

/* BQL; a vCPU's own entry is its thread's while it runs. */
static struct {
    bool open;
    char *id;
    AccelWindow *spec;
    CPUState *cpu;              /* hit the trigger, or ended the window */
    CPUState *trigger_cpu;      /* NULL: none did */
    bool at_breakpoint;         /* which has executed nothing since */
    int64_t began;              /* get_clock() */
    bool ending;
    AccelWindowEndReason reason;
    SwitchReturn way;           /* for the end "return" */
    QEMUTimer *timer;
    WindowVCPU *vcpu;           /* by cpu_index */
} window;

static AccelWindowEndType window_end_type(const AccelWindow *spec)
{
    return spec && spec->end ? spec->end->type : ACCEL_WINDOW_END_TYPE_NEVER;
}

bool switch_window_check(const AccelWindow *spec, bool by_trigger,
                         Error **errp)
{
    if (!switch_plugins_check(spec, errp)) {
        return false;
    }
    switch (window_end_type(spec)) {
    case ACCEL_WINDOW_END_TYPE_INSTRUCTIONS:
        if (spec->end->u.instructions.count < 1 ||
            spec->end->u.instructions.count > ENDLESS) {
            error_setg(errp, "a window has at least one instruction, and at"
                       " most %" PRId64, ENDLESS);
            return false;
        }
        break;
    case ACCEL_WINDOW_END_TYPE_TIME:
        if (spec->end->u.time.ns < 1 || spec->end->u.time.ns > INT64_MAX / 2) {
            error_setg(errp, "a window's time is from 1 ns to %" PRId64 " ns",
                       INT64_MAX / 2);
            return false;
        }
        break;
    case ACCEL_WINDOW_END_TYPE_RETURN:
        if (!by_trigger) {
            error_setg(errp, "a window ends at the return from a function only"
                       " if a trigger is at the function's first instruction");
            return false;
        }
        break;
    case ACCEL_WINDOW_END_TYPE_PORT:
        if (spec->end->u.port.number < SWITCH_PORT_NUMBERS) {
            error_setg(errp, "the port's numbers are from %d to 255",
                       SWITCH_PORT_NUMBERS);
            return false;
        }
        break;
    default:
        break;
    }
    return true;
}

/* Counting */

static uint64_t window_left(CPUState *cpu)
{
    return cpu->neg.icount_decr.u16.low + cpu->icount_extra;
}

static bool window_counts(CPUState *cpu)
{
    return cpu->tcg_cflags & CF_USE_ICOUNT;
}

/* Let @cpu execute @budget instructions more.  It does not run. */
static void window_give(CPUState *cpu, uint64_t budget)
{
    window.vcpu[cpu->cpu_index].budget = budget;
    cpu->icount_budget = budget;
    cpu->neg.icount_decr.u16.low = MIN(budget, 0xffff);
    cpu->icount_extra = budget - cpu->neg.icount_decr.u16.low;
}

/* How many @cpu has executed since the window began.  It does not run. */
static uint64_t window_executed(CPUState *cpu)
{
    WindowVCPU *vcpu = &window.vcpu[cpu->cpu_index];

    return vcpu->executed + vcpu->budget - window_left(cpu);
}

static void window_start_counting(CPUState *cpu)
{
    uint64_t budget = ENDLESS;

    if (window_end_type(window.spec) == ACCEL_WINDOW_END_TYPE_INSTRUCTIONS &&
        (!window.trigger_cpu || window.trigger_cpu == cpu)) {
        budget = window.spec->end->u.instructions.count;
    }
    cpu->tcg_cflags |= CF_USE_ICOUNT;
    if (cpu->cflags_next_tb != -1) {
        cpu->cflags_next_tb |= CF_USE_ICOUNT;
    }
    window.vcpu[cpu->cpu_index] = (WindowVCPU) {};
    window_give(cpu, budget);
}

static void window_stop_counting(CPUState *cpu)
{
    cpu->tcg_cflags &= ~CF_USE_ICOUNT;
    if (cpu->cflags_next_tb != -1) {
        cpu->cflags_next_tb &= ~CF_USE_ICOUNT;
    }
    cpu->icount_budget = 0;
    cpu->icount_extra = 0;
    cpu->neg.icount_decr.u16.low = 0;
}

void switch_window_reset_vcpu(CPUState *cpu)
{
    switch_release_vcpu(cpu, SWITCH_HOLD_STOPPED);
    if (window.open && window_counts(cpu)) {
        window_start_counting(cpu);
        window.at_breakpoint &= cpu != window.trigger_cpu;
    }
}

/* The end of a window */

static void window_send_stuck(Error *err)
{
    qapi_event_send_accel_window_stuck(window.id, error_get_pretty(err));
}

static bool window_is_over(void)
{
    return !window.open || !window.ending;
}

/* Until the guest is in KVM, or no window is to be ended any more */
static void coroutine_fn switch_window_end_co(void *opaque)
{
    const SwitchRequest request = {
        .to = SWITCHABLE_ACCEL_KVM, .by_guest = true,
    };
    bool said = false;

    /* See accel_switch_to_co(): nobody else resumes vCPUs there. */
    aio_co_schedule(iohandler_get_aio_context(), qemu_coroutine_self());
    qemu_coroutine_yield();
    while (!window_is_over()) {
        g_autoptr(AccelSwitchInfo) info = NULL;
        g_autoptr(Error) err = NULL;

        if (!switch_state->in_progress) {
            info = accel_switch_to_co(&request, &err);
        }
        if (info || window_is_over() || switch_state->ending) {
            break;
        }
        if (err && !said) {
            window_send_stuck(err);
            said = true;
        }
        /* Nothing has released vCPUs if no attempt was made. */
        switch_release_vcpus(SWITCH_HOLD_END);
        switch_hold_stopped_vcpus();
        resume_all_vcpus();
        qemu_co_sleep_ns(QEMU_CLOCK_REALTIME,
                         err ? SWITCH_STUCK_PAUSE_NS : SCALE_MS);
    }
}

static void switch_window_end_bh(void *opaque)
{
    if (window_is_over()) {
        return;
    }
    if (window.spec && window.spec->has_accel &&
        window.spec->accel == SWITCHABLE_ACCEL_TCG) {
        switch_hold_stopped_vcpus();
        pause_all_vcpus();
        switch_window_close(get_clock());
        switch_release_vcpus(SWITCH_HOLD_END);
        resume_all_vcpus();
        return;
    }
    qemu_coroutine_enter(qemu_coroutine_create(switch_window_end_co, NULL));
}

/* The window is to end: @cpu, if any, has brought it about.  BQL held. */
static void window_reached(CPUState *cpu, AccelWindowEndReason reason)
{
    if (cpu) {
        switch_hold_vcpu(cpu, SWITCH_HOLD_END);
    }
    if (window.ending) {
        return;
    }
    window.ending = true;
    window.reason = reason;
    if (cpu) {
        window.cpu = cpu;
    }
    aio_bh_schedule_oneshot(iohandler_get_aio_context(), switch_window_end_bh,
                            NULL);
}

static void switch_window_timeout(void *opaque)
{
    if (window.open) {
        window_reached(NULL, ACCEL_WINDOW_END_REASON_TIME);
    }
}

void switch_window_port(CPUState *cpu, uint8_t number)
{
    if (window.open && !window.ending &&
        window_end_type(window.spec) == ACCEL_WINDOW_END_TYPE_PORT &&
        window.spec->end->u.port.number == number) {
        window_reached(cpu, ACCEL_WINDOW_END_REASON_PORT);
    }
}

bool switch_window_is_open(void)
{
    return window.open;
}

bool switch_window_vcpu_exit(CPUState *cpu, int result)
{
    WindowVCPU *vcpu;

    if (!window.open) {
        return false;
    }
    vcpu = &window.vcpu[cpu->cpu_index];
    if (result == EXCP_DEBUG && vcpu->at_end) {
        vcpu->at_end = false;
        window_reached(cpu,
                       window_end_type(window.spec) ==
                       ACCEL_WINDOW_END_TYPE_RETURN
                       ? ACCEL_WINDOW_END_REASON_RETURN
                       : ACCEL_WINDOW_END_REASON_ADDRESS);
        return true;
    }
    if (window_counts(cpu) && !window_left(cpu)) {
        vcpu->executed += vcpu->budget;
        window_give(cpu, ENDLESS);
        window_reached(cpu, ACCEL_WINDOW_END_REASON_INSTRUCTIONS);
        return true;
    }
    return false;
}

/* The address at which a window ends */

/* Does the function return now, and not one that is called deeper? */
static bool window_returns(CPUState *cpu)
{
    return switch_arch_page_table(cpu) == window.way.page_table &&
           switch_arch_stack_pointer(cpu) - window.way.sp - 1 <
           SWITCH_RETURN_POPS;
}

bool accel_switch_at_window_end(CPUState *cpu)
{
    /* A vCPU that has got there, and could not be switched, goes on. */
    if (!window.open || qatomic_read(&window.ending) ||
        (window_end_type(window.spec) == ACCEL_WINDOW_END_TYPE_RETURN &&
         !window_returns(cpu))) {
        return false;
    }
    window.vcpu[cpu->cpu_index].at_end = true;
    return true;
}

static void window_insert_breakpoint(vaddr address)
{
    CPUState *cpu;

    CPU_FOREACH(cpu) {
        cpu_breakpoint_insert(cpu, address, BP_ACCEL_SWITCH, NULL);
    }
}

static void window_remove_breakpoints(void)
{
    CPUState *cpu;

    CPU_FOREACH(cpu) {
        cpu_breakpoint_remove_all(cpu, BP_ACCEL_SWITCH);
    }
}

/* Begin and close */

static void window_arm_end(void)
{
    AccelWindowEnd *end = window.spec ? window.spec->end : NULL;

    switch (window_end_type(window.spec)) {
    case ACCEL_WINDOW_END_TYPE_TIME:
        if (!window.timer) {
            window.timer = timer_new_ns(QEMU_CLOCK_VIRTUAL,
                                        switch_window_timeout, NULL);
        }
        timer_mod(window.timer,
                  qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) + end->u.time.ns);
        break;
    case ACCEL_WINDOW_END_TYPE_ADDRESS:
        window_insert_breakpoint(end->u.address.address);
        break;
    case ACCEL_WINDOW_END_TYPE_RETURN:
        if (switch_arch_find_return(window.cpu, &window.way)) {
            window_insert_breakpoint(window.way.address);
        } else {
            window_reached(NULL, ACCEL_WINDOW_END_REASON_RETURN);
        }
        break;
    default:
        break;
    }
}

void switch_window_begin(const SwitchWindow *w)
{
    CPUState *cpu;
    uint64_t rip, cr3;

    if (!window.vcpu) {
        int count = 0;

        CPU_FOREACH(cpu) {
            count = MAX(count, cpu->cpu_index + 1);
        }
        window.vcpu = g_new0(WindowVCPU, count);
    }
    window.id = g_strdup(w->id);
    window.spec = w->spec ? QAPI_CLONE(AccelWindow, w->spec) : NULL;
    window.trigger_cpu = w->cpu;
    window.cpu = w->cpu ?: first_cpu;
    window.ending = false;
    window.began = get_clock();
    switch_plugins_for_window(window.spec);
    CPU_FOREACH(cpu) {
        window_start_counting(cpu);
    }
    if (w->cpu && w->at_instruction &&
        !switch_omits(SWITCH_FIXUP_FIRST_INSTRUCTION)) {
        w->cpu->cflags_next_tb = w->cpu->tcg_cflags | CF_NOIRQ | 1;
    }
    window.at_breakpoint = w->cpu && w->at_breakpoint;
    if (window.at_breakpoint) {
        switch_arch_arrived_at_breakpoint(w->cpu);
    }
    window.open = true;
    window_arm_end();
    if (w->id) {
        switch_trigger_opened(w->id);
    }
    switch_arch_get_pc(window.cpu, &rip, &cr3);
    qapi_event_send_accel_window_begin(window.id, window.cpu->cpu_index, rip,
                                       cr3);
}

void switch_window_close(int64_t stopped)
{
    CPUState *cpu;
    uint64_t rip, cr3, executed;

    if (!window.open) {
        return;
    }
    executed = window_executed(window.cpu);
    if (window.at_breakpoint && !window_executed(window.trigger_cpu)) {
        /* Else it would hit its trigger for the same instruction again. */
        switch_arch_pass_breakpoint(window.trigger_cpu);
    }
    switch_arch_get_pc(window.cpu, &rip, &cr3);
    qapi_event_send_accel_window_end(window.id,
        window.ending ? window.reason : ACCEL_WINDOW_END_REASON_COMMAND,
        switch_state->active, window.cpu->cpu_index, rip, cr3, executed,
        stopped - window.began);
    CPU_FOREACH(cpu) {
        window_stop_counting(cpu);
    }
    switch_plugins_for_window(NULL);
    window_remove_breakpoints();
    if (window.timer) {
        timer_del(window.timer);
    }
    window.open = false;
    window.ending = false;
    g_clear_pointer(&window.id, g_free);
    qapi_free_AccelWindow(window.spec);
    window.spec = NULL;
}
