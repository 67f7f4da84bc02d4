/*
 * on-kvm-error=tcg, or a trigger: an instruction that KVM can't execute is
 * executed in TCG
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "block/aio.h"
#include "migration/misc.h"
#include "system/cpus.h"
#include "system/kvm.h"
#include "system/runstate.h"
#include "internal.h"
#include "kvm-trace.h"
#include "trace.h"
#include "window.h"

/* How long a vCPU stands still at an instruction that KVM can't execute. */
#define SWITCH_KVM_ERROR_PAUSE_NS (10 * SCALE_MS)

/* Resume the vCPUs that are stopped at an instruction that KVM can't execute */
static void switch_kvm_error_retry(void *opaque)
{
    CPUState *cpu;

    if (!runstate_is_running() || !kvm_enabled()) {
        return;
    }
    CPU_FOREACH(cpu) {
        if (cpu->kvm_run->exit_reason == KVM_EXIT_INTERNAL_ERROR) {
            cpu_resume(cpu);
        }
    }
}

static void switch_kvm_error_retry_later(void)
{
    static QEMUTimer *timer;

    if (!timer) {
        timer = timer_new_ns(QEMU_CLOCK_REALTIME, switch_kvm_error_retry,
                             NULL);
    }
    timer_mod(timer, qemu_clock_get_ns(QEMU_CLOCK_REALTIME) +
                     SWITCH_KVM_ERROR_PAUSE_NS);
}

/*
 * Runs in the I/O handlers' context, as accel_switch_to_co() does.  A vCPU that
 * is resumed, now or when the machine starts again, meets the instruction again
 * and schedules this function again.
 */
static void switch_kvm_error_bh(void *opaque)
{
    static int64_t first, last;
    CPUState *cpu = opaque;
    g_autoptr(Error) err = NULL;
    g_autoptr(AccelSwitchInfo) info = NULL;
    int64_t now = get_clock();
    SwitchWindow window;
    const SwitchRequest request = {
        .to = SWITCHABLE_ACCEL_TCG, .by_guest = true,
        .window = switch_trigger_kvm_error_window(cpu, &window) ? &window
                                                                : NULL,
    };
    SwitchResult result;

    if (!runstate_is_running()) {
        return;
    }
    if (!request.window && switch_state->on_kvm_error != ON_KVM_ERROR_TCG) {
        /* Its trigger was deleted: have the error reported. */
        cpu_resume(cpu);
        return;
    }
    if (switch_state->in_progress) {
        /* That switch waits, and will try again. */
        cpu_resume(cpu);
        return;
    }
    if (now - last > NANOSECONDS_PER_SECOND) {
        first = now;
    }
    last = now;
    /* A switch would be refused while it runs. */
    switch_trace_end_now(KVM_TRACE_END_REASON_KVM_ERROR);
    result = accel_switch_to(&request, &info, &err);
    if (result == SWITCH_OK) {
        switch_trigger_kvm_error_done(cpu, false);
        last = 0;
        return;
    }
    if (migration_is_running()) {
        /* It may take long; then the guest is stopped or can be switched. */
        first = now;
    }
    if (switch_may_wait(result, first + switch_wait_ns())) {
        return;
    }
    if (switch_is_blocked_for_now() && now < first + switch_wait_ns()) {
        /* No attempt was made, so nothing has resumed the vCPU. */
        switch_kvm_error_retry_later();
        return;
    }
    switch_trigger_kvm_error_done(cpu, true);
    error_reportf_err(g_steal_pointer(&err),
                      "KVM could not execute an instruction, so the guest is"
                      " stopped (system_reset revives it): ");
    vm_stop(RUN_STATE_INTERNAL_ERROR);
}

/* Any thread's kvm_cpu_exec() calls it without the BQL. */
static bool switch_goes_on_in_tcg(CPUState *cpu)
{
    BQL_LOCK_GUARD();

    return switch_trigger_kvm_error(cpu) ||
           switch_state->on_kvm_error == ON_KVM_ERROR_TCG;
}

bool accel_switch_on_kvm_error(CPUState *cpu)
{
    if (!accel_switch_configured() ||
        cpu->kvm_run->internal.suberror != KVM_INTERNAL_ERROR_EMULATION ||
        !switch_goes_on_in_tcg(cpu) ||
        switch_arch_retry_instruction(cpu) < 0) {
        return false;
    }
    trace_accel_switch_kvm_error(cpu->cpu_index);
    /*
     * Keep the vCPU out of KVM_RUN until the switch: the instruction would fail
     * again.  resume_all_vcpus() at the switch's end undoes the stop.
     */
    cpu->stop = true;
    aio_bh_schedule_oneshot(iohandler_get_aio_context(), switch_kvm_error_bh,
                            cpu);
    return true;
}
