/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * idle16: a real-mode guest that waits for an interrupt which it asked for.
 *
 * The PIT is told to give one, after 17 us to 1.7 ms, and nothing else can end
 * the HLT: if it comes between STI and HLT, or not at all, the guest stands
 * still; if it comes twice, it says so.  Before the HLT it opens many times a
 * window of one instruction after STI in which no interrupt may come: the
 * interrupt shadow.
 *
 * Prints what soak64 prints, and takes the number of laps from the same place.
 */
#include "lib/real.h"

#define WINDOWS         200

static volatile uint32_t ticks;

void irq0(const uint16_t *frame)
{
    uint16_t shadowed_ip;

    ticks++;
    asm("movw $shadowed, %0" : "=r" (shadowed_ip));
    if (frame[0] == shadowed_ip) {
        report("no interrupt in the shadow of STI, at IP", 0, frame[0]);
    }
    outb(0x20, 0x20);
}

static void __attribute__((noinline, noclone)) open_window(void)
{
    asm volatile("sti\n"
                 "shadowed: nop\n"
                 "nop; cli" : : : "memory");
}

void real_main(void)
{
    static uint32_t pattern = 0x9e3779b9;
    uint32_t wakeups = 0;

    put_string("idle16\n");
    setup_pic();
    for (uint32_t lap = 1; ; lap++) {
        start_pit(PIT_ONCE, 20 + next_pattern(&pattern) % 2000);
        for (int i = 0; i < WINDOWS && ticks == lap - 1; i++) {
            open_window();
        }
        while (ticks == lap - 1) {
            wakeups++;
            asm volatile("sti; hlt; cli" : : : "memory");
        }
        if (ticks != lap) {
            report("PIT interrupts", lap, ticks);
            ticks = lap;
        }
        lap_done("wakeups", wakeups, pattern);
    }
}
