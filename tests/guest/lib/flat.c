/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What every 32-bit payload prints and counts.
 */
#include "flat.h"

#define STATUS_LAPS     256
#define MAX_REPORTS     20

static uint32_t laps, errors, digest;

/* The compiler calls it, as it may. */
void *memset(void *to, int byte, size_t size)
{
    void *at = to;

    asm volatile("rep stosb" : "+D" (at), "+c" (size) : "a" (byte) : "memory");
    return to;
}

void put_string(const char *text)
{
    while (*text) {
        outb(0xe9, *text++);
    }
}

void put_hex(uint32_t value)
{
    for (int shift = 28; shift >= 0; shift -= 4) {
        outb(0xe9, "0123456789abcdef"[value >> shift & 15]);
    }
}

void check(const char *what, uint64_t expected, uint64_t got)
{
    digest = (digest ^ (uint32_t)got ^ (uint32_t)(got >> 32)) * 16777619;
    if (expected == got || ++errors > MAX_REPORTS) {
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
    put_string("\n");
}

void lap_done(void)
{
    outb(0xe9, '.');
    if (++laps % STATUS_LAPS == 0) {
        put_string("\nlap ");
        put_hex(laps);
        put_string("\n");
    }
    if (laps == *(volatile uint32_t *)0x500) {
        put_string("\nDIGEST ");
        put_hex(digest);
        put_string("\n");
        outb(0xf4, errors ? 1 : 0);
    }
}
