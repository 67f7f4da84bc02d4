/*
 * accel-compare: the same instructions in TCG and under KVM
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "block/aio.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-accel-compare-target.h"
#include "qemu/main-loop.h"
#include "system/cpus.h"
#include "system/runstate.h"
#include "compare.h"
#include "internal.h"
#include "kvm-trace.h"
#include "window.h"

#define MOST_INSTRUCTIONS 65536

static bool compare_check(unsigned max, CPUState *cpu, uint32_t cpu_index,
                          Error **errp)
{
    if (!accel_switch_configured()) {
        error_setg(errp, "QEMU was started without -accel switch");
    } else if (max < 1 || max > MOST_INSTRUCTIONS) {
        error_setg(errp, "max-instructions must be from 1 to %d",
                   MOST_INSTRUCTIONS);
    } else if (!cpu) {
        error_setg(errp, "there is no vCPU %" PRIu32, cpu_index);
    } else if (runstate_is_running()) {
        error_setg(errp, "the guest runs; stop it first");
    } else if (switch_debugger_has_points()) {
        error_setg(errp, "a debugger has breakpoints set");
    } else if (cpu->singlestep_enabled) {
        error_setg(errp, "a debugger steps the guest");
    } else if (switch_triggers_armed()) {
        error_setg(errp, "a trigger is armed; delete it first"
                   " (accel-trigger-del)");
    } else if (switch_window_is_open()) {
        error_setg(errp, "a window is open");
    } else if (switch_check(errp)) {
        return switch_arch_can_trace(errp);
    }
    return false;
}

static bool coroutine_fn move_to_co(SwitchableAccel to, Error **errp)
{
    const SwitchRequest request = { .to = to };
    g_autoptr(AccelSwitchInfo) info = NULL;

    if (switch_state->active != to) {
        info = accel_switch_to_co(&request, errp);
        return info;
    }
    return true;
}

/* Has the guest been started or switched since, while a switch has waited? */
static bool is_still(SwitchableAccel in, Error **errp)
{
    if (runstate_is_running() || switch_state->active != in) {
        error_setg(errp, "the guest was started or switched meanwhile");
        return false;
    }
    return true;
}

/* What TCG has executed under KVM, and back */
static bool coroutine_fn step_kvm_co(CPUState *cpu, const SwitchSteps *tcg,
                                     SwitchSteps *kvm, AccelComparison *result,
                                     Error **errp)
{
    ERRP_GUARD();

    if (!move_to_co(SWITCHABLE_ACCEL_KVM, errp) ||
        !is_still(SWITCHABLE_ACCEL_KVM, errp)) {
        return false;
    }
    switch_arch_step_kvm(cpu, tcg, kvm);
    /* The switch writes the guest's clock. */
    switch_rehearsal_compare(result);
    if (!move_to_co(SWITCHABLE_ACCEL_TCG, errp)) {
        error_prepend(errp, "KVM has executed %u instructions: ",
                      switch_arch_count_steps(kvm));
        return false;
    }
    return is_still(SWITCHABLE_ACCEL_TCG, errp);
}

static AccelComparison *coroutine_fn compare_co(CPUState *cpu, unsigned max,
                                                SwitchSteps *tcg,
                                                SwitchSteps *kvm, Error **errp)
{
    g_autoptr(AccelComparison) result = g_new0(AccelComparison, 1);
    AccelCompareEnd end;

    if (!move_to_co(SWITCHABLE_ACCEL_TCG, errp) ||
        !is_still(SWITCHABLE_ACCEL_TCG, errp)) {
        return NULL;
    }
    switch_rehearsal_begin();
    end = switch_arch_rehearse(cpu, max, tcg);
    switch_rehearsal_rewind();
    if (switch_arch_count_steps(tcg)) {
        switch_rehearsal_repeat();
        switch_arch_rehearse_blocks(cpu, tcg);
        switch_rehearsal_rewind();
        switch_arch_compare_blocks(tcg, switch_rehearsal_compare_runs(),
                                   result);
        if (!step_kvm_co(cpu, tcg, kvm, result, errp)) {
            return NULL;
        }
    }
    if (!switch_arch_compare_steps(cpu, kvm, tcg, end, result)) {
        g_clear_pointer(&result->memory, qapi_free_AccelCompareMemoryList);
    }
    return g_steal_pointer(&result);
}

AccelComparison *coroutine_fn qmp_accel_compare(uint32_t max_instructions,
                                                bool has_cpu_index,
                                                uint32_t cpu_index,
                                                Error **errp)
{
    static bool in_progress;
    CPUState *cpu = qemu_get_cpu(has_cpu_index ? cpu_index : 0);
    AccelComparison *result = NULL;
    SwitchSteps *tcg, *kvm;

    if (!compare_check(max_instructions, cpu, cpu_index, errp)) {
        return NULL;
    }
    if (in_progress) {
        error_setg(errp, "another comparison is in progress");
        return NULL;
    }
    in_progress = true;
    tcg = switch_arch_new_steps();
    kvm = switch_arch_new_steps();
    result = compare_co(cpu, max_instructions, tcg, kvm, errp);
    switch_rehearsal_end();
    switch_arch_free_steps(tcg);
    switch_arch_free_steps(kvm);
    in_progress = false;

    /* See qmp_switch_accel(). */
    aio_co_schedule(qemu_get_aio_context(), qemu_coroutine_self());
    qemu_coroutine_yield();
    return result;
}
