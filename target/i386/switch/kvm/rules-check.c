/*
 * The rules that a vCPU's state must keep, asked about what KVM was given
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "cpu.h"
#include "host-cpu.h"
#include "switch/kvm/kvm.h"
#include "switch/state/rules.h"
#include "switch/x86-switch.h"

#define MXCSR_RESERVED 0xffff0000

/* Where the host is a guest itself, CPUID takes long. */
static bool host_is_intel;

void x86_kvm_init_rules(void)
{
    char vendor[CPUID_VENDOR_SZ + 1];

    host_cpu_vendor_fms(vendor, NULL, NULL, NULL);
    host_is_intel = g_str_equal(vendor, CPUID_VENDOR_INTEL);
}

static X86StateLimits limits_of(X86CPU *cpu)
{
    CPUX86State *env = &cpu->env;
    FeatureWordArray *features = &env->features;
    /* KVM lets a guest set SCE whether its CPUID has SYSCALL or not. */
    uint64_t efer = MSR_EFER_SVME | MSR_EFER_SCE;

    if ((*features)[FEAT_8000_0001_EDX] & CPUID_EXT2_LM) {
        efer |= MSR_EFER_LME | MSR_EFER_LMA;
    }
    if ((*features)[FEAT_8000_0001_EDX] & CPUID_EXT2_NX) {
        efer |= MSR_EFER_NXE;
    }
    if ((*features)[FEAT_8000_0001_EDX] & CPUID_EXT2_FFXSR) {
        efer |= MSR_EFER_FFXSR;
    }
    return (X86StateLimits) {
        .phys_bits = cpu->phys_bits,
        .linear_bits = (*features)[FEAT_7_0_ECX] & CPUID_7_0_ECX_LA57 ? 57
                                                                      : 48,
        .nmi_stays_masked = !host_is_intel,
        .cr4_reserved = cr4_reserved_bits(env),
        .efer_reserved = ~efer,
        .xcr0_reserved = ~((*features)[FEAT_XSAVE_XCR0_LO] | XSTATE_FP_MASK |
                           XSTATE_SSE_MASK),
        .mxcsr_reserved = MXCSR_RESERVED,
    };
}

/* The MSR whose value breaks @rule; NULL if it is no MSR, or not one alone. */
static const char *culprit(const X86StateRule *rule, const X86KVMState *s,
                           const X86StateLimits *limits)
{
    g_autofree X86KVMState *one = g_memdup2(s, sizeof(*s));

    one->nmsrs = 0;
    if (x86_state_rule_is_broken(rule, one, limits)) {
        return NULL;
    }
    one->nmsrs = 1;
    for (int i = 0; i < s->nmsrs; i++) {
        one->msrs[0] = s->msrs[i];
        if (x86_state_rule_is_broken(rule, one, limits)) {
            return switch_arch_msr_name(s->msrs[i].index);
        }
    }
    return NULL;
}

/* The first rule that @cs would break, and a text that names it; or NULL. */
static const X86StateRule *broken_rule(CPUState *cs, char **text)
{
    X86StateLimits limits = limits_of(X86_CPU(cs));
    const X86KVMState *put = &x86_switch_cpu(cs)->put;
    const X86StateRule *rule = x86_state_broken_rule(put, &limits);
    const char *msr = rule ? culprit(rule, put, &limits) : NULL;

    if (rule) {
        *text = g_strdup_printf("%s%srule '%s' (%s)", msr ?: "",
                                msr ? ", " : "", rule->name, rule->manual);
    }
    return rule;
}

SwitchResult x86_kvm_check_rules(CPUState *cs, Error **errp)
{
    g_autofree char *text = NULL;
    const X86StateRule *rule = broken_rule(cs, &text);

    if (!rule) {
        return SWITCH_OK;
    }
    error_setg(errp, "vCPU %d: a processor would refuse this state: %s",
               cs->cpu_index, text);
    return rule->passes ? SWITCH_NOT_NOW : SWITCH_REFUSED;
}

char *switch_arch_explain_refusal(int cpu_index)
{
    char *text = NULL;

    broken_rule(qemu_get_cpu(cpu_index), &text);
    return text;
}
