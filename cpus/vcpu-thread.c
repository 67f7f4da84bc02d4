/*
 * One thread for each vCPU's whole life, which runs either accelerator's loop
 *
 * No thread ends or begins at a switch.  TCG never frees a thread's context,
 * and tcg_register_thread() aborts when there are more than max_cpus of them
 * (hazard B1).  A vCPU thread of KVM's destroys KVM's vCPU when it ends, with
 * buffers that QEMU still needs (hazard B2).
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/guest-random.h"
#include "qemu/main-loop.h"
#include "qemu/notify.h"
#include "qemu/plugin.h"
#include "qemu/rcu.h"
#include "hw/boards.h"
#include "system/cpus.h"
#include "system/kvm.h"
#include "system/tcg.h"
#include "exec/cpu-common.h"
#include "accel/kvm/kvm-cpus.h"
#include "accel/tcg/tcg-accel-ops.h"
#include "tcg/startup.h"
#include "accel/switch/arch.h"
#include "accel/switch/window.h"

typedef struct SwitchVCPUThread {
    Notifier force_rcu;
    CPUState *cpu;
} SwitchVCPUThread;

static void switch_do_nothing(CPUState *cpu, run_on_cpu_data data)
{
}

/*
 * Under TCG a vCPU may stay in an RCU critical section for long: get it
 * out.  Under KVM it leaves it by itself, as with -accel kvm; kicking it would
 * cost an exit from the guest.  Called with rcu_registry_lock held;
 * async_run_on_cpu() cannot deadlock with it.
 */
static void switch_force_rcu(Notifier *notifier, void *data)
{
    SwitchVCPUThread *t = container_of(notifier, SwitchVCPUThread, force_rcu);

    if (!tcg_enabled()) {
        return;
    }
    async_run_on_cpu(t->cpu, switch_do_nothing, RUN_ON_CPU_NULL);
}

/*
 * Run @cpu under TCG until it has a reason to stop.  BQL held before and
 * after.  Returns an EXCP_ code.
 */
static int switch_vcpu_exec_tcg(CPUState *cpu)
{
    int r;

    bql_unlock();
    r = tcg_cpu_exec(cpu);
    if (r == EXCP_ATOMIC) {
        cpu_exec_step_atomic(cpu);
    }
    bql_lock();
    return r;
}

static void *switch_vcpu_thread_fn(void *arg)
{
    SwitchVCPUThread t = { .cpu = arg };
    CPUState *cpu = arg;
    int r;

    rcu_register_thread();
    t.force_rcu.notify = switch_force_rcu;
    rcu_add_force_rcu_notifier(&t.force_rcu);
    tcg_register_thread();

    bql_lock();
    qemu_thread_get_self(cpu->thread);
    cpu->thread_id = qemu_get_thread_id();
    cpu->neg.can_do_io = true;
    current_cpu = cpu;

    kvm_init_vcpu(cpu, &error_fatal);
    kvm_init_cpu_signals(cpu);
    switch_arch_init_vcpu(cpu, &error_fatal);

#ifdef CONFIG_PLUGIN
    /* Not earlier: it kicks the thread, which must exist by then. */
    qemu_plugin_vcpu_init_hook(cpu);
#endif

    cpu_thread_signal_created(cpu);
    qemu_guest_random_seed_thread_part2(cpu->random_seed);

    /* process any pending work */
    cpu->exit_request = 1;

    do {
        r = EXCP_INTERRUPT;
        switch_keep_held(cpu);
        if (cpu_can_run(cpu)) {
            r = kvm_enabled() ? kvm_cpu_exec(cpu) : switch_vcpu_exec_tcg(cpu);
        }
        if (cpu->stop && !cpu->stopped && kvm_enabled() &&
            r == EXCP_INTERRUPT) {
            r = switch_arch_pausing_kvm(cpu);
        }
        if (tcg_enabled() && switch_window_vcpu_exit(cpu, r)) {
            r = EXCP_INTERRUPT;
        }
        if (r == EXCP_DEBUG) {
            switch_hold_vcpu(cpu, SWITCH_HOLD_DEBUGGER);
            cpu_handle_guest_debug(cpu);
        }
        qatomic_set_mb(&cpu->exit_request, 0);
        qemu_wait_io_event(cpu);
    } while (!cpu->unplug || cpu_can_run(cpu));

    kvm_destroy_vcpu(cpu);
    cpu_thread_signal_destroyed(cpu);
    bql_unlock();
    rcu_remove_force_rcu_notifier(&t.force_rcu);
    rcu_unregister_thread();
    return NULL;
}

void switch_start_vcpu_thread(CPUState *cpu)
{
    char name[VCPU_THREAD_NAME_SIZE];

    tcg_cpu_init_cflags(cpu, current_machine->smp.max_cpus > 1);

    snprintf(name, VCPU_THREAD_NAME_SIZE, "CPU %d/switch", cpu->cpu_index);
    qemu_thread_create(cpu->thread, name, switch_vcpu_thread_fn, cpu,
                       QEMU_THREAD_JOINABLE);
}
