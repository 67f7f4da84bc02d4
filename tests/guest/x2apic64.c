/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * x2apic64: the local APIC by its MSRs (SDM vol. 3A, 11.12): into x2APIC mode
 * and out of it, with a switch at each step, and in it interrupts that are
 * pending, held back or being served, the timer, and what it has no more.
 */
#include "lib/fault.h"
#include "lib/hpet.h"
#include "lib/seen.h"

#define MSR_APIC_BASE   0x1b
#define APIC_EXTD       0x400
#define APIC_ENABLED    0x800

/* The MSR of an xAPIC's register. */
#define X2APIC(offset)  (0x800 + (offset) / 16)
#define X2APIC_ID       X2APIC(0x020)
#define X2APIC_TPR      X2APIC(LAPIC_TPR)
#define X2APIC_PPR      X2APIC(0x0a0)
#define X2APIC_EOI      X2APIC(0x0b0)
#define X2APIC_LDR      X2APIC(0x0d0)
#define X2APIC_DFR      X2APIC(0x0e0)
#define X2APIC_SVR      X2APIC(0x0f0)
#define X2APIC_ESR      X2APIC(0x280)
#define X2APIC_ICR      X2APIC(LAPIC_ICR)
#define X2APIC_ICR_HIGH X2APIC(0x310)
#define X2APIC_LVT_TIMER X2APIC(LAPIC_LVT_TIMER)
#define X2APIC_TIMER_ICR X2APIC(LAPIC_TIMER_ICR)
#define X2APIC_TIMER_CCR X2APIC(LAPIC_TIMER_CCR)
#define X2APIC_TIMER_DCR X2APIC(0x3e0)
#define X2APIC_SELF_IPI 0x83f

#define LAPIC_VERSION   0x030
#define LAPIC_SVR       0x0f0
/* SDM vol. 3A, "Local APIC Version Register" and 12.9 */
#define VERSION_EOI_SUPPRESSION (1 << 24)
#define SVR_EOI_SUPPRESSION     (1 << 12)
#define SVR_NO_FOCUS            (1 << 9)

#define ICR_PHYSICAL    0x00000
#define ICR_LOGICAL     0x00800
#define ICR_SELF        0x40000
#define ICR_TO(id)      ((uint64_t)(id) << 32)
#define LVT_MASKED      0x10000

#define VECTOR_LOW      0x41
#define VECTOR_HIGH     0x51
#define SPURIOUS        (0x100 | VECTOR_SPURIOUS)

#define SPINS           300

static bool x2apic_bit(uint32_t offset, int vector)
{
    return rdmsr(X2APIC(offset) + vector / 32) >> vector % 32 & 1;
}

void trap(Frame *frame)
{
    uint32_t vector = frame->vector;

    if (interrupts_taken(frame)) {
        return;
    }
    if (vector < 0x20) {
        if (vector != VECTOR_GP || !fault_taken(frame)) {
            check_value("no exception, at RIP", frame->rip, vector);
            debug_exit(2);
        }
        return;
    }
    saw(vector);
    verify("in service", true, x2apic_bit(LAPIC_ISR, vector));
    ask_switch();
    verify("in service after a switch", true, x2apic_bit(LAPIC_ISR, vector));
    wrmsr(X2APIC_EOI, 0);
    verify("served", false, x2apic_bit(LAPIC_ISR, vector));
}

/* Whether WRMSR or RDMSR of @msr is a #GP. */
static void check_fault(const char *what, uint32_t msr, bool write,
                        uint64_t value)
{
    uint64_t before = fault.count;

    asm volatile("leaq 1f(%%rip), %%rax\n\t"
                 "movq %%rax, %0\n\t"
                 "movq %%rsp, %1\n\t"
                 "movl %k2, %%eax\n\t"
                 "movq %2, %%rdx\n\t"
                 "shrq $32, %%rdx\n\t"
                 "testl %3, %3\n\t"
                 "jz 2f\n\t"
                 "wrmsr\n\t"
                 "jmp 1f\n"
                 "2: rdmsr\n"
                 "1:"
                 : "=m" (fault.rip), "=m" (fault.rsp)
                 : "r" (value), "r" ((uint32_t)write), "c" (msr)
                 : "rax", "rdx", "memory");
    fault.rip = 0;
    verify(what, before + 1, fault.count);
}

static void set_mode(uint64_t flags)
{
    uint64_t base = rdmsr(MSR_APIC_BASE) & ~(uint64_t)(APIC_EXTD |
                                                       APIC_ENABLED);

    wrmsr(MSR_APIC_BASE, base | flags);
}

/* What the LAPIC is never changes, nor what its SVR can keep. */
static void check_version(void)
{
    static uint32_t version, kept;
    uint32_t svr, written = SPURIOUS | SVR_NO_FOCUS | SVR_EOI_SUPPRESSION;

    *lapic(LAPIC_SVR) = written;
    ask_switch();
    svr = *lapic(LAPIC_SVR);
    if (!version) {
        version = *lapic(LAPIC_VERSION);
        kept = svr;
    }
    verify("same version", true, *lapic(LAPIC_VERSION) == version);
    verify("same SVR", true, svr == kept);
    *lapic(LAPIC_SVR) = written;
    verify("same SVR, written anew", true, *lapic(LAPIC_SVR) == kept);
    verify("can suppress EOIs if it says so", true,
           !!(svr & SVR_EOI_SUPPRESSION) ==
           !!(version & VERSION_EOI_SUPPRESSION));
    *lapic(LAPIC_SVR) = SPURIOUS;
}

/* From xAPIC mode, which has a TPR that stays (SDM vol. 3A, 11.12.5.1). */
static void enter(void)
{
    *lapic(LAPIC_TPR) = 0x20;
    ask_switch();
    set_mode(APIC_ENABLED | APIC_EXTD);
    ask_switch();
    verify("mode", APIC_ENABLED | APIC_EXTD,
           rdmsr(MSR_APIC_BASE) & (APIC_ENABLED | APIC_EXTD));
    verify("ID", 0, rdmsr(X2APIC_ID));
    verify("LDR", 1, rdmsr(X2APIC_LDR));
    verify("TPR", 0x20, rdmsr(X2APIC_TPR));
    verify("SVR", SPURIOUS, rdmsr(X2APIC_SVR));
    wrmsr(X2APIC_TPR, 0);
}

static void leave(void)
{
    set_mode(0);
    ask_switch();
    verify("off", 0, rdmsr(MSR_APIC_BASE) & (APIC_ENABLED | APIC_EXTD));
    set_mode(APIC_ENABLED);
    ask_switch();
    verify("on", APIC_ENABLED,
           rdmsr(MSR_APIC_BASE) & (APIC_ENABLED | APIC_EXTD));
    setup_lapic();
}

static void check_pending(void)
{
    forget();
    wrmsr(X2APIC_SELF_IPI, VECTOR_LOW);
    wrmsr(X2APIC_ICR, ICR_SELF | VECTOR_HIGH);
    ask_switch();
    verify("pending, low", true, x2apic_bit(LAPIC_IRR, VECTOR_LOW));
    verify("pending, high", true, x2apic_bit(LAPIC_IRR, VECTOR_HIGH));
    verify("ICR", ICR_SELF | VECTOR_HIGH, rdmsr(X2APIC_ICR));
    take_interrupts(SPINS);
    expect("two by priority", 2, VECTOR_HIGH, VECTOR_LOW);
}

static void check_destinations(void)
{
    forget();
    wrmsr(X2APIC_ICR, ICR_PHYSICAL | ICR_TO(0) | VECTOR_LOW);
    ask_switch();
    take_interrupts(SPINS);
    expect("by ID", 1, VECTOR_LOW, 0);
    forget();
    wrmsr(X2APIC_ICR, ICR_LOGICAL | ICR_TO(1) | VECTOR_HIGH);
    ask_switch();
    take_interrupts(SPINS);
    expect("by logical ID", 1, VECTOR_HIGH, 0);
    forget();
    wrmsr(X2APIC_ICR, ICR_PHYSICAL | ICR_TO(0xffffffff) | VECTOR_LOW);
    ask_switch();
    take_interrupts(SPINS);
    expect("to all", 1, VECTOR_LOW, 0);
    verify("destination", 0xffffffff, rdmsr(X2APIC_ICR) >> 32);
}

static void check_priority(void)
{
    forget();
    wrmsr(X2APIC_TPR, VECTOR_LOW & 0xf0);
    wrmsr(X2APIC_SELF_IPI, VECTOR_LOW);
    ask_switch();
    take_interrupts(SPINS);
    expect("none at this priority", 0, 0, 0);
    verify("PPR", VECTOR_LOW & 0xf0, rdmsr(X2APIC_PPR));
    wrmsr(X2APIC_TPR, 0);
    ask_switch();
    take_interrupts(SPINS);
    expect("one", 1, VECTOR_LOW, 0);
}

static void check_timer(void)
{
    uint64_t end = hpet_ns() + 10 * SECOND;

    forget();
    wrmsr(X2APIC_TIMER_DCR, 0xb);
    wrmsr(X2APIC_LVT_TIMER, VECTOR_TIMER);
    /* 2 ms, as it counts 1 GHz under both. */
    wrmsr(X2APIC_TIMER_ICR, 2000000);
    ask_switch();
    while (!count && hpet_ns() < end) {
        take_interrupts(SPINS);
    }
    expect("timer", 1, VECTOR_TIMER, 0);
    ask_switch();
    take_interrupts(SPINS);
    expect("timer, once", 1, VECTOR_TIMER, 0);
    verify("timer's count", 0, rdmsr(X2APIC_TIMER_CCR));
    wrmsr(X2APIC_LVT_TIMER, LVT_MASKED | VECTOR_TIMER);
}

static void check_faults(void)
{
    check_fault("reads DFR", X2APIC_DFR, false, 0);
    check_fault("reads ICR's upper half", X2APIC_ICR_HIGH, false, 0);
    check_fault("reads EOI", X2APIC_EOI, false, 0);
    check_fault("reads self IPI", X2APIC_SELF_IPI, false, 0);
    check_fault("writes ESR with 1", X2APIC_ESR, true, 1);
    check_fault("writes ID", X2APIC_ID, true, 0);
    check_fault("writes PPR", X2APIC_PPR, true, 0);
    check_fault("writes ISR", X2APIC(LAPIC_ISR), true, 0);
    check_fault("writes IRR", X2APIC(LAPIC_IRR), true, 0);
    check_fault("writes the timer's count", X2APIC_TIMER_CCR, true, 0);
    check_fault("writes TPR beyond 32 bits", X2APIC_TPR, true, 1ull << 32);
    check_fault("to xAPIC mode at once", MSR_APIC_BASE, true,
                rdmsr(MSR_APIC_BASE) & ~(uint64_t)APIC_EXTD);
}

void kernel_main(void)
{
    put_string("x2apic64\n");
    setup_idt();
    hpet_start();
    setup_pic();
    setup_lapic();
    for (;;) {
        check_version();
        enter();
        check_pending();
        check_destinations();
        check_priority();
        check_timer();
        check_faults();
        leave();
        lap_done();
    }
}
