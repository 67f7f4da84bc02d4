/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/pae.h"

#define PRESENT_WRITABLE 3
#define LARGE           0x80

uint64_t pae_pointers[4] __attribute__((aligned(32)));
uint64_t pae_identity[512] __attribute__((aligned(4096)));
uint64_t pae_directories[PAE_DIRECTORIES][512] __attribute__((aligned(4096)));

void pae_load(void)
{
    asm volatile("mov %0, %%cr3" : : "r" (pae_pointers) : "memory");
}

void pae_setup(void)
{
    for (uint32_t i = 0; i < 512; i++) {
        pae_identity[i] = i * 0x200000ull | LARGE | PRESENT_WRITABLE;
    }
    for (uint32_t i = 0; i < PAE_DIRECTORIES; i++) {
        *(volatile uint32_t *)PAE_FRAME(i) = PAE_WORD(i);
        pae_directories[i][0] = PAE_FRAME(i) | LARGE | PRESENT_WRITABLE;
    }
    pae_pointers[0] = pae_pointer_to(pae_identity);
    pae_pointers[1] = pae_pointer_to(pae_directories[0]);
    asm volatile("mov %%cr4, %%eax; or $0x20, %%eax; mov %%eax, %%cr4"
                 : : : "eax", "memory");
    pae_load();
    asm volatile("mov %%cr0, %%eax; or $0x80000000, %%eax; mov %%eax, %%cr0"
                 : : : "eax", "memory");
}
