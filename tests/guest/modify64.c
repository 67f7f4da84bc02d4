/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * modify64: a vCPU changes code that the other one has executed, and that
 * executes what came of it after a serialising instruction, as the manual has
 * it (SDM vol. 3A, 9.1.3); with switches in between.  While it waits it runs
 * other code of the same page.
 */
#include "lib/code.h"
#include "lib/hpet.h"
#include "lib/smp.h"

#define PAGE            0x1000000ull
#define TO_AP           PAGE            /* what the AP is to execute */
#define FROM_AP         (PAGE + 0x400)  /* what it has changed */
#define WAITING         (PAGE + 0x800)  /* what it runs meanwhile */
#define WAITS           0x3a17

/* When a switch is asked for. */
enum { BEFORE_CHANGE = 1, AFTER_CHANGE = 2, ON_AP = 4, AFTER_AP = 8, ALL = 16 };

static volatile uint32_t turn, done, result, asks;
static volatile bool waited_right = true;
static uint64_t state = 28;

void trap(Frame *frame)
{
    check_value("no trap, at RIP", frame->rip, frame->vector);
    debug_exit(2);
}

static void serialise(void)
{
    uint32_t eax = 0;

    asm volatile("cpuid" : "+a" (eax) : : "ebx", "ecx", "edx", "memory");
}

void ap_main(void)
{
    setup_idt();
    for (;;) {
        while (turn == done) {
            if (call_function(WAITING) != WAITS) {
                waited_right = false;
            }
        }
        if (asks & ON_AP) {
            ask_switch();
        }
        serialise();
        result = call_function(TO_AP);
        write_function(FROM_AP, ~result);
        done = turn;
    }
}

/* False after ten seconds, which is too long. */
static bool wait_done(void)
{
    uint64_t end = hpet_ns() + 10 * SECOND;

    while (done != turn) {
        if (hpet_ns() > end) {
            return false;
        }
    }
    return true;
}

static void hand_over(uint32_t when)
{
    uint32_t value = next_pattern(&state);

    asks = when;
    if (when & BEFORE_CHANGE) {
        ask_switch();
    }
    write_function(TO_AP, value);
    if (when & AFTER_CHANGE) {
        ask_switch();
    }
    turn++;
    verify("the other vCPU answers", true, wait_done());
    if (when & AFTER_AP) {
        ask_switch();
    }
    serialise();
    verify("what the other vCPU executes", value, result);
    verify("what it has changed", ~value, call_function(FROM_AP));
    verify("what it has run meanwhile", true, waited_right);
}

void kernel_main(void)
{
    put_string("modify64\n");
    setup_idt();
    setup_lapic();
    hpet_start();
    write_function(TO_AP, 0);
    write_function(FROM_AP, 0);
    write_function(WAITING, WAITS);
    copy_ap_code();
    send_ipi(AP_ID, ICR_INIT);
    send_ipi(AP_ID, ICR_STARTUP | AP_PAGE >> 12);
    for (;;) {
        for (uint32_t when = 0; when < ALL; when++) {
            hand_over(when);
        }
        lap_done();
    }
}
