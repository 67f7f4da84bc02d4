/*
 * Traces without a file: a comparison's steps under KVM
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "exec/cpu-common.h"
#include "hw/core/cpu.h"
#include "system/kvm.h"
#include "system/kvm_int.h"
#include "standard-headers/asm-x86/kvm_para.h"
#include "accel/kvm/kvm-cpus.h"
#include "switch/kvm/trace.h"

/* KVM is asked where the vCPU is after each KICK_MS. */
#define KICK_MS 100

/*
 * If the vCPU has made fewer steps than FEW_STEPS in so many of these times,
 * the comparison ends.
 */
#define FEW_STEPS 8
#define KICKS_MAX 50

#define HELD_BACK (CPU_INTERRUPT_HARD | CPU_INTERRUPT_NMI | CPU_INTERRUPT_SMI)

typedef struct Stepping {
    unsigned until;
    SwitchSteps *steps;
    bool done;                  /* atomic */
    QemuCond cond;
} Stepping;

void x86_trace_note_step(X86Trace *t, const struct kvm_regs *regs,
                         const struct kvm_sregs *sregs)
{
    const X86TraceCode *c = t->at;
    X86Step step;

    if (!t->steps || !switch_trace_is_on()) {
        return;
    }
    step = (X86Step) {
        .pc = c->pc, .mode = c->mode, .bytes = c->bytes, .vector = -1,
        .rflags = regs->rflags,
        .regs = { regs->rax, regs->rcx, regs->rdx, regs->rbx,
                  regs->rsp, regs->rbp, regs->rsi, regs->rdi,
                  regs->r8, regs->r9, regs->r10, regs->r11,
                  regs->r12, regs->r13, regs->r14, regs->r15 },
        .selectors = { sregs->es.selector, sregs->cs.selector,
                       sregs->ss.selector, sregs->ds.selector,
                       sregs->fs.selector, sregs->gs.selector },
    };
    memcpy(step.code, c->code, sizeof(step.code));
    if (x86_steps_add(t->steps, &step) >= t->until) {
        switch_trace_end(KVM_TRACE_END_REASON_COMMAND);
    }
}

/*
 * KVM writes the guest's clock and the time that was stolen from it, in guest
 * memory, as it enters the guest: TCG has had another time there, and steals
 * none.  So KVM has no places for these meanwhile.
 */
static const struct {
    uint32_t msr;
    uint64_t features;
    const char *what;
} written[] = {
    { MSR_KVM_SYSTEM_TIME, CPUID_KVM_CLOCK | CPUID_KVM_CLOCK2, "kvm-clock" },
    { MSR_KVM_STEAL_TIME, CPUID_KVM_STEAL_TIME, "steal time" },
};

typedef struct Places {
    uint64_t msrs[ARRAY_SIZE(written)]; /* 0: there is none */
} Places;

static Places take_places_away(CPUState *cs)
{
    Places places = {};

    for (int i = 0; i < ARRAY_SIZE(written); i++) {
        uint64_t place;

        if (cpu_env(cs)->features[FEAT_KVM] & written[i].features &&
            x86_kvm_get_msr(cs, written[i].msr, &place) >= 0 && place & 1 &&
            x86_kvm_put_msr(cs, written[i].msr, 0) >= 0) {
            places.msrs[i] = place;
        }
    }
    return places;
}

static void give_places_back(CPUState *cs, const Places *places)
{
    for (int i = 0; i < ARRAY_SIZE(written); i++) {
        if (places->msrs[i] &&
            x86_kvm_put_msr(cs, written[i].msr, places->msrs[i]) < 0) {
            error_report("vCPU %d: KVM did not take the guest's %s back, which"
                         " stands still now", cs->cpu_index, written[i].what);
        }
    }
}

static void step(CPUState *cs, run_on_cpu_data data)
{
    Stepping *s = data.host_ptr;
    X86Trace *t = x86_trace_of(cs);
    int held_back = cs->interrupt_request & HELD_BACK;
    Places places = take_places_away(cs);
    int result;

    t->steps = s->steps;
    t->until = s->until;
    cs->interrupt_request &= ~held_back;
    /* Each exit tells the registers (KVM_CAP_SYNC_REGS). */
    cs->kvm_run->kvm_valid_regs = KVM_SYNC_X86_REGS |
                                  KVM_SYNC_X86_SREGS;
    do {
        result = kvm_cpu_exec(cs);
        /* After a shutdown KVM would go on from the reset. */
    } while (result == EXCP_INTERRUPT && switch_trace_is_on() &&
             cs->kvm_run->exit_reason != KVM_EXIT_SHUTDOWN &&
             cs->kvm_run->exit_reason != KVM_EXIT_INTERNAL_ERROR);
    s->steps->shutdown = cs->kvm_run->exit_reason == KVM_EXIT_SHUTDOWN;
    cs->kvm_run->kvm_valid_regs = 0;
    cs->interrupt_request |= held_back;
    give_places_back(cs, &places);
    t->steps = NULL;
    qatomic_set(&s->done, true);
    qemu_cond_signal(&s->cond);
}

void switch_arch_step_kvm(CPUState *cpu, const SwitchSteps *tcg,
                          SwitchSteps *steps)
{
    Stepping s = { .until = tcg->list->len, .steps = steps };
    unsigned len = 0;
    int kicks = 0;

    qemu_cond_init(&s.cond);
    switch_trace_begin_steps(cpu);
    async_run_on_cpu(cpu, step, RUN_ON_CPU_HOST_PTR(&s));
    while (!qatomic_read(&s.done)) {
        /* The main loop stands still: no device touches guest memory. */
        qemu_cond_timedwait_bql(&s.cond, KICK_MS);
        kicks += steps->list->len - len < FEW_STEPS;
        len = steps->list->len;
        if (kicks > KICKS_MAX) {
            switch_trace_end(KVM_TRACE_END_REASON_COMMAND);
        }
        /* Its thread would take note of a kick where it waits for work. */
        qatomic_set(&cpu->thread_kicked, false);
        qemu_cpu_kick(cpu);
    }
    switch_trace_end_steps(cpu);
    qemu_cond_destroy(&s.cond);
}
