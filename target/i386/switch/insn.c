/*
 * What can be told of an instruction by its first bytes
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "cpu.h"
#include "switch/insn.h"

#define REX_R 4
#define REX_W 8

static bool take_prefix(X86Insn *insn, uint8_t byte, int mode)
{
    switch (byte) {
    case 0x66:
        insn->operand_bytes = mode == 2 ? 4 : 2;
        return true;
    case 0xf0:
        insn->locked = true;
        return true;
    case 0xf2: case 0xf3:
        insn->repeats = true;
        return true;
    case 0x26: case 0x2e: case 0x36: case 0x3e: case 0x64: case 0x65:
    case 0x67:
        return true;
    default:
        return false;
    }
}

X86Insn x86_insn_parse(const uint8_t *code, int bytes, int mode)
{
    X86Insn insn = { .operand_bytes = mode == 8 ? 4 : mode };

    while (insn.at < bytes && take_prefix(&insn, code[insn.at], mode)) {
        insn.at++;
    }
    if (mode == 8 && insn.at < bytes && (code[insn.at] & 0xf0) == 0x40) {
        insn.rex = code[insn.at++];
    }
    if (insn.rex & REX_W) {
        insn.operand_bytes = 8;
    }
    if (insn.at < bytes) {
        insn.op = code[insn.at];
    }
    for (int i = 0; i < ARRAY_SIZE(insn.next); i++) {
        insn.next[i] = insn.at + 1 + i < bytes ? code[insn.at + 1 + i] : 0;
    }
    return insn;
}

bool x86_insn_is_string(const X86Insn *insn)
{
    switch (insn->op) {
    case 0x6c ... 0x6f: case 0xa4 ... 0xa7: case 0xaa ... 0xaf:
        return insn->repeats;
    default:
        return false;
    }
}

bool x86_insn_is_mov_ss(const X86Insn *insn, int mode)
{
    return (insn->op == 0x17 && mode != 8) ||
           (insn->op == 0x8e && (insn->next[0] >> 3 & 7) == R_SS);
}

bool x86_insn_is_bit_test(const X86Insn *insn)
{
    if (insn->op != 0x0f) {
        return false;
    }
    switch (insn->next[0]) {
    case 0xa3: case 0xab: case 0xb3: case 0xbb:
        return true;
    case 0xba:
        return insn->next[1] >> 5 & 1;  /* its ModRM: /4 to /7 */
    default:
        return false;
    }
}

/* SDM vol. 2D, "Opcode Extensions for One- and Two-byte Opcodes" */
static AccelCompareEnd group7_reaches(uint8_t modrm)
{
    switch (modrm) {
    case 0xc1 ... 0xc4:         /* VMCALL, VMLAUNCH, VMRESUME, VMXOFF */
    case 0xd8 ... 0xdf:         /* SVM's */
        return ACCEL_COMPARE_END_HYPERVISOR;
    case 0xc8: case 0xc9: case 0xfa: case 0xfb:     /* MONITOR, MWAIT */
        return ACCEL_COMPARE_END_HALT;
    case 0xf9:                  /* RDTSCP */
        return ACCEL_COMPARE_END_TIME;
    default:
        return ACCEL_COMPARE_END_COUNT;
    }
}

static AccelCompareEnd two_bytes_reach(const X86Insn *insn)
{
    uint8_t modrm = insn->next[1];
    int reg = (modrm >> 3 & 7) | (insn->rex & REX_R || insn->locked ? 8 : 0);

    switch (insn->next[0]) {
    case 0x01:
        return group7_reaches(modrm);
    case 0x20: case 0x22:       /* CR8 is the LAPIC's task priority */
        return reg == 8 ? ACCEL_COMPARE_END_LAPIC : ACCEL_COMPARE_END_COUNT;
    case 0x21: case 0x23:
        return ACCEL_COMPARE_END_DEBUG;
    case 0x30: case 0x32:
        return ACCEL_COMPARE_END_MSR;
    case 0x31: case 0x33:       /* RDTSC, RDPMC */
        return ACCEL_COMPARE_END_TIME;
    case 0xaa:
        return ACCEL_COMPARE_END_SMM;
    case 0xc7:                  /* RDRAND, RDSEED; with a prefix RDPID */
        return modrm >= 0xf0 && !insn->repeats ? ACCEL_COMPARE_END_RANDOM
                                               : ACCEL_COMPARE_END_COUNT;
    default:
        return ACCEL_COMPARE_END_COUNT;
    }
}

AccelCompareEnd x86_insn_reaches(const X86Insn *insn)
{
    switch (insn->op) {
    case 0x6c ... 0x6f: case 0xe4 ... 0xe7: case 0xec ... 0xef:
        return ACCEL_COMPARE_END_PORT;
    case 0xf1:
        return ACCEL_COMPARE_END_DEBUG;
    case 0xf4:
        return ACCEL_COMPARE_END_HALT;
    case 0x0f:
        return two_bytes_reach(insn);
    default:
        return ACCEL_COMPARE_END_COUNT;
    }
}
