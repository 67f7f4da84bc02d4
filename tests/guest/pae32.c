/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pae32: a 32-bit guest with PAE paging that checks what becomes of its page
 * tables.  Needs a CPU, or a KVM, that has paging outside long mode.
 *
 * A processor sets the Accessed bit in page directory and page table entries,
 * but not in the four page directory pointer table entries (PDPTEs), where
 * that bit is reserved: the next load of CR3 would fault on it (SDM vol. 3,
 * section "PAE Paging").  It holds them in registers from one load of CR3 to
 * the next.  In each lap one PDPTE is given another page directory, and must
 * take effect with the next load of CR3.
 *
 * Prints what soak64 prints, and takes the number of laps from the same place.
 */
#include "lib/flat.h"

#define PRESENT_WRITABLE 3
#define ACCESSED        0x20
#define DIRTY           0x40
#define LARGE           0x80
#define FRAME           0x400000
#define WINDOW          0x40000000
#define DIRECTORIES     2

static uint64_t pointers[4] __attribute__((aligned(32)));
static uint64_t identity[512] __attribute__((aligned(4096)));
static uint64_t directories[DIRECTORIES][512] __attribute__((aligned(4096)));

static uint64_t pointer_to(const uint64_t *directory)
{
    return (uintptr_t)directory | 1;
}

static void load_cr3(void)
{
    asm volatile("mov %0, %%cr3" : : "r" (pointers) : "memory");
}

static void toggle_cr4_pge(void)
{
    uint32_t value;

    asm volatile("mov %%cr4, %0; xor $0x80, %0; mov %0, %%cr4"
                 : "=&r" (value) : : "memory");
}

static void setup(void)
{
    for (uint32_t i = 0; i < 512; i++) {
        identity[i] = i * 0x200000ull | LARGE | PRESENT_WRITABLE;
    }
    for (uint32_t i = 0; i < DIRECTORIES; i++) {
        uint32_t frame = FRAME + i * 0x200000;

        *(volatile uint32_t *)frame = 0xf00d0000 + i;
        directories[i][0] = frame | LARGE | PRESENT_WRITABLE;
    }
    pointers[0] = pointer_to(identity);
    pointers[1] = pointer_to(directories[0]);
    asm volatile("mov %%cr4, %%eax; or $0x20, %%eax; mov %%eax, %%cr4"
                 : : : "eax", "memory");
    load_cr3();
    asm volatile("mov %%cr0, %%eax; or $0x80000000, %%eax; mov %%eax, %%cr0"
                 : : : "eax", "memory");
}

static void check_window(uint32_t lap)
{
    uint32_t now = lap % DIRECTORIES;
    volatile uint32_t *window = (uint32_t *)WINDOW;

    pointers[1] = pointer_to(directories[now]);
    load_cr3();
    check("word of the new directory's page", 0xf00d0000 + now, window[0]);
    window[1] = lap;
    check("write through the new directory", lap,
          *(volatile uint32_t *)(FRAME + now * 0x200000 + 4));
    check("Accessed and Dirty in the PDE", ACCESSED | DIRTY,
          directories[now][0] & (ACCESSED | DIRTY));
    check("PDPTE 0", pointer_to(identity), pointers[0]);
    check("PDPTE 1", pointer_to(directories[now]), pointers[1]);
    /* This loads the PDPTEs, too, and faults on a reserved bit. */
    toggle_cr4_pge();
    check("word after a load of CR4", 0xf00d0000 + now, window[0]);
    check("PDPTE 1 after a load of CR4", pointer_to(directories[now]),
          pointers[1]);
}

void flat_main(void)
{
    put_string("pae32\n");
    setup();
    for (uint32_t lap = 0; ; lap++) {
        check_window(lap);
        lap_done();
    }
}
