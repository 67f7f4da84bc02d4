/*
 * CPU features that TCG can give a guest beside KVM: TCG's own list, corrected
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "cpu.h"
#include "host-cpu.h"
#include "standard-headers/asm-x86/kvm_para.h"
#include "system/accel-switch.h"
#include "tcg/tcg-cpu.h"

/*
 * TCG's XSAVE has fixed offsets, those of Intel's first processors; under KVM
 * the host's count.  AMD's differ for PKRU: after a switch a guest would
 * restore it from the wrong place of an area that it saved before (hazard D4).
 */
static bool x86_tcg_same_xsave_offset(int component, size_t tcg_offset)
{
    uint32_t eax, ebx, ecx, edx;

    host_cpuid(0xd, component, &eax, &ebx, &ecx, &edx);
    return eax == 0 || ebx == tcg_offset;
}

bool x86_tcg_feature_mask_is_off;

uint64_t x86_tcg_feature_mask(FeatureWord w, uint64_t tcg_features)
{
    if (x86_tcg_feature_mask_is_off) {
        return UINT64_MAX;
    }
    switch (w) {
    case FEAT_1_EDX:
        /* HT only says that leaf 1 describes topology: TCG can show it. */
        return tcg_features | CPUID_HT;
    case FEAT_1_ECX:
        return tcg_features & ~(CPUID_EXT_MONITOR | CPUID_EXT_VMX);
    case FEAT_8000_0001_ECX:
        return tcg_features & ~CPUID_EXT3_SVM;
    case FEAT_SVM:
        return 0;
    case FEAT_7_0_ECX:
        return x86_tcg_same_xsave_offset(XSTATE_PKRU_BIT,
                                         offsetof(X86XSaveArea, pkru_state))
               ? tcg_features
               : tcg_features & ~(uint64_t)CPUID_7_0_ECX_PKU;
    case FEAT_7_0_EBX:
        /* Bounds registers move with MPX, which hosts no longer have. */
        return tcg_features & ~(uint64_t)CPUID_7_0_EBX_MPX;
    case FEAT_XSAVE_XCR0_LO:
        return tcg_features & (XSTATE_FP_MASK | XSTATE_SSE_MASK |
                               XSTATE_YMM_MASK | XSTATE_PKRU_MASK);
    case FEAT_KVM:
        /* kvmclock.c keeps the clock right in TCG. */
        return CPUID_KVM_CLOCK | CPUID_KVM_CLOCK2 |
               1u << KVM_FEATURE_NOP_IO_DELAY |
               1u << KVM_FEATURE_CLOCKSOURCE_STABLE_BIT;
    default:
        return tcg_features;
    }
}
