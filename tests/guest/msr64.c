/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * msr64: writes to an MSR, when told to, what no processor accepts, but TCG
 * does.
 *
 * Prints a '.' for each lap, in which it checks that the MSR keeps what was
 * written.  A byte that comes on the serial line is a command, and is printed
 * after it was carried out: 'b' writes a non-canonical address to LSTAR, 'g' a
 * good one; 's' writes 64 bits to SYSENTER_ESP, of which an AMD CPU keeps 32.
 */
#include "lib/long.h"
#include "lib/uart.h"

#define SPINS           2000

#define MSR_SYSENTER_ESP 0x175
#define MSR_LSTAR       0xc0000082
#define GOOD_LSTAR      0xffff800012345670
#define BAD_LSTAR       0x1234567812345670

static uint64_t lstar = GOOD_LSTAR, sysenter_esp;

static void spin(void)
{
    volatile uint32_t left = SPINS;

    while (left) {
        left--;
    }
}

static void obey(char command)
{
    if (command == 's') {
        sysenter_esp = (uint32_t)GOOD_LSTAR;
        wrmsr(MSR_SYSENTER_ESP, GOOD_LSTAR);
    } else {
        lstar = command == 'b' ? BAD_LSTAR : GOOD_LSTAR;
        wrmsr(MSR_LSTAR, lstar);
    }
    put_string("\ndone: ");
    put_char(command);
    put_char('\n');
}

void trap(Frame *frame)
{
    check_value("no exception, at RIP", frame->rip, frame->vector);
    debug_exit(2);
}

void kernel_main(void)
{
    char command;

    setup_idt();
    put_string("msr64\n");
    obey('g');
    for (;;) {
        spin();
        if (told(&command)) {
            obey(command);
        }
        check_value("LSTAR", lstar, rdmsr(MSR_LSTAR));
        check_value("SYSENTER_ESP", sysenter_esp, rdmsr(MSR_SYSENTER_ESP));
        put_char('.');
    }
}
