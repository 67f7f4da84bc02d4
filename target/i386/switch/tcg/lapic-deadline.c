/*
 * The LAPIC's timer in TSC-deadline mode, in TCG
 *
 * IA32_TSC_DEADLINE is in CPUX86State, where KVM's is put and read, too.  The
 * timer of QEMU's LAPIC (hw/intc/apic.c) fires when the guest's TSC reaches it.
 * Rules: SDM vol. 3A, "TSC-Deadline Mode".
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qemu/host-utils.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "system/runstate.h"
#include "system/tcg.h"
#include "switch/tcg/tcg.h"
#include "switch/x86-switch.h"

/* Long after any guest's end, and no overflow, in ns */
#define NEVER (INT64_MAX / 4)

static bool has_mode(const APICCommonState *s)
{
    return s->cpu->env.features[FEAT_1_ECX] & CPUID_EXT_TSC_DEADLINE_TIMER;
}

static bool is_in_mode(const APICCommonState *s)
{
    return has_mode(s) && s->lvt[APIC_LVT_TIMER] & APIC_LVT_TIMER_TSCDEADLINE;
}

/* Ticks of the guest's TSC in ns, at the least */
static int64_t ticks_to_ns(uint64_t ticks)
{
    uint64_t khz = x86_switch_tsc_khz(), ms = khz ? ticks / khz : UINT64_MAX;

    return ms > NEVER / SCALE_MS
           ? NEVER
           : ms * SCALE_MS + DIV_ROUND_UP(ticks % khz * SCALE_MS, khz);
}

bool x86_tcg_lapic_deadline(APICCommonState *s, int64_t *expiry)
{
    CPUX86State *env = &s->cpu->env;
    uint64_t tsc;

    if (!is_in_mode(s)) {
        return false;
    }
    *expiry = -1;
    if (env->tsc_deadline) {
        tsc = x86_switch_get_tsc(env);
        *expiry = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) +
                  (env->tsc_deadline > tsc
                   ? ticks_to_ns(env->tsc_deadline - tsc) : 0);
    }
    return true;
}

bool x86_tcg_lapic_timer_fires(APICCommonState *s)
{
    CPUX86State *env = &s->cpu->env;

    if (!is_in_mode(s)) {
        return true;
    }
    if (!env->tsc_deadline || x86_switch_get_tsc(env) < env->tsc_deadline) {
        return false;
    }
    env->tsc_deadline = 0;
    return true;
}

uint32_t x86_tcg_lapic_lvt_timer(APICCommonState *s, uint32_t value)
{
    if (!has_mode(s)) {
        return value & ~APIC_LVT_TIMER_TSCDEADLINE;
    }
    if ((s->lvt[APIC_LVT_TIMER] ^ value) & APIC_LVT_TIMER_TSCDEADLINE) {
        s->initial_count = 0;
        s->cpu->env.tsc_deadline = 0;
    }
    return value;
}

bool x86_tcg_lapic_has_count(APICCommonState *s)
{
    return !is_in_mode(s);
}

void x86_tcg_lapic_follow_tsc(CPUX86State *env)
{
    APICCommonState *s = x86_switch_lapic(env_archcpu(env));

    if (is_in_mode(s)) {
        BQL_LOCK_GUARD();
        apic_next_timer(s, qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL));
        APIC_COMMON_GET_CLASS(s)->post_load(s);
    }
}

void x86_tcg_write_deadline(CPUX86State *env, uint64_t value)
{
    /* The main loop clears one that has expired. */
    BQL_LOCK_GUARD();

    if (is_in_mode(x86_switch_lapic(env_archcpu(env)))) {
        env->tsc_deadline = value;
        x86_tcg_lapic_follow_tsc(env);
    }
}

uint64_t x86_tcg_read_deadline(CPUX86State *env)
{
    return is_in_mode(x86_switch_lapic(env_archcpu(env)))
           ? env->tsc_deadline : 0;
}

/*
 * The TSC runs on while the machine is stopped, and QEMU_CLOCK_VIRTUAL, by
 * which the timer fires, does not.  A stream from KVM has no timer in this
 * mode.
 */
static void start_deadlines(void *opaque, bool running, RunState state)
{
    CPUState *cs;

    if (running && tcg_enabled()) {
        CPU_FOREACH(cs) {
            x86_tcg_lapic_follow_tsc(cpu_env(cs));
        }
    }
}

void x86_tcg_init_lapic_deadline(void)
{
    /* After the TSC is loaded, which is at priority 0 */
    qemu_add_vm_change_state_handler_prio(start_deadlines, NULL, 1);
}
