/*
 * What a guest in TCG may write to its MSRs, by its CPU's features: target/
 * i386/switch/tcg/guest-values.c and msrs.c without a machine around it
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "standard-headers/asm-x86/kvm_para.h"
#include "target/i386/switch/tcg/tcg.h"
#include "target/i386/switch/x86-switch.h"

/* Addresses that need 57 bits, and more. */
#define NEEDS_57_BITS   0x0080000000000000
#define NEEDS_58_BITS   0x0100000000000000

SwitchState *switch_state = &(SwitchState) {};
static X86SwitchCPU switch_cpu;

X86SwitchCPU *x86_switch_cpu(CPUState *cs)
{
    return &switch_cpu;
}

/* Stubs of what a write to these MSRs calls */
static uint64_t tsc = 1000;

uint64_t x86_switch_get_tsc(CPUX86State *env)
{
    return tsc;
}

int64_t x86_switch_write_tsc(CPUX86State *env, uint64_t value)
{
    int64_t moved = value - tsc;

    tsc = value;
    return moved;
}

void x86_switch_move_tsc(CPUX86State *env, int64_t by)
{
    tsc += by;
}

bool x86_switch_kvmclock_wrmsr(CPUX86State *env, uint32_t msr, uint64_t value)
{
    return false;
}

bool x86_switch_kvmclock_rdmsr(CPUX86State *env, uint32_t msr, uint64_t *value)
{
    return false;
}

void x86_switch_kvmclock_follow_tsc(CPUX86State *env)
{
}

void x86_switch_clear_preempted(CPUX86State *env)
{
}

bool x86_switch_is_ram(hwaddr address)
{
    return address < 0x1000000;
}

void x86_tcg_lapic_follow_tsc(CPUX86State *env)
{
}

void x86_tcg_write_deadline(CPUX86State *env, uint64_t value)
{
}

uint64_t x86_tcg_read_deadline(CPUX86State *env)
{
    return 0;
}

/*
 * WRMSR goes by the width that the CPU has, and not by CR4.LA57 (kernel:
 * is_noncanonical_msr_address()).
 */
static void test_canonical(void)
{
    static const uint32_t msrs[] = {
        MSR_LSTAR, MSR_CSTAR, MSR_FSBASE, MSR_GSBASE, MSR_KERNELGSBASE,
        MSR_IA32_SYSENTER_ESP, MSR_IA32_SYSENTER_EIP,
    };
    static const struct {
        uint64_t value, features, cr4;
        bool accepted;
    } table[] = {
        { 0x00007fffffffffff, 0, 0, true },
        { 0xffff800000000000, 0, 0, true },
        { 0x0000800000000000, 0, 0, false },
        { NEEDS_57_BITS, 0, 0, false },
        { NEEDS_57_BITS, CPUID_7_0_ECX_LA57, 0, true },
        { NEEDS_57_BITS, CPUID_7_0_ECX_LA57, CR4_LA57_MASK, true },
        { ~(uint64_t)NEEDS_57_BITS, CPUID_7_0_ECX_LA57, 0, true },
        { NEEDS_58_BITS, CPUID_7_0_ECX_LA57, 0, false },
        { NEEDS_58_BITS, CPUID_7_0_ECX_LA57, CR4_LA57_MASK, false },
    };
    X86CPU cpu = {};
    uint64_t value;

    for (int i = 0; i < ARRAY_SIZE(table); i++) {
        cpu.env.features[FEAT_7_0_ECX] = table[i].features;
        cpu.env.cr[4] = table[i].cr4;
        for (int j = 0; j < ARRAY_SIZE(msrs); j++) {
            value = table[i].value;
            g_test_message("row %d, MSR 0x%x", i, msrs[j]);
            g_assert_cmpint(x86_tcg_accepts_msr(&cpu.env, msrs[j], &value),
                            ==, table[i].accepted);
            g_assert_cmphex(value, ==, table[i].value);
        }
    }
}

/* A processor has these bits only with these features (SDM vol. 4). */
static void test_speculation(void)
{
    static const struct {
        uint32_t msr;
        FeatureWord word;
        uint64_t feature, has, lacks;
        bool reads, writes;
    } table[] = {
        { MSR_IA32_SPEC_CTRL, FEAT_7_0_EDX, CPUID_7_0_EDX_SPEC_CTRL,
          3, 1 << 2, true, true },
        { MSR_IA32_SPEC_CTRL, FEAT_8000_0008_EBX, CPUID_8000_0008_EBX_AMD_SSBD,
          1 << 2, 1, true, true },
        { MSR_IA32_SPEC_CTRL, FEAT_8000_0008_EBX, CPUID_8000_0008_EBX_IBRS,
          3, 1 << 7, true, true },
        { MSR_IA32_PRED_CMD, FEAT_7_0_EDX, CPUID_7_0_EDX_SPEC_CTRL,
          1, 2, false, true },
        { MSR_IA32_PRED_CMD, FEAT_8000_0008_EBX, CPUID_8000_0008_EBX_IBPB,
          1, 1 << 7, false, true },
        { 0x10b, FEAT_7_0_EDX, CPUID_7_0_EDX_FLUSH_L1D, 1, 2, false, true },
        { MSR_VIRT_SSBD, FEAT_8000_0008_EBX, CPUID_8000_0008_EBX_VIRT_SSBD,
          4, 1, true, true },
        { MSR_IA32_ARCH_CAPABILITIES, FEAT_7_0_EDX,
          CPUID_7_0_EDX_ARCH_CAPABILITIES, 0, 0, true, false },
    };

    for (int i = 0; i < ARRAY_SIZE(table); i++) {
        uint32_t msr = table[i].msr;
        X86CPU cpu = {};
        uint64_t value = 0;

        g_test_message("row %d, MSR 0x%x", i, msr);
        g_assert_false(x86_tcg_accepts_msr(&cpu.env, msr, &value));
        g_assert_false(x86_tcg_rdmsr(&cpu.env, msr, &value));
        cpu.env.features[table[i].word] = table[i].feature;
        cpu.env.features[FEAT_ARCH_CAPABILITIES] = MSR_ARCH_CAP_MDS_NO;
        value = table[i].lacks;
        g_assert_false(x86_tcg_accepts_msr(&cpu.env, msr, &value));
        value = table[i].has;
        g_assert_cmpint(x86_tcg_accepts_msr(&cpu.env, msr, &value), ==,
                        table[i].writes);
        if (table[i].writes) {
            x86_tcg_wrmsr(&cpu.env, msr, value);
        }
        g_assert_cmpint(x86_tcg_rdmsr(&cpu.env, msr, &value), ==,
                        table[i].reads);
        if (table[i].reads) {
            g_assert_cmphex(value, ==, table[i].writes ? table[i].has
                                       : MSR_ARCH_CAP_MDS_NO);
        }
    }
}

/* KVM has none with these alone, and then all their bits. */
static void test_spec_ctrl(void)
{
    X86CPU cpu = {};
    uint64_t value = 1 << 10;

    cpu.env.features[FEAT_7_2_EDX] = CPUID_7_2_EDX_BHI_CTRL;
    cpu.env.features[FEAT_7_0_EDX] = CPUID_7_0_EDX_STIBP |
                                     CPUID_7_0_EDX_SPEC_CTRL_SSBD;
    g_assert_false(x86_tcg_accepts_msr(&cpu.env, MSR_IA32_SPEC_CTRL, &value));
    cpu.env.features[FEAT_7_0_EDX] |= CPUID_7_0_EDX_SPEC_CTRL;
    value = 1 << 10 | 7;
    g_assert_true(x86_tcg_accepts_msr(&cpu.env, MSR_IA32_SPEC_CTRL, &value));
    value |= 1 << 7;
    g_assert_false(x86_tcg_accepts_msr(&cpu.env, MSR_IA32_SPEC_CTRL, &value));
    /* A bit that KVM has taken can be written back. */
    cpu.env.spec_ctrl = 1 << 7;
    g_assert_true(x86_tcg_accepts_msr(&cpu.env, MSR_IA32_SPEC_CTRL, &value));
}

static void test_pv_eoi(void)
{
    X86CPU cpu = {};
    uint64_t ram = 0x1000 | KVM_MSR_ENABLED, other = 0x2000000;

    cpu.env.features[FEAT_KVM] = CPUID_KVM_PV_EOI;
    g_assert_true(x86_tcg_accepts_msr(&cpu.env, MSR_KVM_PV_EOI_EN, &ram));
    g_assert_true(x86_tcg_accepts_msr(&cpu.env, MSR_KVM_PV_EOI_EN, &other));
    other |= KVM_MSR_ENABLED;
    g_assert_false(x86_tcg_accepts_msr(&cpu.env, MSR_KVM_PV_EOI_EN, &other));
}

/* INIT keeps KVM's own, and clears what speculates; a reset sets the first. */
static void test_init(void)
{
    CPUX86State before = {}, env = {};

    x86_tcg_reset_msrs(&env);
    g_assert_cmpuint(env.poll_control_msr, ==, 1);
    env.spec_ctrl = env.virt_ssbd = 4;
    x86_tcg_keep_msrs_over_init(&env, &before);
    g_assert_cmpuint(env.poll_control_msr, ==, 0);
    g_assert_cmpuint(env.spec_ctrl | env.virt_ssbd, ==, 0);
}

/* Each of the two moves the other (SDM vol. 3B, "IA32_TSC_ADJUST MSR"). */
static void test_tsc_adjust(void)
{
    X86CPU cpu = {};
    uint64_t value = 5;

    g_assert_false(x86_tcg_accepts_msr(&cpu.env, MSR_TSC_ADJUST, &value));
    cpu.env.features[FEAT_7_0_EBX] = CPUID_7_0_EBX_TSC_ADJUST;
    g_assert_true(x86_tcg_accepts_msr(&cpu.env, MSR_TSC_ADJUST, &value));
    x86_tcg_wrmsr(&cpu.env, MSR_TSC_ADJUST, 5);
    g_assert_cmpuint(tsc, ==, 1005);
    x86_tcg_wrmsr(&cpu.env, MSR_IA32_TSC, 905);
    g_assert_true(x86_tcg_rdmsr(&cpu.env, MSR_TSC_ADJUST, &value));
    g_assert_cmpint(value, ==, -95);
    x86_tcg_wrmsr(&cpu.env, MSR_TSC_ADJUST, 0);
    g_assert_cmpuint(tsc, ==, 1000);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/x86/switch/guest-values/canonical", test_canonical);
    g_test_add_func("/x86/switch/guest-values/speculation", test_speculation);
    g_test_add_func("/x86/switch/guest-values/spec-ctrl", test_spec_ctrl);
    g_test_add_func("/x86/switch/guest-values/pv-eoi", test_pv_eoi);
    g_test_add_func("/x86/switch/guest-values/init", test_init);
    g_test_add_func("/x86/switch/guest-values/tsc-adjust", test_tsc_adjust);
    return g_test_run();
}
