/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ticks64: the timers of the chipset: each tick comes once, none early.
 *
 * The PIT in its modes, the RTC's periodic interrupt and the HPET's timer; with
 * switches while they run, while their interrupt is pending, and after it was
 * served.  The ACPI PM timer and the HPET agree.  The machine is a q35: its
 * HPET has pins of its own at the IOAPIC.
 */
#include "lib/pci.h"
#include "lib/ticks.h"
#include <stddef.h>

#define PIC1_MASK       0x21
#define PIC2_COMMAND    0xa0
#define PIC2_MASK       0xa1
#define PIC_EOI         0x20
#define IRQ0            0x01
#define IRQ2            0x04            /* the second PIC */
#define IRQ8            0x01            /* of the second PIC */

#define PIT_COUNTER_0   0x40
#define PIT_CONTROL     0x43
#define PIT_BOTH_BYTES  0x30
#define PIT_HERTZ       1193182

#define RTC_INDEX       0x70
#define RTC_DATA        0x71
#define RTC_A           10
#define RTC_B           11
#define RTC_C           12
#define RTC_16_HERTZ    0x2c
#define RTC_STOPPED     0x20
#define RTC_PERIODIC    0x42            /* and 24 hours */
#define RTC_NONE        0x02

#define IOAPIC_MASKED   0x10000

/* ICH9's LPC bridge, 00:1f.0. */
#define ICH9_LPC        0x1f
#define ICH9_PMBASE     0x40
#define ICH9_ACPI_CNTL  0x44
#define ICH9_ACPI_EN    0x80
#define PM_BASE         0x600
#define PM_TIMER        (PM_BASE + 8)
#define PM_HERTZ        3579545
#define PM_MASK         0xffffff

#define VECTOR_RTC      (VECTOR_PIT + 8)
#define VECTOR_HPET     0x51

#define HPET_FAR        (1ull << 40)
#define ONE_SHOT        (5 * MS)
#define EARLY           (10 * US)
/* What may be wrong with a periodic one. */
#define TOO_EARLY       1
#define LOST            2

typedef struct Timer {
    const char *name;
    uint64_t period;                    /* ns; of a one-shot, its time */
    /* Whether the first tick may come at any time within the period. */
    bool phase;
    uint8_t vector;
    /* Those that the PICs let through. */
    uint8_t irqs_1, irqs_2;
    void (*start)(const struct Timer *timer);
    void (*stop)(void);
    uint32_t argument;
} Timer;

static uint8_t vector;
static uint32_t hpet_pin;

static uint8_t rtc(uint8_t index)
{
    outb(RTC_INDEX, index);
    return inb(RTC_DATA);
}

static void set_rtc(uint8_t index, uint8_t value)
{
    outb(RTC_INDEX, index);
    outb(RTC_DATA, value);
}

void trap(Frame *frame)
{
    if (interrupts_taken(frame)) {
        return;
    }
    if (frame->vector != vector) {
        check_value("no other trap, at RIP", frame->rip, frame->vector);
        debug_exit(2);
    }
    ticks++;
    switch (vector) {
    case VECTOR_RTC:
        rtc(RTC_C);
        outb(PIC2_COMMAND, PIC_EOI);
        pic_eoi();
        break;
    case VECTOR_PIT:
        pic_eoi();
        break;
    case VECTOR_HPET:
        lapic_eoi();
        break;
    }
}

static void start_pit(const Timer *timer)
{
    uint32_t count = timer->period * PIT_HERTZ / SECOND;

    outb(PIT_CONTROL, PIT_BOTH_BYTES | timer->argument << 1);
    outb(PIT_COUNTER_0, count);
    outb(PIT_COUNTER_0, count >> 8);
}

static void start_rtc(const Timer *timer)
{
    (void)timer;
    rtc(RTC_C);
    set_rtc(RTC_A, RTC_16_HERTZ);
    set_rtc(RTC_B, RTC_PERIODIC);
}

static void stop_rtc(void)
{
    set_rtc(RTC_B, RTC_NONE);
    set_rtc(RTC_A, RTC_STOPPED);
    rtc(RTC_C);
}

/*
 * The argument is what the configuration has beside the route.  A one-shot is
 * enabled before it is given its time, which may pass meanwhile.
 */
static void start_hpet(const Timer *timer)
{
    uint64_t config = timer->argument | HPET_ROUTE(hpet_pin);
    uint64_t count = timer->period / hpet_ns_per_count;

    ioapic_write(IOAPIC_REDIRECTION(hpet_pin), VECTOR_HPET);
    if (config & HPET_PERIODIC) {
        *HPET(HPET_TIMER(0)) = config;
        *HPET(HPET_COMPARATOR(0)) = *HPET(HPET_COUNTER) + count;
        *HPET(HPET_COMPARATOR(0)) = count;
        *HPET(HPET_TIMER(0)) = (config & ~HPET_SET_VALUE) | HPET_ENABLED;
    } else {
        *HPET(HPET_COMPARATOR(0)) = *HPET(HPET_COUNTER) + HPET_FAR;
        *HPET(HPET_TIMER(0)) = config | HPET_ENABLED;
        *HPET(HPET_COMPARATOR(0)) = *HPET(HPET_COUNTER) + count;
    }
}

static void stop_hpet(void)
{
    hpet_stop(0, hpet_pin);
    ioapic_write(IOAPIC_REDIRECTION(hpet_pin), IOAPIC_MASKED);
}

static const Timer one_shots[] = {
    { "PIT, mode 0", ONE_SHOT, false, VECTOR_PIT, IRQ0, 0, start_pit, NULL,
      0 },
    { "PIT, mode 4", ONE_SHOT, false, VECTOR_PIT, IRQ0, 0, start_pit, NULL,
      4 },
    { "HPET, one shot", ONE_SHOT, false, VECTOR_HPET, 0, 0, start_hpet,
      stop_hpet, 0 },
};

static const Timer periodic[] = {
    { "PIT, mode 2", 50 * MS, false, VECTOR_PIT, IRQ0, 0, start_pit, NULL, 2 },
    { "PIT, mode 3", 50 * MS, true, VECTOR_PIT, IRQ0, 0, start_pit, NULL, 3 },
    { "RTC", SECOND / 16, true, VECTOR_RTC, IRQ2, IRQ8,
      start_rtc, stop_rtc, 0 },
    { "HPET, periodic", 50 * MS, false, VECTOR_HPET, 0, 0, start_hpet,
      stop_hpet, HPET_PERIODIC | HPET_SET_VALUE },
};

/*
 * The PICs are as new, without an edge that they have seen before, and the PIT
 * starts before it makes another one: setup_pit() has it make the next after
 * 52 ms, of which a slow machine may need too much.
 */
static uint64_t start(const Timer *timer)
{
    uint64_t set_up, begin;

    vector = timer->vector;
    do {
        set_up = hpet_ns();
        setup_pit(19);
        setup_pit(19);
        outb(PIC1_MASK, (uint8_t)~timer->irqs_1);
        outb(PIC2_MASK, (uint8_t)~timer->irqs_2);
        ticks = 0;
        begin = hpet_ns();
        timer->start(timer);
    } while (vector == VECTOR_PIT && hpet_ns() - set_up > 40 * MS);
    return begin;
}

/* The PIT can't be stopped: its interrupt is masked. */
static void stop(const Timer *timer)
{
    if (timer->stop) {
        timer->stop();
    } else {
        outb(PIC1_MASK, 0xff);
    }
}

/* One that was served does not come again. */
static void check_served(const Timer *timer)
{
    verify(timer->name, 1, ticks);
    ask_switch();
    take_interrupts(SPINS);
    ask_switch();
    take_interrupts(SPINS);
    verify(timer->name, 1, ticks);
    stop(timer);
    take_interrupts(SPINS);
    verify(timer->name, 1, ticks);
}

/* Switched while it counts. */
static void check_one_shot(const Timer *timer)
{
    uint64_t begin = start(timer), end;

    ask_switch();
    ask_switch();
    wait_ticks(1);
    end = hpet_ns();
    /* Never more than it may be, and then by how much. */
    verify(timer->name, 0, end + EARLY < begin + timer->period
                           ? begin + timer->period - end : 0);
    check_served(timer);
}

/* Switched while its interrupt is pending. */
static void check_pending(const Timer *timer)
{
    uint64_t begin = start(timer);

    wait_until(begin + timer->period + 2 * MS);
    ask_switch();
    wait_ticks(1);
    check_served(timer);
}

static void check_periodic(const Timer *timer)
{
    bool early, lost = false;
    bool on_time = watch_periods(start(timer), timer->period, timer->phase,
                                 EARLY, &early);

    stop(timer);
    take_interrupts(SPINS);
    if (on_time) {
        wait_ticks(PERIODS);
        lost = ticks < PERIODS;
    }
    verify(timer->name, 0, (early ? TOO_EARLY : 0) | (lost ? LOST : 0));
}

/* Both count the same time, whatever the accelerator. */
static void check_pm_timer(void)
{
    uint64_t begin = hpet_ns();
    uint32_t first = inl(PM_TIMER), last = first;
    bool back = false;
    uint64_t ns;

    while (hpet_ns() < begin + 10 * MS) {
        uint32_t now = inl(PM_TIMER);

        back |= ((now - last) & PM_MASK) > PM_MASK / 2;
        last = now;
        ask_switch();
    }
    ns = ((last - first) & PM_MASK) * SECOND / PM_HERTZ;
    verify("PM timer: has gone back", false, back);
    /* Read between two readings of the HPET. */
    verify("PM timer: too fast", true, ns <= hpet_ns() - begin + EARLY);
    first = inl(PM_TIMER);
    begin = hpet_ns();
    ask_switch();
    ns = hpet_ns() - begin;
    last = inl(PM_TIMER);
    verify("PM timer: too slow", true,
           ((last - first) & PM_MASK) * SECOND / PM_HERTZ + EARLY >= ns);
}

static void setup(void)
{
    uint32_t pins;

    setup_idt();
    setup_lapic();
    hpet_start();
    /* Not one that the PIT has, too. */
    pins = *HPET(HPET_TIMER(0)) >> 32;
    while (!(pins >> hpet_pin & 1) || hpet_pin < 16) {
        hpet_pin++;
    }
    pci_write(ICH9_LPC, 0, ICH9_PMBASE, PM_BASE | 1);
    pci_write(ICH9_LPC, 0, ICH9_ACPI_CNTL, ICH9_ACPI_EN);
}

void kernel_main(void)
{
    put_string("ticks64\n");
    setup();
    for (;;) {
        for (int i = 0; i < sizeof(one_shots) / sizeof(one_shots[0]); i++) {
            check_one_shot(&one_shots[i]);
            check_pending(&one_shots[i]);
        }
        for (int i = 0; i < sizeof(periodic) / sizeof(periodic[0]); i++) {
            check_periodic(&periodic[i]);
        }
        check_pm_timer();
        lap_done();
    }
}
