/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What modes64.c and modes64.S agree on. */
#ifndef GUEST_MODES64_H
#define GUEST_MODES64_H

/* Descriptors behind those of lib/long.S; the first three as SYSRET has it. */
#define USER32_CS       0x3b
#define USER32_DS       0x43
#define USER64_CS       0x4b
#define USER16_CS       0x53
#define USER_BASED      0x5b
#define LDT             0x60
#define GATE            0x73
#define DESCRIPTORS     16
/* In the LDT. */
#define LDT_BASED       0x07

#ifndef __ASSEMBLER__
/*
 * modes64.S: what CPL3 runs, until it ends with UD2.  EBX counts the places
 * that it has come through; what it has read is in RAX, RCX, RSI, RDI.
 */
void user32(void);
void user16(void);
void user_to_and_fro(void);
void user_syscall(void);
void user_syscall32(void);
void user_gate(void);
void user_bases(void);
void user_tsc_aux(void);

void syscall_entry(void);
void gate_target(void);
#endif
#endif
