/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * soak16: a real-mode guest that checks itself while it is switched: memory
 * patterns, a TSC that never steps back, the PIT at 1 kHz through the PIC, and
 * wake-ups from STI; HLT.
 *
 * It prints what soak64 prints, and takes the number of laps from the same
 * place.
 */
#include "lib/real.h"

#define PIT_HERTZ       1000
#define WORDS           256
#define BUFFER          ((volatile uint32_t *)0x8000)
/* About 10 s: an interrupt that is this late won't come. */
#define TSC_TOO_LATE    (1ull << 35)

static volatile uint32_t ticks;
static volatile uint64_t tick_tsc;
static uint64_t last_tsc;

void irq0(const uint16_t *frame)
{
    uint64_t now = rdtsc();

    if (frame[1] != 0) {
        report("CS of an interrupt", 0, frame[1]);
    }
    if (now < tick_tsc) {
        report("TSC of an interrupt after", tick_tsc, now);
    }
    tick_tsc = now;
    ticks++;
    /* The PIC's in-service register must show this interrupt and no other. */
    outb(0x20, 0x0b);
    if (inb(0x20) != 1) {
        report("PIC ISR", 1, inb(0x20));
    }
    outb(0x20, 0x20);
}

static void check_memory(void)
{
    static uint32_t seed = 0x9e3779b9;
    static bool written;
    uint32_t old = seed, new;

    next_pattern(&seed);
    new = seed;
    for (int i = 0; i < WORDS; i++) {
        uint32_t expected = next_pattern(&old);

        if (written && BUFFER[i] != expected) {
            report("memory", expected, BUFFER[i]);
        }
        BUFFER[i] = next_pattern(&new);
    }
    written = true;
}

static void check_time(void)
{
    uint64_t tick, now;

    asm volatile("cli" : : : "memory");
    tick = tick_tsc;
    now = rdtsc();
    asm volatile("sti" : : : "memory");
    if (now < last_tsc) {
        report("TSC after", last_tsc, now);
    }
    last_tsc = now;
    if (now - tick > TSC_TOO_LATE) {
        report("PIT interrupt since TSC", tick, now);
        tick_tsc = now;
    }
}

void real_main(void)
{
    put_string("soak16\n");
    tick_tsc = rdtsc();
    setup_pic();
    start_pit(PIT_PERIODIC, 1193182 / PIT_HERTZ);
    asm volatile("sti");
    for (;;) {
        check_memory();
        check_time();
        asm volatile("cli; nop; sti; hlt" : : : "memory");
        lap_done("pit", ticks, BUFFER[0] ^ BUFFER[WORDS - 1]);
    }
}
