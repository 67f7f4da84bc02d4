/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * remap64: a guest of ./vas bench that does nothing but change its page
 * tables, at CPL0.
 *
 * A unit of work (lib/work.h) is one page given another frame, and read: it
 * must show that frame.  Of each 32 pages 16 are changed one by one, with
 * INVLPG, and 16 together, before one write of CR3.
 */
#include "lib/control.h"
#include "lib/long.h"
#include "lib/work.h"

#define PAGES           16
#define FRAMES          32
#define ROUNDS_PER_LAP  256

static volatile uint8_t frames[FRAMES][4096] __attribute__((aligned(4096)));

static volatile uint64_t *window(unsigned page)
{
    return (volatile uint64_t *)(uintptr_t)(WINDOW + page * 4096);
}

static void map(unsigned page, unsigned frame)
{
    window_table_1[page] = (uintptr_t)frames[frame % FRAMES] | 7;
}

static void expect_frame(unsigned page, unsigned frame)
{
    verify("frame of a page", frame % FRAMES, *window(page));
    ++*WORK_DONE(0);
}

static void remap(unsigned round)
{
    for (unsigned page = 0; page < PAGES; page++) {
        map(page, page + round);
        asm volatile("invlpg %0" : : "m" (*window(page)) : "memory");
        expect_frame(page, page + round);
    }
    for (unsigned page = 0; page < PAGES; page++) {
        map(page, page + round + 1);
    }
    write_cr3(page_table_4);
    for (unsigned page = 0; page < PAGES; page++) {
        expect_frame(page, page + round + 1);
    }
}

void trap(Frame *frame)
{
    check_value("no exception, at RIP", frame->rip, frame->vector);
    debug_exit(2);
}

void kernel_main(void)
{
    put_string("remap64\n");
    setup_idt();
    setup_pic();
    setup_lapic();
    for (unsigned frame = 0; frame < FRAMES; frame++) {
        *(volatile uint64_t *)frames[frame] = frame;
    }
    for (unsigned round = 1; ; round++) {
        remap(round);
        if (round % ROUNDS_PER_LAP == 0) {
            lap_done();
        }
    }
}
