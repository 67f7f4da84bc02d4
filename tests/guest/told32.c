/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * told32: does, when told to, what only some KVMs can, in 32-bit protected
 * mode, without paging at first.
 *
 * Prints what soak64 prints.  A byte that comes on the serial line is a
 * command, and is printed after it was carried out:
 *
 * 'x' executes x87 instructions at CPL0 that KVM's instruction emulator does
 *     not have: FLD1, which fails where KVM emulates all of CPL0, and a store
 *     from x87 to an address without memory, which fails under any KVM.  The
 *     x87 stack tells how often each was executed.
 * 'r' goes to CPL3 and comes back by an interrupt, which takes the stack from
 *     the TSS; at CPL3, a lap is printed to a port that the TSS's bitmap allows
 *     for.
 * 'p' has PAE paging, and changes a PDPTE in memory: only for a KVM that holds
 *     them in registers, as the processor does without nested paging or with
 *     EPT.  Each lap then looks through it, and must see what was loaded.
 * 'l' loads it.
 */
#include "lib/flat.h"
#include "lib/pae.h"
#include "lib/uart.h"
#include "told32.h"

#define SPINS           2000
/* Neither memory nor a device. */
#define NO_MEMORY       0xd0000000

static struct {
    uint32_t link, esp0, ss0, unused[22];
    uint16_t trap, bitmap_offset;
    uint8_t bitmap[0x100 / 8 + 1];
} tss;

static uint64_t gdt[] = {
    0,
    0x00cf9b000000ffff,         /* KERNEL_CS */
    0x00cf93000000ffff,         /* KERNEL_DS */
    0x00cffb000000ffff,         /* USER_CS */
    0x00cff3000000ffff,         /* USER_DS */
    0x0000890000000000,         /* TSS_SELECTOR */
};

static uint64_t idt[VECTOR_BACK + 1];
static uint8_t user_stack[256] __attribute__((aligned(16)));

typedef struct Pointer {
    uint16_t limit;
    uint32_t base;
} __attribute__((packed)) Pointer;

/* A 32-bit interrupt gate that CPL3 may use. */
static void set_gate(int vector, void (*handler)(void))
{
    uint64_t address = (uintptr_t)handler;

    idt[vector] = (address & 0xffff0000) << 32 | 0x0000ee0000000000ull |
                  KERNEL_CS << 16 | (address & 0xffff);
}

static void setup(void)
{
    Pointer gdt_pointer = { sizeof(gdt) - 1, (uintptr_t)gdt };
    Pointer idt_pointer = { sizeof(idt) - 1, (uintptr_t)idt };
    uint64_t tss_base = (uintptr_t)&tss;

    tss.ss0 = KERNEL_DS;
    tss.bitmap_offset = offsetof(typeof(tss), bitmap);
    for (uint32_t i = 0; i < sizeof(tss.bitmap); i++) {
        tss.bitmap[i] = 0xff;
    }
    tss.bitmap[0xe9 / 8] &= ~(1 << 0xe9 % 8);
    gdt[TSS_SELECTOR / 8] |= sizeof(tss) - 1;
    gdt[TSS_SELECTOR / 8] |= (tss_base & 0xffffff) << 16;
    set_gate(VECTOR_GP, protection_fault);
    set_gate(VECTOR_BACK, back_from_cpl3);
    asm volatile("lgdt %0" : : "m" (gdt_pointer));
    asm volatile("lidt %0" : : "m" (idt_pointer));
    asm volatile("ltr %w0" : : "r" (TSS_SELECTOR));
}

static void spin(void)
{
    volatile uint32_t left = SPINS;

    while (left) {
        left--;
    }
}

static void execute_unknown(void)
{
    static volatile uint16_t status;

    /* The emulator has FNINIT and FNSTSW m16. */
    asm volatile("fninit; fld1; fnstsw %0" : "=m" (status));
    check("TOP after FLD1", 7, status >> 11 & 7);
    check("exceptions after FLD1", 0, status & 0x7f);
    asm volatile("fstpt (%1); fnstsw %0"
                 : "=m" (status) : "r" (NO_MEMORY));
    check("TOP after FSTP", 0, status >> 11 & 7);
    check("exceptions after FSTP", 0, status & 0x7f);
}

/* Directory 0 is loaded at first, and in memory. */
static bool paging;
static uint32_t in_memory, loaded;

static void change_pdpte(void)
{
    if (!paging) {
        pae_setup();
        paging = true;
    }
    in_memory = !loaded;
    pae_pointers[1] = pae_pointer_to(pae_directories[in_memory]);
}

static void check_window(void)
{
    volatile uint32_t *window = (uint32_t *)PAE_WINDOW;

    asm volatile("invlpg %0" : : "m" (*window) : "memory");
    check("word through the loaded PDPTE", PAE_WORD(loaded), *window);
}

static void obey(char command)
{
    switch (command) {
    case 'x':
        execute_unknown();
        break;
    case 'r':
        check("fault at CPL3", 0,
              visit_cpl3(&tss.esp0, user_stack + sizeof(user_stack)));
        break;
    case 'p':
        change_pdpte();
        break;
    case 'l':
        pae_load();
        loaded = in_memory;
        break;
    }
    put_string("\ndone: ");
    outb(0xe9, command);
    outb(0xe9, '\n');
}

void flat_main(void)
{
    char command;

    put_string("told32\n");
    setup();
    for (;;) {
        spin();
        if (told(&command)) {
            obey(command);
        }
        if (paging) {
            check_window();
        }
        lap_done();
    }
}
