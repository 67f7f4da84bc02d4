/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * svm64: a hypervisor on AMD-V whose guest shares its memory and its tables,
 * and is given an interrupt with each VMRUN (EVENTINJ), which must come once.
 * First the guest executes an INT3 and an INVPCID that are intercepted.
 *
 * For TCG, which plays the rig's host.  In the guest, which nothing else leaves
 * but VMMCALL, it prints a '.' for each lap.  A byte that comes on the serial
 * line has the guest call its hypervisor, is then printed, and the next VMRUN
 * follows.
 */
#include "lib/long.h"
#include "lib/uart.h"

#define SPINS           2000

#define MSR_EFER        0xc0000080
#define EFER_SVME       0x1000
#define MSR_VM_HSAVE_PA 0xc0010117

#define VECTOR_INJECTED 0x50
#define EVENTINJ_VALID  0x80000000
#define EXIT_BP         0x43
#define EXIT_VMMCALL    0x81
#define EXIT_INVPCID    0xa2
#define VECTOR_BP       3
#define INT3            0xcc
#define INTERCEPT_INVPCID (1 << 2)
#define ALL_CONTEXTS    2

/* What the hypervisor and its guest change of one another's, besides RAX */
#define OTHERS_REGISTERS \
    "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", \
    "r13", "r14", "r15", "rbp", "memory", "cc"

#define ATTRIBUTES_CODE 0xa9b
#define ATTRIBUTES_DATA 0xc93

/* APM vol. 2, appendix B, by offsets in bytes */
static uint8_t vmcb[4096] __attribute__((aligned(4096)));
static uint8_t host_save[4096] __attribute__((aligned(4096)));
static uint8_t stack[4096] __attribute__((aligned(16)));

static volatile uint32_t injected;
static volatile uint64_t descriptor[2];

static volatile uint16_t *field16(int offset)
{
    return (volatile uint16_t *)(vmcb + offset);
}

static volatile uint32_t *field32(int offset)
{
    return (volatile uint32_t *)(vmcb + offset);
}

static volatile uint64_t *field64(int offset)
{
    return (volatile uint64_t *)(vmcb + offset);
}

static void segment(int offset, uint16_t selector, uint16_t attributes)
{
    *field16(offset) = selector;
    *field16(offset + 2) = attributes;
    *field32(offset + 4) = ~0u;
}

static void table(int offset, const uint8_t *pointer)
{
    *field32(offset + 4) = *(uint16_t *)pointer;
    *field64(offset + 8) = *(uint64_t *)(pointer + 2);
}

void trap(Frame *frame)
{
    if (frame->vector != VECTOR_INJECTED) {
        check_value("no exception, at RIP", frame->rip, frame->vector);
        debug_exit(2);
    }
    injected++;
}

static void guest(void)
{
    asm volatile("int3" : : : OTHERS_REGISTERS);
    asm volatile("invpcid %0, %1"
                 : : "m" (descriptor), "r" ((uint64_t)ALL_CONTEXTS));
    for (;;) {
        volatile uint32_t left = SPINS;

        while (left) {
            left--;
        }
        put_char('.');
        if (inb(COM1_LSR) & LSR_DR) {
            asm volatile("vmmcall" : : : OTHERS_REGISTERS);
        }
    }
}

static void setup_vmcb(void)
{
    uint8_t pointer[10];
    uint64_t value;

    *field32(0x008) = 1 << VECTOR_BP;    /* intercept */
    *field32(0x010) = 3;                 /* VMRUN, VMMCALL, too */
    *field32(0x014) = INTERCEPT_INVPCID;
    *field32(0x058) = 1;                 /* ASID */
    segment(0x400, KERNEL_DS, ATTRIBUTES_DATA);
    segment(0x410, KERNEL_CS, ATTRIBUTES_CODE);
    segment(0x420, KERNEL_DS, ATTRIBUTES_DATA);
    segment(0x430, KERNEL_DS, ATTRIBUTES_DATA);
    asm volatile("sgdt %0" : "=m" (pointer));
    table(0x460, pointer);
    asm volatile("sidt %0" : "=m" (pointer));
    table(0x480, pointer);
    *field64(0x4d0) = rdmsr(MSR_EFER);
    asm volatile("mov %%cr4, %0" : "=r" (value));
    *field64(0x548) = value;
    asm volatile("mov %%cr3, %0" : "=r" (value));
    *field64(0x550) = value;
    asm volatile("mov %%cr0, %0" : "=r" (value));
    *field64(0x558) = value;
    *field64(0x560) = 0x400;             /* DR7 */
    *field64(0x568) = 0xffff0ff0;        /* DR6 */
    *field64(0x570) = 2;                 /* RFLAGS */
    *field64(0x578) = (uintptr_t)guest;
    *field64(0x5d8) = (uintptr_t)stack + sizeof(stack) - 8;
}

static void run_guest(uint64_t exit_code)
{
    uint64_t address = (uintptr_t)vmcb;

    *field32(0x0a8) = EVENTINJ_VALID | VECTOR_INJECTED;
    asm volatile("vmrun" : "+a" (address) : : OTHERS_REGISTERS);
    check_value("exit code", exit_code, *field64(0x070));
    /* The injected one was delivered, and nothing else was in delivery. */
    check_value("EXITINTINFO", 0, *field64(0x088));
    check_value("interrupts", 1, injected);
    injected = 0;
}

void kernel_main(void)
{
    setup_idt();
    put_string("svm64\n");
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SVME);
    wrmsr(MSR_VM_HSAVE_PA, (uintptr_t)host_save);
    setup_vmcb();
    run_guest(EXIT_BP);
    check_value("what RIP is at", INT3, *(uint8_t *)*field64(0x578));
    *field64(0x578) += 1;
    run_guest(EXIT_INVPCID);
    check_value("EXITINFO1", (uintptr_t)descriptor, *field64(0x078));
    check_value("EXITINFO2", ALL_CONTEXTS, *field64(0x080));
    *field32(0x014) = 0;
    for (;;) {
        run_guest(EXIT_VMMCALL);
        *field64(0x578) += 3;            /* after VMMCALL */
        put_string("\ndone: ");
        put_char(inb(COM1));
        put_char('\n');
    }
}
