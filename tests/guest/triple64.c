/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * triple64: each lap ends with a triple fault, which resets the machine under
 * either accelerator.  RAM outlives it.
 */
#include "lib/control.h"
#include "lib/long.h"

/* lap_done()'s count of laps is at 0x500. */
#define LAPS_WANTED     (*(volatile uint32_t *)0x500)

typedef struct Kept {
    uint64_t magic, lap, check;
} Kept;

/* Where nothing else is. */
#define KEPT            ((volatile Kept *)0x1000000)
#define MAGIC           0x7269706c65363421ull

void trap(Frame *frame)
{
    check_value("no trap, at RIP", frame->rip, frame->vector);
    debug_exit(2);
}

static void triple_fault(void)
{
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) pointer = { 0, 0 };

    asm volatile("lidt %0\n\t"
                 "ud2" : : "m" (pointer));
}

void kernel_main(void)
{
    uint64_t cr4 = read_cr4();

    if (KEPT->magic != MAGIC) {
        put_string("triple64\n");
        KEPT->magic = MAGIC;
        KEPT->lap = 0;
        KEPT->check = 0;
    }
    setup_idt();
    setup_lapic();
    verify("what a lap has kept", KEPT->lap * 0x9e3779b9, KEPT->check);
    verify("EFER is as lib/long.S sets it", 0x500, rdmsr(0xc0000080));
    verify("CR4 is as lib/long.S sets it", 0x620, cr4);
    verify("the LAPIC's TPR after a reset", 0, *lapic(LAPIC_TPR));
    /* To be reset. */
    *lapic(LAPIC_TPR) = 0x50;
    wrmsr(0xc0000080, 0xd00);
    ask_switch();
    verify("TPR", 0x50, *lapic(LAPIC_TPR));
    KEPT->lap++;
    KEPT->check = KEPT->lap * 0x9e3779b9;
    if (KEPT->lap < LAPS_WANTED) {
        put_char('.');
        ask_switch();
        if (KEPT->lap & 1) {
            ask_switch();
        }
        triple_fault();
    }
    /* The digest is of this lap alone: all are the same but for the count. */
    LAPS_WANTED = 1;
    lap_done();
}
