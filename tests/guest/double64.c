/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * double64: faults in the delivery of an interrupt, and of another fault.
 *
 * The handlers' stack is a page that is not there.  An interrupt that is
 * accepted then stays in service without its handler; a page fault becomes a
 * double fault (SDM vol. 3A, 6.15).
 */
#include "lib/fault.h"

#define VECTOR_SELF     0x41
#define ICR_SELF        0x40000
#define SPINS           300

#define STACK           (WINDOW + 4096)         /* its end */
#define STACK_FRAME     0x1000000ull
#define MISSING         (WINDOW + 2 * 4096)
#define P_RW            3
#define IST_MISSING     1
#define IST_DOUBLE      2

static uint64_t double_stack[512] __attribute__((aligned(16)));
static uint32_t interrupts;
static bool in_delivery, on_stack;

static void in_page_fault(Frame *frame)
{
    in_delivery = false;
    ask_switch();
    fault.count++;
    fault.error_code = frame->error_code;
    fault.address = read_cr2();
}

void trap(Frame *frame)
{
    uint64_t at = (uintptr_t)frame;

    if (interrupts_taken(frame)) {
        return;
    }
    if (frame->vector == VECTOR_SELF) {
        interrupts++;
        on_stack = at < STACK && at >= WINDOW;
        ask_switch();
        lapic_eoi();
    } else if (frame->vector == VECTOR_PF && in_delivery) {
        in_page_fault(frame);
    } else if (frame->vector == VECTOR_DF && fault.rip) {
        on_stack = at < (uintptr_t)(double_stack + 512) &&
                   at >= (uintptr_t)double_stack;
        ask_switch();
        fault_taken(frame);
    } else {
        check_value("no other trap, at RIP", frame->rip, frame->vector);
        debug_exit(2);
    }
}

static void set_stack(uint64_t entry)
{
    window_table_1[0] = entry;
    asm volatile("invlpg (%0)" : : "r" (WINDOW) : "memory");
}

static void send_and_take(void)
{
    *lapic(LAPIC_ICR) = ICR_SELF | VECTOR_SELF;
    ask_switch();
    take_interrupts(SPINS);
}

static void check_interrupt(void)
{
    uint64_t faults = fault.count;

    set_stack(0);
    interrupts = 0;
    in_delivery = true;
    send_and_take();
    verify("page faults in an interrupt's delivery", 1, fault.count - faults);
    verify("error code", FAULT_W, fault.error_code);
    verify("CR2", STACK - 1, fault.address | 0xfff);
    verify("no handler", 0, interrupts);
    verify("in service", true, lapic_bit(LAPIC_ISR, VECTOR_SELF));
    ask_switch();
    verify("in service after a switch", true,
           lapic_bit(LAPIC_ISR, VECTOR_SELF));
    lapic_eoi();
    take_interrupts(SPINS);
    verify("not once more", 0, interrupts);
    set_stack(STACK_FRAME | P_RW);
    send_and_take();
    verify("a handler with its stack", 1, interrupts);
    verify("on its stack", true, on_stack);
    verify("not in service", false, lapic_bit(LAPIC_ISR, VECTOR_SELF));
}

static void check_double(void)
{
    uint64_t faults = fault.count;

    set_stack(0);
    set_ist(VECTOR_PF, IST_MISSING);
    on_stack = false;
    ask_switch();
    may_load(MISSING);
    verify("double faults", 1, fault.count - faults);
    verify("double fault", VECTOR_DF, fault.vector);
    verify("error code of a double fault", 0, fault.error_code);
    verify("on the double fault's stack", true, on_stack);
    verify("CR2 after a double fault", STACK - 1, read_cr2() | 0xfff);
    set_ist(VECTOR_PF, 0);
}

void kernel_main(void)
{
    put_string("double64\n");
    setup_idt();
    setup_pic();
    setup_lapic();
    *(uint64_t *)&tss[TSS_IST(IST_MISSING)] = STACK;
    *(uint64_t *)&tss[TSS_IST(IST_DOUBLE)] = (uintptr_t)(double_stack + 512);
    set_ist(VECTOR_SELF, IST_MISSING);
    set_ist(VECTOR_DF, IST_DOUBLE);
    for (;;) {
        check_interrupt();
        check_double();
        lap_done();
    }
}
