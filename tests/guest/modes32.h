/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef GUEST_MODES32_H
#define GUEST_MODES32_H

#include "lib/monitor.h"

#define TASK_SELECTOR   0x30
#define GATE            0x3b
#define CODE_16         0x43
#define STACK_16        0x4b
#define LDT_SELECTOR    0x50
#define EXPAND_DOWN     0x5b
#define LDT_DATA        0x0f            /* the LDT's second */

/* Where virtual-8086 mode works, as segments */
#define V86_CODE        0x0800
#define V86_STACK       0x0700
#define V86_DATA        0x0900

#define PARAMETER       0xfeedbeef

#ifndef __ASSEMBLER__
#include "lib/flat.h"

void user32(void);
void user16(void);
void user_gate(void);
void user_ldt(void);
void user_down(void);
void user_null(void);
void gate_target(void);
void task_entry(void);

extern const uint8_t v86_code[], v86_code_end[], v86_pushf[];

/* What the task has seen, and how often. */
extern uint32_t task_flags, task_link;
extern uint16_t task_tr;
extern uint8_t task_access, task_main_access;

#endif
#endif
