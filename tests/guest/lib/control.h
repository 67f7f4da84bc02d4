/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The control registers, at CPL0, of 32 or of 64 bits. */
#ifndef GUEST_CONTROL_H
#define GUEST_CONTROL_H

static inline unsigned long read_cr0(void)
{
    unsigned long value;

    asm volatile("mov %%cr0, %0" : "=r" (value));
    return value;
}

static inline void write_cr0(unsigned long value)
{
    asm volatile("mov %0, %%cr0" : : "r" (value) : "memory");
}

static inline unsigned long read_cr2(void)
{
    unsigned long value;

    asm volatile("mov %%cr2, %0" : "=r" (value));
    return value;
}

/* To the tables at @root; what is not global is flushed. */
static inline void write_cr3(const void *root)
{
    asm volatile("mov %0, %%cr3" : : "r" (root) : "memory");
}

static inline unsigned long read_cr4(void)
{
    unsigned long value;

    asm volatile("mov %%cr4, %0" : "=r" (value));
    return value;
}

static inline void write_cr4(unsigned long value)
{
    asm volatile("mov %0, %%cr4" : : "r" (value) : "memory");
}

#endif
