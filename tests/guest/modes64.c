/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * modes64: long mode and compatibility mode, of 32 and of 16 bits, at CPL3;
 * ways between them and to CPL0: far jumps and returns, SYSCALL, SWAPGS, a
 * call gate, an interrupt stack; segments with bases, from the LDT, too.
 */
#include "lib/long.h"
#include "modes64.h"

#define VECTOR_IST      0x30
#define FLAGS           0x3002          /* IOPL 3: CPL3 may ask for a switch */

#define MSR_EFER        0xc0000080
#define EFER_SCE        1
#define MSR_STAR        0xc0000081
#define MSR_LSTAR       0xc0000082
#define MSR_FMASK       0xc0000084
#define MSR_FS_BASE     0xc0000100
#define MSR_GS_BASE     0xc0000101
#define MSR_KERNEL_GS_BASE 0xc0000102
#define MSR_TSC_AUX     0xc0000103

#define CODE32          0x00cffb000000ffffull
#define CODE64          0x00affb000000ffffull
#define CODE16          0x0000fb000000ffffull
#define DATA32          0x00cff3000000ffffull
#define LDT_TYPE        0x0000820000000000ull
#define GATE_TYPE       0x0000ec0000000000ull

static uint64_t gdt[DESCRIPTORS] __attribute__((aligned(16)));
static uint64_t ldt[1] __attribute__((aligned(16)));
static uint64_t user_stack[64] __attribute__((aligned(16)));
static uint64_t ist_stack[512] __attribute__((aligned(16)));
/* Which segments, or bases, point to. */
static uint64_t based[2], others[2], kernels[2];
static Frame seen;
static bool on_ist;
static uint64_t pattern = 0x9e3779b97f4a7c15;

void trap(Frame *frame)
{
    switch (frame->vector) {
    case VECTOR_UD:
        seen = *frame;
        return_to_caller(frame);
        break;
    case VECTOR_IST:
        on_ist = (uint64_t *)frame >= ist_stack &&
                 (uint64_t *)frame < ist_stack + 512;
        ask_switch();
        break;
    default:
        check_value("no other trap, at RIP", frame->rip, frame->vector);
        debug_exit(2);
    }
}

static uint64_t descriptor(uint64_t type, uintptr_t base, uint32_t limit)
{
    return type | (base & 0xffffff) << 16 | (base >> 24 & 0xff) << 56 | limit;
}

static void setup(void)
{
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) pointer;

    setup_idt();
    asm volatile("sgdt %0" : "=m" (pointer));
    for (int i = 0; i <= pointer.limit / 8; i++) {
        gdt[i] = ((uint64_t *)pointer.base)[i];
    }
    gdt[USER32_CS / 8] = CODE32;
    gdt[USER32_DS / 8] = DATA32;
    gdt[USER64_CS / 8] = CODE64;
    gdt[USER16_CS / 8] = descriptor(CODE16, (uintptr_t)user16, 0);
    gdt[USER_BASED / 8] = descriptor(DATA32, (uintptr_t)based, 0);
    gdt[LDT / 8] = descriptor(LDT_TYPE, (uintptr_t)ldt, sizeof(ldt) - 1);
    gdt[GATE / 8] = GATE_TYPE | KERNEL_CS << 16 |
                    ((uintptr_t)gate_target & 0xffff) |
                    (uint64_t)((uintptr_t)gate_target >> 16) << 48;
    ldt[0] = descriptor(DATA32, (uintptr_t)others, 0);
    pointer.base = (uintptr_t)gdt;
    pointer.limit = sizeof(gdt) - 1;
    asm volatile("lgdt %0\n\t"
                 "lldt %w1" : : "m" (pointer), "r" (LDT));
    *(uint64_t *)&tss[TSS_IST(1)] = (uintptr_t)(ist_stack + 512);
    set_ist(VECTOR_IST, 1);
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
    /* SYSRET goes to USER32_CS, or 16 on, and to what lies between for SS. */
    wrmsr(MSR_STAR, (uint64_t)USER32_CS << 48 | (uint64_t)KERNEL_CS << 32);
    wrmsr(MSR_LSTAR, (uintptr_t)syscall_entry);
    wrmsr(MSR_FMASK, 0);
}

/* Run @function with random registers; how it ended. */
static const Frame *user(void (*function)(void), uint16_t cs)
{
    Frame frame;
    uint64_t *registers = (uint64_t *)&frame;

    for (int i = 0; i < offsetof(Frame, vector) / 8; i++) {
        registers[i] = next_pattern(&pattern);
    }
    frame.rbx = 0;
    frame.rip = cs == USER16_CS ? 0 : (uintptr_t)function;
    frame.cs = cs;
    frame.rflags = FLAGS;
    frame.rsp = (uintptr_t)(user_stack + 64);
    frame.ss = USER32_DS;
    run(&frame);
    verify("IOPL", FLAGS & 0x3000, seen.rflags & 0x3000);
    verify("RSP", frame.rsp, seen.rsp);
    verify("RBP", cs == USER64_CS ? frame.rbp : (uint32_t)frame.rbp,
           cs == USER64_CS ? seen.rbp : (uint32_t)seen.rbp);
    return &seen;
}

static void check_compatibility(void)
{
    const Frame *frame = user(user32, USER32_CS);

    verify("through a base", (uint32_t)based[0], frame->rax);
    verify("through a base", based[0] >> 32, frame->rcx);
    verify("through the LDT's base", (uint32_t)others[0], frame->rsi);
    verify("through the LDT's base", others[0] >> 32, frame->rdi);
    verify("32 bits: places", 1, frame->rbx);
    verify("32 bits: CS", USER32_CS, frame->cs);
    frame = user(user16, USER16_CS);
    verify("16 bits: through a base", (uint32_t)based[0], frame->rax);
    verify("16 bits: through a base", based[0] >> 32, frame->rcx);
    verify("16 bits: places", 1, frame->rbx);
    verify("16 bits: CS", USER16_CS, frame->cs);
}

static void check_ways(void)
{
    const Frame *frame = user(user_to_and_fro, USER64_CS);

    verify("to and fro: places", 3, frame->rbx);
    verify("to and fro: CS", USER32_CS, frame->cs);
}

static void check_syscall(void)
{
    const Frame *frame;

    wrmsr(MSR_KERNEL_GS_BASE, (uintptr_t)kernels);
    frame = user(user_syscall, USER64_CS);
    verify("SYSCALL: places", 2, frame->rbx);
    verify("SYSCALL: CS", USER64_CS, frame->cs);
    verify("SYSCALL: SS", USER32_DS, frame->ss);
    verify("SYSCALL: ZF", 1, (uint8_t)frame->r13);
    verify("SYSCALL: CF", 0, (uint8_t)frame->r14);
    verify("SYSCALL: GS", kernels[0], frame->rsi);
    verify("SYSCALL: GS", kernels[1], frame->rdi);
    frame = user(user_syscall32, USER64_CS);
    verify("SYSRET: places", 2, frame->rbx);
    verify("SYSRET: CS", USER32_CS, frame->cs);
    verify("SYSRET: SS", USER32_DS, frame->ss);
    verify("KERNEL_GS_BASE", (uintptr_t)kernels, rdmsr(MSR_KERNEL_GS_BASE));
}

static void check_gate(void)
{
    const Frame *frame = user(user_gate, USER64_CS);

    verify("call gate: places", 2, frame->rbx);
    verify("call gate: SS", 0, frame->rax);
    verify("call gate: SS after a switch", 0, frame->rcx);
    verify("call gate: CS", KERNEL_CS, frame->rsi);
    verify("call gate: stack", KERNEL_CS, frame->rdi);
}

static void check_bases(void)
{
    const Frame *frame;
    uint64_t high = 0xffff800000000000ull | next_pattern(&pattern) >> 17;

    wrmsr(MSR_FS_BASE, (uintptr_t)based);
    wrmsr(MSR_GS_BASE, (uintptr_t)others);
    frame = user(user_bases, USER64_CS);
    verify("FS base", based[0], frame->rax);
    verify("GS base", others[0], frame->rcx);
    verify("FS base after a switch", based[1], frame->rsi);
    verify("GS base after a switch", others[1], frame->rdi);
    wrmsr(MSR_FS_BASE, high);
    wrmsr(MSR_GS_BASE, ~high);
    wrmsr(MSR_KERNEL_GS_BASE, high + 1);
    wrmsr(MSR_TSC_AUX, (uint32_t)high);
    ask_switch();
    verify("FS_BASE", high, rdmsr(MSR_FS_BASE));
    verify("GS_BASE", ~high, rdmsr(MSR_GS_BASE));
    verify("KERNEL_GS_BASE", high + 1, rdmsr(MSR_KERNEL_GS_BASE));
    frame = user(user_tsc_aux, USER64_CS);
    verify("TSC_AUX", (uint32_t)high, frame->rsi);
    verify("TSC_AUX after a switch", (uint32_t)high, frame->rdi);
}

static void check_ist(void)
{
    on_ist = false;
    ask_switch();
    asm volatile("int %0" : : "i" (VECTOR_IST) : "memory");
    verify("on its stack", true, on_ist);
}

void kernel_main(void)
{
    put_string("modes64\n");
    setup();
    for (;;) {
        for (int i = 0; i < 2; i++) {
            based[i] = next_pattern(&pattern);
            others[i] = next_pattern(&pattern);
            kernels[i] = next_pattern(&pattern);
        }
        check_compatibility();
        check_ways();
        check_syscall();
        check_gate();
        check_bases();
        check_ist();
        lap_done();
    }
}
