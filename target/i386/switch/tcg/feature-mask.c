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
#include "switch/tcg/tcg.h"
#include "tcg/tcg-cpu.h"

/* QEMU has names for these on the command line alone. */
#define CPUID_7_0_EDX_MD_CLEAR          (1u << 10)
#define CPUID_8000_0008_EBX_AMD_NO_SSB  (1u << 26)

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

static bool host_is_intel(void)
{
    char vendor[CPUID_VENDOR_SZ + 1];

    host_cpu_vendor_fms(vendor, NULL, NULL, NULL);
    return g_str_equal(vendor, CPUID_VENDOR_INTEL);
}

bool x86_tcg_feature_mask_is_off;

static const uint64_t taught[FEATURE_WORDS] = {
    [FEAT_1_ECX] = CPUID_EXT_PCID | CPUID_EXT_TSC_DEADLINE_TIMER,
    [FEAT_7_0_EBX] = CPUID_7_0_EBX_INVPCID | CPUID_7_0_EBX_TSC_ADJUST,
    [FEAT_7_0_EDX] =
        CPUID_7_0_EDX_MD_CLEAR | CPUID_7_0_EDX_SPEC_CTRL |
        CPUID_7_0_EDX_STIBP | CPUID_7_0_EDX_FLUSH_L1D |
        CPUID_7_0_EDX_SERIALIZE |
        CPUID_7_0_EDX_ARCH_CAPABILITIES | CPUID_7_0_EDX_SPEC_CTRL_SSBD,
    [FEAT_XSAVE] = CPUID_XSAVE_XSAVEC | CPUID_XSAVE_XSAVES,
    [FEAT_7_2_EDX] =
        CPUID_7_2_EDX_PSFD | CPUID_7_2_EDX_IPRED_CTRL |
        CPUID_7_2_EDX_RRSBA_CTRL | CPUID_7_2_EDX_DDPD_U |
        CPUID_7_2_EDX_BHI_CTRL | CPUID_7_2_EDX_MCDT_NO,
    [FEAT_8000_0001_ECX] = CPUID_EXT3_TOPOEXT,
    [FEAT_8000_0008_EBX] =
        CPUID_8000_0008_EBX_IBPB | CPUID_8000_0008_EBX_IBRS |
        CPUID_8000_0008_EBX_STIBP | CPUID_8000_0008_EBX_STIBP_ALWAYS_ON |
        CPUID_8000_0008_EBX_AMD_SSBD | CPUID_8000_0008_EBX_VIRT_SSBD |
        CPUID_8000_0008_EBX_AMD_NO_SSB | CPUID_8000_0008_EBX_AMD_PSFD,
    [FEAT_8000_0021_EAX] =
        CPUID_8000_0021_EAX_LFENCE_ALWAYS_SERIALIZING |
        CPUID_8000_0021_EAX_NULL_SEL_CLR_BASE | CPUID_8000_0021_EAX_SBPB |
        CPUID_8000_0021_EAX_IBPB_BRTYPE | CPUID_8000_0021_EAX_SRSO_NO |
        CPUID_8000_0021_EAX_SRSO_USER_KERNEL_NO,
};

uint64_t x86_tcg_taught_features(FeatureWord w)
{
    return taught[w];
}

uint64_t x86_tcg_feature_mask(FeatureWord w, uint64_t tcg_features)
{
    if (x86_tcg_feature_mask_is_off) {
        return UINT64_MAX;
    }
    /* A stream goes to a TCG that lacks what this one was taught. */
    tcg_features = switch_state->streams == ACCEL_STREAMS_PLAIN_TCG
                   ? tcg_features & ~taught[w] : tcg_features | taught[w];
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
    case FEAT_7_0_EDX:
        /*
         * AMD's processors have no such MSR.  Some KVMs show it there, and some
         * of these do not take it: QEMU would abort.
         */
        return host_is_intel()
               ? tcg_features
               : tcg_features & ~(uint64_t)CPUID_7_0_EDX_ARCH_CAPABILITIES;
    case FEAT_ARCH_CAPABILITIES:
        /* TCG has no TSX, which that MSR is to turn off. */
        return tcg_features & ~(uint64_t)MSR_ARCH_CAP_TSX_CTRL_MSR;
    case FEAT_XSAVE_XCR0_LO:
        return tcg_features & (XSTATE_FP_MASK | XSTATE_SSE_MASK |
                               XSTATE_YMM_MASK | XSTATE_PKRU_MASK);
    case FEAT_KVM:
        /* kvmclock.c and paravirtual.c keep these right in TCG. */
        return CPUID_KVM_CLOCK | CPUID_KVM_CLOCK2 | CPUID_KVM_STEAL_TIME |
               CPUID_KVM_PV_EOI | CPUID_KVM_POLL_CONTROL |
               1u << KVM_FEATURE_PV_TLB_FLUSH |
               1u << KVM_FEATURE_NOP_IO_DELAY |
               1u << KVM_FEATURE_CLOCKSOURCE_STABLE_BIT;
    default:
        return tcg_features;
    }
}
