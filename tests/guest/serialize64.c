/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * serialize64: an instruction that was changed before SERIALIZE is executed
 * behind it as it is now; each prefix makes SERIALIZE undefined (SDM vol. 2,
 * "SERIALIZE").
 */
#include "lib/fault.h"

#define SERIALIZE       ".byte 0x0f, 0x01, 0xe8\n\t"

void trap(Frame *frame)
{
    if (!fault_taken(frame)) {
        check_value("no other trap, at RIP", frame->rip, frame->vector);
        debug_exit(2);
    }
}

/* What the instruction loads into which @value was written just before */
static __attribute__((noinline)) uint32_t changed(uint32_t value)
{
    uint32_t got;

    asm volatile("movl %1, 1f + 1(%%rip)\n\t"
                 SERIALIZE
                 "1: movl $0, %%eax" : "=a" (got) : "r" (value) : "memory");
    return got;
}

void kernel_main(void)
{
    put_string("serialize64\n");
    setup_idt();
    for (uint32_t n = 1;; n += 0x1234567) {
        verify("changed code", n, changed(n));
        ask_switch();
        verify("changed code", ~n, changed(~n));
        verify("SERIALIZE", 0, MAY_FAULT(SERIALIZE));
        verify("66", VECTOR_UD, MAY_FAULT(".byte 0x66\n\t" SERIALIZE));
        ask_switch();
        verify("F2", VECTOR_UD, MAY_FAULT(".byte 0xf2\n\t" SERIALIZE));
        verify("F3", VECTOR_UD, MAY_FAULT(".byte 0xf3\n\t" SERIALIZE));
        verify("LOCK", VECTOR_UD, MAY_FAULT(".byte 0xf0\n\t" SERIALIZE));
        lap_done();
    }
}
