/*
 * The LAPIC between KVM's engine and QEMU's
 *
 * hw/i386/kvm/apic.c moves the registers; what is here is the timer, of
 * which that code leaves out the current count (HAZARDS E2, E3).
 *
 * KVM and QEMU both clock the LAPIC at 1 GHz: a count is ns, divided by the
 * divide configuration register (SDM vol. 3A, "APIC Timer").
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qemu/timer.h"
#include "hw/i386/apic.h"
#include "kvm/kvm_i386.h"
#include "system/kvm.h"
#include "x86-switch.h"

/* Register numbers, offset in the APIC page divided by 16. */
#define LAPIC_REG_TMICT 0x38
#define LAPIC_REG_TMCCT 0x39

static uint32_t *lapic_reg(struct kvm_lapic_state *page, int reg)
{
    return (uint32_t *)(page->regs + (reg << 4));
}

int x86_switch_export_lapic(X86CPU *cpu, X86SwitchCPU *sc)
{
    struct kvm_lapic_state page;
    int ret = kvm_vcpu_ioctl(CPU(cpu), KVM_GET_LAPIC, &page);

    if (ret < 0) {
        return ret;
    }
    /* All of it again: an interrupt may have come since it was first read. */
    kvm_get_apic_state(cpu->apic_state, &page);
    sc->lapic_tmcct = *lapic_reg(&page, LAPIC_REG_TMCCT);
    return 0;
}

/*
 * A timer that expires between the vCPU's stop and KVM_GET_LAPIC is nowhere
 * to be seen: KVM keeps it in lapic_timer.pending and puts it into IRR only
 * when the vCPU runs (FINDINGS 3.2).  A one-shot that stands at 0 with its
 * vector neither requested nor in service looks just so.
 */
static bool lapic_timer_may_have_expired(APICCommonState *s, uint32_t tmcct)
{
    uint32_t lvt = s->lvt[APIC_LVT_TIMER];
    int vector = lvt & 0xff;

    return tmcct == 0 && s->initial_count &&
           !(lvt & (APIC_LVT_MASKED | APIC_LVT_TIMER_PERIODIC)) &&
           !apic_get_bit(s->irr, vector) && !apic_get_bit(s->isr, vector) &&
           !switch_omits(SWITCH_FIXUP_LAPIC_EXPIRED);
}

void x86_switch_lapic_to_tcg(X86CPU *cpu, X86SwitchCPU *sc)
{
    APICCommonState *s = x86_switch_lapic(cpu);
    int64_t now = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
    uint64_t gone = s->initial_count - MIN(sc->lapic_tmcct, s->initial_count);

    s->initial_count_load_time = now - (gone << s->count_shift);
    apic_next_timer(s, now);
    if (lapic_timer_may_have_expired(s, sc->lapic_tmcct)) {
        s->next_time = now;
        s->timer_expiry = now;
    }
    if (s->apicbase & MSR_IA32_APICBASE_ENABLE) {
        cpu_set_apic_feature(&cpu->env);
    } else {
        cpu_clear_apic_feature(&cpu->env);
    }
}

/*
 * KVM_SET_LAPIC starts the timer from TMCCT; a one-shot with a TMCCT of 0
 * fires at once (kernel: set_target_expiration()).  So one that has fired
 * gets no initial count either, and one that is due gets a count of 1.
 */
int x86_switch_import_lapic(X86CPU *cpu)
{
    APICCommonState *s = x86_switch_lapic(cpu);
    bool periodic = s->lvt[APIC_LVT_TIMER] & APIC_LVT_TIMER_PERIODIC;
    int64_t now = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
    struct kvm_lapic_state page;
    uint32_t count;

    kvm_put_apic_state(s, &page);
    if (timer_pending(s->timer)) {
        int64_t left = MAX(s->next_time - now, 0);

        count = MAX(left >> s->count_shift, 1);
        count = MIN(count, MAX(s->initial_count, 1));
    } else {
        count = s->initial_count ? apic_get_current_count(s) : 0;
    }
    *lapic_reg(&page, LAPIC_REG_TMCCT) = count;
    if (!count && !periodic) {
        *lapic_reg(&page, LAPIC_REG_TMICT) = 0;
    }
    return kvm_vcpu_ioctl(CPU(cpu), KVM_SET_LAPIC, &page);
}
