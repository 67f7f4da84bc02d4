/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The devices of a real-mode payload, and what it prints.
 */
#include "real.h"

#define LAPS_WANTED     (*(volatile uint32_t *)0x500)
#define STATUS_LAPS     64
#define MAX_REPORTS     20

static uint32_t laps, errors;

static void put_char(char c)
{
    outb(0xe9, c);
}

void put_string(const char *text)
{
    while (*text) {
        put_char(*text++);
    }
}

static void put_hex(uint32_t value)
{
    for (int shift = 28; shift >= 0; shift -= 4) {
        put_char("0123456789abcdef"[value >> shift & 15]);
    }
}

static void put_decimal(uint32_t value)
{
    if (value > 9) {
        put_decimal(value / 10);
    }
    put_char('0' + value % 10);
}

void report(const char *what, uint64_t expected, uint64_t got)
{
    if (++errors > MAX_REPORTS) {
        return;
    }
    put_string("\nERROR ");
    put_string(what);
    put_string(" expected ");
    put_hex(expected >> 32);
    put_hex(expected);
    put_string(" got ");
    put_hex(got >> 32);
    put_hex(got);
    put_string(" in lap ");
    put_decimal(laps);
    put_char('\n');
}

void unexpected(void)
{
    report("interrupt or exception", 0, 1);
    outb(0xf4, 2);
}

void setup_pic(void)
{
    outb(0x20, 0x11);
    outb(0x21, 0x08);
    outb(0x21, 0x04);
    outb(0x21, 0x01);
    outb(0xa0, 0x11);
    outb(0xa1, 0x70);
    outb(0xa1, 0x02);
    outb(0xa1, 0x01);
    outb(0x21, 0xfe);
    outb(0xa1, 0xff);
}

void start_pit(uint8_t mode, uint16_t count)
{
    outb(0x43, mode);
    outb(0x40, count & 0xff);
    outb(0x40, count >> 8);
}

static void print_status(const char *name, uint32_t value)
{
    put_string("\nlap ");
    put_decimal(laps);
    put_char(' ');
    put_string(name);
    put_char(' ');
    put_decimal(value);
    put_string(" errors ");
    put_decimal(errors);
    put_char('\n');
}

void lap_done(const char *name, uint32_t value, uint32_t digest)
{
    put_char('.');
    if (++laps % STATUS_LAPS == 0) {
        print_status(name, value);
    }
    if (laps == LAPS_WANTED) {
        asm volatile("cli");
        print_status(name, value);
        put_string("DIGEST ");
        put_hex(digest);
        put_char('\n');
        outb(0xf4, errors ? 1 : 0);
    }
}
