/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What modes16.c and modes16.S agree on. */
#ifndef GUEST_MODES16_H
#define GUEST_MODES16_H

/* Descriptors of modes16.S. */
#define CODE_16         0x08
#define DATA_16         0x10            /* at DATA_16_BASE */
#define DATA_64K        0x18            /* as real mode has it, base 0 */
#define DATA_4G         0x20

#define DATA_16_BASE    0x20000

/* The upper half of ESP, of which a 16-bit stack makes no use. */
#define ESP_UPPER       0xabcd0000
#define PUSHED          0x5a5aa5a5

#ifndef __ASSEMBLER__
#include <stdint.h>

enum { EFLAGS = 7, ESP = 8, REGISTERS = 9, SS = 0, SEGMENTS = 5 };

typedef struct State {
    uint32_t registers[REGISTERS];      /* EAX to EBP, EFLAGS, ESP */
    uint16_t segments[SEGMENTS];        /* SS, DS, ES, FS, GS */
} State;

/* modes16.S */
extern State state_in, state_out;
extern uint32_t seen[8];
/* state_in through a switch, in real mode, to state_out. */
void through_switch(void);
/* FS and GS with the descriptor @selector; and back to real mode. */
void load_limits(uint32_t selector);
/* 16-bit protected mode, with a switch wherever it can be; fills seen[]. */
void visit_protected(void);
/* INT 0x40, with a switch before it; EAX as the handler leaves it. */
uint32_t interrupt_40(void);
void int40_entry(void);
#endif
#endif
