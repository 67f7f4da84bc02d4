/*
 * Accelerator operations that never change: each goes to the accelerator
 * that runs the guest now
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/module.h"
#include "system/cpus.h"
#include "accel/switch/arch.h"
#include "debugger.h"

/* Call the active accelerator's @op, if it has one. */
#define FORWARD(op, ...) \
    do { \
        const AccelOpsClass *ops_ = switch_active_ops(); \
        if (ops_->op) { \
            ops_->op(__VA_ARGS__); \
        } \
    } while (0)

static bool switch_cpus_are_resettable(void)
{
    const AccelOpsClass *ops = switch_active_ops();

    return !ops->cpus_are_resettable || ops->cpus_are_resettable();
}

static void switch_cpu_reset_hold(CPUState *cpu)
{
    FORWARD(cpu_reset_hold, cpu);
    switch_window_reset_vcpu(cpu);
}

/*
 * A kick must be the active accelerator's: only a signal ends KVM_RUN, and
 * only an exit request ends translated code (hazard B5).
 */
static void switch_kick_vcpu_thread(CPUState *cpu)
{
    const AccelOpsClass *ops = switch_active_ops();

    if (ops->kick_vcpu_thread) {
        ops->kick_vcpu_thread(cpu);
    } else {
        cpus_kick_thread(cpu);
    }
}

static bool switch_cpu_thread_is_idle(CPUState *cpu)
{
    const AccelOpsClass *ops = switch_active_ops();

    return !ops->cpu_thread_is_idle || ops->cpu_thread_is_idle(cpu);
}

static void switch_synchronize_post_reset(CPUState *cpu)
{
    FORWARD(synchronize_post_reset, cpu);
    if (kvm_enabled()) {
        switch_arch_put_kvm(cpu);
    }
}

static void switch_synchronize_post_init(CPUState *cpu)
{
    FORWARD(synchronize_post_init, cpu);
    if (kvm_enabled()) {
        switch_arch_put_kvm(cpu);
        switch_arch_loaded_kvm(cpu);
    }
    if (!CPU_NEXT(cpu)) {
        switch_load_end();
    }
}

static void switch_synchronize_state(CPUState *cpu)
{
    FORWARD(synchronize_state, cpu);
}

static void switch_synchronize_pre_loadvm(CPUState *cpu)
{
    switch_load_starts(cpu);
    FORWARD(synchronize_pre_loadvm, cpu);
}

static void switch_synchronize_pre_resume(bool step_pending)
{
    FORWARD(synchronize_pre_resume, step_pending);
}

static void switch_handle_interrupt(CPUState *cpu, int mask)
{
    const AccelOpsClass *ops = switch_active_ops();

    if (ops->handle_interrupt) {
        ops->handle_interrupt(cpu, mask);
        return;
    }
    cpu->interrupt_request |= mask;
    if (!qemu_cpu_is_self(cpu)) {
        qemu_cpu_kick(cpu);
    }
}

static bool switch_supports_guest_debug(void)
{
    const AccelOpsClass *ops = switch_active_ops();

    return ops->supports_guest_debug && ops->supports_guest_debug();
}

static int switch_update_guest_debug(CPUState *cpu)
{
    const AccelOpsClass *ops = switch_active_ops();

    return ops->update_guest_debug ? ops->update_guest_debug(cpu) : 0;
}

static int switch_insert_breakpoint(CPUState *cpu, int type,
                                    vaddr addr, vaddr len)
{
    int ret = switch_active_ops()->insert_breakpoint(cpu, type, addr, len);

    if (ret == 0) {
        switch_debugger_inserted(cpu, type, addr, len);
    }
    return ret;
}

static int switch_remove_breakpoint(CPUState *cpu, int type,
                                    vaddr addr, vaddr len)
{
    int ret = switch_active_ops()->remove_breakpoint(cpu, type, addr, len);

    if (ret == 0) {
        switch_debugger_removed(type, addr, len);
    }
    return ret;
}

static void switch_remove_all_breakpoints(CPUState *cpu)
{
    FORWARD(remove_all_breakpoints, cpu);
    switch_debugger_removed_all();
}

static const AccelOpsClass *switch_find_ops(const char *name)
{
    AccelOpsClass *ops = ACCEL_OPS_CLASS(module_object_class_by_name(name));

    if (ops->ops_init) {
        ops->ops_init(ops);
    }
    return ops;
}

/* After both accelerators' init_machine: TCG fills its table only then. */
static void switch_ops_init(AccelOpsClass *ops)
{
    switch_state->kvm_ops = switch_find_ops(ACCEL_OPS_NAME("kvm"));
    switch_state->tcg_ops = switch_find_ops(ACCEL_OPS_NAME("tcg"));
}

static void switch_accel_ops_class_init(ObjectClass *oc, void *data)
{
    AccelOpsClass *ops = ACCEL_OPS_CLASS(oc);

    ops->ops_init = switch_ops_init;
    ops->cpus_are_resettable = switch_cpus_are_resettable;
    ops->cpu_reset_hold = switch_cpu_reset_hold;
    ops->create_vcpu_thread = switch_start_vcpu_thread;
    ops->kick_vcpu_thread = switch_kick_vcpu_thread;
    ops->cpu_thread_is_idle = switch_cpu_thread_is_idle;
    ops->synchronize_post_reset = switch_synchronize_post_reset;
    ops->synchronize_post_init = switch_synchronize_post_init;
    ops->synchronize_state = switch_synchronize_state;
    ops->synchronize_pre_loadvm = switch_synchronize_pre_loadvm;
    ops->synchronize_pre_resume = switch_synchronize_pre_resume;
    ops->handle_interrupt = switch_handle_interrupt;
    ops->supports_guest_debug = switch_supports_guest_debug;
    ops->update_guest_debug = switch_update_guest_debug;
    ops->insert_breakpoint = switch_insert_breakpoint;
    ops->remove_breakpoint = switch_remove_breakpoint;
    ops->remove_all_breakpoints = switch_remove_all_breakpoints;
}

static const TypeInfo switch_accel_ops_type = {
    .name = ACCEL_OPS_NAME("switch"),
    .parent = TYPE_ACCEL_OPS,
    .class_init = switch_accel_ops_class_init,
    .abstract = true,
};

static void switch_accel_ops_register_types(void)
{
    type_register_static(&switch_accel_ops_type);
}
type_init(switch_accel_ops_register_types);
