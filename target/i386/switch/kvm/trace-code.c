/*
 * Traces: which instructions a single step does not simply step over
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qemu/bswap.h"
#include "switch/insn.h"
#include "switch/kvm/trace.h"

static void raises(X86TraceInsn *insn, uint8_t first, uint8_t second)
{
    insn->may_raise[0] = first;
    insn->may_raise[1] = second;
}

/* SDM vol. 2D, "Two-Byte Opcode Map" */
static void decode_0f(X86TraceInsn *insn, uint8_t op, uint8_t modrm)
{
    int reg = modrm >> 3 & 7, mod = modrm >> 6;

    switch (op) {
    case 0x05:
        insn->kind = X86_TRACE_SYSCALL;
        break;
    case 0x07:
        insn->kind = X86_TRACE_SYSRET;
        break;
    case 0x34:
        insn->kind = X86_TRACE_SYSENTER;
        break;
    case 0x35:
        insn->kind = X86_TRACE_SYSEXIT;
        break;
    case 0x00:                  /* LLDT, LTR */
    case 0x01:                  /* LGDT, LIDT, LMSW, INVLPG, SWAPGS, VMRUN */
    case 0x22: case 0x23:       /* MOV to control and debug registers */
    case 0x30:                  /* WRMSR */
    case 0xaa:                  /* RSM */
        insn->kind = X86_TRACE_CONTEXT;
        break;
    case 0xa1: case 0xa9: case 0xb2: case 0xb4: case 0xb5:
        raises(insn, EXCP0B_NOSEG, EXCP0C_STACK);
        break;
    case 0x10 ... 0x17: case 0x28 ... 0x2f: case 0x50 ... 0x7f: case 0xae:
    case 0xc2: case 0xc4 ... 0xc6: case 0xd0 ... 0xfe:
        raises(insn, X86_TRACE_XM, EXCP06_ILLOP);
        break;
    case 0xc7:
        if (mod != 3 && reg >= 3 && reg <= 5) { /* XRSTORS, XSAVEC, XSAVES */
            raises(insn, X86_TRACE_XM, EXCP06_ILLOP);
        }
        break;
    }
}

X86TraceInsn x86_trace_decode(const uint8_t *code, int bytes, int mode)
{
    X86TraceInsn insn = { .kind = X86_TRACE_PLAIN };
    X86Insn i = x86_insn_parse(code, bytes, mode);
    uint8_t next = i.next[0];
    int reg = next >> 3 & 7, mod = next >> 6;

    insn.operand_bytes = i.operand_bytes;
    raises(&insn, EXCP06_ILLOP, EXCP0C_STACK);
    if (i.at >= bytes) {
        return insn;
    }
    insn.bytes = i.at + 1;

    switch (i.op) {
    case 0x9c:
        insn.kind = X86_TRACE_PUSHF;
        break;
    case 0x9d:
        insn.kind = X86_TRACE_POPF;
        if (mode == 8 && insn.operand_bytes == 4) {
            insn.operand_bytes = 8;
        }
        break;
    case 0xcf:
        insn.kind = X86_TRACE_IRET;
        raises(&insn, EXCP0B_NOSEG, EXCP0C_STACK);
        break;
    case 0xcc:
        insn.kind = X86_TRACE_INT;
        insn.vector = EXCP03_INT3;
        break;
    case 0xcd:
        insn.kind = X86_TRACE_INT;
        insn.vector = next;
        insn.bytes++;
        break;
    case 0xce:
        if (mode != 8) {
            insn.kind = X86_TRACE_INT;
            insn.vector = EXCP04_INTO;
        }
        break;
    case 0xf1:
        insn.kind = X86_TRACE_ICEBP;
        break;
    case 0xf4:
        insn.kind = X86_TRACE_HLT;
        break;
    case 0x17:
        if (mode != 8) {
            insn.kind = X86_TRACE_MOV_SS;
            raises(&insn, EXCP0B_NOSEG, EXCP0C_STACK);
        }
        break;
    case 0x8e:
        if (reg == R_SS) {
            insn.kind = X86_TRACE_MOV_SS;
            insn.bytes += mod == 3 ? 1 : -insn.bytes;   /* 0: unknown */
        }
        raises(&insn, EXCP0B_NOSEG, EXCP0C_STACK);
        break;
    case 0x07: case 0x1f:
        raises(&insn, EXCP0B_NOSEG, EXCP0C_STACK);
        break;
    case 0x9a: case 0xea:
        if (i.at + 3 + insn.operand_bytes <= bytes) {
            insn.selector = lduw_le_p(code + i.at + 1 +
                                      insn.operand_bytes);
        }
        /* fall through */
    case 0xca: case 0xcb:
        insn.kind = X86_TRACE_FAR;
        raises(&insn, EXCP0B_NOSEG, EXCP0C_STACK);
        break;
    case 0xff:
        if (reg == 3 || reg == 5) {
            insn.kind = X86_TRACE_FAR;
            raises(&insn, EXCP0B_NOSEG, EXCP0C_STACK);
        }
        break;
    case 0xf6: case 0xf7:
        if (reg >= 6) {
            raises(&insn, EXCP06_ILLOP, EXCP00_DIVZ);
        }
        break;
    case 0xd4:
        raises(&insn, EXCP06_ILLOP, EXCP00_DIVZ);
        break;
    case 0x62:
        if (mode == 8 || mod == 3) {
            raises(&insn, X86_TRACE_XM, EXCP06_ILLOP);
        } else {
            raises(&insn, EXCP06_ILLOP, EXCP05_BOUND);
        }
        break;
    case 0xc4: case 0xc5:
        if (mode == 8 || mod == 3) {
            raises(&insn, X86_TRACE_XM, EXCP06_ILLOP);
        } else {
            raises(&insn, EXCP0B_NOSEG, EXCP0C_STACK);
        }
        break;
    case 0x9b: case 0xd8 ... 0xdf:
        raises(&insn, EXCP10_COPR, EXCP06_ILLOP);
        break;
    case 0x0f:
        decode_0f(&insn, next, i.next[1]);
        break;
    }
    return insn;
}
