/*
 * The CPU that plain QEMU gives a guest, beside the one of -accel switch
 *
 * A stream does not tell the CPU's features.  A guest that comes from plain
 * QEMU, or goes there, must find the same ones on both sides.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "cpu.h"
#include "cpu-internal.h"
#include "system/accel-switch.h"
#include "switch/tcg/tcg.h"

/* A user does not ask for these by name: they follow from others. */
static bool follows_from_others(FeatureWord w)
{
    return w == FEAT_XSAVE_XCR0_LO || w == FEAT_XSAVE_XCR0_HI ||
           w == FEAT_XSAVE_XSS_LO || w == FEAT_XSAVE_XSS_HI;
}

/* The user has not left it out. */
static bool may_have(X86CPU *cpu, FeatureWord w, uint64_t feature)
{
    return feature & (cpu->env.features[w] | ~cpu->env.user_features[w]);
}

/* QEMU shows the features of VMX and SVM only beside these. */
static bool is_hidden(X86CPU *cpu, FeatureWord w)
{
    if (w == FEAT_SVM) {
        return !may_have(cpu, FEAT_8000_0001_ECX, CPUID_EXT3_SVM);
    }
    if (w >= FEAT_VMX_PROCBASED_CTLS && w <= FEAT_VMX_VMFUNC) {
        return !may_have(cpu, FEAT_1_ECX, CPUID_EXT_VMX);
    }
    return false;
}

/* Left out by -accel switch's defaults, and asked for by no user */
static FeatureWordArray left_out;
static bool left_out_pmu, left_out_lmce;

void x86_tcg_note_left_out(FeatureWord w, uint64_t features)
{
    left_out[w] |= features;
}

void x86_tcg_note_not_features(bool pmu, bool lmce)
{
    left_out_pmu = pmu;
    left_out_lmce = lmce;
}

/* The features in word @w that plain QEMU would show and @cpu does not */
static uint64_t lost_features(X86CPU *cpu, FeatureWord w, bool kvm)
{
    CPUX86State *env = &cpu->env;
    uint64_t plain, asked = cpu->filtered_features[w] |
                            (left_out[w] & ~env->user_features[w]);

    if (kvm) {
        x86_tcg_feature_mask_is_off = true;
        plain = x86_cpu_get_supported_feature_word(cpu, w);
        x86_tcg_feature_mask_is_off = false;
    } else {
        plain = feature_word_info[w].tcg_features &
                ~x86_tcg_taught_features(w);
    }
    if (cpu->max_features) {
        asked |= plain & ~env->user_features[w] &
                 ~feature_word_info[w].no_autoenable_flags;
    }
    if (w == FEAT_8000_0001_ECX) {
        /*
         * QEMU adds it to each vCPU of AMD's that is not alone, whatever -cpu
         * says.  It only tells how to count them, at boot.
         */
        asked &= ~CPUID_EXT3_CMP_LEG;
    }
    return follows_from_others(w) || is_hidden(cpu, w)
           ? 0 : asked & plain & ~env->features[w];
}

static void add_option(GString *lost, bool is_lost, const char *option)
{
    if (is_lost) {
        g_string_append_printf(lost, "%s%s", lost->len ? "," : "", option);
    }
}

void x86_tcg_note_lost_features(X86CPU *cpu)
{
    strList **tail = &switch_state->features_lost;

    if (*tail) {
        return;
    }
    for (FeatureWord w = 0; w < FEATURE_WORDS; w++) {
        uint64_t bits = lost_features(cpu, w, true);

        for (; bits; bits &= bits - 1) {
            const char *name = feature_word_info[w].feat_names[ctz64(bits)];

            if (name) {
                QAPI_LIST_APPEND(tail, g_strdup(name));
            }
        }
    }
    if (left_out_pmu && !cpu->enable_pmu) {
        QAPI_LIST_APPEND(tail, g_strdup("pmu"));
    }
    if (left_out_lmce && !cpu->enable_lmce) {
        QAPI_LIST_APPEND(tail, g_strdup("lmce"));
    }
}

bool x86_tcg_check_plain_features(X86CPU *cpu, Error **errp)
{
    AccelStreams streams = switch_state->streams;
    bool kvm = streams == ACCEL_STREAMS_PLAIN_KVM;
    g_autoptr(GString) lost = g_string_new(NULL);

    if (streams == ACCEL_STREAMS_SWITCH) {
        return true;
    }
    if (!kvm && cpu->max_features) {
        error_setg(errp, "streams=plain-tcg needs a named CPU model: 'host' and"
                   " 'max' are other ones without KVM");
        return false;
    }
    if (!kvm && (cpu->expose_kvm || cpu->env.features[FEAT_KVM])) {
        error_setg(errp, "streams=plain-tcg does not work with KVM's own CPU"
                   " features (-cpu kvm=on)");
        return false;
    }
    for (FeatureWord w = 0; w < FEATURE_WORDS; w++) {
        uint64_t bits = lost_features(cpu, w, kvm);

        for (; bits; bits &= bits - 1) {
            const char *name = feature_word_info[w].feat_names[ctz64(bits)];

            if (name) {
                g_autofree char *option = g_strdup_printf("-%s", name);

                add_option(lost, true, option);
            }
        }
    }
    add_option(lost, cpu->enable_pmu, "pmu=off");
    add_option(lost, cpu->enable_lmce, "lmce=off");
    /* A leaf of CPUID that says TCG */
    add_option(lost, !kvm && cpu->expose_tcg, "tcg-cpuid=off");
    if (!lost->len) {
        return true;
    }
    error_setg(errp, "streams=%s: plain QEMU would show the guest CPU features"
               " that -accel switch can't. Add to -cpu, on both sides: %s",
               AccelStreams_str(streams), lost->str);
    return false;
}

/* Named models: those of plain QEMU's defaults that KVM's code has changed. */
static PropValue plain_tcg_props[] = {
    { "vme", "off" },
    { NULL, NULL },
};

static PropValue plain_kvm_props[] = {
    /* With kernel-irqchip=on, which is plain QEMU's default */
    { "kvm-msi-ext-dest-id", "off" },
    { "x2apic", "on" },
    { NULL, NULL },
};

void x86_tcg_plain_cpu_defaults(X86CPU *cpu, const X86CPU *model)
{
    if (switch_state->streams == ACCEL_STREAMS_PLAIN_KVM) {
        x86_cpu_apply_props(cpu, plain_kvm_props);
    } else {
        memcpy(cpu->env.features, model->env.features,
               sizeof(cpu->env.features));
        /* Under KVM a model has the host's. */
        cpu->env.cpuid_vendor1 = model->env.cpuid_vendor1;
        cpu->env.cpuid_vendor2 = model->env.cpuid_vendor2;
        cpu->env.cpuid_vendor3 = model->env.cpuid_vendor3;
        cpu->expose_kvm = false;
        x86_cpu_apply_props(cpu, plain_tcg_props);
    }
}
