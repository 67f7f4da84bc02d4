/*
 * What a guest in TCG may write to its MSRs, by its CPU's features: target/
 * i386/switch/switch-guest-values.c without a machine around it
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
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

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/x86/switch/guest-values/canonical", test_canonical);
    return g_test_run();
}
