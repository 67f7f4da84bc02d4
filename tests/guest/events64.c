/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * events64: interrupts that are pending, held back or being served when a
 * switch comes: each comes once, and in its order.
 *
 * By the local APIC's interrupt command register to itself, and the PIC as
 * ExtINT; and NMIs.  Runs at CPL0.
 */
#include "lib/long.h"

#define LAPIC_BASE      0xfee00000ul
#define LAPIC_TPR       0x080
#define LAPIC_ISR       0x100
#define LAPIC_IRR       0x200
#define LAPIC_ICR       0x300
#define ICR_SELF        0x40000
#define ICR_NMI         0x400

#define PIC_MASK        0x21

#define VECTOR_LOW      0x41
#define VECTOR_HIGH     0x51

#define MAX_SEEN        8

#define LAPS_WANTED     (*(volatile uint32_t *)0x500)

/* The vectors that came, in their order. */
static volatile uint32_t seen[MAX_SEEN], count;
static uint32_t digest, errors;

static volatile uint32_t *lapic(uint32_t offset)
{
    return (volatile uint32_t *)(LAPIC_BASE + offset);
}

static void verify(const char *what, uint64_t expected, uint64_t got)
{
    digest = (digest ^ (uint32_t)got) * 16777619;
    errors += expected != got;
    check_value(what, expected, got);
}

static void send_self(uint32_t command)
{
    *lapic(LAPIC_ICR) = ICR_SELF | command;
}

static bool lapic_bit(uint32_t registers, int vector)
{
    return *lapic(registers + vector / 32 * 0x10) >> vector % 32 & 1;
}

static void in_nmi(void)
{
    if (count > 1) {
        return;
    }
    /* The next one waits for this one's IRET. */
    send_self(ICR_NMI);
    ask_switch();
    verify("NMIs in the first NMI", 1, count);
}

void trap(Frame *frame)
{
    uint32_t vector = frame->vector;

    if (vector < 0x20 && vector != VECTOR_NMI) {
        check_value("no exception, at RIP", frame->rip, vector);
        debug_exit(2);
    }
    if (count < MAX_SEEN) {
        seen[count] = vector;
    }
    count++;
    switch (vector) {
    case VECTOR_NMI:
        in_nmi();
        break;
    case VECTOR_PIT:
        ask_switch();
        pic_eoi();
        break;
    default:
        verify("in service", true, lapic_bit(LAPIC_ISR, vector));
        ask_switch();
        verify("in service after a switch", true,
               lapic_bit(LAPIC_ISR, vector));
        lapic_eoi();
    }
}

static void begin(void)
{
    count = 0;
}

/* Let in what is pending: an emulator of CPL0 may take some time. */
static void window(void)
{
    asm volatile("sti\n"
                 "mov $300, %%ecx\n"
                 "1: loop 1b\n"
                 "cli" : : : "rcx", "memory");
}

static void expect(const char *what, uint32_t number, uint32_t first,
                   uint32_t second)
{
    verify(what, number, count);
    if (number > 0) {
        verify(what, first, seen[0]);
    }
    if (number > 1) {
        verify(what, second, seen[1]);
    }
}

static void check_pending(void)
{
    begin();
    send_self(VECTOR_LOW);
    send_self(VECTOR_HIGH);
    ask_switch();
    verify("pending, low", true, lapic_bit(LAPIC_IRR, VECTOR_LOW));
    verify("pending, high", true, lapic_bit(LAPIC_IRR, VECTOR_HIGH));
    expect("none with IF clear", 0, 0, 0);
    window();
    expect("two by priority", 2, VECTOR_HIGH, VECTOR_LOW);
    verify("none pending", false, lapic_bit(LAPIC_IRR, VECTOR_HIGH));
}

static void check_priority(void)
{
    begin();
    *lapic(LAPIC_TPR) = VECTOR_LOW & 0xf0;
    send_self(VECTOR_LOW);
    ask_switch();
    window();
    expect("none at this priority", 0, 0, 0);
    send_self(VECTOR_HIGH);
    window();
    expect("one above this priority", 1, VECTOR_HIGH, 0);
    verify("TPR", VECTOR_LOW & 0xf0, *lapic(LAPIC_TPR));
    ask_switch();
    verify("still pending", true, lapic_bit(LAPIC_IRR, VECTOR_LOW));
    *lapic(LAPIC_TPR) = 0;
    window();
    expect("both", 2, VECTOR_HIGH, VECTOR_LOW);
}

static void check_nmi(void)
{
    begin();
    send_self(ICR_NMI);
    window();
    expect("NMI and another one in it", 2, VECTOR_NMI, VECTOR_NMI);
}

static void check_extint(void)
{
    begin();
    outb(PIC_MASK, 0xfe);
    /* Mode 0: the output rises at the count's end, and stays up. */
    outb(0x43, 0x30);
    outb(0x40, 200);
    outb(0x40, 0);
    outb(0x20, 0x0a);
    while (!(inb(0x20) & 1)) {
        continue;
    }
    ask_switch();
    expect("ExtINT with IF clear", 0, 0, 0);
    window();
    ask_switch();
    window();
    expect("ExtINT", 1, VECTOR_PIT, 0);
    outb(0x20, 0x0b);
    verify("PIC's in-service register", 0, inb(0x20));
    outb(PIC_MASK, 0xff);
}

static void setup(void)
{
    setup_idt();
    /* Slowly, as a switch in each interrupt may take longer than 1 ms. */
    setup_pit(19);
    setup_lapic();
    window();
    outb(PIC_MASK, 0xff);
    window();
}

void kernel_main(void)
{
    put_string("events64\n");
    setup();
    for (uint32_t lap = 1; ; lap++) {
        check_pending();
        check_priority();
        check_nmi();
        check_extint();
        put_char('.');
        if (lap == LAPS_WANTED) {
            put_string("\nDIGEST ");
            put_hex(digest);
            put_char('\n');
            debug_exit(errors ? 1 : 0);
        }
    }
}
