/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pv64: KVM's paravirtual features: a vCPU that runs is not marked as
 * preempted, the time that was stolen from it only grows, an interrupt is over
 * as its EOI or the bit in memory says, the MSRs keep what is written, and
 * hypercalls are answered, by either processor's instruction (Linux,
 * Documentation/virt/kvm/x86/msr.rst and hypercalls.rst).
 */
#include "lib/fault.h"

#define MSR_STEAL_TIME  0x4b564d03
#define MSR_PV_EOI      0x4b564d04
#define MSR_POLL        0x4b564d05
#define ENABLED         1

#define VECTOR_LOW      0x41
#define VECTOR_HIGH     0x51
#define ICR_SELF        0x40000

#define LOOKS           20000

#define HC_VAPIC_POLL   1
#define HC_UNKNOWN      0x12345678
#define ENOSYS          1000

static volatile struct {
    uint64_t steal;
    uint32_t version, flags;
    uint8_t preempted, pad[47];
} steal_time __attribute__((aligned(64)));

static volatile uint32_t eoi __attribute__((aligned(4)));
static volatile uint32_t taken, saved;
static bool switches;

static void end_of_interrupt(void)
{
    bool was_set;

    asm volatile("btrl $0, %0\n\t"
                 "setc %1" : "+m" (eoi), "=q" (was_set) : : "memory");
    if (was_set) {
        saved++;
    } else {
        lapic_eoi();
    }
}

void trap(Frame *frame)
{
    if (fault_taken(frame)) {
        return;
    }
    if (frame->vector != VECTOR_LOW && frame->vector != VECTOR_HIGH) {
        check_value("no other trap, at RIP", frame->rip, frame->vector);
        debug_exit(2);
    }
    taken++;
    if (switches) {
        ask_switch();
    }
    end_of_interrupt();
}

static void interrupt_self(int vector)
{
    uint32_t before = taken;

    *lapic(LAPIC_ICR) = ICR_SELF | vector;
    asm volatile("sti\n\t"
                 "nop\n\t"
                 "nop\n\t"
                 "cli" : : : "memory");
    for (int i = 0; i < 1000 && taken == before; i++) {
        asm volatile("sti\n\t"
                     "pause\n\t"
                     "cli" : : : "memory");
    }
    verify("the interrupt comes", true, taken == before + 1);
}

/* Whenever it looks, it runs. */
static uint8_t preempted_meanwhile(void)
{
    uint8_t preempted = 0;

    for (int i = 0; i < LOOKS; i++) {
        preempted |= steal_time.preempted;
    }
    return preempted;
}

static void check_steal_time(void)
{
    uint64_t steal;

    /* Whatever is in the page; "preempted" is as the lap before has left it. */
    steal_time.version |= 1;
    wrmsr(MSR_STEAL_TIME, (uintptr_t)&steal_time | ENABLED);
    ask_switch();
    verify("not preempted", 0, preempted_meanwhile());
    verify("the version is even", 0, steal_time.version & 1);
    steal = steal_time.steal;
    ask_switch();
    verify("not preempted after a switch", 0, preempted_meanwhile());
    verify("no stolen time comes back", true, steal_time.steal >= steal);
    verify("the MSR", true,
           rdmsr(MSR_STEAL_TIME) == ((uintptr_t)&steal_time | ENABLED));
    wrmsr(MSR_STEAL_TIME, 0);
    steal_time.preempted = 0x55;
    ask_switch();
    verify("the page is the guest's again", 0x55, steal_time.preempted);
}

static void check_eoi(void)
{
    wrmsr(MSR_PV_EOI, (uintptr_t)&eoi | ENABLED);
    for (int i = 0; i < 6; i++) {
        switches = i % 3 == 1;
        interrupt_self(VECTOR_HIGH);
        /* It would be held back by the one before, were that in service. */
        interrupt_self(VECTOR_LOW);
        if (i % 3 == 2) {
            ask_switch();
        }
    }
    verify("none in service", false, lapic_bit(LAPIC_ISR, VECTOR_LOW));
    wrmsr(MSR_PV_EOI, 0);
    ask_switch();
    verify("PV_EOI", 0, rdmsr(MSR_PV_EOI));
}

static void check_values(void)
{
    wrmsr(MSR_POLL, 0);
    ask_switch();
    verify("POLL_CONTROL", 0, rdmsr(MSR_POLL));
    wrmsr(MSR_POLL, 1);
    ask_switch();
    verify("POLL_CONTROL", 1, rdmsr(MSR_POLL));
    verify("a reserved bit of POLL_CONTROL", VECTOR_GP,
           MAY_FAULT("movl $" STRING(MSR_POLL) ", %%ecx\n\t"
                     "movl $2, %%eax\n\t"
                     "xorl %%edx, %%edx\n\t"
                     "wrmsr"));
    verify("a reserved bit of STEAL_TIME", VECTOR_GP,
           MAY_FAULT("movl $" STRING(MSR_STEAL_TIME) ", %%ecx\n\t"
                     "movl $2, %%eax\n\t"
                     "xorl %%edx, %%edx\n\t"
                     "wrmsr"));
    verify("PV_EOI at an odd address", VECTOR_GP,
           MAY_FAULT("movl $" STRING(MSR_PV_EOI) ", %%ecx\n\t"
                     "movl $0x100003, %%eax\n\t"
                     "xorl %%edx, %%edx\n\t"
                     "wrmsr"));
}

static int64_t vmcall(uint64_t number)
{
    asm volatile("vmcall" : "+a" (number) : "b" (0), "c" (0), "d" (0)
                 : "memory");
    return number;
}

static int64_t vmmcall(uint64_t number)
{
    asm volatile("vmmcall" : "+a" (number) : "b" (0), "c" (0), "d" (0)
                 : "memory");
    return number;
}

static void check_hypercalls(void)
{
    for (int i = 0; i < 2; i++) {
        verify("VMCALL, polling", 0, vmcall(HC_VAPIC_POLL));
        verify("VMMCALL, polling", 0, vmmcall(HC_VAPIC_POLL));
        ask_switch();
        verify("VMCALL, unknown", -ENOSYS, vmcall(HC_UNKNOWN));
        verify("VMMCALL, unknown", -ENOSYS, vmmcall(HC_UNKNOWN));
    }
}

void kernel_main(void)
{
    put_string("pv64\n");
    setup_idt();
    setup_pic();
    setup_lapic();
    for (;;) {
        check_steal_time();
        check_eoi();
        check_values();
        check_hypercalls();
        lap_done();
    }
}
