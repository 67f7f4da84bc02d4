/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For a payload of lib/flat: run code at CPL3 or in virtual-8086 mode until
 * an exception or INT brings it back, and see all registers of both moments.
 */
#ifndef GUEST_MONITOR_H
#define GUEST_MONITOR_H

#define KERNEL_CS       0x08
#define KERNEL_DS       0x10
#define USER_CS         0x1b
#define USER_DS         0x23
#define TSS_SELECTOR    0x28
/* Descriptors from 0x30 on are the payload's. */
#define DESCRIPTORS     24

#define VECTOR_DB       1
#define VECTOR_GP       13
#define VECTOR_PF       14
#define VECTOR_BACK     0x30
#define MONITOR_VECTORS 0x31

#define FLAGS_IOPL3     0x3000
#define FLAGS_VM        0x20000

#ifndef __ASSEMBLER__
#include <stddef.h>
#include <stdint.h>

/* The registers of the code that is run, in the order of the stack. */
typedef struct Registers {
    uint32_t gs, fs, es, ds;
    uint32_t edi, esi, ebp, unused, ebx, edx, ecx, eax;
} Registers;

/* As IRET takes it and a change of stacks leaves it. */
typedef struct Return {
    uint32_t eip, cs, eflags, esp, ss;
    uint32_t es, ds, fs, gs;            /* virtual-8086 mode's */
} Return;

typedef struct Entry {
    Registers regs;
    Return to;
} Entry;

typedef struct Trap {
    Registers regs;                     /* segments: not virtual-8086 mode's */
    uint32_t vector, error_code;
    Return from;
} Trap;

typedef struct Tss {
    uint32_t link, esp0, ss0, esp1, ss1, esp2, ss2, cr3;
    uint32_t eip, eflags, eax, ecx, edx, ebx, esp, ebp, esi, edi;
    uint32_t es, cs, ss, ds, fs, gs, ldt;
    uint16_t trap, bitmap_offset;
    uint8_t bitmap[0x10000 / 8 + 1];
} Tss;

/* monitor.S */
extern const uint8_t monitor_entries[MONITOR_VECTORS][16];

/* monitor.c */
extern uint64_t monitor_gdt[DESCRIPTORS];
extern Tss monitor_tss;

/* GDT, IDT and TSS; CPL3 may use the switch's and the debug console's port. */
void setup_monitor(void);

/* A segment: @limit in bytes, @access as the descriptor's bits 47:40. */
enum { SEGMENT_16 = 0, SEGMENT_32 = 4 };
uint64_t segment(uint32_t base, uint32_t limit, uint8_t access, int size);

/* Go to @entry; returns how it came back, valid until the next call. */
const Trap *run(const Entry *entry);

/* Flat registers at @function with @stack. */
Entry user_entry(void (*function)(void), void *stack);

#endif
#endif
