/*
 * Rules: MSRs, XCR0 and the XSAVE area
 *
 * Whatever KVM_SET_MSRS, KVM_SET_XCRS and KVM_SET_XSAVE refuse, VM entry never
 * gets to see.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "rules-internal.h"

#define MSR_SYSENTER_ESP    0x175
#define MSR_SYSENTER_EIP    0x176
#define MSR_MTRR_VAR_FIRST  0x200       /* base and mask in turn */
#define MSR_MTRR_VAR_LAST   0x20f
#define MSR_MTRR_FIX64K     0x250
#define MSR_MTRR_FIX16K_0   0x258
#define MSR_MTRR_FIX16K_1   0x259
#define MSR_MTRR_FIX4K_0    0x268
#define MSR_MTRR_FIX4K_7    0x26f
#define MSR_PAT             0x277
#define MSR_MTRR_DEF_TYPE   0x2ff
#define MSR_BNDCFGS         0xd90
#define MSR_LSTAR           0xc0000082
#define MSR_CSTAR           0xc0000083
#define MSR_FS_BASE         0xc0000100
#define MSR_GS_BASE         0xc0000101
#define MSR_KERNEL_GS_BASE  0xc0000102

#define XCR0_X87        BIT_ULL(0)
#define XCR0_SSE        BIT_ULL(1)
#define XCR0_AVX        BIT_ULL(2)
#define XCR0_MPX        MAKE_64BIT_MASK(3, 2)
#define XCR0_AVX512     MAKE_64BIT_MASK(5, 3)
#define XCR0_TILE       MAKE_64BIT_MASK(17, 2)

/* 32-bit words of the XSAVE area (SDM vol. 1, 13.4) */
enum {
    XSAVE_MXCSR = 24 / 4,
    XSAVE_XSTATE_BV = 512 / 4,
    XSAVE_XCOMP_BV = 520 / 4,
    XSAVE_HEADER_END = 576 / 4,
};

/* Encodings of memory types, as a set; the second one knows UC-. */
#define MTRR_TYPES (BIT(0) | BIT(1) | BIT(4) | BIT(5) | BIT(6))
#define PAT_TYPES (MTRR_TYPES | BIT(7))

static bool has_other_types(uint64_t value, int count, unsigned types)
{
    for (int i = 0; i < count; i++) {
        uint8_t type = extract64(value, i * 8, 8);

        if (type > 7 || !(types & BIT(type))) {
            return true;
        }
    }
    return false;
}

static bool any_non_canonical(const X86KVMState *s, const X86StateLimits *l,
                              const uint32_t *indices, size_t count)
{
    for (int i = 0; i < count; i++) {
        uint64_t value;

        if (x86_state_find_msr(s, indices[i], &value) &&
            !is_canonical(value, l)) {
            return true;
        }
    }
    return false;
}

/* KVM extends the sign. */
static bool sysenter_canonical(const X86KVMState *s, const X86StateLimits *l)
{
    static const uint32_t indices[] = { MSR_SYSENTER_ESP, MSR_SYSENTER_EIP };

    return any_non_canonical(s, l, indices, ARRAY_SIZE(indices));
}

static bool msr_canonical(const X86KVMState *s, const X86StateLimits *l)
{
    static const uint32_t indices[] = {
        MSR_LSTAR, MSR_CSTAR, MSR_FS_BASE, MSR_GS_BASE, MSR_KERNEL_GS_BASE,
    };

    return any_non_canonical(s, l, indices, ARRAY_SIZE(indices));
}

static bool debugctl_reserved(const X86KVMState *s, const X86StateLimits *l)
{
    uint64_t value;

    return x86_state_find_msr(s, MSR_DEBUGCTL, &value) &&
           value & (MAKE_64BIT_MASK(16, 48) | MAKE_64BIT_MASK(3, 3));
}

static bool pat(const X86KVMState *s, const X86StateLimits *l)
{
    uint64_t value;

    return x86_state_find_msr(s, MSR_PAT, &value) &&
           has_other_types(value, 8, PAT_TYPES);
}

static bool bndcfgs(const X86KVMState *s, const X86StateLimits *l)
{
    uint64_t value;

    return x86_state_find_msr(s, MSR_BNDCFGS, &value) &&
           (value & 0xffc || !is_canonical(value, l));
}

static bool mtrr_is_wrong(const struct kvm_msr_entry *msr,
                          const X86StateLimits *l)
{
    uint64_t beyond = ~MAKE_64BIT_MASK(0, l->phys_bits);

    switch (msr->index) {
    case MSR_MTRR_VAR_FIRST ... MSR_MTRR_VAR_LAST:
        if (msr->index & 1) {
            return msr->data & (beyond | 0x7ff);
        }
        return msr->data & (beyond | 0xf00) ||
               has_other_types(msr->data, 1, MTRR_TYPES);
    case MSR_MTRR_FIX64K:
    case MSR_MTRR_FIX16K_0 ... MSR_MTRR_FIX16K_1:
    case MSR_MTRR_FIX4K_0 ... MSR_MTRR_FIX4K_7:
        return has_other_types(msr->data, 8, MTRR_TYPES);
    case MSR_MTRR_DEF_TYPE:
        return msr->data & ~0xcffULL ||
               has_other_types(msr->data, 1, MTRR_TYPES);
    default:
        return false;
    }
}

static bool mtrr(const X86KVMState *s, const X86StateLimits *l)
{
    for (int i = 0; i < s->nmsrs; i++) {
        if (mtrr_is_wrong(&s->msrs[i], l)) {
            return true;
        }
    }
    return false;
}

/* What the processor starts with, where KVM is not given any. */
static uint64_t get_xcr0(const X86KVMState *s)
{
    int count = MIN(s->xcrs.nr_xcrs, ARRAY_SIZE(s->xcrs.xcrs));

    for (int i = 0; i < count; i++) {
        if (s->xcrs.xcrs[i].xcr == 0) {
            return s->xcrs.xcrs[i].value;
        }
    }
    return XCR0_X87;
}

static bool xcr0_x87(const X86KVMState *s, const X86StateLimits *l)
{
    return !(get_xcr0(s) & XCR0_X87);
}

static bool xcr0_reserved(const X86KVMState *s, const X86StateLimits *l)
{
    return get_xcr0(s) & l->xcr0_reserved;
}

static bool has_some(uint64_t xcr0, uint64_t group)
{
    return xcr0 & group && (xcr0 & group) != group;
}

/* Components that go together, or that need another. */
static bool xcr0_groups(const X86KVMState *s, const X86StateLimits *l)
{
    uint64_t xcr0 = get_xcr0(s);

    return (xcr0 & XCR0_AVX && !(xcr0 & XCR0_SSE)) ||
           (xcr0 & XCR0_AVX512 && !(xcr0 & XCR0_AVX)) ||
           has_some(xcr0, XCR0_MPX) || has_some(xcr0, XCR0_AVX512) ||
           has_some(xcr0, XCR0_TILE);
}

static bool mxcsr_reserved(const X86KVMState *s, const X86StateLimits *l)
{
    return s->xsave.region[XSAVE_MXCSR] & l->mxcsr_reserved;
}

static bool xstate_bv_reserved(const X86KVMState *s, const X86StateLimits *l)
{
    const uint32_t *word = &s->xsave.region[XSAVE_XSTATE_BV];

    return deposit64(word[0], 32, 32, word[1]) & l->xcr0_reserved;
}

static bool xsave_header(const X86KVMState *s, const X86StateLimits *l)
{
    for (int i = XSAVE_XCOMP_BV; i < XSAVE_HEADER_END; i++) {
        if (s->xsave.region[i]) {
            return true;
        }
    }
    return false;
}

#define VM_ENTRY \
    "SDM vol. 3C, Checks on Guest Control Registers, Debug Registers, and MSRs"
#define XCR0 "SDM vol. 1, Enabling the XSAVE Feature Set and XSAVE-Enabled " \
             "Features"
#define SET_XSAVE "kernel: KVM_SET_XSAVE"

const X86StateRule x86_state_msr_rules[] = {
    { "sysenter-canonical", VM_ENTRY, sysenter_canonical, 0 },
    { "msr-canonical", "SDM vol. 4, IA-32 Architectural MSRs",
      msr_canonical, 0 },
    { "debugctl-reserved", VM_ENTRY, debugctl_reserved, 0 },
    { "pat", VM_ENTRY, pat, 0 },
    { "bndcfgs", VM_ENTRY, bndcfgs, 0 },
    { "mtrr", "SDM vol. 3A, Memory Type Range Registers", mtrr, 0 },
    { "xcr0-x87", XCR0, xcr0_x87, X86_KVM_XCRS },
    { "xcr0-reserved", XCR0, xcr0_reserved, X86_KVM_XCRS },
    { "xcr0-groups", XCR0, xcr0_groups, X86_KVM_XCRS },
    { "mxcsr-reserved", SET_XSAVE, mxcsr_reserved, X86_KVM_XSAVE },
    { "xstate-bv-reserved", SET_XSAVE, xstate_bv_reserved, X86_KVM_XSAVE },
    { "xsave-header", SET_XSAVE, xsave_header, X86_KVM_XSAVE },
    { }
};
