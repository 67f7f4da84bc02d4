/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fpu64: what the x87 unit and the SSE registers hold, CPL0 half.  xsave64 is
 * the same with XSAVE, and with AVX.
 *
 * The other half asks by exceptions, as it may have no other way (a KVM may
 * emulate CPL0): UD2, with the function in RAX.
 */
#include "lib/long.h"
#include "fpu64.h"

#define VECTOR_MF       16
#define FWAIT           0x9b


#define CR4_OSXSAVE     (1 << 18)
#define AVX_OFFSET      576

volatile uint32_t x87_errors;

static uint8_t user_stack[16384] __attribute__((aligned(64)));

void trap(Frame *frame)
{
    if (frame->vector == VECTOR_UD) {
        switch (frame->rax) {
        case CALL_SWITCH:
            ask_switch();
            break;
        case CALL_VERIFY:
            verify((const char *)frame->rdi, frame->rsi, frame->rdx);
            break;
        case CALL_LAP:
            lap_done();
            break;
        }
        frame->rip += 2;
        return;
    }
    if (frame->vector == VECTOR_MF && *(uint8_t *)frame->rip == FWAIT) {
        x87_errors++;
        frame->rip++;
        return;
    }
    check_value("no other trap, at RIP", frame->rip, frame->vector);
    debug_exit(2);
}

#ifdef USE_XSAVE
static void enable_xsave(void)
{
    uint64_t cr4;
    uint32_t a, b, c, d;

    asm volatile("mov %%cr4, %0" : "=r" (cr4));
    asm volatile("mov %0, %%cr4" : : "r" (cr4 | CR4_OSXSAVE));
    asm volatile("xsetbv" : : "a" (XSAVE_ALL), "d" (0), "c" (0));
    asm volatile("cpuid" : "=a" (a), "=b" (b), "=c" (c), "=d" (d)
                         : "a" (0xd), "c" (2));
    verify("AVX's place in XSAVE's area", AVX_OFFSET, b);
}
#endif

void kernel_main(void)
{
    put_string("fpu64\n");
    setup_idt();
    setup_pic();
#ifdef USE_XSAVE
    enable_xsave();
#endif
    enter_user(user_main, user_stack + sizeof(user_stack) - 8);
}
