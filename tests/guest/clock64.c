/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * clock64: holds kvm-clock against the HPET, once it is told to.
 *
 * Prints a '.' for each lap, in which it reads both.  kvm-clock must not go
 * back, and must have gone on by as much as the HPET since it was registered,
 * but for TOLERANCE, or TOLERANCE_STOPPED after 's'.  A byte that comes on the
 * serial line is a command, and is printed when it was carried out: 'k'
 * registers kvm-clock's page, 's' says that the machine will be stopped now
 * and then, which its two clocks do not learn at the same moment.
 */
#include "lib/hpet.h"
#include "lib/kvmclock.h"
#include "lib/uart.h"

#define SPINS           500

#define TOLERANCE       (50 * (int64_t)MS)
#define TOLERANCE_STOPPED (700 * (int64_t)MS)
/* The two clocks' readings at the start are at most so far apart. */
#define ORIGIN_NS       (10 * MS)

static KVMClock page;

static int64_t tolerance = TOLERANCE;
static uint64_t last, origin_clock, origin_hpet;

static void spin(void)
{
    volatile uint32_t left = SPINS;

    while (left) {
        left--;
    }
}

static void check_clock(void)
{
    int64_t early = hpet_ns() - origin_hpet, late;
    uint64_t now = kvmclock_ns(&page);
    int64_t gone = now - origin_clock;

    late = hpet_ns() - origin_hpet;
    if (now < last) {
        check_value("kvm-clock has gone back:", last, now);
    }
    last = now;
    if (gone < early - tolerance || gone > late + tolerance) {
        check_value("kvm-clock's ns since its start:", late, gone);
    }
}

static void obey(char command)
{
    switch (command) {
    case 'k':
        kvmclock_register(&page);
        /* KVM fills it before the next instruction. */
        if (!page.version || !page.tsc_to_system_mul) {
            check_value("a page of kvm-clock's", 1, 0);
            return;
        }
        do {
            origin_hpet = hpet_ns();
            origin_clock = last = kvmclock_ns(&page);
        } while (hpet_ns() - origin_hpet > ORIGIN_NS);
        break;
    case 's':
        tolerance = TOLERANCE_STOPPED;
        break;
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
    hpet_start();
    put_string("clock64\n");
    for (;;) {
        spin();
        if (told(&command)) {
            obey(command);
        }
        if (last) {
            check_clock();
        }
        put_char('.');
    }
}
