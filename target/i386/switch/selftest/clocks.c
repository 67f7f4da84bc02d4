/*
 * What goes on by itself during a round trip: the LAPIC's timer and the TSC
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qemu/timer.h"
#include "hw/i386/apic.h"
#include "switch/kvm/kvm.h"
#include "switch/selftest/selftest.h"
#include "switch/x86-switch.h"

#define LAPIC_LVTT  0x320
#define LAPIC_TMICT 0x380
#define LAPIC_TMCCT 0x390
#define LAPIC_TDCR  0x3e0

/* What the conversions of the current count may round, in counts and in ns. */
#define ROUNDED_COUNTS  4
#define ROUNDED_NS      1000

void x86_selftest_clocks_begin(X86Clocks *c)
{
    c->read_from = get_clock();
}

static void take_timer(X86Clocks *c, uint32_t lvt, uint32_t initial_count,
                       uint32_t count, int shift)
{
    c->timer_step = 1 << shift;
    c->timer_left = (int64_t)count << shift;
    c->timer_period = lvt & APIC_LVT_TIMER_PERIODIC
                      ? (int64_t)initial_count << shift : 0;
    c->read_to = get_clock();
}

void x86_selftest_clocks_take_kvm(X86Clocks *c,
                                  const struct kvm_lapic_state *page)
{
    const char *regs = page->regs;
    uint32_t divide = ldl_le_p(regs + LAPIC_TDCR);

    /* SDM vol. 3A, "Divide Configuration Register" */
    take_timer(c, ldl_le_p(regs + LAPIC_LVTT), ldl_le_p(regs + LAPIC_TMICT),
               ldl_le_p(regs + LAPIC_TMCCT),
               ((divide & 3) + ((divide & 8) >> 1) + 1) & 7);
}

void x86_selftest_clocks_take_tcg(X86Clocks *c, CPUState *cs)
{
    APICCommonState *s = x86_switch_lapic(X86_CPU(cs));
    const X86SwitchCPU *sc = x86_switch_cpu(cs);

    take_timer(c, s->lvt[APIC_LVT_TIMER], s->initial_count,
               s->initial_count ? apic_get_current_count(s) : 0,
               s->count_shift);
    /* A switch takes what was loaded, too. */
    x86_kvm_use_loaded_tsc();
    c->has_tsc = sc->has_tsc_offset_attr && !sc->tsc_by_clock;
    c->tsc_offset = sc->tsc_offset;
}

/* It has come nearer to its end by no more than the time that was. */
static char *diff_timer(const X86Clocks *a, const X86Clocks *b)
{
    int64_t rounded = ROUNDED_COUNTS * a->timer_step + ROUNDED_NS;
    int64_t elapsed = b->read_to - a->read_from;
    int64_t gone = a->timer_left - b->timer_left;

    if (a->timer_period && elapsed >= a->timer_period) {
        return NULL;
    }
    if (a->timer_period && gone < -rounded) {
        gone += a->timer_period;
    }
    if (gone >= -rounded && gone <= elapsed + rounded) {
        return NULL;
    }
    return g_strdup_printf("the LAPIC's timer had %" PRId64
                           " ns left, and has %" PRId64 " ns left %" PRId64
                           " ns later", a->timer_left, b->timer_left, elapsed);
}

char *x86_selftest_clocks_diff(const X86Clocks *before, const X86Clocks *after)
{
    if (before->has_tsc && after->has_tsc &&
        before->tsc_offset != after->tsc_offset) {
        return g_strdup_printf("the TSC's offset was %" PRId64 ", is %" PRId64,
                               before->tsc_offset, after->tsc_offset);
    }
    return diff_timer(before, after);
}
