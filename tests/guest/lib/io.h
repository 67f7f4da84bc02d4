/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Ports, the same in every mode. */
#ifndef GUEST_IO_H
#define GUEST_IO_H

#define SWITCH_PORT     0x5ac
#define SWITCH_TO_OTHER 2
#define SWITCH_WAITS    0x40

#ifndef __ASSEMBLER__
#include <stdbool.h>
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

/* Whether it has to wait for the guest.  A port without device reads 0xff. */
static inline bool switch_waits(void)
{
    uint8_t status = inb(SWITCH_PORT);

    return status != 0xff && status & SWITCH_WAITS;
}

#endif
#endif
