/*
 * What a guest in TCG must not write to a register
 *
 * TCG lets most values through; a processor raises #GP for those that KVM
 * would refuse at the next switch.  The rules are those of SDM vol. 3A,
 * "Control Registers", "Memory Cache Control" and vol. 4, and of APM vol. 2,
 * "System-Control Registers", "Memory System".
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "switch/tcg/tcg.h"
#include "switch/x86-switch.h"

#define CR0_KNOWN (CR0_PE_MASK | CR0_MP_MASK | CR0_EM_MASK | CR0_TS_MASK | \
                   CR0_ET_MASK | CR0_NE_MASK | CR0_WP_MASK | CR0_AM_MASK | \
                   CR0_NW_MASK | CR0_CD_MASK | CR0_PG_MASK)

/* Bits of the memory types that an MTRR, and a PAT entry, may have. */
#define MTRR_TYPES (1 << 0 | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 6)
#define PAT_TYPES (MTRR_TYPES | 1 << 7)

#define MTRR_DEF_TYPE_RESERVED (~0xcffull)
#define MTRR_BASE_RESERVED 0xf00
#define MTRR_MASK_RESERVED 0x7ff

static bool has(CPUX86State *env, FeatureWord w, uint64_t bits)
{
    return env->features[w] & bits;
}

static bool accepts_cr0(CPUX86State *env, target_ulong *value)
{
    uint64_t new = *value, old = env->cr[0];

    if (new >> 32 ||
        (new & CR0_NW_MASK && !(new & CR0_CD_MASK)) ||
        (new & CR0_PG_MASK && !(new & CR0_PE_MASK))) {
        return false;
    }
    if (old & CR0_PG_MASK && !(new & CR0_PG_MASK) &&
        env->hflags & HF_CS64_MASK) {
        return false;
    }
    if (!(old & CR0_PG_MASK) && new & CR0_PG_MASK &&
        env->efer & MSR_EFER_LME &&
        (!(env->cr[4] & CR4_PAE_MASK) ||
         env->segs[R_CS].flags & DESC_L_MASK)) {
        return false;
    }
    /* The others are ignored. */
    *value &= CR0_KNOWN;
    return true;
}

static bool accepts_cr4(CPUX86State *env, target_ulong new)
{
    return !(new & cr4_reserved_bits(env)) &&
           (!(env->efer & MSR_EFER_LMA) || new & CR4_PAE_MASK);
}

bool x86_tcg_accepts_cr(CPUX86State *env, int reg, target_ulong *value)
{
    if (switch_omits(SWITCH_FIXUP_GUEST_VALUES)) {
        return true;
    }
    switch (reg) {
    case 0:
        return accepts_cr0(env, value);
    case 4:
        return accepts_cr4(env, *value);
    case 8:
        return !(*value & ~(target_ulong)0xf);
    default:
        return true;
    }
}

/*
 * For WRMSR: by the width that the CPU has, whatever CR4.LA57 is (SDM vol. 3A,
 * "Canonicality Checking"; kernel since 6.13: is_noncanonical_msr_address()).
 */
static bool is_canonical(CPUX86State *env, uint64_t address)
{
    int bits = has(env, FEAT_7_0_ECX, CPUID_7_0_ECX_LA57) ? 57 : 48;

    return sextract64(address, 0, bits) == address;
}

/* Each of @count bytes is one of the memory types @types. */
static bool types_are_valid(uint64_t value, int count, unsigned types)
{
    for (int i = 0; i < count; i++, value >>= 8) {
        if ((value & 0xff) > 7 || !(types >> (value & 7) & 1)) {
            return false;
        }
    }
    return true;
}

static bool accepts_efer(CPUX86State *env, uint64_t new)
{
    uint64_t known = MSR_EFER_SCE | MSR_EFER_LMA;

    if (has(env, FEAT_8000_0001_EDX, CPUID_EXT2_LM)) {
        known |= MSR_EFER_LME;
    }
    if (has(env, FEAT_8000_0001_EDX, CPUID_EXT2_NX)) {
        known |= MSR_EFER_NXE;
    }
    if (has(env, FEAT_8000_0001_EDX, CPUID_EXT2_FFXSR)) {
        known |= MSR_EFER_FFXSR;
    }
    if (has(env, FEAT_8000_0001_ECX, CPUID_EXT3_SVM)) {
        known |= MSR_EFER_SVME;
    }
    return !(new & ~known) &&
           (!(env->cr[0] & CR0_PG_MASK) ||
            !((new ^ env->efer) & MSR_EFER_LME));
}

static bool accepts_mtrr_var(CPUX86State *env, uint32_t msr, uint64_t value)
{
    uint64_t above = ~MAKE_64BIT_MASK(0, env_archcpu(env)->phys_bits);
    bool is_mask = (msr - MSR_MTRRphysBase(0)) & 1;

    return is_mask ? !(value & (above | MTRR_MASK_RESERVED))
                   : !(value & (above | MTRR_BASE_RESERVED)) &&
                     types_are_valid(value, 1, MTRR_TYPES);
}

static bool accepts_tsc_aux(CPUX86State *env, uint64_t *value)
{
    if (!has(env, FEAT_8000_0001_EDX, CPUID_EXT2_RDTSCP) &&
        !has(env, FEAT_7_0_ECX, CPUID_7_0_ECX_RDPID)) {
        return false;
    }
    if (IS_AMD_CPU(env)) {
        *value = (uint32_t)*value;
    }
    return !(*value >> 32);
}

bool x86_tcg_accepts_msr(CPUX86State *env, uint32_t msr, uint64_t *value)
{
    if (switch_omits(SWITCH_FIXUP_GUEST_VALUES)) {
        return true;
    }
    switch (msr) {
    case MSR_LSTAR:
    case MSR_CSTAR:
    case MSR_FSBASE:
    case MSR_GSBASE:
    case MSR_KERNELGSBASE:
        return is_canonical(env, *value);
    case MSR_IA32_SYSENTER_ESP:
    case MSR_IA32_SYSENTER_EIP:
        /* AMD's have 32 bits, and drop the others. */
        return IS_AMD_CPU(env) || is_canonical(env, *value);
    case MSR_EFER:
        return accepts_efer(env, *value);
    case MSR_PAT:
        return types_are_valid(*value, 8, PAT_TYPES);
    case MSR_MTRRdefType:
        return !(*value & MTRR_DEF_TYPE_RESERVED) &&
               types_are_valid(*value & 0xff, 1, MTRR_TYPES);
    case MSR_MTRRfix64K_00000:
    case MSR_MTRRfix16K_80000:
    case MSR_MTRRfix16K_A0000:
    case MSR_MTRRfix4K_C0000 ... MSR_MTRRfix4K_F8000:
        return types_are_valid(*value, 8, MTRR_TYPES);
    case MSR_MTRRphysBase(0) ... MSR_MTRRphysMask(MSR_MTRRcap_VCNT - 1):
        return accepts_mtrr_var(env, msr, *value);
    case MSR_TSC_AUX:
        return accepts_tsc_aux(env, value);
    case MSR_MCG_CTL:
        return env->mcg_cap & MCG_CTL_P && (*value == 0 || *value == -1ull);
    case MSR_IA32_FEATURE_CONTROL:
        /* Without VMX, SGX or LMCE there is just the lock (SDM vol. 4). */
        return !x86_switch_cpu(env_cpu(env))->has_feature_control ||
               (!(env->msr_ia32_feature_control & FEATURE_CONTROL_LOCKED) &&
                !(*value & ~(uint64_t)FEATURE_CONTROL_LOCKED));
    case MSR_IA32_PKRS:
        return has(env, FEAT_7_0_ECX, CPUID_7_0_ECX_PKS);
    case MSR_IA32_BNDCFGS:
        return has(env, FEAT_7_0_EBX, CPUID_7_0_EBX_MPX);
    case MSR_VM_HSAVE_PA:
        return has(env, FEAT_8000_0001_ECX, CPUID_EXT3_SVM);
    default:
        return x86_tcg_has_msr_value(env, msr, *value);
    }
}
