/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/flat.h"
#include "lib/monitor.h"

#define ACCESS_CODE     0x9b
#define ACCESS_DATA     0x93
#define ACCESS_TSS      0x89
#define ACCESS_USER     0x60

uint64_t monitor_gdt[DESCRIPTORS];
Tss monitor_tss;

static uint64_t idt[MONITOR_VECTORS];
static uint8_t trap_stack[4096] __attribute__((aligned(16)));

uint64_t segment(uint32_t base, uint32_t limit, uint8_t access, int size)
{
    uint64_t flags = size;

    if (limit > 0xfffff) {
        limit >>= 12;
        flags |= 8;
    }
    return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 |
           (uint64_t)access << 40 | (uint64_t)(limit & 0xf0000) << 32 |
           flags << 52 | (uint64_t)(base & 0xff000000) << 32;
}

static void allow_port(uint16_t port)
{
    monitor_tss.bitmap[port / 8] &= ~(1 << port % 8);
}

void setup_monitor(void)
{
    struct {
        uint16_t limit;
        uint32_t base;
    } __attribute__((packed)) gdt_pointer, idt_pointer;
    uint64_t *gdt = monitor_gdt;

    gdt[KERNEL_CS / 8] = segment(0, ~0u, ACCESS_CODE, SEGMENT_32);
    gdt[KERNEL_DS / 8] = segment(0, ~0u, ACCESS_DATA, SEGMENT_32);
    gdt[USER_CS / 8] = segment(0, ~0u, ACCESS_CODE | ACCESS_USER, SEGMENT_32);
    gdt[USER_DS / 8] = segment(0, ~0u, ACCESS_DATA | ACCESS_USER, SEGMENT_32);
    gdt[TSS_SELECTOR / 8] = segment((uintptr_t)&monitor_tss,
                                    sizeof(monitor_tss) - 1, ACCESS_TSS, 0);

    monitor_tss.ss0 = KERNEL_DS;
    monitor_tss.esp0 = (uintptr_t)trap_stack + sizeof(trap_stack);
    monitor_tss.bitmap_offset = offsetof(Tss, bitmap);
    for (uint32_t i = 0; i < sizeof(monitor_tss.bitmap); i++) {
        monitor_tss.bitmap[i] = 0xff;
    }
    allow_port(0xe9);
    allow_port(SWITCH_PORT);

    /* 32-bit interrupt gates that CPL3 may use */
    for (int i = 0; i < MONITOR_VECTORS; i++) {
        uint64_t address = (uintptr_t)monitor_entries[i];

        idt[i] = (address & 0xffff0000) << 32 | 0x0000ee0000000000ull |
                 KERNEL_CS << 16 | (address & 0xffff);
    }
    gdt_pointer.limit = sizeof(monitor_gdt) - 1;
    gdt_pointer.base = (uintptr_t)gdt;
    idt_pointer.limit = sizeof(idt) - 1;
    idt_pointer.base = (uintptr_t)idt;
    asm volatile("lgdt %0" : : "m" (gdt_pointer));
    asm volatile("lidt %0" : : "m" (idt_pointer));
    asm volatile("ltr %w0" : : "r" (TSS_SELECTOR));
    asm volatile("lldt %w0" : : "r" (0));
    /* CS, too, out of this GDT. */
    asm volatile("ljmpl %0, $1f\n1:" : : "i" (KERNEL_CS));
}

Entry user_entry(void (*function)(void), void *stack)
{
    return (Entry) {
        .regs = {
            .gs = USER_DS, .fs = USER_DS, .es = USER_DS, .ds = USER_DS,
            .edi = 0x1d1d1d1d, .esi = 0x51515151, .ebp = 0xebebebeb,
            .ebx = 0xb0b0b0b0, .edx = 0xd0d0d0d0, .ecx = 0xc0c0c0c0,
            .eax = 0xa0a0a0a0,
        },
        .to = {
            .eip = (uintptr_t)function, .cs = USER_CS, .eflags = 2,
            .esp = (uintptr_t)stack, .ss = USER_DS,
        },
    };
}
