/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What lib/real.S and lib/real.c give to a real-mode payload, and ask of it. */
#ifndef GUEST_REAL_H
#define GUEST_REAL_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/io.h"

/* The payload's: its work, with interrupts off at first; does not return. */
void real_main(void);

/*
 * The payload's: the PIC's input 0, which it must acknowledge.  @frame is what
 * the interrupt pushed: IP, CS, FLAGS.
 */
void irq0(const uint16_t *frame);

/* lib/real.c */

/* Any other interrupt or exception. */
void unexpected(void);

/* The PIC with IRQ 0 alone unmasked. */
void setup_pic(void);

/* PIT channel 0: IRQ 0 once after @count ticks of 1193182 Hz, or every. */
enum { PIT_ONCE = 0x30, PIT_PERIODIC = 0x34 };
void start_pit(uint8_t mode, uint16_t count);

void report(const char *what, uint64_t expected, uint64_t got);

/*
 * Print a lap's '.', and now and then a status line with @value called @name.
 * After the last lap print @digest and end QEMU.
 */
void lap_done(const char *name, uint32_t value, uint32_t digest);

void put_string(const char *text);

static inline uint64_t rdtsc(void)
{
    uint64_t value;

    asm volatile("rdtsc" : "=A" (value) : : "memory");
    return value;
}

/* Marsaglia's xorshift32. */
static inline uint32_t next_pattern(uint32_t *state)
{
    uint32_t x = *state;

    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    return *state = x;
}

#endif
