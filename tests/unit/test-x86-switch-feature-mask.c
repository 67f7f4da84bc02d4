/*
 * Which of TCG's CPU features a guest may have, on hosts of both makers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "cpu.h"
#include "host-cpu.h"
#include "system/accel-switch.h"
#include "target/i386/switch/x86-switch.h"

SwitchState *switch_state = &(SwitchState) {};

/* Where the host has PKRU in its XSAVE area, 0: nowhere. */
static uint32_t host_pkru_offset;

void host_cpuid(uint32_t function, uint32_t count,
                uint32_t *eax, uint32_t *ebx, uint32_t *ecx, uint32_t *edx)
{
    g_assert_cmphex(function, ==, 0xd);
    g_assert_cmpuint(count, ==, XSTATE_PKRU_BIT);
    *eax = host_pkru_offset ? 8 : 0;
    *ebx = host_pkru_offset;
    *ecx = *edx = 0;
}

static const char *host_vendor = CPUID_VENDOR_INTEL;

void host_cpu_vendor_fms(char *vendor, int *family, int *model, int *stepping)
{
    strcpy(vendor, host_vendor);
}

/*
 * TCG's XSAVE has PKRU where Intel's has it.  On an AMD host a guest would look
 * for it in the wrong place after a switch (hazard D4).
 */
static void test_pkru_offset(void)
{
    static const struct {
        uint32_t offset;
        uint64_t mask;
    } table[] = {
        { 2688, UINT64_MAX },                           /* Intel */
        { 2432, ~(uint64_t)CPUID_7_0_ECX_PKU },         /* AMD's Zen 4 */
        { 832, ~(uint64_t)CPUID_7_0_ECX_PKU },          /* AMD's Zen 3 */
        /* KVM, which can't have it then, leaves it out. */
        { 0, UINT64_MAX },
    };

    for (int i = 0; i < ARRAY_SIZE(table); i++) {
        host_pkru_offset = table[i].offset;
        g_assert_cmphex(x86_tcg_feature_mask(FEAT_7_0_ECX, UINT64_MAX), ==,
                        table[i].mask);
        g_assert_cmphex(x86_tcg_feature_mask(FEAT_7_0_ECX, 0), ==, 0);
    }
}

/* Features that TCG has, or half has, and a switch does not carry. */
static void test_left_out(void)
{
    static const struct {
        FeatureWord word;
        uint64_t out;
    } table[] = {
        { FEAT_1_ECX, CPUID_EXT_MONITOR | CPUID_EXT_VMX },
        { FEAT_8000_0001_ECX, CPUID_EXT3_SVM },
        { FEAT_SVM, UINT64_MAX },
        { FEAT_7_0_EBX, CPUID_7_0_EBX_MPX },
        { FEAT_XSAVE_XCR0_LO, XSTATE_BNDREGS_MASK | XSTATE_BNDCSR_MASK |
          XSTATE_OPMASK_MASK | XSTATE_ZMM_Hi256_MASK | XSTATE_Hi16_ZMM_MASK |
          XSTATE_XTILE_CFG_MASK | XSTATE_XTILE_DATA_MASK },
        { FEAT_8000_0001_EDX, 0 },
    };

    for (int i = 0; i < ARRAY_SIZE(table); i++) {
        uint64_t got = x86_tcg_feature_mask(table[i].word, UINT64_MAX);

        g_assert_cmphex(got & table[i].out, ==, 0);
        if (table[i].word != FEAT_XSAVE_XCR0_LO) {
            g_assert_cmphex((uint32_t)got, ==, (uint32_t)~table[i].out);
        }
    }
}

static void test_arch_capabilities(void)
{
    g_assert_cmphex(x86_tcg_feature_mask(FEAT_7_0_EDX, 0) &
                    CPUID_7_0_EDX_ARCH_CAPABILITIES, !=, 0);
    host_vendor = CPUID_VENDOR_AMD;
    g_assert_cmphex(x86_tcg_feature_mask(FEAT_7_0_EDX, UINT64_MAX) &
                    CPUID_7_0_EDX_ARCH_CAPABILITIES, ==, 0);
    host_vendor = CPUID_VENDOR_INTEL;
}

/* A guest that plain QEMU's TCG is to run may have what that has. */
static void test_plain(void)
{
    uint64_t taught = CPUID_7_0_EDX_SPEC_CTRL | CPUID_7_0_EDX_STIBP;
    uint64_t own = CPUID_7_0_EDX_FSRM;

    g_assert_cmphex(x86_tcg_feature_mask(FEAT_7_0_EDX, own) & (taught | own),
                    ==, taught | own);
    switch_state->streams = ACCEL_STREAMS_PLAIN_TCG;
    g_assert_cmphex(x86_tcg_feature_mask(FEAT_7_0_EDX, own), ==, own);
    g_assert_cmphex(x86_tcg_feature_mask(FEAT_1_ECX, CPUID_EXT_PCID), ==, 0);
    switch_state->streams = ACCEL_STREAMS_SWITCH;
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/x86-switch-feature-mask/pkru-offset", test_pkru_offset);
    g_test_add_func("/x86-switch-feature-mask/left-out", test_left_out);
    g_test_add_func("/x86-switch-feature-mask/arch-capabilities",
                    test_arch_capabilities);
    g_test_add_func("/x86-switch-feature-mask/plain", test_plain);
    return g_test_run();
}
