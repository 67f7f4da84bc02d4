/*
 * Names of the MSRs that QEMU puts into KVM, for errors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "cpu.h"
#include "standard-headers/asm-x86/kvm_para.h"
#include "x86-switch.h"

static const struct {
    uint32_t index;
    const char *name;
} names[] = {
    { MSR_IA32_TSC, "IA32_TIME_STAMP_COUNTER" },
    { MSR_IA32_APICBASE, "IA32_APIC_BASE" },
    { MSR_SMI_COUNT, "MSR_SMI_COUNT" },
    { MSR_IA32_FEATURE_CONTROL, "IA32_FEATURE_CONTROL" },
    { MSR_TSC_ADJUST, "IA32_TSC_ADJUST" },
    { MSR_IA32_SPEC_CTRL, "IA32_SPEC_CTRL" },
    { MSR_IA32_UCODE_REV, "IA32_BIOS_SIGN_ID" },
    { MSR_IA32_SMBASE, "IA32_SMBASE" },
    { MSR_IA32_CORE_CAPABILITY, "IA32_CORE_CAPABILITIES" },
    { MSR_IA32_UMWAIT_CONTROL, "IA32_UMWAIT_CONTROL" },
    { MSR_IA32_ARCH_CAPABILITIES, "IA32_ARCH_CAPABILITIES" },
    { MSR_IA32_TSX_CTRL, "IA32_TSX_CTRL" },
    { MSR_IA32_SYSENTER_CS, "IA32_SYSENTER_CS" },
    { MSR_IA32_SYSENTER_ESP, "IA32_SYSENTER_ESP" },
    { MSR_IA32_SYSENTER_EIP, "IA32_SYSENTER_EIP" },
    { MSR_MCG_CAP, "IA32_MCG_CAP" },
    { MSR_MCG_STATUS, "IA32_MCG_STATUS" },
    { MSR_MCG_CTL, "IA32_MCG_CTL" },
    { MSR_IA32_MISC_ENABLE, "IA32_MISC_ENABLE" },
    { MSR_IA32_XFD, "IA32_XFD" },
    { MSR_IA32_XFD_ERR, "IA32_XFD_ERR" },
    { MSR_MTRRfix64K_00000, "IA32_MTRR_FIX64K_00000" },
    { MSR_MTRRfix16K_80000, "IA32_MTRR_FIX16K_80000" },
    { MSR_MTRRfix16K_A0000, "IA32_MTRR_FIX16K_A0000" },
    { MSR_MTRRfix4K_C0000, "IA32_MTRR_FIX4K_C0000" },
    { MSR_MTRRfix4K_C8000, "IA32_MTRR_FIX4K_C8000" },
    { MSR_MTRRfix4K_D0000, "IA32_MTRR_FIX4K_D0000" },
    { MSR_MTRRfix4K_D8000, "IA32_MTRR_FIX4K_D8000" },
    { MSR_MTRRfix4K_E0000, "IA32_MTRR_FIX4K_E0000" },
    { MSR_MTRRfix4K_E8000, "IA32_MTRR_FIX4K_E8000" },
    { MSR_MTRRfix4K_F0000, "IA32_MTRR_FIX4K_F0000" },
    { MSR_MTRRfix4K_F8000, "IA32_MTRR_FIX4K_F8000" },
    { MSR_PAT, "IA32_PAT" },
    { MSR_MTRRdefType, "IA32_MTRR_DEF_TYPE" },
    { MSR_IA32_PERF_CAPABILITIES, "IA32_PERF_CAPABILITIES" },
    { MSR_MCG_EXT_CTL, "IA32_MCG_EXT_CTL" },
    { MSR_IA32_TSCDEADLINE, "IA32_TSC_DEADLINE" },
    { MSR_IA32_PKRS, "IA32_PKRS" },
    { MSR_IA32_BNDCFGS, "IA32_BNDCFGS" },
    { MSR_IA32_XSS, "IA32_XSS" },
    { MSR_EFER, "EFER" },
    { MSR_STAR, "STAR" },
    { MSR_LSTAR, "LSTAR" },
    { MSR_CSTAR, "CSTAR" },
    { MSR_FMASK, "SYSCALL_MASK" },
    { MSR_FSBASE, "FS_BASE" },
    { MSR_GSBASE, "GS_BASE" },
    { MSR_KERNELGSBASE, "KERNEL_GS_BASE" },
    { MSR_TSC_AUX, "TSC_AUX" },
    { MSR_AMD64_TSC_RATIO, "TSC_RATIO" },
    { MSR_K7_HWCR, "HWCR" },
    { MSR_VM_HSAVE_PA, "VM_HSAVE_PA" },
    { MSR_VIRT_SSBD, "VIRT_SPEC_CTRL" },
    { MSR_KVM_WALL_CLOCK, "KVM_WALL_CLOCK" },
    { MSR_KVM_SYSTEM_TIME, "KVM_SYSTEM_TIME" },
    { MSR_KVM_WALL_CLOCK_NEW, "KVM_WALL_CLOCK_NEW" },
    { MSR_KVM_SYSTEM_TIME_NEW, "KVM_SYSTEM_TIME_NEW" },
    { MSR_KVM_ASYNC_PF_EN, "KVM_ASYNC_PF_EN" },
    { MSR_KVM_STEAL_TIME, "KVM_STEAL_TIME" },
    { MSR_KVM_PV_EOI_EN, "KVM_PV_EOI_EN" },
    { MSR_KVM_POLL_CONTROL, "KVM_POLL_CONTROL" },
    { MSR_KVM_ASYNC_PF_INT, "KVM_ASYNC_PF_INT" },
};

/* @count MSRs from @first on, @each of one number; @format takes it. */
static const struct {
    uint32_t first, count, each;
    const char *format[4];
} arrays[] = {
    { MSR_MTRRphysBase(0), 2 * MSR_MTRRcap_VCNT, 2,
      { "IA32_MTRR_PHYSBASE%u", "IA32_MTRR_PHYSMASK%u" } },
    { MSR_MC0_CTL, 4 * MCE_BANKS_DEF, 4,
      { "IA32_MC%u_CTL", "IA32_MC%u_STATUS", "IA32_MC%u_ADDR",
        "IA32_MC%u_MISC" } },
};

const char *switch_arch_msr_name(uint32_t index)
{
    static char text[32];

    for (int i = 0; i < ARRAY_SIZE(names); i++) {
        if (index == names[i].index) {
            return names[i].name;
        }
    }
    for (int i = 0; i < ARRAY_SIZE(arrays); i++) {
        uint32_t n = index - arrays[i].first;

        if (n < arrays[i].count) {
            snprintf(text, sizeof(text), arrays[i].format[n % arrays[i].each],
                     n / arrays[i].each);
            return text;
        }
    }
    return NULL;
}
