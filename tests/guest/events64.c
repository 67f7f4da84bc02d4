/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * events64: interrupts that are pending, held back or being served when a
 * switch comes: each comes once, and in its order.
 *
 * By the local APIC's interrupt command register to itself, the PIC as ExtINT,
 * and a level at the IOAPIC; and NMIs.  The shadows of STI and MOV SS.
 */
#include "lib/hpet.h"
#include "lib/seen.h"
#include "lib/uart.h"

#define ICR_SELF        0x40000
#define ICR_NMI         0x400

#define LAPIC_SVR       0x0f0
#define SPURIOUS        (0x100 | VECTOR_SPURIOUS)
#define SVR_EOI_SUPPRESSION (1 << 12)

#define REMOTE_IRR      0x4000
#define LEVEL           0x8000
#define MASKED          0x10000

#define PIC_MASK        0x21

#define IER_THRE        2
#define MCR_OUT2        8

#define VECTOR_DB       1
#define VECTOR_LOW      0x41
#define VECTOR_HIGH     0x51
#define VECTOR_LEVEL    0x55
#define VECTOR_MASKED   0x56

#define FLAGS_TF        0x100
#define FLAGS_IF        0x200

/* 65535 ticks of the PIT are 54.9 ms. */
#define LONG_COUNT      0xffff
#define LONG_COUNT_NS   (54 * MS)

#define SPINS           300
#define SHADOWS         2000
#define SHADOW_NS       20000           /* of the LAPIC's timer */

/* Where no interrupt may come, and whether one did; where the last one came. */
static volatile uintptr_t shadowed;
static volatile bool shadow_broken;
static volatile uintptr_t came_at;

static void send_self(uint32_t command)
{
    *lapic(LAPIC_ICR) = ICR_SELF | command;
}

static uint32_t redirection(void)
{
    return ioapic_read(IOAPIC_REDIRECTION(COM1_IRQ));
}

static void set_redirection(uint32_t value)
{
    ioapic_write(IOAPIC_REDIRECTION(COM1_IRQ), value);
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

static void at_level(void)
{
    verify("remote IRR", REMOTE_IRR, redirection() & REMOTE_IRR);
    ask_switch();
    verify("remote IRR after a switch", REMOTE_IRR,
           redirection() & REMOTE_IRR);
    if (count > 1) {
        /* This acknowledges it: the line falls. */
        inb(COM1_IIR);
    }
    /* As long as the line is up, EOI has it come again. */
    lapic_eoi();
}

/* Its pin is masked while it is in service: the EOI counts all the same. */
static void at_masked_level(void)
{
    set_redirection(redirection() | MASKED);
    ask_switch();
    verify("remote IRR of a masked pin", REMOTE_IRR,
           redirection() & REMOTE_IRR);
    if (count > 1) {
        inb(COM1_IIR);
    }
    lapic_eoi();
    set_redirection(redirection() & ~MASKED);
}

void trap(Frame *frame)
{
    uint32_t vector = frame->vector;

    if (interrupts_taken(frame)) {
        return;
    }
    if (vector < 0x20 && vector != VECTOR_NMI && vector != VECTOR_DB) {
        check_value("no exception, at RIP", frame->rip, vector);
        debug_exit(2);
    }
    saw(vector);
    came_at = frame->rip;
    switch (vector) {
    case VECTOR_TIMER:
        shadow_broken |= frame->rip == shadowed;
        lapic_eoi();
        break;
    case VECTOR_NMI:
        in_nmi();
        break;
    case VECTOR_DB:
        frame->rflags &= ~(uint64_t)FLAGS_TF;
        break;
    case VECTOR_PIT:
        ask_switch();
        pic_eoi();
        break;
    case VECTOR_LEVEL:
        at_level();
        break;
    case VECTOR_MASKED:
        at_masked_level();
        break;
    default:
        verify("in service", true, lapic_bit(LAPIC_ISR, vector));
        ask_switch();
        verify("in service after a switch", true,
               lapic_bit(LAPIC_ISR, vector));
        lapic_eoi();
    }
}

static void check_pending(void)
{
    forget();
    send_self(VECTOR_LOW);
    send_self(VECTOR_HIGH);
    ask_switch();
    verify("pending, low", true, lapic_bit(LAPIC_IRR, VECTOR_LOW));
    verify("pending, high", true, lapic_bit(LAPIC_IRR, VECTOR_HIGH));
    expect("none with IF clear", 0, 0, 0);
    take_interrupts(SPINS);
    expect("two by priority", 2, VECTOR_HIGH, VECTOR_LOW);
    verify("none pending", false, lapic_bit(LAPIC_IRR, VECTOR_HIGH));
}

static void check_priority(void)
{
    forget();
    *lapic(LAPIC_TPR) = VECTOR_LOW & 0xf0;
    send_self(VECTOR_LOW);
    ask_switch();
    take_interrupts(SPINS);
    expect("none at this priority", 0, 0, 0);
    send_self(VECTOR_HIGH);
    take_interrupts(SPINS);
    expect("one above this priority", 1, VECTOR_HIGH, 0);
    verify("TPR", VECTOR_LOW & 0xf0, *lapic(LAPIC_TPR));
    ask_switch();
    verify("still pending", true, lapic_bit(LAPIC_IRR, VECTOR_LOW));
    *lapic(LAPIC_TPR) = 0;
    take_interrupts(SPINS);
    expect("both", 2, VECTOR_HIGH, VECTOR_LOW);
}

/* One that is pending comes after the instruction that follows STI. */
static void check_sti(void)
{
    uintptr_t after;

    forget();
    send_self(VECTOR_LOW);
    asm volatile("leaq 1f(%%rip), %0\n\t"
                 "sti\n\t"
                 "outb %b1, %w2\n"
                 "1:\n\t"
                 "jmp 2f\n"
                 "2:\n\t"
                 "cli"
                 : "=&r" (after)
                 : "a" (SWITCH_TO_OTHER), "d" (SWITCH_PORT) : "memory");
    expect("STI", 1, VECTOR_LOW, 0);
    verify("STI: where it came", true, came_at == after);
}

/* None comes between a load of SS and the instruction that follows it. */
static void check_mov_ss(void)
{
    uint32_t left = SHADOWS, ss;

    forget();
    lapic_timer(SHADOW_NS, true);
    asm volatile("leaq 2f(%%rip), %q1\n\t"
                 "movq %q1, %2\n\t"
                 "movl %%ss, %1\n\t"
                 "sti\n\t"
                 "nop\n"      /* two shadows in a row need not both hold */
                 "1:\n\t"
                 "movl %1, %%ss\n"
                 "2:\n\t"
                 "nop\n\t"
                 "decl %0\n\t"
                 "jnz 1b\n\t"
                 "cli"
                 : "+r" (left), "=&r" (ss), "=m" (shadowed) : : "memory");
    ask_switch();
    lapic_timer(0, false);
    take_interrupts(SPINS);
    verify("MOV SS: interrupts between", false, shadow_broken);
}

static void check_nmi(void)
{
    forget();
    send_self(ICR_NMI);
    take_interrupts(SPINS);
    expect("NMI and another one in it", 2, VECTOR_NMI, VECTOR_NMI);
}

/* Mode 0: the output falls, rises at the count's end, and stays up. */
static void pit_once(uint16_t ticks)
{
    outb(0x43, 0x30);
    outb(0x40, ticks & 0xff);
    outb(0x40, ticks >> 8);
}

/* The PIT's interrupt, pending at the PIC, whose mask is then @mask. */
static void make_pit_pending(uint8_t mask)
{
    uint64_t start;

    /* The long count must not be over before the short one is set. */
    do {
        start = hpet_ns();
        outb(PIC_MASK, 0xfe);
        /* What came while it was masked is taken before the one that counts. */
        pit_once(LONG_COUNT);
        take_interrupts(SPINS);
        forget();
        outb(PIC_MASK, mask);
        pit_once(200);
    } while (hpet_ns() - start > LONG_COUNT_NS);
    outb(0x20, 0x0a);
    while (!(inb(0x20) & 1)) {
        continue;
    }
}

static void check_extint(void)
{
    make_pit_pending(0xfe);
    ask_switch();
    expect("ExtINT with IF clear", 0, 0, 0);
    take_interrupts(SPINS);
    ask_switch();
    take_interrupts(SPINS);
    expect("ExtINT", 1, VECTOR_PIT, 0);
    outb(0x20, 0x0b);
    verify("PIC's in-service register", 0, inb(0x20));
    outb(PIC_MASK, 0xff);
}

/* The trap of a single step ends HLT, with nothing else to come. */
static void check_stepped_halt(void)
{
    uintptr_t after;

    forget();
    asm volatile("lea 1f(%%rip), %0\n"
                 "pushfq\n"
                 "orl %1, (%%rsp)\n"
                 "popfq\n"
                 "hlt\n"
                 "1:"
                 : "=r" (after) : "i" (FLAGS_TF) : "cc", "memory");
    expect("step over HLT", 1, VECTOR_DB, 0);
    verify("step over HLT, where", after, came_at);
}

/* The trap comes before the interrupt that the instruction unmasks. */
static void check_stepped_unmask(void)
{
    make_pit_pending(0xff);
    asm volatile("pushfq\n"
                 "orl %0, (%%rsp)\n"
                 "popfq\n"
                 "outb %1, %2\n"
                 "nop\n"
                 "cli"
                 : : "i" (FLAGS_TF | FLAGS_IF), "a" ((uint8_t)0xfe),
                     "i" (PIC_MASK) : "cc", "memory");
    take_interrupts(SPINS);
    expect("step over an OUT", 2, VECTOR_DB, VECTOR_PIT);
    outb(PIC_MASK, 0xff);
}

/* KVM says that it can suppress the broadcast of EOIs, and doesn't. */
static void check_level(uint32_t spurious)
{
    *lapic(LAPIC_SVR) = spurious;
    forget();
    set_redirection(VECTOR_LEVEL | LEVEL);
    outb(COM1_MCR, MCR_OUT2);
    outb(COM1_IER, IER_THRE);
    ask_switch();
    verify("level, pending", true, lapic_bit(LAPIC_IRR, VECTOR_LEVEL));
    take_interrupts(SPINS);
    expect("level, again after EOI", 2, VECTOR_LEVEL, VECTOR_LEVEL);
    verify("remote IRR at last", 0, redirection() & REMOTE_IRR);
    outb(COM1_IER, 0);
    set_redirection(MASKED);
    *lapic(LAPIC_SVR) = SPURIOUS;
}

static void check_masked_level(void)
{
    forget();
    /* No accelerator but the one that runs has seen this vector at the pin. */
    set_redirection(VECTOR_MASKED | LEVEL);
    outb(COM1_IER, IER_THRE);
    take_interrupts(SPINS);
    expect("level, again after its pin was masked", 2, VECTOR_MASKED,
           VECTOR_MASKED);
    verify("remote IRR of a pin that was masked", 0,
           redirection() & REMOTE_IRR);
    outb(COM1_IER, 0);
    set_redirection(MASKED);
}

static void setup(void)
{
    setup_idt();
    setup_pic();
    setup_lapic();
}

void kernel_main(void)
{
    put_string("events64\n");
    setup();
    hpet_start();
    for (;;) {
        check_pending();
        check_priority();
        check_sti();
        check_mov_ss();
        check_nmi();
        check_extint();
        check_stepped_halt();
        check_stepped_unmask();
        check_level(SPURIOUS);
        check_level(SPURIOUS | SVR_EOI_SUPPRESSION);
        check_masked_level();
        lap_done();
    }
}
