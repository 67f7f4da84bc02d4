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
#include "internal.h"
#include "window.h"

static uint8_t *holds;          /* by cpu_index: a set of SwitchHold; BQL */

void switch_init_holds(MachineState *ms)
{
    holds = g_new0(uint8_t, ms->smp.max_cpus);
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
    if (holds[cpu->cpu_index] && !cpu->stopped) {
        cpu->stop = true;
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
