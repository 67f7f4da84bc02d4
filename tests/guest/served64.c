/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * served64: a one-shot of the local APIC's timer that was served does not come
 * again, also if another interrupt waits for the vCPU as a switch comes.
 *
 * The other interrupt is the serial line's.  It takes each byte, in turn
 * halted and in a loop, after a one-shot of its own, and answers it.
 */
#include "lib/ticks.h"
#include "lib/uart.h"

#define VECTOR_COM1     0x51
#define IER_RDI         1
#define MCR_OUT2        8

#define SHOT            (200 * US)

static volatile char command;

void trap(Frame *frame)
{
    char byte;

    if (interrupts_taken(frame)) {
        return;
    }
    switch (frame->vector) {
    case VECTOR_TIMER:
        ticks++;
        break;
    case VECTOR_COM1:
        if (told(&byte)) {
            command = byte;
        }
        break;
    default:
        check_value("no other trap, at RIP", frame->rip, frame->vector);
        debug_exit(2);
    }
    lapic_eoi();
}

/* One interrupt, or more, is taken. */
static void wait_for_interrupt(bool halted)
{
    if (halted) {
        asm volatile("sti\n\t"
                     "hlt\n\t"
                     "cli" : : : "memory");
    } else {
        take_interrupts(SPINS);
    }
}

void kernel_main(void)
{
    put_string("served64\n");
    setup_idt();
    setup_pic();
    hpet_start();
    setup_lapic();
    ioapic_write(IOAPIC_REDIRECTION(COM1_IRQ), VECTOR_COM1);
    outb(COM1_MCR, MCR_OUT2);
    outb(COM1_IER, IER_RDI);
    for (uint32_t lap = 0; ; lap++) {
        ticks = 0;
        command = 0;
        lapic_timer(SHOT, false);
        wait_ticks(1);
        check_value("the one-shot comes", 1, ticks);
        put_string("waits\n");
        while (!command) {
            wait_for_interrupt(lap % 2);
        }
        take_interrupts(SPINS);
        check_value("the one-shot comes once", 1, ticks);
        put_string("done: ");
        put_char(command);
        put_char('\n');
    }
}
