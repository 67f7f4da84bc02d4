/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fault64: page faults in a locked addition that crosses into a page that is
 * not there, and finds the flags as they were before it.
 *
 * TCG executes such an instruction apart from all other vCPUs.  Prints a '.'
 * for each lap, in which it has done so with each of FLAGS.
 */
#include "lib/long.h"

#define PAGE            4096
#define FRAMES          0x2000000
#define PRESENT_WRITABLE 3
#define VECTOR_PF       14

#define CF              0x001
#define PF              0x004
#define AF              0x010
#define ZF              0x040
#define SF              0x080
#define DF              0x400
#define OF              0x800
#define ALL             (CF | PF | AF | ZF | SF | DF | OF)

static const uint64_t FLAGS[] = { 0, CF, PF, AF, ZF, SF, DF, OF, ALL };

static uint64_t flags;
static uint32_t faults;

static void map(int page, uint64_t entry)
{
    /* What the page was used for comes first. */
    asm volatile("" : : : "memory");
    window_table_1[page] = entry;
    asm volatile("invlpg (%0)" : : "r" (WINDOW + page * PAGE) : "memory");
}

void trap(Frame *frame)
{
    if (frame->vector != VECTOR_PF) {
        check_value("no exception, at RIP", frame->rip, frame->vector);
        debug_exit(2);
    }
    faults++;
    check_value("flags at the page fault", flags, frame->rflags & ALL);
    map(1, FRAMES + PAGE + PRESENT_WRITABLE);
}

static void lock_add(uint32_t *to, uint32_t value)
{
    uint64_t before = flags | 2;

    asm volatile("push %0\n"
                 "popfq\n"
                 "lock addl %2, (%1)\n"
                 "cld" : : "r" (before), "r" (to), "r" (value)
                 : "memory", "cc");
}

void kernel_main(void)
{
    uint32_t *crossing = (uint32_t *)(WINDOW + PAGE - 2);
    uint32_t value = 0x12345678;

    setup_idt();
    put_string("fault64\n");
    map(0, FRAMES + PRESENT_WRITABLE);
    for (;;) {
        for (int i = 0; i < sizeof(FLAGS) / sizeof(FLAGS[0]); i++) {
            map(1, FRAMES + PAGE + PRESENT_WRITABLE);
            *crossing = value;
            map(1, 0);
            faults = 0;
            flags = FLAGS[i];
            lock_add(crossing, i);
            check_value("page faults", 1, faults);
            check_value("sum", value + i, *crossing);
            value = value * 69069 + 1;
        }
        put_char('.');
    }
}
