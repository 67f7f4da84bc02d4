/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * syscall64: a guest of ./vas bench that does nothing but call its kernel.
 *
 * A unit of work (lib/work.h) is one SYSCALL from CPL3 and the IRETQ back, with
 * the call's number plus one as its result.
 */
#include "lib/long.h"
#include "lib/work.h"
#include "syscall64.h"

#define CALLS_PER_LAP   65536

static uint8_t user_stack[4096] __attribute__((aligned(16)));
static uint64_t expected, got;

static void user_main(void)
{
    for (uint64_t number = 0; ; number++) {
        expected = number + 1;
        got = syscall_number(number);
        ++*WORK_DONE(0);
        if (expected % CALLS_PER_LAP == 0 || got != expected) {
            asm volatile("ud2" : : : "memory");
        }
    }
}

void trap(Frame *frame)
{
    end_lap_by_trap(frame, "result of a system call", expected, got);
}

void kernel_main(void)
{
    put_string("syscall64\n");
    setup_idt();
    setup_pic();
    setup_lapic();
    setup_syscall();
    enter_user(user_main, user_stack + sizeof(user_stack) - 8);
}
