/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pit64: ticks of the PIT that the guest is kept from, by its interrupt flag
 * or the PIC's mask, come one after the other once it is not, and none is lost;
 * but not those of a second and more for which they are masked.  With a switch
 * in between.
 *
 * Prints a '.' for each lap.
 */
#include "lib/ticks.h"

#define PIC_MASK        0x21
#define MASKED          0xff
#define UNMASKED        0xfe
#define HERTZ           1000
#define LONG            (1200 * MS)
#define DROPPED         1000
#define LAST_FEW        3

/* setup_pit()'s division, the other way round. */
static uint64_t ticks_in(uint64_t ns)
{
    return ns / (SECOND * (1193182 / HERTZ) / 1193182);
}

void trap(Frame *frame)
{
    if (interrupts_taken(frame)) {
        return;
    }
    if (frame->vector != VECTOR_PIT) {
        check_value("no other trap, at RIP", frame->rip, frame->vector);
        debug_exit(2);
    }
    ticks++;
    pic_eoi();
}

/*
 * @ns without interrupts, by the @mask or the flag, and then with them until no
 * more ticks than may be lost, beside the last few, are still to come.
 */
static void check(uint64_t ns, uint8_t mask)
{
    uint64_t begin = hpet_ns(), started, now, lost = 0;
    int64_t least;

    setup_pit(HERTZ);
    started = hpet_ns();
    ticks = 0;
    outb(PIC_MASK, mask);
    if (mask == MASKED) {
        take_interrupts(SPINS);
    }
    wait_until(started + ns / 2);
    ask_switch();
    if (mask == MASKED) {
        take_interrupts(SPINS);
    }
    wait_until(started + ns);
    outb(PIC_MASK, UNMASKED);
    now = hpet_ns();
    if (mask == MASKED && now - started >= SECOND) {
        lost = ticks_in(now - started);
    }
    do {
        take_interrupts(SPINS);
        now = hpet_ns();
        least = ticks_in(now - started) - lost - LAST_FEW;
    } while (ticks < least && now < started + ns + 10 * SECOND);
    if (ticks < least) {
        check_value("at least so many ticks", least, ticks);
    }
    now = hpet_ns();
    if (ticks > ticks_in(now - begin) + 1) {
        check_value("at most so many ticks", ticks_in(now - begin) + 1, ticks);
    }
    if (mask == MASKED && ns >= SECOND &&
        ticks + DROPPED > ticks_in(now - started)) {
        check_value("so many ticks dropped", DROPPED,
                    ticks_in(now - started) - ticks);
    }
    outb(PIC_MASK, MASKED);
    take_interrupts(SPINS);
}

void kernel_main(void)
{
    put_string("pit64\n");
    setup_idt();
    setup_lapic();
    hpet_start();
    for (;;) {
        check(50 * MS, UNMASKED);
        check(50 * MS, MASKED);
        check(LONG, UNMASKED);
        check(LONG, MASKED);
        put_char('.');
    }
}
