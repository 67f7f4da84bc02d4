/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * window64: what opens windows, and ends them.
 *
 * A program at CPL3 calls function(), then its kernel by SYSCALL with two
 * numbers, then has it write NUMBER to isa-accel-switch's port, by UD2.  The
 * payload first prints where these are.  With TICKS_WANTED, an interrupt of the
 * LAPIC's timer (VECTOR_TIMER) comes 2,000 times a second.
 */
#include "lib/long.h"
#include "lib/ticks.h"
#include "syscall64.h"
#include "window64.h"

#define TICKS_WANTED    (*(volatile uint32_t *)0x508)
#define TICK            (500 * US)
#define NUMBER          0x20
#define ROUNDS_PER_LAP  1024

static uint8_t user_stack[4096] __attribute__((aligned(16)));
static uint64_t expected, got;

static void expect(uint64_t value, uint64_t result)
{
    if (value != result) {
        expected = value;
        got = result;
    }
}

static void user_main(void)
{
    for (uint64_t round = 0; ; round++) {
        expect(round + FUNCTION_LOOPS, function(round));
        expect(round + 1, call_kernel(round, CALL_ONE));
        expect(round + 1, call_kernel(round, CALL_OTHER));
        asm volatile("ud2" : : "a" (round) : "memory");
    }
}

void trap(Frame *frame)
{
    if (frame->vector == VECTOR_TIMER) {
        lapic_eoi();
        return;
    }
    if (frame->vector != VECTOR_UD || frame->cs != USER_CS) {
        check_value("no other trap, at RIP", frame->rip, frame->vector);
        debug_exit(2);
    }
    check_value("result of a call", expected, got);
    if (frame->rax % ROUNDS_PER_LAP == 0) {
        lap_done();
    }
    frame->rip += 2;
    /* From here to function() it is always the same way. */
    outb(SWITCH_PORT, NUMBER);
}

static void put_place(const char *name, const void *address)
{
    put_string("AT ");
    put_string(name);
    put_char(' ');
    put_hex((uintptr_t)address);
    put_char('\n');
}

void kernel_main(void)
{
    put_string("window64\n");
    put_place("function", function);
    put_place("syscall", syscall_entry);
    put_place("timer", vector_entries[VECTOR_TIMER]);
    setup_idt();
    setup_pic();
    setup_lapic();
    setup_syscall();
    if (TICKS_WANTED) {
        lapic_timer(TICK, true);
    }
    enter_user(user_main, user_stack + sizeof(user_stack) - 8);
}
