/*
 * The LAPIC between KVM's engine and QEMU's
 *
 * hw/i386/kvm/apic.c moves the registers, but leaves out the timer's current
 * count, without which a one-shot that has fired would fire again (hazard E2).
 * This file moves the timer.  In TSC-deadline mode, which has no count, its
 * deadline is an MSR, put after the LAPIC (hazard E3).
 *
 * KVM and QEMU both clock the LAPIC at 1 GHz: a count is ns, divided by the
 * divide configuration register (SDM vol. 3A, "APIC Timer").
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/timer.h"
#include "hw/i386/apic.h"
#include "kvm/kvm_i386.h"
#include "system/kvm.h"
#include "system/reset.h"
#include "system/runstate.h"
#include "switch/kvm/kvm.h"
#include "switch/kvm/module.h"
#include "switch/x86-switch.h"

/* Register numbers, offset in the APIC page divided by 16. */
#define LAPIC_REG_VERSION 0x03
#define LAPIC_REG_TMR   0x18
#define LAPIC_REG_IRR   0x20
#define LAPIC_REG_LVTT  0x32
#define LAPIC_REG_TMICT 0x38
#define LAPIC_REG_TMCCT 0x39
#define LAPIC_REG_TDCR  0x3e

/* Those below are illegal (SDM vol. 3A, "Valid Interrupt Vectors"). */
#define LAPIC_FIRST_VECTOR  16

#define LAPIC_TIMER_ATTEMPTS 8

#define LAPIC_EOI_SUPPRESSION   (1 << 24)   /* of the version */

static uint32_t *lapic_reg(struct kvm_lapic_state *page, int reg)
{
    return (uint32_t *)(page->regs + (reg << 4));
}

bool x86_kvm_init_lapic(CPUState *cs, X86SwitchCPU *sc, Error **errp)
{
    struct kvm_lapic_state page;
    int ret = kvm_vcpu_ioctl(cs, KVM_GET_LAPIC, &page);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "KVM_GET_LAPIC");
        return false;
    }
    sc->lapic_version = *lapic_reg(&page, LAPIC_REG_VERSION);
    return true;
}

uint32_t x86_kvm_lapic_version(CPUState *cs)
{
    return x86_switch_cpu(cs)->lapic_version;
}

/* As KVM has it: with the focus processor check bit, which nothing obeys. */
uint32_t x86_kvm_lapic_svr_mask(CPUState *cs)
{
    return 0x3ff | (x86_kvm_lapic_version(cs) & LAPIC_EOI_SUPPRESSION
                    ? APIC_SV_DIRECTED_IO : 0);
}

typedef enum LapicTimer {
    LAPIC_TIMER_OFF,            /* it will not fire, or fires by the TSC */
    LAPIC_TIMER_ONE_SHOT,
    LAPIC_TIMER_PERIODIC,
} LapicTimer;

static LapicTimer lapic_timer(uint32_t lvt, uint32_t initial_count)
{
    if (!initial_count ||
        lvt & (APIC_LVT_MASKED | APIC_LVT_TIMER_TSCDEADLINE)) {
        return LAPIC_TIMER_OFF;
    }
    return lvt & APIC_LVT_TIMER_PERIODIC ? LAPIC_TIMER_PERIODIC
                                         : LAPIC_TIMER_ONE_SHOT;
}

static LapicTimer lapic_timer_of(struct kvm_lapic_state *page)
{
    return lapic_timer(*lapic_reg(page, LAPIC_REG_LVTT),
                       *lapic_reg(page, LAPIC_REG_TMICT));
}

/*
 * True if @count proves that the timer has not expired since its count was
 * @before.  A periodic timer that went all the way round looks the same: the
 * caller excludes that by the time that passed.
 */
static bool lapic_timer_ran_on(LapicTimer timer, uint32_t before,
                               uint32_t count)
{
    return timer == LAPIC_TIMER_ONE_SHOT ? count
                                         : count && count <= before;
}

/*
 * KVM keeps a tick in lapic_timer.pending, which no ioctl shows, until the vCPU
 * runs and the tick goes into IRR (hazard E2).  A timer that is due may not
 * even have expired for KVM yet.  In both cases a one-shot's count is 0, as it
 * is long after its tick was served.  Afterwards IRR tells these cases apart.
 */
int x86_kvm_begin_lapic_timer(CPUState *cs, X86SwitchCPU *sc)
{
    struct kvm_lapic_state *page = &sc->settled_lapic;
    struct kvm_mp_state unused;
    /* KVM_GET_MP_STATE has KVM take a pending INIT, which resets the LAPIC. */
    int ret = kvm_vcpu_ioctl(cs, KVM_GET_MP_STATE, &unused) ?:
              kvm_vcpu_ioctl(cs, KVM_GET_LAPIC, page);
    X86LapicTimer *t = &sc->lapic_timer;
    LapicTimer timer;

    if (ret == 0) {
        timer = lapic_timer_of(page);
        t->in_doubt = false;
        t->count = *lapic_reg(page, LAPIC_REG_TMCCT);
        t->unsettled = timer != LAPIC_TIMER_OFF &&
                       !(timer == LAPIC_TIMER_ONE_SHOT && t->count) &&
                       !switch_omits(SWITCH_FIXUP_LAPIC_EXPIRED);
    }
    return ret;
}

int x86_kvm_settle_lapic_timer(CPUState *cs, X86SwitchCPU *sc)
{
    struct kvm_lapic_state *page = &sc->settled_lapic;
    X86LapicTimer *t = &sc->lapic_timer;
    int ret = 0;

    /* A timer whose period is too short for this loses ticks anyway. */
    for (int i = 0; ret == 0 && i < LAPIC_TIMER_ATTEMPTS; i++) {
        uint32_t before = t->count;
        bool has_fired = before, was_runnable;
        LapicTimer timer;

        ret = x86_kvm_take_lapic_timer(cs, before ? NULL : &has_fired,
                                       &was_runnable) ?:
              kvm_vcpu_ioctl(cs, KVM_GET_LAPIC, page);
        if (ret < 0) {
            break;
        }
        t->settled_at = get_clock();
        /*
         * KVM does not look at the VMX preemption timer of a halted vCPU that
         * is woken by what can't be held back: an SMI, or a request that KVM
         * has not looked at yet (KVM_REQ_NMI, a page that was swapped in).
         */
        t->in_doubt = !has_fired ||
                      (was_runnable && x86_kvm_has_preemption_timer());
        t->count = *lapic_reg(page, LAPIC_REG_TMCCT);
        timer = lapic_timer_of(page);
        if (timer != LAPIC_TIMER_PERIODIC ||
            lapic_timer_ran_on(timer, before, t->count)) {
            break;
        }
    }
    return ret;
}

void x86_kvm_took_lapic(X86SwitchCPU *sc, const struct kvm_lapic_state *page)
{
    sc->taken.lapic_count =
        *lapic_reg((struct kvm_lapic_state *)page, LAPIC_REG_TMCCT);
    sc->taken.lapic_read_at = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL) +
                              x86_kvm_stopped_for();
}

/* QEMU has read the LAPIC into APICCommonState. */
void x86_kvm_export_lapic(X86CPU *cpu, X86SwitchCPU *sc)
{
    APICCommonState *s = x86_switch_lapic(cpu);
    X86LapicTimer *t = &sc->lapic_timer;
    /* Time since the count was read first, at the least */
    int64_t gone = get_clock() - t->settled_at;
    uint32_t before = t->count;
    LapicTimer timer;
    int vector;

    t->count = sc->taken.lapic_count;
    t->read_at = sc->taken.lapic_read_at;

    vector = s->lvt[APIC_LVT_TIMER] & 0xff;
    timer = lapic_timer(s->lvt[APIC_LVT_TIMER], s->initial_count);
    t->due = false;
    if (timer == LAPIC_TIMER_ONE_SHOT && !before) {
        t->due = t->in_doubt && !apic_get_bit(s->irr, vector) &&
                 !apic_get_bit(s->isr, vector);
    } else if (timer != LAPIC_TIMER_OFF) {
        t->due = !lapic_timer_ran_on(timer, before, t->count) ||
                 (timer == LAPIC_TIMER_PERIODIC &&
                  gone >> s->count_shift >= before);
    }
    if (switch_omits(SWITCH_FIXUP_LAPIC_EXPIRED)) {
        t->due = false;
    }
}

/*
 * KVM clears the deadline when its tick goes into IRR.  Where it does so by
 * itself (kvm.pi_inject_timer, APICv, AVIC) that may be after the MSR was read.
 */
static void drop_served_deadline(X86CPU *cpu)
{
    APICCommonState *s = x86_switch_lapic(cpu);
    CPUX86State *env = &cpu->env;

    if (s->lvt[APIC_LVT_TIMER] & APIC_LVT_TIMER_TSCDEADLINE &&
        apic_get_bit(s->irr, s->lvt[APIC_LVT_TIMER] & 0xff) &&
        x86_switch_get_tsc(env) >= env->tsc_deadline) {
        env->tsc_deadline = 0;
    }
}

/*
 * Time counts on from when the count was read: the timer may be due by now.
 * One that KVM has not had yet is as it was kept.
 */
void x86_kvm_lapic_timer_to_qemu(X86CPU *cpu, const X86SwitchCPU *sc)
{
    APICCommonState *s = x86_switch_lapic(cpu);
    const X86LapicTimer *t = &sc->lapic_timer;
    int64_t period = ((int64_t)s->initial_count + 1) << s->count_shift;
    int64_t now = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
    int64_t then = MIN(t->read_at, now);
    uint64_t gone = s->initial_count - MIN(t->count, s->initial_count);

    if (sc->stopped_timer.kept) {
        s->initial_count = sc->stopped_timer.initial_count;
        s->initial_count_load_time = sc->stopped_timer.load_time;
        s->next_time = s->timer_expiry = sc->stopped_timer.expiry;
        return;
    }
    if (switch_omits(SWITCH_FIXUP_LAPIC_COUNT)) {
        gone = 0;
    }
    s->initial_count_load_time = (t->count ? t->read_at : then) -
                                 (gone << s->count_shift);
    if (s->lvt[APIC_LVT_TIMER] & APIC_LVT_TIMER_PERIODIC &&
        s->initial_count_load_time > then) {
        /* A period that has begun since the machine was stopped */
        s->initial_count_load_time -=
            QEMU_ALIGN_UP(s->initial_count_load_time - then, period);
    }
    apic_next_timer(s, then);
    if (t->due) {
        s->next_time = then;
        s->timer_expiry = then;
    }
}

void x86_kvm_lapic_to_tcg(X86CPU *cpu, X86SwitchCPU *sc)
{
    APICCommonState *s = x86_switch_lapic(cpu);

    drop_served_deadline(cpu);
    x86_kvm_lapic_timer_to_qemu(cpu, sc);
    sc->stopped_timer.kept = false;
    if (s->apicbase & MSR_IA32_APICBASE_ENABLE) {
        cpu_set_apic_feature(&cpu->env);
    } else {
        cpu_clear_apic_feature(&cpu->env);
    }
}

/* The timer has fired, and KVM is to find its tick in IRR. */
static void put_tick(const APICCommonState *s, struct kvm_lapic_state *page)
{
    int vector = s->lvt[APIC_LVT_TIMER] & 0xff;
    uint32_t bit = 1u << vector % 32;

    if (vector >= LAPIC_FIRST_VECTOR) {
        *lapic_reg(page, LAPIC_REG_TMR + vector / 32) &= ~bit;
        *lapic_reg(page, LAPIC_REG_IRR + vector / 32) |= bit;
    }
}

/*
 * A period is over, and the main loop has not served its tick yet: put the tick
 * into KVM's IRR.  Returns how much is left of the next period, which began
 * when that one ended, not when KVM gets the timer.
 */
static int64_t end_lapic_period(APICCommonState *s,
                                struct kvm_lapic_state *page, int64_t now)
{
    int64_t period = ((int64_t)s->initial_count + 1) << s->count_shift;

    put_tick(s, page);
    return period - (now - s->initial_count_load_time) % period;
}

/*
 * KVM_SET_LAPIC starts the timer from TMCCT, and a one-shot with a TMCCT of 0
 * fires at once (kernel: set_target_expiration()).  So a one-shot that has
 * fired is put without its initial count, and one that is due with a count of 1
 * (hazard E2).  @expiry: -1 if the timer has nothing to fire.  Returns it, or
 * that of the next period.
 */
static int64_t set_lapic_timer(APICCommonState *s,
                               struct kvm_lapic_state *page, int64_t expiry)
{
    bool periodic = s->lvt[APIC_LVT_TIMER] & APIC_LVT_TIMER_PERIODIC;
    int64_t now = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
    uint32_t count;

    if (expiry >= 0) {
        int64_t left = MAX(expiry - now, 0);

        if (periodic && !left) {
            left = end_lapic_period(s, page, now);
        }
        expiry = now + left;
        count = MAX(left >> s->count_shift, 1);
        count = MIN(count, MAX(s->initial_count, 1));
    } else {
        count = s->initial_count ? apic_get_current_count(s) : 0;
    }
    if (switch_omits(SWITCH_FIXUP_LAPIC_COUNT)) {
        count = s->initial_count;
    }
    *lapic_reg(page, LAPIC_REG_TMCCT) = count;
    if (!count && !periodic) {
        *lapic_reg(page, LAPIC_REG_TMICT) = 0;
    }
    return expiry;
}

/* KVM takes a deadline only in its mode, and drops it when the mode changes. */
static int put_deadline(X86CPU *cpu, struct kvm_lapic_state *page)
{
    APICCommonState *s = x86_switch_lapic(cpu);
    CPUX86State *env = &cpu->env;
    bool masked = s->lvt[APIC_LVT_TIMER] & APIC_LVT_MASKED;
    bool expired, is_put = false;
    int ret;

    /*
     * Given one that has expired, KVM with a virtual APIC (APICv, AVIC) clears
     * it at once, and puts the tick into IRR (kernel: apic_timer_expired()):
     * have KVM given both like that, also if it expires here.
     */
    do {
        expired = env->tsc_deadline &&
                  x86_switch_get_tsc(env) >= env->tsc_deadline;
        if (is_put && !expired) {
            return 0;
        }
        if (expired && !masked) {
            put_tick(s, page);
        }
        ret = kvm_vcpu_ioctl(CPU(cpu), KVM_SET_LAPIC, page);
        if (ret == 0) {
            ret = x86_kvm_put_msr(CPU(cpu), MSR_IA32_TSCDEADLINE,
                                  expired ? 0 : env->tsc_deadline);
        }
        is_put = true;
    } while (ret == 0 && !expired);
    return ret;
}

int x86_kvm_import_lapic(X86CPU *cpu)
{
    X86SwitchCPU *sc = x86_switch_cpu(CPU(cpu));
    APICCommonState *s = x86_switch_lapic(cpu);
    bool by_tsc = s->lvt[APIC_LVT_TIMER] & APIC_LVT_TIMER_TSCDEADLINE;
    int64_t expiry = timer_pending(s->timer) && !by_tsc ? s->next_time : -1;
    struct kvm_lapic_state page;
    int ret = 0;

    kvm_put_apic_state(s, &page);
    expiry = set_lapic_timer(s, &page, expiry);
    sc->stopped_timer.kept = false;
    if (!runstate_is_running()) {
        x86_kvm_keep_lapic_timer(s, sc, s->initial_count, expiry);
        *lapic_reg(&page, LAPIC_REG_TMICT) = 0;
        *lapic_reg(&page, LAPIC_REG_TMCCT) = 0;
    }
    if (by_tsc) {
        return put_deadline(cpu, &page);
    }
    if (cpu->env.features[FEAT_1_ECX] & CPUID_EXT_TSC_DEADLINE_TIMER &&
        *lapic_reg(&page, LAPIC_REG_TMICT)) {
        /*
         * If KVM is in the other mode it clears the initial count on the way
         * (kernel: apic_update_lvtt()).
         */
        ret = kvm_vcpu_ioctl(CPU(cpu), KVM_SET_LAPIC, &page);
    }
    return ret ?: kvm_vcpu_ioctl(CPU(cpu), KVM_SET_LAPIC, &page);
}

void x86_kvm_fill_lapic_timer(const X86SwitchCPU *sc,
                              struct kvm_lapic_state *page)
{
    int64_t count = sc->stopped_timer.initial_count;
    /* By KVM's clock, which does not stop with the machine */
    int64_t left = sc->stopped_timer.expiry - x86_kvm_stopped_for() -
                   qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
    uint32_t divide = *lapic_reg(page, LAPIC_REG_TDCR);
    /* SDM vol. 3A, "Divide Configuration Register" */
    int shift = ((divide & 3) + ((divide & 8) >> 1) + 1) & 7;

    if (!sc->stopped_timer.kept || sc->stopped_timer.expiry < 0) {
        return;
    }
    if (left <= 0 && *lapic_reg(page, LAPIC_REG_LVTT) &
                     APIC_LVT_TIMER_PERIODIC) {
        left += QEMU_ALIGN_UP(1 - left, (count + 1) << shift);
    }
    *lapic_reg(page, LAPIC_REG_TMICT) = count;
    *lapic_reg(page, LAPIC_REG_TMCCT) = CLAMP(left >> shift, 1, MAX(count, 1));
}

/*
 * KVM's timer runs by the host's clock even if the machine is stopped, and a
 * load gives KVM no count.  So KVM gets the timer when the machine starts.
 */
void x86_kvm_keep_lapic_timer(const APICCommonState *s, X86SwitchCPU *sc,
                              uint32_t initial_count, int64_t expiry)
{
    sc->stopped_timer.kept = true;
    sc->stopped_timer.initial_count = initial_count;
    sc->stopped_timer.load_time = s->initial_count_load_time;
    sc->stopped_timer.expiry = expiry;
}

void accel_switch_keep_lapic_timer(APICCommonState *s)
{
    x86_kvm_keep_lapic_timer(s, x86_switch_cpu(CPU(s->cpu)), s->initial_count,
                             s->timer_expiry);
}

static int start_lapic_timer(CPUState *cs)
{
    X86SwitchCPU *sc = x86_switch_cpu(cs);
    APICCommonState *s = x86_switch_lapic(X86_CPU(cs));
    struct kvm_lapic_state page;
    int ret;

    s->initial_count = sc->stopped_timer.initial_count;
    s->initial_count_load_time = sc->stopped_timer.load_time;
    if (!s->initial_count ||
        s->lvt[APIC_LVT_TIMER] & APIC_LVT_TIMER_TSCDEADLINE) {
        return 0;
    }
    ret = kvm_vcpu_ioctl(cs, KVM_GET_LAPIC, &page);
    if (ret == 0) {
        *lapic_reg(&page, LAPIC_REG_TMICT) = s->initial_count;
        set_lapic_timer(s, &page, sc->stopped_timer.expiry);
        ret = kvm_vcpu_ioctl(cs, KVM_SET_LAPIC, &page);
    }
    return ret;
}

static void start_lapic_timers(void *opaque, bool running, RunState state)
{
    CPUState *cs;

    if (!running) {
        return;
    }
    CPU_FOREACH(cs) {
        bool kept = x86_switch_cpu(cs)->stopped_timer.kept;

        x86_switch_cpu(cs)->stopped_timer.kept = false;
        if (kept && kvm_enabled() && start_lapic_timer(cs) < 0) {
            warn_report("vCPU %d: the LAPIC's timer stands still",
                        cs->cpu_index);
        }
    }
}

/* The new LAPIC has its timer off. */
static void reset_lapic_timers(void *opaque)
{
    CPUState *cs;

    CPU_FOREACH(cs) {
        x86_switch_cpu(cs)->stopped_timer.kept = false;
    }
}

void x86_kvm_init_lapic_load(void)
{
    qemu_add_vm_change_state_handler(start_lapic_timers, NULL);
    qemu_register_reset(reset_lapic_timers, NULL);
}
