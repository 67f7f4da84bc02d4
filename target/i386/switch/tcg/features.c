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
#include "switch/tcg/tcg.h"
#include "switch/x86-switch.h"

bool x86_tcg_check_features(X86CPU *cpu, Error **errp)
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
    /* KVM shows PKRU only in the XSAVE area, if the guest's CPU has one. */
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
        error_setg(errp, "-accel switch: KVM or TCG lacks the CPU feature '%s';"
                   " leave it out of -cpu",
                   feature_word_info[w].feat_names[bit]);
        return false;
    }
    return true;
}

static struct kvm_cpuid_entry2 *
x86_switch_find_cpuid(struct kvm_cpuid2 *table, uint32_t leaf,
                      uint32_t subleaf)
{
    for (int i = 0; i < table->nent; i++) {
        struct kvm_cpuid_entry2 *e = &table->entries[i];

        if (e->function == leaf &&
            (!(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) ||
             e->index == subleaf)) {
            return e;
        }
    }
    return NULL;
}

/* Append the names of feature word @w's @bits to @names. */
static void x86_tcg_name_features(GString *names, FeatureWord w,
                                  uint64_t bits)
{
    static const char *const registers[] = {
        [R_EAX] = "EAX", [R_EBX] = "EBX", [R_ECX] = "ECX", [R_EDX] = "EDX",
    };
    const FeatureWordInfo *wi = &feature_word_info[w];

    for (; bits; bits &= bits - 1) {
        int bit = ctz64(bits);

        g_string_append(names, names->len ? ", " : "");
        if (wi->feat_names[bit]) {
            g_string_append(names, wi->feat_names[bit]);
        } else {
            g_string_append_printf(names, "CPUID[0x%x].%s bit %d",
                                   wi->cpuid.eax, registers[wi->cpuid.reg],
                                   bit);
        }
    }
}

/* Bits of CR4 that a guest can set only if its CPU has the feature. */
static const struct {
    uint64_t cr4;
    FeatureWord word;
    uint64_t feature;
} x86_switch_cr4_features[] = {
    { CR4_UMIP_MASK,     FEAT_7_0_ECX, CPUID_7_0_ECX_UMIP },
    { CR4_LA57_MASK,     FEAT_7_0_ECX, CPUID_7_0_ECX_LA57 },
    { CR4_FSGSBASE_MASK, FEAT_7_0_EBX, CPUID_7_0_EBX_FSGSBASE },
    { CR4_PCIDE_MASK,    FEAT_1_ECX,   CPUID_EXT_PCID },
    { CR4_OSXSAVE_MASK,  FEAT_1_ECX,   CPUID_EXT_XSAVE },
    { CR4_SMEP_MASK,     FEAT_7_0_EBX, CPUID_7_0_EBX_SMEP },
    { CR4_SMAP_MASK,     FEAT_7_0_EBX, CPUID_7_0_EBX_SMAP },
    { CR4_PKE_MASK,      FEAT_7_0_ECX, CPUID_7_0_ECX_PKU },
    { CR4_PKS_MASK,      FEAT_7_0_ECX, CPUID_7_0_ECX_PKS },
    { CR4_LAM_SUP_MASK,  FEAT_7_1_EAX, CPUID_7_1_EAX_LAM },
    { CR4_FRED_MASK,     FEAT_7_1_EAX, CPUID_7_1_EAX_FRED },
};

/* Append features that the vCPU's registers show in use and its model lacks. */
static void x86_tcg_name_used_features(CPUX86State *env, GString *names)
{
    for (int i = 0; i < ARRAY_SIZE(x86_switch_cr4_features); i++) {
        FeatureWord w = x86_switch_cr4_features[i].word;

        if (env->cr[4] & x86_switch_cr4_features[i].cr4) {
            x86_tcg_name_features(names, w,
                                  x86_switch_cr4_features[i].feature &
                                  ~env->features[w]);
        }
    }
    for (int i = XSTATE_YMM_BIT; i < XSAVE_STATE_AREA_COUNT; i++) {
        const ExtSaveArea *esa = &x86_ext_save_areas[i];

        if (((env->xcr0 | env->xss) >> i) & 1) {
            x86_tcg_name_features(names, esa->feature,
                                  esa->bits & ~env->features[esa->feature]);
        }
    }
    /* KVM shows a deadline only while the LAPIC's timer is in that mode. */
    if (env->tsc_deadline) {
        x86_tcg_name_features(names, FEAT_1_ECX,
                              CPUID_EXT_TSC_DEADLINE_TIMER &
                              ~env->features[FEAT_1_ECX]);
    }
}

bool x86_tcg_check_used_features(CPUState *cs, Error **errp)
{
    CPUX86State *env = cpu_env(cs);
    g_autoptr(GString) names = g_string_new(NULL);

    x86_tcg_name_used_features(env, names);
    if (!names->len && !(env->cr[4] & cr4_reserved_bits(env))) {
        return true;
    }
    error_setg(errp, "vCPU %d uses CPU features that its model lacks:"
               " %s (CR4 " TARGET_FMT_lx ", XCR0 0x%" PRIx64
               ", XSS 0x%" PRIx64 ")",
               cs->cpu_index, names->len ? names->str : "unknown ones",
               env->cr[4], env->xcr0, env->xss);
    return false;
}

static uint32_t *x86_tcg_cpuid_register(struct kvm_cpuid_entry2 *e, int reg)
{
    switch (reg) {
    case R_EAX:
        return &e->eax;
    case R_EBX:
        return &e->ebx;
    case R_ECX:
        return &e->ecx;
    case R_EDX:
        return &e->edx;
    default:
        g_assert_not_reached();
    }
}

/*
 * Have leaves 7 and 0xd describe only subleaves and XSAVE components of the
 * features in @env.
 */
static void x86_tcg_hide_subleaves(CPUX86State *env,
                                   struct kvm_cpuid2 *table)
{
    uint64_t xcr0 = (uint64_t)env->features[FEAT_XSAVE_XCR0_HI] << 32 |
                    env->features[FEAT_XSAVE_XCR0_LO];
    uint64_t xss = (uint64_t)env->features[FEAT_XSAVE_XSS_HI] << 32 |
                   env->features[FEAT_XSAVE_XSS_LO];

    for (int i = 0; i < table->nent; i++) {
        struct kvm_cpuid_entry2 *e = &table->entries[i];

        if (e->function == 7 && e->index == 0) {
            e->eax = MIN(e->eax, env->cpuid_level_func7);
        } else if (e->function == 0xd && e->index == 0) {
            e->ecx = xcr0 ? xsave_area_size(xcr0, false) : 0;
        } else if (e->function == 0xd && e->index > 1 && e->index < 64 &&
                   !((xcr0 | xss) >> e->index & 1)) {
            e->eax = e->ebx = e->ecx = e->edx = 0;
        }
    }
}

/*
 * Take features out of @table that the guest's CPU model does not have: TCG
 * would not execute them.  A paravirtual KVM may show its host's features,
 * whatever QEMU has given it (hazard D2).
 */
static void x86_tcg_hide_features(CPUX86State *env,
                                  struct kvm_cpuid2 *table)
{
    g_autoptr(GString) names = g_string_new(NULL);

    for (FeatureWord w = 0; w < FEATURE_WORDS; w++) {
        const FeatureWordInfo *wi = &feature_word_info[w];
        struct kvm_cpuid_entry2 *e;
        uint32_t *reg;

        if (wi->type != CPUID_FEATURE_WORD) {
            continue;
        }
        e = x86_switch_find_cpuid(table, wi->cpuid.eax, wi->cpuid.ecx);
        if (e) {
            reg = x86_tcg_cpuid_register(e, wi->cpuid.reg);
            x86_tcg_name_features(names, w, *reg & ~env->features[w]);
            *reg &= env->features[w];
        }
    }
    if (names->len) {
        x86_tcg_hide_subleaves(env, table);
        warn_report_once("KVM shows the guest CPU features that its CPU model"
                         " lacks: %s. TCG hides them. Do not switch a guest"
                         " that uses one of them under KVM", names->str);
    }
}

void x86_tcg_init_cpuid(CPUState *cs, X86SwitchCPU *sc)
{
    const int max = 256;

    if (switch_omits(SWITCH_FIXUP_CPUID)) {
        return;
    }
    sc->cpuid = g_malloc0(sizeof(*sc->cpuid) +
                          max * sizeof(sc->cpuid->entries[0]));
    sc->cpuid->nent = max;
    if (kvm_vcpu_ioctl(cs, KVM_GET_CPUID2, sc->cpuid) < 0) {
        warn_report_once("KVM_GET_CPUID2 failed: TCG makes a CPUID table of its"
                         " own, and the guest may see CPUID change at a"
                         " switch");
        g_clear_pointer(&sc->cpuid, g_free);
        return;
    }
    x86_tcg_hide_features(cpu_env(cs), sc->cpuid);
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
x86_switch_out_of_range(CPUX86State *env, struct kvm_cpuid2 *table,
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

static uint32_t x86_tcg_mirror(uint32_t reg, uint32_t bit, bool on)
{
    return on ? reg | bit : reg & ~bit;
}

/*
 * In these leaves a level that does not exist still shows its number and the
 * x2APIC ID (SDM vol. 2, CPUID; kernel: kvm_cpuid()).
 */
static void x86_tcg_cpuid_topology(struct kvm_cpuid2 *table,
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

bool x86_tcg_cpuid(CPUX86State *env, uint32_t leaf, uint32_t subleaf,
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
        x86_tcg_cpuid_topology(sc->cpuid, leaf, subleaf, ecx, edx);
        return true;
    }

    /* Kernel: kvm_update_cpuid_runtime(). */
    switch (e->function) {
    case 1:
        *ecx = x86_tcg_mirror(*ecx, CPUID_EXT_OSXSAVE,
                              env->cr[4] & CR4_OSXSAVE_MASK);
        *edx = x86_tcg_mirror(*edx, CPUID_APIC,
                              apic->apicbase & MSR_IA32_APICBASE_ENABLE);
        break;
    case 7:
        if (e->index == 0) {
            *ecx = x86_tcg_mirror(*ecx, CPUID_7_0_ECX_OSPKE,
                                  env->cr[4] & CR4_PKE_MASK);
        }
        break;
    case 0xd:
        if (e->index == 0) {
            *ebx = xsave_area_size(env->xcr0, false);
        } else if (e->index == 1 &&
                   e->eax & (CPUID_XSAVE_XSAVEC | CPUID_XSAVE_XSAVES)) {
            *ebx = xsave_area_size(env->xcr0 | env->xss, true);
        }
        break;
    }
    return true;
}
