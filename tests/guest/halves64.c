/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * halves64: instructions that are half done when a switch comes: each of
 * their effects is there once.
 *
 * String instructions, interrupted by the LAPIC's timer, whose handler asks
 * for a switch; port I/O and memory-mapped I/O with side effects; accesses
 * and code across two pages of which the second one is not there.
 */
#include "lib/control.h"
#include "lib/long.h"
#include "lib/hpet.h"
#include "lib/uart.h"

#define VECTOR_PF       14

#define TIMER_NS        40000u
/* So many interrupts ask for one switch. */
#define TICKS_PER_SWITCH 4

#define COPY_BYTES      65536
#define FIFO_BYTES      16

#define FCR_FRESH       0x07            /* enable and clear both */
#define LCR_8N1         0x03
#define MCR_LOOP        0x10
#define LSR_ERRORS      0x1e

/* Its second timer is off: the comparator is a register as any other. */
#define COMPARATOR      ((volatile uint32_t *)HPET(HPET_COMPARATOR(1)))
#define INCREMENTS      200

#define PAGE            4096
#define PRESENT         7

static uint8_t source[COPY_BYTES + 64], copy[COPY_BYTES + 64];
static uint8_t frames[2][PAGE] __attribute__((aligned(PAGE)));
static uint32_t ticks, faults;
static uint64_t fault_address;

void trap(Frame *frame)
{
    switch (frame->vector) {
    case VECTOR_TIMER:
        lapic_eoi();
        if (++ticks % TICKS_PER_SWITCH == 0) {
            ask_switch();
        }
        break;
    case VECTOR_PF:
        faults++;
        fault_address = read_cr2();
        window_table_1[1] = (uintptr_t)frames[1] | PRESENT;
        ask_switch();
        break;
    default:
        check_value("no other trap, at RIP", frame->rip, frame->vector);
        debug_exit(2);
    }
}

static uint64_t sum(const uint8_t *bytes, uint32_t count)
{
    uint64_t value = 0;

    for (uint32_t i = 0; i < count; i++) {
        value = value * 31 + bytes[i];
    }
    return value;
}

static void check_strings(uint64_t *pattern)
{
    const uint8_t *from = source;
    uint8_t *to = copy, first = next_pattern(pattern);
    uint64_t left = COPY_BYTES;
    bool same = true;

    for (int i = 0; i < COPY_BYTES / 8; i++) {
        ((uint64_t *)source)[i] = next_pattern(pattern);
    }
    asm volatile("sti; rep movsb; cli"
                 : "+S" (from), "+D" (to), "+c" (left) : : "memory");
    verify("MOVS: RCX", 0, left);
    verify("MOVS: RSI", COPY_BYTES, from - source);
    verify("MOVS: RDI", COPY_BYTES, to - copy);
    verify("MOVS", sum(source, COPY_BYTES), sum(copy, COPY_BYTES));

    /* Onto itself, one byte on: what was done twice, or left out, spreads. */
    source[0] = first;
    from = source;
    to = source + 1;
    left = COPY_BYTES;
    asm volatile("sti; rep movsb; cli"
                 : "+S" (from), "+D" (to), "+c" (left) : : "memory");
    for (int i = 0; i <= COPY_BYTES; i++) {
        same &= source[i] == first;
    }
    verify("MOVS onto itself", true, same);

    to = copy;
    left = COPY_BYTES / 8;
    asm volatile("sti; rep stosq; cli"
                 : "+D" (to), "+c" (left) : "a" (*pattern) : "memory");
    verify("STOS: RDI", COPY_BYTES, to - copy);
    for (int i = 0; i < COPY_BYTES / 8; i++) {
        same &= ((uint64_t *)copy)[i] == *pattern;
    }
    verify("STOS", true, same);

    copy[COPY_BYTES - 1] ^= 1;
    from = source;
    to = copy + 8;
    left = COPY_BYTES / 8;
    asm volatile("sti; repe scasq; cli"
                 : "+D" (to), "+c" (left) : "a" (*pattern) : "memory", "cc");
    verify("SCAS", COPY_BYTES, to - copy);
}

/* The serial line's loop has what was written, once, and in its order. */
static void check_ports(uint64_t *pattern)
{
    uint8_t in[FIFO_BYTES], *to = in;
    const uint8_t *from = source;
    uint64_t left = FIFO_BYTES;

    for (int i = 0; i < FIFO_BYTES; i++) {
        source[i] = next_pattern(pattern);
    }
    outb(COM1_LCR, LCR_8N1);
    outb(COM1_FCR, FCR_FRESH);
    outb(COM1_MCR, MCR_LOOP);
    asm volatile("sti; rep outsb; cli"
                 : "+S" (from), "+c" (left) : "d" (COM1) : "memory");
    verify("OUTS: RSI", FIFO_BYTES, from - source);
    left = FIFO_BYTES;
    asm volatile("sti; rep insb; cli"
                 : "+D" (to), "+c" (left) : "d" (COM1) : "memory");
    verify("INS: RDI", FIFO_BYTES, to - in);
    verify("OUTS and INS", sum(source, FIFO_BYTES), sum(in, FIFO_BYTES));
    verify("the line's errors and rest", 0,
           inb(COM1_LSR) & (LSR_ERRORS | LSR_DR));
    outb(COM1_MCR, 0);
}

static void check_mmio(void)
{
    *COMPARATOR = 0;
    asm volatile("sti");
    for (int i = 0; i < INCREMENTS; i++) {
        asm volatile("addl $3, %0" : "+m" (*COMPARATOR));
    }
    asm volatile("cli");
    verify("read-modify-write of a device", 3 * INCREMENTS, *COMPARATOR);
}

/* The window's second page is not there until somebody needs it. */
static void split(void)
{
    faults = 0;
    window_table_1[0] = (uintptr_t)frames[0] | PRESENT;
    window_table_1[1] = 0;
    asm volatile("invlpg (%0)" : : "r" (WINDOW) : "memory");
    asm volatile("invlpg (%0)" : : "r" (WINDOW + PAGE) : "memory");
}

/* So many bytes before the second page's start. */
static void *before_split(int bytes)
{
    void *at;

    asm volatile("" : "=r" (at) : "0" ((uintptr_t)WINDOW + PAGE - bytes));
    return at;
}

static void check_split(uint64_t *pattern)
{
    /* movl $…, %eax; ret */
    static const uint8_t code[6] = { 0xb8, 0x78, 0x56, 0x34, 0x12, 0xc3 };
    uint8_t *end = frames[0] + PAGE;
    uint64_t value = next_pattern(pattern), got;
    uint32_t result;

    for (int bytes = 1; bytes < 8; bytes++) {
        void *at = before_split(bytes);

        split();
        *(volatile uint64_t *)at = value;
        verify("store: faults", 1, faults);
        verify("store: address", WINDOW + PAGE, fault_address);
        split();
        got = *(volatile uint64_t *)at;
        verify("load: faults", 1, faults);
        verify("load", value, got);
        split();
        asm volatile("lock addq %1, (%0)"
                     : : "r" (at), "r" (value) : "memory", "cc");
        verify("locked: faults", 1, faults);
        verify("locked", 2 * value, *(volatile uint64_t *)at);
    }
    for (int bytes = 1; bytes < 6; bytes++) {
        for (int i = 0; i < 6; i++) {
            *(i < bytes ? end - bytes + i : frames[1] + (i - bytes)) = code[i];
        }
        split();
        asm volatile("call *%1" : "=a" (result)
                     : "r" (before_split(bytes)) : "memory");
        verify("code: faults", 1, faults);
        verify("code", 0x12345678, result);
    }
}

void kernel_main(void)
{
    uint64_t pattern = 0x9e3779b97f4a7c15;

    put_string("halves64\n");
    setup_idt();
    setup_pic();
    setup_lapic();
    lapic_timer(TIMER_NS, true);
    for (;;) {
        check_strings(&pattern);
        check_ports(&pattern);
        check_mmio();
        check_split(&pattern);
        lap_done();
    }
}
