/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The devices and tables of a 64-bit payload.  Runs at CPL0: see long.h.
 */
#include "long.h"

#define IOAPIC_SELECT   ((volatile uint32_t *)0xfec00000ul)
#define IOAPIC_WINDOW   ((volatile uint32_t *)0xfec00010ul)
#define LAPIC_BASE      0xfee00000ul
#define LAPIC_EOI       0x0b0
#define LAPIC_SVR       0x0f0
#define LAPIC_LVT_LINT0 0x350
#define LAPIC_LVT_LINT1 0x360
#define LAPIC_TIMER_DCR 0x3e0

typedef struct Gate {
    uint16_t offset_0;
    uint16_t selector;
    uint16_t type;
    uint16_t offset_16;
    uint32_t offset_32;
    uint32_t reserved;
} Gate;

static Gate idt[VECTORS];

void setup_idt(void)
{
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) pointer = { sizeof(idt) - 1, (uintptr_t)idt };

    for (int i = 0; i < VECTORS; i++) {
        uintptr_t entry = (uintptr_t)vector_entries[i];

        idt[i].offset_0 = entry;
        idt[i].selector = KERNEL_CS;
        idt[i].type = 0x8e00;
        idt[i].offset_16 = entry >> 16;
        idt[i].offset_32 = entry >> 32;
    }
    asm volatile("lidt %0" : : "m" (pointer));
}

void set_ist(int vector, uint8_t ist)
{
    idt[vector].type = 0x8e00 | ist;
}

void setup_pic(void)
{
    outb(0x20, 0x11);
    outb(0x21, VECTOR_PIT);
    outb(0x21, 0x04);
    outb(0x21, 0x01);
    outb(0xa0, 0x11);
    outb(0xa1, VECTOR_PIT + 8);
    outb(0xa1, 0x02);
    outb(0xa1, 0x01);
    outb(0x21, 0xff);
    outb(0xa1, 0xff);
}

void setup_pit(unsigned hertz)
{
    unsigned count = 1193182 / hertz;

    setup_pic();
    outb(0x21, 0xfe);
    outb(0x43, 0x34);
    outb(0x40, count & 0xff);
    outb(0x40, count >> 8);
}

void pic_eoi(void)
{
    outb(0x20, 0x20);
}

volatile uint32_t *lapic(uint32_t offset)
{
    return (volatile uint32_t *)(LAPIC_BASE + offset);
}

bool lapic_bit(uint32_t registers, int vector)
{
    return *lapic(registers + vector / 32 * 0x10) >> vector % 32 & 1;
}

void setup_lapic(void)
{
    *lapic(LAPIC_SVR) = 0x100 | VECTOR_SPURIOUS;
    *lapic(LAPIC_LVT_LINT0) = 0x700;
    *lapic(LAPIC_LVT_LINT1) = 0x400;
    *lapic(LAPIC_TIMER_DCR) = 0xb;
}

void lapic_timer(uint32_t count, bool periodic)
{
    *lapic(LAPIC_LVT_TIMER) = VECTOR_TIMER | (periodic ? 1 << 17 : 0);
    *lapic(LAPIC_TIMER_ICR) = count;
}

void lapic_eoi(void)
{
    *lapic(LAPIC_EOI) = 0;
}

uint32_t ioapic_read(uint32_t number)
{
    *IOAPIC_SELECT = number;
    return *IOAPIC_WINDOW;
}

void ioapic_write(uint32_t number, uint32_t value)
{
    *IOAPIC_SELECT = number;
    *IOAPIC_WINDOW = value;
}

void put_char(char c)
{
    outb(0xe9, c);
}

void put_string(const char *text)
{
    while (*text) {
        put_char(*text++);
    }
}

void put_hex(uint64_t value)
{
    for (int shift = 60; shift >= 0; shift -= 4) {
        put_char("0123456789abcdef"[value >> shift & 15]);
    }
}

void put_decimal(uint64_t value)
{
    if (value > 9) {
        put_decimal(value / 10);
    }
    put_char('0' + value % 10);
}

void check_value(const char *what, uint64_t expected, uint64_t got)
{
    if (expected == got) {
        return;
    }
    put_string("\nERROR ");
    put_string(what);
    put_string(" expected ");
    put_hex(expected);
    put_string(" got ");
    put_hex(got);
    put_char('\n');
}

static uint32_t laps, errors, digest;

void verify(const char *what, uint64_t expected, uint64_t got)
{
    digest = (digest ^ (uint32_t)got ^ (uint32_t)(got >> 32)) * 16777619;
    errors += expected != got;
    check_value(what, expected, got);
}

void lap_done(void)
{
    put_char('.');
    if (++laps == *(volatile uint32_t *)0x500) {
        put_string("\nDIGEST ");
        put_hex(digest);
        put_char('\n');
        debug_exit(errors ? 1 : 0);
    }
}

void debug_exit(uint8_t code)
{
    outb(0xf4, code);
    for (;;) {
        asm volatile("cli; hlt");
    }
}
