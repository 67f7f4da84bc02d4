/*
 * What the files of rules share
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TARGET_I386_SWITCH_STATE_RULES_INTERNAL_H
#define TARGET_I386_SWITCH_STATE_RULES_INTERNAL_H

#include "qemu/bitops.h"
#include "rules.h"

/* Each ends with an entry without a name. */
extern const X86StateRule x86_state_control_rules[];
extern const X86StateRule x86_state_segment_rules[];
extern const X86StateRule x86_state_event_rules[];
extern const X86StateRule x86_state_msr_rules[];

/* These names are not <linux/kvm.h>'s, and cpu.h needs a target. */
#define CR0_PE      BIT_ULL(0)
#define CR0_WP      BIT_ULL(16)
#define CR0_NW      BIT_ULL(29)
#define CR0_CD      BIT_ULL(30)
#define CR0_PG      BIT_ULL(31)

#define CR4_PAE     BIT_ULL(5)
#define CR4_PCIDE   BIT_ULL(17)
#define CR4_CET     BIT_ULL(23)

#define EFER_LME    BIT_ULL(8)
#define EFER_LMA    BIT_ULL(10)

#define RFLAGS_TF   BIT_ULL(8)
#define RFLAGS_IF   BIT_ULL(9)
#define RFLAGS_VM   BIT_ULL(17)

#define MSR_DEBUGCTL        0x1d9
#define DEBUGCTL_BTF        BIT_ULL(1)

#define UPPER_HALF  MAKE_64BIT_MASK(32, 32)

/* "IA-32e mode guest": KVM sets the VM-entry control from EFER.LMA. */
static inline bool is_long_mode(const X86KVMState *s)
{
    return s->sregs.efer & EFER_LMA;
}

static inline bool is_64bit_code(const X86KVMState *s)
{
    return is_long_mode(s) && s->sregs.cs.l;
}

static inline bool is_canonical(uint64_t address, const X86StateLimits *l)
{
    return sextract64(address, 0, l->linear_bits) == (int64_t)address;
}

/* False if @s does not have it. */
bool x86_state_find_msr(const X86KVMState *s, uint32_t index, uint64_t *value);

#endif
