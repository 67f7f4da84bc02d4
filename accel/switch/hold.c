/*
 * vCPUs that stand still until the main loop has acted on what they have met
 *
 * CPUState.stop alone does not hold one: whoever pauses all vCPUs and resumes
 * them, as for a reset, lets it go.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "hw/boards.h"
#include "system/runstate.h"
#include "internal.h"
#include "window.h"

/* Besides the reasons: it has not run since the guest was started. */
#define NOT_RUN 0x80

static uint8_t *holds;          /* by cpu_index: a set of SwitchHold; BQL */

static void release_at_start(void *opaque, bool running, RunState state)
{
    CPUState *cpu;

    if (!running) {
        return;
    }
    switch_release_vcpus(SWITCH_HOLD_DEBUGGER | SWITCH_HOLD_STOPPED);
    CPU_FOREACH(cpu) {
        holds[cpu->cpu_index] |= NOT_RUN;
    }
}

void switch_init_holds(MachineState *ms)
{
    holds = g_new0(uint8_t, ms->smp.max_cpus);
    qemu_add_vm_change_state_handler(release_at_start, NULL);
}

void switch_hold_vcpu(CPUState *cpu, SwitchHold why)
{
    holds[cpu->cpu_index] |= why;
    /* As cpu_stop_current(), which says that it has stopped already */
    cpu->stop = true;
    cpu_exit(cpu);
}

void switch_keep_held(CPUState *cpu)
{
    if (cpu->stopped) {
        return;
    }
    holds[cpu->cpu_index] &= ~NOT_RUN;
    if (holds[cpu->cpu_index]) {
        cpu->stop = true;
    }
}

bool switch_is_held(CPUState *cpu, SwitchHold why)
{
    return holds[cpu->cpu_index] & why;
}

void switch_hold_stopped_vcpus(void)
{
    CPUState *cpu;

    if (switch_omits(SWITCH_FIXUP_DEBUGGER)) {
        return;
    }
    CPU_FOREACH(cpu) {
        if (cpu->stopped && holds[cpu->cpu_index] & NOT_RUN &&
            runstate_is_running()) {
            holds[cpu->cpu_index] |= SWITCH_HOLD_STOPPED;
        }
    }
}

void switch_release_vcpu(CPUState *cpu, int why)
{
    holds[cpu->cpu_index] &= ~why;
}

void switch_release_vcpus(int why)
{
    CPUState *cpu;

    CPU_FOREACH(cpu) {
        switch_release_vcpu(cpu, why);
    }
}
