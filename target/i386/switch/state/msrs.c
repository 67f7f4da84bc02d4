/*
 * The table of MSRs: what they are called, and how each crosses a switch
 *
 * An MSR that KVM lists and that has no row here is as one that is
 * X86_MSR_REFUSED: a guest that has set it stays in KVM.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "kvm/hyperv-proto.h"
#include "standard-headers/asm-x86/kvm_para.h"
#include "table.h"

#define NO_PMU "the guest's CPU has no PMU, and KVM's is off where it can be"

/* One MSR; then the CPUID features of which the guest's CPU must have one */
#define CARRIED(index, what, ...) \
    { .first = index, .count = 1, .each = 1, .format = { what }, \
      .how = X86_MSR_CARRIED, .needs = { __VA_ARGS__ }, \
      .needs_text = #__VA_ARGS__ }
#define CONSTANT(index, what) \
    { .first = index, .count = 1, .each = 1, .format = { what }, \
      .how = X86_MSR_CONSTANT }
#define IN_SREGS(index, what) \
    { .first = index, .count = 1, .each = 1, .format = { what }, \
      .how = X86_MSR_IN_SREGS }
#define CLOCK(index, what, why) \
    { .first = index, .count = 1, .each = 1, .format = { what }, \
      .how = X86_MSR_CLOCK, .reason = why }
#define IGNORED(index, last, what, why) \
    { .first = index, .count = (last) - (index) + 1, .each = 1, \
      .format = { what }, .how = X86_MSR_IGNORED, .reason = why }
#define REFUSED(index, last, what, why) \
    { .first = index, .count = (last) - (index) + 1, .each = 1, \
      .format = { what }, .how = X86_MSR_REFUSED, .reason = why }

const X86StateMSR x86_state_msrs[] = {
    CLOCK(MSR_IA32_TSC, "IA32_TIME_STAMP_COUNTER",
          "the TSC's offset is compared in its place"),
    IN_SREGS(MSR_IA32_APICBASE, "IA32_APIC_BASE"),
    CARRIED(MSR_SMI_COUNT, "MSR_SMI_COUNT"),
    CARRIED(MSR_IA32_FEATURE_CONTROL, "IA32_FEATURE_CONTROL"),
    CARRIED(MSR_TSC_ADJUST, "IA32_TSC_ADJUST",
            { FEAT_7_0_EBX, CPUID_7_0_EBX_TSC_ADJUST }),
    CARRIED(MSR_IA32_SPEC_CTRL, "IA32_SPEC_CTRL",
            { FEAT_7_0_EDX, CPUID_7_0_EDX_SPEC_CTRL },
            { FEAT_8000_0008_EBX, CPUID_8000_0008_EBX_IBRS |
              CPUID_8000_0008_EBX_STIBP |
              CPUID_8000_0008_EBX_AMD_SSBD }),
    CONSTANT(MSR_IA32_UCODE_REV, "IA32_BIOS_SIGN_ID"),
    CARRIED(MSR_IA32_SMBASE, "IA32_SMBASE"),
    CONSTANT(MSR_IA32_CORE_CAPABILITY, "IA32_CORE_CAPABILITIES"),
    CARRIED(MSR_IA32_UMWAIT_CONTROL, "IA32_UMWAIT_CONTROL",
            { FEAT_7_0_ECX, CPUID_7_0_ECX_WAITPKG }),
    CONSTANT(MSR_IA32_ARCH_CAPABILITIES, "IA32_ARCH_CAPABILITIES"),
    CARRIED(MSR_IA32_TSX_CTRL, "IA32_TSX_CTRL"),
    CARRIED(MSR_IA32_SYSENTER_CS, "IA32_SYSENTER_CS"),
    CARRIED(MSR_IA32_SYSENTER_ESP, "IA32_SYSENTER_ESP"),
    CARRIED(MSR_IA32_SYSENTER_EIP, "IA32_SYSENTER_EIP"),
    CARRIED(MSR_MCG_CAP, "IA32_MCG_CAP"),
    CARRIED(MSR_MCG_STATUS, "IA32_MCG_STATUS"),
    CARRIED(MSR_MCG_CTL, "IA32_MCG_CTL"),
    CARRIED(MSR_IA32_MISC_ENABLE, "IA32_MISC_ENABLE"),
    CARRIED(MSR_IA32_XFD, "IA32_XFD", { FEAT_XSAVE, CPUID_D_1_EAX_XFD }),
    CARRIED(MSR_IA32_XFD_ERR, "IA32_XFD_ERR",
            { FEAT_XSAVE, CPUID_D_1_EAX_XFD }),
    CARRIED(MSR_MTRRfix64K_00000, "IA32_MTRR_FIX64K_00000"),
    CARRIED(MSR_MTRRfix16K_80000, "IA32_MTRR_FIX16K_80000"),
    CARRIED(MSR_MTRRfix16K_A0000, "IA32_MTRR_FIX16K_A0000"),
    CARRIED(MSR_MTRRfix4K_C0000, "IA32_MTRR_FIX4K_C0000"),
    CARRIED(MSR_MTRRfix4K_C8000, "IA32_MTRR_FIX4K_C8000"),
    CARRIED(MSR_MTRRfix4K_D0000, "IA32_MTRR_FIX4K_D0000"),
    CARRIED(MSR_MTRRfix4K_D8000, "IA32_MTRR_FIX4K_D8000"),
    CARRIED(MSR_MTRRfix4K_E0000, "IA32_MTRR_FIX4K_E0000"),
    CARRIED(MSR_MTRRfix4K_E8000, "IA32_MTRR_FIX4K_E8000"),
    CARRIED(MSR_MTRRfix4K_F0000, "IA32_MTRR_FIX4K_F0000"),
    CARRIED(MSR_MTRRfix4K_F8000, "IA32_MTRR_FIX4K_F8000"),
    CARRIED(MSR_PAT, "IA32_PAT"),
    CARRIED(MSR_MTRRdefType, "IA32_MTRR_DEF_TYPE"),
    CONSTANT(MSR_IA32_PERF_CAPABILITIES, "IA32_PERF_CAPABILITIES"),
    CARRIED(MSR_MCG_EXT_CTL, "IA32_MCG_EXT_CTL"),
    CARRIED(MSR_IA32_TSCDEADLINE, "IA32_TSC_DEADLINE",
            { FEAT_1_ECX, CPUID_EXT_TSC_DEADLINE_TIMER }),
    CARRIED(MSR_IA32_PKRS, "IA32_PKRS", { FEAT_7_0_ECX, CPUID_7_0_ECX_PKS }),
    CARRIED(MSR_IA32_BNDCFGS, "IA32_BNDCFGS",
            { FEAT_7_0_EBX, CPUID_7_0_EBX_MPX }),
    CARRIED(MSR_IA32_XSS, "IA32_XSS", { FEAT_XSAVE, CPUID_XSAVE_XSAVES }),
    IN_SREGS(MSR_EFER, "EFER"),
    CARRIED(MSR_STAR, "STAR"),
    CARRIED(MSR_LSTAR, "LSTAR"),
    CARRIED(MSR_CSTAR, "CSTAR"),
    CARRIED(MSR_FMASK, "SYSCALL_MASK"),
    IN_SREGS(MSR_FSBASE, "FS_BASE"),
    IN_SREGS(MSR_GSBASE, "GS_BASE"),
    CARRIED(MSR_KERNELGSBASE, "KERNEL_GS_BASE"),
    CARRIED(MSR_TSC_AUX, "TSC_AUX"),
    CARRIED(MSR_AMD64_TSC_RATIO, "TSC_RATIO",
            { FEAT_8000_0001_ECX, CPUID_EXT3_SVM }),
    CARRIED(MSR_K7_HWCR, "HWCR"),
    CARRIED(MSR_VM_HSAVE_PA, "VM_HSAVE_PA",
            { FEAT_8000_0001_ECX, CPUID_EXT3_SVM }),
    CARRIED(MSR_VIRT_SSBD, "VIRT_SPEC_CTRL",
            { FEAT_8000_0008_EBX, CPUID_8000_0008_EBX_VIRT_SSBD }),
    CARRIED(MSR_KVM_WALL_CLOCK, "KVM_WALL_CLOCK"),
    CARRIED(MSR_KVM_SYSTEM_TIME, "KVM_SYSTEM_TIME"),
    /* KVM has them whatever CPUID says: no features are needed. */
    CARRIED(MSR_KVM_ASYNC_PF_EN, "KVM_ASYNC_PF_EN"),
    CARRIED(MSR_KVM_STEAL_TIME, "KVM_STEAL_TIME"),
    CARRIED(MSR_KVM_PV_EOI_EN, "KVM_PV_EOI_EN"),
    CARRIED(MSR_KVM_POLL_CONTROL, "KVM_POLL_CONTROL"),
    CARRIED(MSR_KVM_ASYNC_PF_INT, "KVM_ASYNC_PF_INT"),
    { MSR_MTRRphysBase(0), 2 * MSR_MTRRcap_VCNT, 2,
      { "IA32_MTRR_PHYSBASE%u", "IA32_MTRR_PHYSMASK%u" }, X86_MSR_CARRIED },
    { MSR_MC0_CTL, 4 * MCE_BANKS_DEF, 4,
      { "IA32_MC%u_CTL", "IA32_MC%u_STATUS", "IA32_MC%u_ADDR",
        "IA32_MC%u_MISC" }, X86_MSR_CARRIED },

    IGNORED(MSR_KVM_WALL_CLOCK_NEW, MSR_KVM_WALL_CLOCK_NEW,
            "KVM_WALL_CLOCK_NEW", "QEMU takes it by its older number"),
    IGNORED(MSR_KVM_SYSTEM_TIME_NEW, MSR_KVM_SYSTEM_TIME_NEW,
            "KVM_SYSTEM_TIME_NEW", "QEMU takes it by its older number"),

    CLOCK(HV_X64_MSR_VP_RUNTIME, "HV_X64_MSR_VP_RUNTIME", "it runs in KVM"),
    CLOCK(HV_X64_MSR_TIME_REF_COUNT, "HV_X64_MSR_TIME_REF_COUNT",
          "it runs in KVM"),
    IGNORED(HV_X64_MSR_GUEST_OS_ID, HV_X64_MSR_GUEST_OS_ID + 0x1ff,
            "Hyper-V's, number %u", "no guest has them: hv-* is refused"),

    /*
     * Linux writes and reads back a counter at boot, and leaves it so.  KVM
     * gives them to AMD guests with or without a CPUID bit, unless the PMU is
     * off (kernel: amd_pmu_init(), kvm_pmu_is_valid_msr()).
     */
    IGNORED(0xc0010000, 0xc0010003, "K7_EVNTSEL%u", NO_PMU),
    IGNORED(0xc0010004, 0xc0010007, "K7_PERFCTR%u", NO_PMU),
    { 0xc0010200, 12, 2, { "PERF_CTL%u", "PERF_CTR%u" }, X86_MSR_IGNORED,
      .reason = NO_PMU },
    IGNORED(0xc0000300, 0xc0000303, "PERF_CNTR_GLOBAL%u", NO_PMU),
    IGNORED(MSR_P6_PERFCTR0, MSR_P6_PERFCTR0 + 7, "IA32_PMC%u", NO_PMU),
    IGNORED(0x4c1, 0x4c8, "IA32_A_PMC%u", NO_PMU),
    IGNORED(MSR_P6_EVNTSEL0, MSR_P6_EVNTSEL0 + 7, "IA32_PERFEVTSEL%u", NO_PMU),
    IGNORED(MSR_CORE_PERF_FIXED_CTR0, MSR_CORE_PERF_FIXED_CTR0 + 3,
            "IA32_FIXED_CTR%u", NO_PMU),
    IGNORED(MSR_CORE_PERF_FIXED_CTR_CTRL, MSR_CORE_PERF_FIXED_CTR_CTRL,
            "IA32_FIXED_CTR_CTRL", NO_PMU),
    IGNORED(MSR_CORE_PERF_GLOBAL_STATUS, MSR_CORE_PERF_GLOBAL_STATUS,
            "IA32_PERF_GLOBAL_STATUS", NO_PMU),
    IGNORED(MSR_CORE_PERF_GLOBAL_CTRL, MSR_CORE_PERF_GLOBAL_CTRL,
            "IA32_PERF_GLOBAL_CTRL", NO_PMU),
    IGNORED(MSR_CORE_PERF_GLOBAL_OVF_CTRL, MSR_CORE_PERF_GLOBAL_OVF_CTRL,
            "IA32_PERF_GLOBAL_STATUS_RESET", NO_PMU),
    IGNORED(0x3f1, 0x3f1, "IA32_PEBS_ENABLE", NO_PMU),
    IGNORED(0x3f2, 0x3f2, "IA32_PEBS_DATA_CFG", NO_PMU),
    IGNORED(0x600, 0x600, "IA32_DS_AREA", NO_PMU),

    IGNORED(0x1db, 0x1de, "last branch record %u",
            "the processor alone writes them, if DEBUGCTL has it do so"),
    REFUSED(0x1d9, 0x1d9, "IA32_DEBUGCTL",
            "TCG has no single steps by branch and no branch records"),
    REFUSED(0x140, 0x140, "MISC_FEATURES_ENABLES",
            "TCG's CPUID does not fault at CPL3"),
    REFUSED(0xce, 0xce, "MSR_PLATFORM_INFO", "TCG has none"),
    REFUSED(0x1fc, 0x1fc, "MSR_POWER_CTL", "TCG has none"),
};

const int x86_state_msr_count = ARRAY_SIZE(x86_state_msrs);

const X86StateMSR *x86_state_msr(uint32_t index)
{
    for (int i = 0; i < ARRAY_SIZE(x86_state_msrs); i++) {
        if (index - x86_state_msrs[i].first < x86_state_msrs[i].count) {
            return &x86_state_msrs[i];
        }
    }
    return NULL;
}

const char *x86_state_msr_name(uint32_t index)
{
    static __thread char text[64];
    const X86StateMSR *row = x86_state_msr(index);
    uint32_t n;

    if (!row) {
        return NULL;
    }
    n = index - row->first;
    snprintf(text, sizeof(text), row->format[n % row->each], n / row->each);
    return text;
}

static bool has_what_it_needs(const X86StateMSR *row, const uint64_t *features)
{
    bool needs = false;

    for (int i = 0; i < ARRAY_SIZE(row->needs); i++) {
        if (features[row->needs[i].word] & row->needs[i].features) {
            return true;
        }
        needs |= row->needs[i].features != 0;
    }
    return !needs;
}

bool x86_state_msr_counts(uint32_t index, const uint64_t *features)
{
    const X86StateMSR *row = x86_state_msr(index);

    if (!row) {
        return true;
    }
    return row->how != X86_MSR_CLOCK && row->how != X86_MSR_IGNORED &&
           (!features || has_what_it_needs(row, features));
}
