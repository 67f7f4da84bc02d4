/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Ports, the same in every mode. */
#ifndef GUEST_IO_H
#define GUEST_IO_H

#define SWITCH_PORT     0x5ac
#define SWITCH_TO_OTHER 2

#ifndef __ASSEMBLER__
#include <stdint.h>

static inline void outb(uint16_t port, uint8_t value)
{
    asm volatile("outb %0, %1" : : "a" (value), "Nd" (port) : "memory");
}

static inline uint8_t inb(uint16_t port)
{
    uint8_t value;

    asm volatile("inb %1, %0" : "=a" (value) : "Nd" (port) : "memory");
    return value;
}

static inline void outl(uint16_t port, uint32_t value)
{
    asm volatile("outl %0, %1" : : "a" (value), "Nd" (port) : "memory");
}

static inline uint32_t inl(uint16_t port)
{
    uint32_t value;

    asm volatile("inl %1, %0" : "=a" (value) : "Nd" (port) : "memory");
    return value;
}

/*
 * Ask isa-accel-switch, if it is there, for the other accelerator.  TCG looks
 * for requests at jumps: what follows is executed after the switch.
 */
static inline void ask_switch(void)
{
    outb(SWITCH_PORT, SWITCH_TO_OTHER);
    asm volatile("jmp 1f\n1:" : : : "memory");
}

#endif
#endif
