/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Code that a payload writes itself. */
#ifndef GUEST_CODE_H
#define GUEST_CODE_H

#include <stdint.h>

#define MOV_EAX         0xb8
#define RET             0xc3

/* A function at @address that returns @value. */
static inline void write_function(uint64_t address, uint32_t value)
{
    volatile uint8_t *code = (void *)address;

    code[0] = MOV_EAX;
    for (int i = 0; i < 4; i++) {
        code[1 + i] = value >> 8 * i;
    }
    code[5] = RET;
}

/* What it returns. */
static inline uint32_t call_function(uint64_t address)
{
    return ((uint32_t (*)(void))address)();
}

#endif
