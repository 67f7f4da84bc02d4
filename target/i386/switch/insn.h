/*
 * What can be told of an instruction by its first bytes
 *
 * All functions: any thread.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TARGET_I386_SWITCH_INSN_H
#define TARGET_I386_SWITCH_INSN_H

#include "qapi/qapi-types-accel-compare-target.h"

typedef struct X86Insn {
    int at;                     /* where the opcode is; @bytes if it is not */
    uint8_t op;
    uint8_t next[2];            /* what follows it; 0 if that is not there */
    uint8_t rex;
    int operand_bytes;          /* 2, 4 or 8 */
    bool repeats;               /* has the prefix REP, REPE or REPNE */
    bool locked;
} X86Insn;

/* @mode: 2, 4 or 8 bytes of an address in its code segment */
X86Insn x86_insn_parse(const uint8_t *code, int bytes, int mode);

/* A string instruction with REP: a step of it is one iteration. */
bool x86_insn_is_string(const X86Insn *insn);

/* MOV SS or POP SS, which hold interrupts and traps back for an instruction */
bool x86_insn_is_mov_ss(const X86Insn *insn, int mode);

/* BT, BTS, BTR, BTC */
bool x86_insn_is_bit_test(const X86Insn *insn);

/*
 * Does what it does depend on more than the vCPU and guest memory, or reach
 * beyond these?  Returns ACCEL_COMPARE_END_COUNT if not.
 */
AccelCompareEnd x86_insn_reaches(const X86Insn *insn);

#endif
