/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * modes32: the modes and segments of 32-bit protected mode without paging,
 * with a switch in the middle of each.
 *
 * CPL3 with 32- and 16-bit segments, virtual-8086 mode with IOPL 3 and 0 and
 * the TSS's bitmap of ports, a call gate to CPL0, a segment of the LDT, one
 * that expands down, a null one, and a hardware task that is nested in the
 * main one (SDM vol. 3A, chapters 3, 8 and 22).
 *
 * What TCG does not do is not asked for: no limit of a segment is checked, no
 * use of a null one; IRET and RETF set no Accessed bit.
 */
#include "lib/flat.h"
#include "modes32.h"

#define ACCESS_LDT      0x82
#define ACCESS_TSS      0x89
#define ACCESS_BUSY     0x8b
#define USER_CODE       0xfa            /* not yet accessed */
#define USER_DATA       0xf2
#define USER_DATA_DOWN  0xf6
#define ACCESSED        0x01
#define FLAGS_NT        0x4000
#define FLAGS_ALWAYS    2
#define ARITHMETIC      0x8d5
#define CR0_TS          8

Tss task_tss;

static uint64_t ldt[2];
static uint32_t words[4] = { 0x01020304, 0x05060708, 0x090a0b0c, 0x0d0e0f10 };
static uint8_t user_stack[256] __attribute__((aligned(16)));
static uint8_t task_stack[256] __attribute__((aligned(16)));

static uint8_t access_of(uint16_t selector)
{
    return monitor_gdt[selector / 8] >> 40;
}

/* It came back by INT, with what no case changes as it was. */
static void check_back(const Trap *trap, const Entry *entry)
{
    check("vector", VECTOR_BACK, trap->vector);
    check("CS", entry->to.cs, trap->from.cs);
    check("SS", entry->to.ss, trap->from.ss);
    check("ESP", entry->to.esp, trap->from.esp);
    check("EFLAGS", entry->to.eflags, trap->from.eflags & ~ARITHMETIC);
    check("EDI", entry->regs.edi, trap->regs.edi);
    check("EBP", entry->regs.ebp, trap->regs.ebp);
}

static void check_user32(void)
{
    Entry entry = user_entry(user32, user_stack + sizeof(user_stack));
    const Trap *trap = run(&entry);

    check_back(trap, &entry);
    check("EBX at CPL3", 0x11111112, trap->regs.ebx);
    check("EAX at CPL3", entry.regs.eax, trap->regs.eax);
    check("DS at CPL3", USER_DS, trap->regs.ds);
    check("GS at CPL3", USER_DS, trap->regs.gs);
}

static void check_user16(void)
{
    Entry entry = user_entry(NULL, NULL);
    const Trap *trap;

    monitor_gdt[CODE_16 / 8] = segment((uintptr_t)user16, 0xff, USER_CODE,
                                       SEGMENT_16);
    monitor_gdt[STACK_16 / 8] = segment((uintptr_t)user_stack,
                                        sizeof(user_stack) - 1, USER_DATA,
                                        SEGMENT_16);
    entry.to.cs = CODE_16;
    entry.to.ss = STACK_16;
    /* A 16-bit stack leaves the high half alone. */
    entry.to.esp = 0xabcd0080;
    trap = run(&entry);
    check("vector in a 16-bit segment", VECTOR_BACK, trap->vector);
    check("CS of a 16-bit segment", CODE_16, trap->from.cs);
    check("SS of a 16-bit segment", STACK_16, trap->from.ss);
    check("SP of a 16-bit segment", 0x80, trap->from.esp & 0xffff);
    check("what was pushed", 0xb0b01234, trap->regs.ebx);
}

static void check_v86(uint32_t iopl)
{
    Entry entry = user_entry(NULL, NULL);
    volatile uint16_t *data = (uint16_t *)(V86_DATA * 16);
    const Trap *trap;

    for (int i = 0; i < v86_code_end - v86_code; i++) {
        ((volatile uint8_t *)(V86_CODE * 16))[i] = v86_code[i];
    }
    *data = 0;
    entry.to = (Return) {
        .eip = 0, .cs = V86_CODE, .eflags = FLAGS_VM | iopl | FLAGS_ALWAYS,
        .esp = 0x1000, .ss = V86_STACK,
        .es = 0x1111, .ds = V86_DATA, .fs = 0x2222, .gs = 0x3333,
    };
    trap = run(&entry);
    check("virtual-8086: DS:0", 0x5678, *data);
    check("virtual-8086: CS", V86_CODE, trap->from.cs);
    check("virtual-8086: its CS in CX", V86_CODE, trap->regs.ecx & 0xffff);
    check("virtual-8086: DX", 0x5678, trap->regs.edx & 0xffff);
    check("virtual-8086: ES", 0x1111, trap->from.es);
    check("virtual-8086: DS", V86_DATA, trap->from.ds);
    check("virtual-8086: FS", 0x2222, trap->from.fs);
    check("virtual-8086: GS", 0x3333, trap->from.gs);
    check("virtual-8086: SP", 0x1000, trap->from.esp & 0xffff);
    check("virtual-8086: DS in the monitor", 0, trap->regs.ds);
    check("virtual-8086: VM and IOPL", FLAGS_VM | iopl,
          trap->from.eflags & (FLAGS_VM | FLAGS_IOPL3));
    if (iopl) {
        check("virtual-8086: vector", VECTOR_BACK, trap->vector);
        check("virtual-8086: PUSHF", iopl | FLAGS_ALWAYS,
              trap->regs.ebx & (FLAGS_IOPL3 | FLAGS_ALWAYS | FLAGS_NT));
    } else {
        check("virtual-8086: vector of PUSHF", VECTOR_GP, trap->vector);
        check("virtual-8086: IP of PUSHF", v86_pushf - v86_code,
              trap->from.eip);
        check("virtual-8086: error code", 0, trap->error_code);
    }
}

static void check_gate(void)
{
    Entry entry = user_entry(user_gate, user_stack + sizeof(user_stack));
    uint64_t target = (uintptr_t)gate_target;
    const Trap *trap;

    /* DPL 3, one parameter */
    monitor_gdt[GATE / 8] = (target & 0xffff) | KERNEL_CS << 16 |
                            0xec01ull << 32 | (target & 0xffff0000) << 32;
    trap = run(&entry);
    check("vector after a call gate", VECTOR_BACK, trap->vector);
    check("a call gate's parameter", PARAMETER, trap->regs.eax);
    check("CS behind a call gate", KERNEL_CS, trap->regs.ecx);
    check("SS behind a call gate", KERNEL_DS, trap->regs.edx);
    check("ESP after a call gate", entry.to.esp, trap->regs.esi);
}

static void check_segments(void)
{
    void *stack = user_stack + sizeof(user_stack);
    Entry entry = user_entry(user_ldt, stack);
    const Trap *trap;

    ldt[LDT_DATA / 8] = segment((uintptr_t)words, sizeof(words) - 1, USER_DATA,
                                SEGMENT_32);
    monitor_gdt[LDT_SELECTOR / 8] = segment((uintptr_t)ldt, sizeof(ldt) - 1,
                                            ACCESS_LDT, 0);
    asm volatile("lldt %w0" : : "r" (LDT_SELECTOR));
    trap = run(&entry);
    check_back(trap, &entry);
    check("LDT: first word", words[0], trap->regs.eax);
    check("LDT: last word", words[3], trap->regs.ebx);
    check("LDT: FS", LDT_DATA, trap->regs.fs);
    check("LDT: Accessed", USER_DATA | ACCESSED,
          (uint8_t)(ldt[LDT_DATA / 8] >> 40));

    entry = user_entry(user_down, stack);
    monitor_gdt[EXPAND_DOWN / 8] = segment((uintptr_t)words - 0x1000, 0xfff,
                                           USER_DATA_DOWN, SEGMENT_32);
    trap = run(&entry);
    check_back(trap, &entry);
    check("expand-down: first word", words[0], trap->regs.eax);
    check("expand-down: second word", words[1], trap->regs.ebx);

    entry = user_entry(user_null, stack);
    trap = run(&entry);
    check_back(trap, &entry);
    check("null segment: its ES in ECX", 0, trap->regs.ecx);
    check("null segment: ES", 0, trap->regs.es);
}

static void setup_task(void)
{
    task_tss = (Tss) {
        .eip = (uintptr_t)task_entry, .eflags = FLAGS_ALWAYS,
        .esp = (uintptr_t)task_stack + sizeof(task_stack),
        .cs = KERNEL_CS, .ss = KERNEL_DS, .ds = KERNEL_DS, .es = KERNEL_DS,
        .fs = KERNEL_DS, .gs = KERNEL_DS,
    };
    monitor_gdt[TASK_SELECTOR / 8] = segment((uintptr_t)&task_tss, 103,
                                             ACCESS_TSS, 0);
}

static void check_task(uint32_t lap)
{
    uint32_t flags, cr0;
    uint16_t tr;

    asm volatile("lcall %3, $0\n"
                 "pushfl\n"
                 "popl %0\n"
                 "str %1\n"
                 "movl %%cr0, %2\n"
                 "clts" : "=r" (flags), "=r" (tr), "=r" (cr0)
                 : "i" (TASK_SELECTOR) : "memory", "cc");
    check("task: TR in it", TASK_SELECTOR, task_tr);
    check("task: NT in it", FLAGS_NT, task_flags & FLAGS_NT);
    check("task: back link", TSS_SELECTOR, task_link & 0xffff);
    check("task: its descriptor in it", ACCESS_BUSY, task_access);
    check("task: the main one's in it", ACCESS_BUSY, task_main_access);
    check("task: EBX, saved", lap + 1, task_tss.ebx);
    check("task: TR after it", TSS_SELECTOR, tr);
    check("task: NT after it", 0, flags & FLAGS_NT);
    check("task: its descriptor after it", ACCESS_TSS,
          access_of(TASK_SELECTOR));
    check("task: the main one's after it", ACCESS_BUSY,
          access_of(TSS_SELECTOR));
    check("task: CR0.TS", CR0_TS, cr0 & CR0_TS);
}

void flat_main(void)
{
    put_string("modes32\n");
    setup_monitor();
    setup_task();
    for (uint32_t lap = 0; ; lap++) {
        check_user32();
        check_user16();
        check_v86(FLAGS_IOPL3);
        check_v86(0);
        check_gate();
        check_segments();
        check_task(lap);
        lap_done();
    }
}
