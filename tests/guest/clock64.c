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
#include "lib/long.h"
#include "lib/hpet.h"
#include "lib/uart.h"

#define SPINS           500

#define MSR_KVM_SYSTEM_TIME_NEW 0x4b564d01

#define TOLERANCE       (50 * (int64_t)MS)
#define TOLERANCE_STOPPED (700 * (int64_t)MS)

/* Linux, Documentation/virt/kvm/x86/msr.rst */
static volatile struct {
    uint32_t version;
    uint32_t pad0;
    uint64_t tsc_timestamp;
    uint64_t system_time;
    uint32_t tsc_to_system_mul;
    int8_t tsc_shift;
    uint8_t flags;
    uint8_t pad[2];
} page __attribute__((aligned(32)));

static int64_t tolerance = TOLERANCE;
static uint64_t last, origin_clock, origin_hpet;

static void spin(void)
{
    volatile uint32_t left = SPINS;

    while (left) {
        left--;
    }
}

static uint64_t clock_ns(void)
{
    uint64_t ticks, ns;
    uint32_t version;

    do {
        version = page.version;
        asm volatile("" : : : "memory");
        ticks = rdtsc() - page.tsc_timestamp;
        if (page.tsc_shift < 0) {
            ticks >>= -page.tsc_shift;
        } else {
            ticks <<= page.tsc_shift;
        }
        ns = (unsigned __int128)ticks * page.tsc_to_system_mul >> 32;
        ns += page.system_time;
        asm volatile("" : : : "memory");
    } while (version & 1 || version != page.version);
    return ns;
}

static void check_clock(void)
{
    int64_t early = hpet_ns() - origin_hpet, late;
    uint64_t now = clock_ns();
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
        wrmsr(MSR_KVM_SYSTEM_TIME_NEW, (uintptr_t)&page | 1);
        /* KVM fills it before the next instruction. */
        if (!page.version || !page.tsc_to_system_mul) {
            check_value("a page of kvm-clock's", 1, 0);
            return;
        }
        origin_hpet = hpet_ns();
        origin_clock = last = clock_ns();
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
