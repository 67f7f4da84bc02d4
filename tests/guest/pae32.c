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
#include "lib/pae.h"

#define ACCESSED        0x20
#define DIRTY           0x40

static void toggle_cr4_pge(void)
{
    uint32_t value;

    asm volatile("mov %%cr4, %0; xor $0x80, %0; mov %0, %%cr4"
                 : "=&r" (value) : : "memory");
}

static void check_window(uint32_t lap)
{
    uint32_t now = lap % PAE_DIRECTORIES;
    volatile uint32_t *window = (uint32_t *)PAE_WINDOW;
    uint64_t pointer = pae_pointer_to(pae_directories[now]);

    pae_pointers[1] = pointer;
    pae_load();
    check("word of the new directory's page", PAE_WORD(now), window[0]);
    window[1] = lap;
    check("write through the new directory", lap,
          *(volatile uint32_t *)(PAE_FRAME(now) + 4));
    check("Accessed and Dirty in the PDE", ACCESSED | DIRTY,
          pae_directories[now][0] & (ACCESSED | DIRTY));
    check("PDPTE 0", pae_pointer_to(pae_identity), pae_pointers[0]);
    check("PDPTE 1", pointer, pae_pointers[1]);
    /* This loads the PDPTEs, too, and faults on a reserved bit. */
    toggle_cr4_pge();
    check("word after a load of CR4", PAE_WORD(now), window[0]);
    check("PDPTE 1 after a load of CR4", pointer, pae_pointers[1]);
}

void flat_main(void)
{
    put_string("pae32\n");
    pae_setup();
    for (uint32_t lap = 0; ; lap++) {
        check_window(lap);
        lap_done();
    }
}
