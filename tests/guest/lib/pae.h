/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * PAE paging of a 32-bit payload: all memory at its own address, and a window
 * through the second of the four page directory pointers (PDPTEs), which has
 * the choice of two page directories with a page each.  Their first words are
 * PAE_WORD of the directory's number.
 */
#ifndef GUEST_PAE_H
#define GUEST_PAE_H

#include <stdint.h>

#define PAE_WINDOW      0x40000000
#define PAE_DIRECTORIES 2
/* Where the pages are: that of directory @n here, and 2 MiB further each. */
#define PAE_FRAME(n)    (0x400000 + (n) * 0x200000)
#define PAE_WORD(n)     (0xf00d0000 + (n))

extern uint64_t pae_pointers[4];
extern uint64_t pae_identity[512];
extern uint64_t pae_directories[PAE_DIRECTORIES][512];

static inline uint64_t pae_pointer_to(const uint64_t *directory)
{
    return (uintptr_t)directory | 1;
}

/* Turn paging on; the window is through directory 0. */
void pae_setup(void);

/* Have the processor load the PDPTEs. */
void pae_load(void);

#endif
