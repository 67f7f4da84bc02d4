/*
 * One CPU for the guest's whole life: what both accelerators can do, shown
 * through one CPUID table
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "cpu.h"
#include "cpu-internal.h"
#include "hw/i386/x86.h"
#include "system/kvm.h"
#include "x86-switch.h"

bool x86_switch_check_features(X86CPU *cpu, Error **errp)
{
    CPUX86State *env = &cpu->env;
    uint64_t missing;
    int bit;

    if (cpu->hyperv_features || cpu->hyperv_passthrough) {
        error_setg(errp, "-accel switch does not work with Hyper-V"
                   " enlightenments (hv-*)");
        return false;
    }
    if (cpu->enable_pmu) {
        error_setg(errp, "-accel switch does not work with a PMU (pmu=on)");
        return false;
    }
    if (cpu->enable_lmce) {
        error_setg(errp, "-accel switch does not work with LMCE (lmce=on)");
        return false;
    }
    if (!(env->features[FEAT_1_EDX] & CPUID_APIC)) {
        error_setg(errp, "-accel switch does not work with a CPU without"
                   " 'apic'");
        return false;
    }
#ifdef TARGET_X86_64
    /* TCG would write 64-bit state save areas, and KVM those of 32 bits. */
    if (!(env->features[FEAT_8000_0001_EDX] & CPUID_EXT2_LM) &&
        x86_machine_is_smm_enabled(X86_MACHINE(qdev_get_machine()))) {
        error_setg(errp, "-accel switch does not work with SMM and a CPU"
                   " without 'lm': use qemu-system-i386, or -machine smm=off");
        return false;
    }
#endif
    /* KVM shows PKRU in the XSAVE area alone, of what the guest's has. */
    if ((env->features[FEAT_7_0_ECX] & CPUID_7_0_ECX_PKU) &&
        !(env->features[FEAT_XSAVE_XCR0_LO] & XSTATE_PKRU_MASK)) {
        error_setg(errp, "-accel switch does not work with a CPU with 'pku'"
                   " and without 'xsave'");
        return false;
    }
    for (FeatureWord w = 0; w < FEATURE_WORDS; w++) {
        missing = cpu->filtered_features[w] & env->user_features[w];
        if (!missing) {
            continue;
        }
        bit = ctz64(missing);
        error_setg(errp, "-accel switch: KVM and TCG do not both have the CPU"
                   " feature '%s'", feature_word_info[w].feat_names[bit]);
        return false;
    }
    return true;
}

void x86_switch_init_cpuid(CPUState *cs, X86SwitchCPU *sc)
{
    const int max = 256;

    if (switch_omits(SWITCH_FIXUP_CPUID)) {
        return;
    }
    sc->cpuid = g_malloc0(sizeof(*sc->cpuid) +
                          max * sizeof(sc->cpuid->entries[0]));
    sc->cpuid->nent = max;
    if (kvm_vcpu_ioctl(cs, KVM_GET_CPUID2, sc->cpuid) < 0) {
        warn_report_once("KVM does not show its CPUID table: CPUID may differ"
                         " in TCG");
        g_clear_pointer(&sc->cpuid, g_free);
    }
}

static const struct kvm_cpuid_entry2 *
x86_switch_find_cpuid(const struct kvm_cpuid2 *table,
                      uint32_t leaf, uint32_t subleaf)
{
    for (int i = 0; i < table->nent; i++) {
        const struct kvm_cpuid_entry2 *e = &table->entries[i];

        if (e->function == leaf &&
            (!(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) ||
             e->index == subleaf)) {
            return e;
        }
    }
    return NULL;
}

static bool is_hygon(CPUX86State *env)
{
    char vendor[CPUID_VENDOR_SZ + 1];

    x86_cpu_vendor_words2str(vendor, env->cpuid_vendor1, env->cpuid_vendor2,
                             env->cpuid_vendor3);
    return g_str_equal(vendor, CPUID_VENDOR_HYGON);
}

/*
 * A leaf beyond the highest of its class reads as the highest basic leaf on
 * Intel's processors, as 0 on AMD's and Hygon's (SDM vol. 2, CPUID; kernel:
 * get_out_of_range_cpuid_entry()).
 */
static const struct kvm_cpuid_entry2 *
x86_switch_out_of_range(CPUX86State *env, const struct kvm_cpuid2 *table,
                        uint32_t leaf, uint32_t subleaf)
{
    const struct kvm_cpuid_entry2 *basic, *class;

    basic = x86_switch_find_cpuid(table, 0, 0);
    if (!basic || IS_AMD_CPU(env) || is_hygon(env)) {
        return NULL;
    }
    class = leaf >= 0x40000000 && leaf <= 0x4fffffff
            ? x86_switch_find_cpuid(table, leaf & 0xffffff00, 0)
            : leaf >= 0xc0000000
            ? x86_switch_find_cpuid(table, 0xc0000000, 0)
            : x86_switch_find_cpuid(table, leaf & 0x80000000, 0);
    if (class && leaf <= class->eax) {
        return NULL;
    }
    return x86_switch_find_cpuid(table, basic->eax, subleaf);
}

/* Size of the XSAVE area in the standard format for the components @mask. */
static uint32_t x86_switch_xsave_size(uint64_t mask)
{
    uint32_t size = sizeof(X86LegacyXSaveArea) + sizeof(X86XSaveHeader);

    for (int i = XSTATE_SSE_BIT + 1; i < XSAVE_STATE_AREA_COUNT; i++) {
        const ExtSaveArea *esa = &x86_ext_save_areas[i];

        if ((mask >> i) & 1) {
            size = MAX(size, esa->offset + esa->size);
        }
    }
    return size;
}

static uint32_t x86_switch_mirror(uint32_t reg, uint32_t bit, bool on)
{
    return on ? reg | bit : reg & ~bit;
}

/*
 * Of these leaves a level that is not there still has its number and the
 * x2APIC ID (SDM vol. 2, CPUID; kernel: kvm_cpuid()).
 */
static void x86_switch_cpuid_topology(const struct kvm_cpuid2 *table,
                                      uint32_t leaf, uint32_t subleaf,
                                      uint32_t *ecx, uint32_t *edx)
{
    const struct kvm_cpuid_entry2 *e;

    if (leaf != 0xb && leaf != 0x1f) {
        return;
    }
    e = x86_switch_find_cpuid(table, leaf, 1);
    if (e) {
        *ecx = subleaf & 0xff;
        *edx = e->edx;
    }
}

bool x86_switch_cpuid(CPUX86State *env, uint32_t leaf, uint32_t subleaf,
                      uint32_t *eax, uint32_t *ebx,
                      uint32_t *ecx, uint32_t *edx)
{
    X86SwitchCPU *sc = x86_switch_cpu(env_cpu(env));
    const struct kvm_cpuid_entry2 *e;
    APICCommonState *apic = x86_switch_lapic(env_archcpu(env));

    if (!sc->cpuid) {
        return false;
    }
    e = x86_switch_find_cpuid(sc->cpuid, leaf, subleaf);
    if (!e) {
        e = x86_switch_out_of_range(env, sc->cpuid, leaf, subleaf);
    }
    *eax = e ? e->eax : 0;
    *ebx = e ? e->ebx : 0;
    *ecx = e ? e->ecx : 0;
    *edx = e ? e->edx : 0;
    if (!e) {
        x86_switch_cpuid_topology(sc->cpuid, leaf, subleaf, ecx, edx);
        return true;
    }

    /* Kernel: kvm_update_cpuid_runtime(). */
    switch (e->function) {
    case 1:
        *ecx = x86_switch_mirror(*ecx, CPUID_EXT_OSXSAVE,
                                 env->cr[4] & CR4_OSXSAVE_MASK);
        *edx = x86_switch_mirror(*edx, CPUID_APIC,
                                 apic->apicbase & MSR_IA32_APICBASE_ENABLE);
        break;
    case 7:
        if (e->index == 0) {
            *ecx = x86_switch_mirror(*ecx, CPUID_7_0_ECX_OSPKE,
                                     env->cr[4] & CR4_PKE_MASK);
        }
        break;
    case 0xd:
        if (e->index == 0) {
            *ebx = x86_switch_xsave_size(env->xcr0);
        }
        break;
    }
    return true;
}
