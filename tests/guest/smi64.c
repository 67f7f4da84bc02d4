/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * smi64: interrupts of delivery mode SMI, to the vCPU itself and to another
 * one, which runs or is halted: each is served once, in System Management
 * Mode, whatever switch is asked for in between; no register is changed.
 *
 * The handler is at SMBASE + 0x8000, and SMBASE is 0x30000 after a reset.  As
 * both vCPUs keep their state at one place there, only one is in there at once.
 */
#include "lib/hpet.h"
#include "lib/smp.h"

#define ICR_SMI         0x00200
#define SMI_HANDLER     0x38000
/* TR's attributes in the 64-bit state save area (APM vol. 2, table 10-1) */
#define SMI_TR          0x3fe92
/* Present and busy; after INIT, a TSS of 16 bits with AMD's KVM */
#define BUSY_TSS        0x82
#define SMI_COUNT       0x600
#define SMI_HELD        0x604
#define VECTOR_WAKE     0x41
#define SPINS           200

/* lock incl SMI_COUNT; 1: pause; cmpb $0, SMI_HELD; jne 1b; rsm */
static const uint8_t handler[] = {
    0xf0, 0x66, 0xff, 0x06, SMI_COUNT & 0xff, SMI_COUNT >> 8,
    0xf3, 0x90, 0x80, 0x3e, SMI_HELD & 0xff, SMI_HELD >> 8, 0x00, 0x75, 0xf7,
    0x0f, 0xaa,
};

static volatile uint32_t *const served = (void *)SMI_COUNT;
static volatile uint8_t *const held = (void *)SMI_HELD;
static volatile bool halts;
static volatile uint32_t awake, sleeps, laps_of_ap, starts;
static volatile uint64_t wrong;

void trap(Frame *frame)
{
    if (interrupts_taken(frame)) {
        return;
    }
    if (frame->vector != VECTOR_WAKE) {
        check_value("no exception, at RIP", frame->rip, frame->vector);
        debug_exit(2);
    }
    awake++;
    lapic_eoi();
}

/* Registers of these values, for as long as an SMI takes; those that changed */
static uint64_t changed_registers(void)
{
    uint64_t changed;

    asm volatile("movabs $0x0123456789abcdef, %%r8\n"
                 "movabs $0xfedcba9876543210, %%r9\n"
                 "mov %%r8, %%r10\n"
                 "not %%r10\n"
                 "mov %%r9, %%r11\n"
                 "bswap %%r11\n"
                 "mov $20, %%ecx\n"
                 "1: pause\n"
                 "dec %%ecx\n"
                 "jnz 1b\n"
                 "movabs $0x0123456789abcdef, %%rax\n"
                 "xor %%rax, %%r8\n"
                 "not %%rax\n"
                 "xor %%rax, %%r10\n"
                 "movabs $0xfedcba9876543210, %%rax\n"
                 "xor %%rax, %%r9\n"
                 "bswap %%rax\n"
                 "xor %%rax, %%r11\n"
                 "or %%r8, %%r10\n"
                 "or %%r9, %%r11\n"
                 "mov %%r10, %%rax\n"
                 "or %%r11, %%rax\n"
                 : "=a" (changed)
                 : : "rcx", "r8", "r9", "r10", "r11", "cc", "memory");
    return changed;
}

void ap_main(void)
{
    setup_idt();
    setup_lapic();
    starts++;
    for (;;) {
        if (halts) {
            sleeps++;
            asm volatile("sti; hlt; cli" : : : "memory");
        } else {
            /* What is to end a HLT comes here if an SMI has ended it. */
            asm volatile("sti; nop; cli" : : : "memory");
            laps_of_ap++;
            wrong |= changed_registers();
        }
    }
}

/* False after ten seconds, which is too long. */
static bool wait_for(const volatile uint32_t *value, uint32_t wanted)
{
    uint64_t end = hpet_ns() + 10 * SECOND;

    while (*value != wanted) {
        if (hpet_ns() > end) {
            return false;
        }
        wrong |= changed_registers();
    }
    return true;
}

/* Who is in SMM has to leave it first. */
static void wait_for_switch(void)
{
    while (switch_waits()) {
        wrong |= changed_registers();
    }
}

static void switch_once(void)
{
    ask_switch();
    wait_for_switch();
}

static void check_smi(const char *what, uint32_t to, uint32_t command)
{
    uint32_t before = *served;

    send_ipi(to, ICR_SMI | command);
    switch_once();
    verify(what, true, wait_for(served, before + 1));
    switch_once();
    take_interrupts(SPINS);
    verify(what, 1, *served - before);
    /* By which RSM sets it, under either accelerator; VMX wants it busy. */
    verify("TR is busy in the save area", BUSY_TSS,
           *(volatile uint16_t *)SMI_TR & BUSY_TSS);
    verify("no register is changed", 0, wrong);
}

/* The other vCPU goes on as it did. */
static void check_runs(void)
{
    uint32_t before = laps_of_ap;
    uint64_t end = hpet_ns() + 10 * SECOND;

    while (laps_of_ap == before && hpet_ns() < end) {
        continue;
    }
    verify("the other vCPU runs", true, laps_of_ap != before);
}

static void check_halted(void)
{
    uint32_t before = sleeps;

    halts = true;
    /* A further increment means that a HLT ended without an event. */
    verify("it halts", true, wait_for(&sleeps, before + 1));
    check_smi("to one that halts", AP_ID, 0);
    before = awake;
    halts = false;
    send_ipi(AP_ID, ICR_FIXED | VECTOR_WAKE);
    switch_once();
    verify("woken", true, wait_for(&awake, before + 1));
    check_runs();
}

/*
 * An INIT to one in SMM waits for RSM, and is taken once, though a switch that
 * was asked for is tried again and again meanwhile.  A startup has to wait.
 */
static void check_init(void)
{
    uint32_t before = *served, started = starts;
    uint64_t end = hpet_ns() + 10 * SECOND;

    *held = 1;
    send_ipi(AP_ID, ICR_SMI);
    verify("in SMM", true, wait_for(served, before + 1));
    send_ipi(AP_ID, ICR_INIT);
    ask_switch();
    wait_until(hpet_ns() + 20 * MS);
    *held = 0;
    while (starts == started && hpet_ns() < end) {
        send_ipi(AP_ID, ICR_STARTUP | AP_PAGE >> 12);
        wait_until(hpet_ns() + MS);
    }
    wait_for_switch();
    switch_once();
    check_runs();
    verify("started once after an INIT in SMM", 1, starts - started);
}

void kernel_main(void)
{
    put_string("smi64\n");
    setup_idt();
    setup_pic();
    setup_lapic();
    hpet_start();
    for (uint32_t i = 0; i < sizeof(handler); i++) {
        ((volatile uint8_t *)SMI_HANDLER)[i] = handler[i];
    }
    copy_ap_code();
    send_ipi(AP_ID, ICR_INIT);
    send_ipi(AP_ID, ICR_STARTUP | AP_PAGE >> 12);
    check_runs();
    for (;;) {
        check_smi("to itself", 0, 0);
        check_smi("to the other", AP_ID, 0);
        check_runs();
        check_smi("to all others", 0, ICR_OTHERS);
        check_halted();
        check_init();
        lap_done();
    }
}
