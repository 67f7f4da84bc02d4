/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * tsc64: holds the TSC against the HPET, and halts in between; and a second
 * vCPU's, if there is one, against its own.
 *
 * Prints a '.' for each lap, before it halts for a second.  The TSC's rate is
 * measured before the first one.  The second vCPU is started after AP_LAPS.
 */
#include "lib/hpet.h"
#include "lib/smp.h"

#define AP_LAPS         8
#define READINGS        50
/*
 * Far less than for how long it is halted.  A KVM that sets the TSC forward may
 * err by what the host takes from it meanwhile.
 */
#define TOLERANCE       (100 * MS)

typedef struct Reading {
    uint64_t tsc;
    uint64_t early, late;   /* by the HPET, in ns */
} Reading;

static Reading read_once(void)
{
    Reading r;

    r.early = hpet_ns();
    r.tsc = rdtsc();
    r.late = hpet_ns();
    return r;
}

/* The one of some in which the least time passed. */
static Reading read_both(void)
{
    Reading best = read_once();

    for (int i = 1; i < READINGS; i++) {
        Reading r = read_once();

        if (r.late - r.early < best.late - best.early) {
            best = r;
        }
    }
    return best;
}

static void halt(void)
{
    lapic_timer(SECOND, false);
    asm volatile("sti; hlt; cli" : : : "memory");
}

static void check(const Reading *origin, uint64_t ticks_per_ms)
{
    Reading now = read_both();
    uint64_t gone = (now.tsc - origin->tsc) * MS / ticks_per_ms;
    uint64_t least = now.early - origin->late;
    uint64_t most = now.late - origin->early;

    if (gone + TOLERANCE < least) {
        check_value("at least so many ns by the TSC", least, gone);
    }
    if (gone > most + TOLERANCE) {
        check_value("at most so many ns by the TSC", most, gone);
    }
}

static volatile uint32_t turn, done;
static volatile uint64_t ap_tsc;

void ap_main(void)
{
    for (;;) {
        while (turn == done) {
            continue;
        }
        ap_tsc = rdtsc();
        done = turn;
    }
}

static bool have_ap(void)
{
    uint32_t eax = 1, ebx, ecx, edx;

    asm volatile("cpuid" : "+a" (eax), "=b" (ebx), "=c" (ecx), "=d" (edx));
    return (ebx >> 16 & 0xff) > 1;
}

static void check_ap(uint64_t ticks_per_ms)
{
    uint64_t end = hpet_ns() + 10 * SECOND;
    uint64_t tolerance = TOLERANCE / MS * ticks_per_ms;
    uint64_t least = rdtsc(), most;

    turn++;
    while (done != turn) {
        if (hpet_ns() > end) {
            check_value("the second vCPU answers", true, false);
            return;
        }
    }
    most = rdtsc();
    if (ap_tsc + tolerance < least) {
        check_value("at least, the second vCPU's TSC", least, ap_tsc);
    }
    if (ap_tsc > most + tolerance) {
        check_value("at most, the second vCPU's TSC", most, ap_tsc);
    }
}

void trap(Frame *frame)
{
    if (frame->vector == VECTOR_TIMER) {
        lapic_eoi();
        return;
    }
    check_value("no exception, at RIP", frame->rip, frame->vector);
    debug_exit(2);
}

void kernel_main(void)
{
    Reading origin, now;
    uint64_t ticks_per_ms;

    put_string("tsc64\n");
    setup_idt();
    setup_pic();
    setup_lapic();
    hpet_start();
    origin = read_both();
    do {
        now = read_once();
    } while (now.early - origin.late < SECOND);
    now = read_both();
    ticks_per_ms = (now.tsc - origin.tsc) * MS / (now.early - origin.early);
    copy_ap_code();
    for (int lap = 0; ; lap++) {
        put_char('.');
        halt();
        check(&origin, ticks_per_ms);
        if (lap == AP_LAPS && have_ap()) {
            send_ipi(AP_ID, ICR_INIT);
            send_ipi(AP_ID, ICR_STARTUP | AP_PAGE >> 12);
        }
        if (lap >= AP_LAPS && have_ap()) {
            check_ap(ticks_per_ms);
        }
    }
}
