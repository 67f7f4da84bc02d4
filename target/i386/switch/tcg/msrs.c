/*
 * MSRs that a guest has in TCG, and that TCG itself does not know
 *
 * Most control what a processor speculates on.  TCG gives these controls no
 * effect: a guest reads back what it wrote, and KVM gets it at the next switch.
 * Rules: SDM vol. 4, and APM vol. 2, "Speculation Control MSRs".
 *
 * Others are KVM's own, which serve a guest in TCG by doing nothing (Linux,
 * Documentation/virt/kvm/x86/msr.rst): no time is stolen from it, each of its
 * interrupts needs an EOI (KVM takes back the bit that says otherwise whenever
 * a vCPU stops), and no host polls for it.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "standard-headers/asm-x86/kvm_para.h"
#include "switch/tcg/tcg.h"
#include "switch/x86-switch.h"

#define MSR_IA32_FLUSH_CMD      0x10b

#define SPEC_CTRL_IBRS          (1 << 0)
#define SPEC_CTRL_STIBP         (1 << 1)
#define SPEC_CTRL_SSBD          (1 << 2)
#define SPEC_CTRL_IPRED         (1 << 3 | 1 << 4)
#define SPEC_CTRL_RRSBA         (1 << 5 | 1 << 6)
#define SPEC_CTRL_PSFD          (1 << 7)
#define SPEC_CTRL_DDPD          (1 << 8)
#define SPEC_CTRL_BHI           (1 << 10)
#define PRED_CMD_IBPB           (1 << 0)
#define PRED_CMD_SBPB           (1 << 7)
#define FLUSH_CMD_L1D           (1 << 0)

/* Bits of an MSR that are there with any one of the features, of two words */
typedef struct MSRBits {
    uint64_t bits;
    struct {
        FeatureWord word;
        uint64_t features;
    } needs[2];
} MSRBits;

static const MSRBits spec_ctrl[] = {
    { SPEC_CTRL_IBRS | SPEC_CTRL_STIBP,
      { { FEAT_7_0_EDX, CPUID_7_0_EDX_SPEC_CTRL | CPUID_7_0_EDX_STIBP },
        { FEAT_8000_0008_EBX, CPUID_8000_0008_EBX_IBRS |
                              CPUID_8000_0008_EBX_STIBP } } },
    { SPEC_CTRL_SSBD,
      { { FEAT_7_0_EDX, CPUID_7_0_EDX_SPEC_CTRL_SSBD },
        { FEAT_8000_0008_EBX, CPUID_8000_0008_EBX_AMD_SSBD } } },
    { SPEC_CTRL_PSFD,
      { { FEAT_7_2_EDX, CPUID_7_2_EDX_PSFD },
        { FEAT_8000_0008_EBX, CPUID_8000_0008_EBX_AMD_PSFD } } },
    { SPEC_CTRL_IPRED, { { FEAT_7_2_EDX, CPUID_7_2_EDX_IPRED_CTRL } } },
    { SPEC_CTRL_RRSBA, { { FEAT_7_2_EDX, CPUID_7_2_EDX_RRSBA_CTRL } } },
    { SPEC_CTRL_DDPD, { { FEAT_7_2_EDX, CPUID_7_2_EDX_DDPD_U } } },
    { SPEC_CTRL_BHI, { { FEAT_7_2_EDX, CPUID_7_2_EDX_BHI_CTRL } } },
    { }
};

/* Without one of these KVM has no SPEC_CTRL, whatever the bits' features. */
static const MSRBits has_spec_ctrl[] = {
    { 1, { { FEAT_7_0_EDX, CPUID_7_0_EDX_SPEC_CTRL },
           { FEAT_8000_0008_EBX, CPUID_8000_0008_EBX_IBRS |
                                 CPUID_8000_0008_EBX_STIBP |
                                 CPUID_8000_0008_EBX_AMD_SSBD } } },
    { }
};

static const MSRBits pred_cmd[] = {
    { PRED_CMD_IBPB,
      { { FEAT_7_0_EDX, CPUID_7_0_EDX_SPEC_CTRL },
        { FEAT_8000_0008_EBX, CPUID_8000_0008_EBX_IBPB } } },
    { PRED_CMD_SBPB, { { FEAT_8000_0021_EAX, CPUID_8000_0021_EAX_SBPB } } },
    { }
};

static const MSRBits flush_cmd[] = {
    { FLUSH_CMD_L1D, { { FEAT_7_0_EDX, CPUID_7_0_EDX_FLUSH_L1D } } },
    { }
};

static const MSRBits virt_ssbd[] = {
    { SPEC_CTRL_SSBD,
      { { FEAT_8000_0008_EBX, CPUID_8000_0008_EBX_VIRT_SSBD } } },
    { }
};

static const MSRBits arch_capabilities[] = {
    { UINT32_MAX, { { FEAT_7_0_EDX, CPUID_7_0_EDX_ARCH_CAPABILITIES } } },
    { }
};

static const MSRBits tsc_adjust[] = {
    { UINT64_MAX, { { FEAT_7_0_EBX, CPUID_7_0_EBX_TSC_ADJUST } } },
    { }
};

static const MSRBits tsc_deadline[] = {
    { UINT64_MAX, { { FEAT_1_ECX, CPUID_EXT_TSC_DEADLINE_TIMER } } },
    { }
};

static const MSRBits steal_time[] = {
    { ~(uint64_t)KVM_STEAL_RESERVED_MASK,
      { { FEAT_KVM, CPUID_KVM_STEAL_TIME } } },
    { }
};

/* An address of 4 aligned bytes, and the bit that turns it on */
static const MSRBits pv_eoi[] = {
    { ~2ull, { { FEAT_KVM, CPUID_KVM_PV_EOI } } },
    { }
};

static const MSRBits poll_control[] = {
    { 1, { { FEAT_KVM, CPUID_KVM_POLL_CONTROL } } },
    { }
};

static const struct {
    uint32_t index;
    const MSRBits *bits;
    enum { READ_WRITE, READ_ONLY, WRITE_ONLY } access;
    size_t field;               /* in CPUX86State; of uint64_t */
    const MSRBits *exists;      /* NULL: with any of its bits */
} msrs[] = {
    { MSR_IA32_SPEC_CTRL, spec_ctrl, READ_WRITE,
      offsetof(CPUX86State, spec_ctrl), has_spec_ctrl },
    { MSR_IA32_PRED_CMD, pred_cmd, WRITE_ONLY },
    { MSR_IA32_FLUSH_CMD, flush_cmd, WRITE_ONLY },
    { MSR_VIRT_SSBD, virt_ssbd, READ_WRITE,
      offsetof(CPUX86State, virt_ssbd) },
    { MSR_IA32_ARCH_CAPABILITIES, arch_capabilities, READ_ONLY,
      offsetof(CPUX86State, features[FEAT_ARCH_CAPABILITIES]) },
    { MSR_TSC_ADJUST, tsc_adjust, READ_WRITE,
      offsetof(CPUX86State, tsc_adjust) },
    { MSR_IA32_TSCDEADLINE, tsc_deadline, READ_WRITE,
      offsetof(CPUX86State, tsc_deadline) },
    { MSR_KVM_STEAL_TIME, steal_time, READ_WRITE,
      offsetof(CPUX86State, steal_time_msr) },
    { MSR_KVM_PV_EOI_EN, pv_eoi, READ_WRITE,
      offsetof(CPUX86State, pv_eoi_en_msr) },
    { MSR_KVM_POLL_CONTROL, poll_control, READ_WRITE,
      offsetof(CPUX86State, poll_control_msr) },
};

static uint64_t bits_of(const CPUX86State *env, const MSRBits *rows)
{
    uint64_t known = 0;

    for (; rows->bits; rows++) {
        for (int i = 0; i < ARRAY_SIZE(rows->needs); i++) {
            if (env->features[rows->needs[i].word] & rows->needs[i].features) {
                known |= rows->bits;
            }
        }
    }
    return known;
}

static int find(uint32_t index)
{
    for (int i = 0; i < ARRAY_SIZE(msrs); i++) {
        if (msrs[i].index == index) {
            return i;
        }
    }
    return -1;
}

static uint64_t *field(CPUX86State *env, int i)
{
    return (uint64_t *)((char *)env + msrs[i].field);
}

/* The bits that an MSR has; 0: the CPU has no such MSR. */
static uint64_t known_bits(const CPUX86State *env, int i)
{
    return !msrs[i].exists || bits_of(env, msrs[i].exists)
           ? bits_of(env, msrs[i].bits) : 0;
}

bool x86_tcg_has_msr_value(CPUX86State *env, uint32_t index, uint64_t value)
{
    int i = find(index);
    uint64_t known;

    if (i < 0) {
        return true;
    }
    known = known_bits(env, i);
    if (!known || msrs[i].access == READ_ONLY) {
        return false;
    }
    if (index == MSR_IA32_SPEC_CTRL) {
        /* KVM goes by the host's processor, and may have taken more of them. */
        known |= env->spec_ctrl;
    }
    /* KVM reads and writes the byte of PV_EOI at any exit. */
    return !(value & ~known) &&
           (index != MSR_KVM_PV_EOI_EN || !(value & KVM_MSR_ENABLED) ||
            x86_switch_is_ram(value & ~(uint64_t)KVM_MSR_ENABLED));
}

static void follow_tsc(CPUX86State *env)
{
    x86_switch_kvmclock_follow_tsc(env);
    x86_tcg_lapic_follow_tsc(env);
}

void x86_tcg_wrmsr(CPUX86State *env, uint32_t index, uint64_t value)
{
    int i = find(index);

    switch (index) {
    case MSR_IA32_TSC:
        env->tsc_adjust += x86_switch_write_tsc(env, value);
        follow_tsc(env);
        return;
    case MSR_TSC_ADJUST:
        x86_switch_move_tsc(env, value - env->tsc_adjust);
        follow_tsc(env);
        break;
    case MSR_IA32_TSCDEADLINE:
        x86_tcg_write_deadline(env, value);
        return;
    case MSR_IA32_FEATURE_CONTROL:
        if (x86_switch_cpu(env_cpu(env))->has_feature_control) {
            env->msr_ia32_feature_control = value;
        }
        return;
    }
    if (i < 0) {
        x86_switch_kvmclock_wrmsr(env, index, value);
    } else if (msrs[i].access == READ_WRITE) {
        *field(env, i) = value;
    }
    if (index == MSR_KVM_STEAL_TIME) {
        x86_switch_clear_preempted(env);
    }
}

bool x86_tcg_rdmsr(CPUX86State *env, uint32_t index, uint64_t *value)
{
    int i = find(index);

    *value = 0;
    switch (index) {
    case MSR_IA32_TSC:
        *value = x86_switch_get_tsc(env);
        return true;
    case MSR_IA32_FEATURE_CONTROL:
        *value = env->msr_ia32_feature_control;
        return true;
    }
    if (i < 0) {
        x86_switch_kvmclock_rdmsr(env, index, value);
        return true;
    }
    if (msrs[i].access == WRITE_ONLY || !known_bits(env, i)) {
        return false;
    }
    *value = index == MSR_IA32_TSCDEADLINE ? x86_tcg_read_deadline(env)
                                           : *field(env, i);
    return true;
}

void x86_tcg_reset_msrs(CPUX86State *env)
{
    /* Linux has the host poll until a guest asks it not to. */
    env->poll_control_msr = 1;
}

void x86_tcg_keep_msrs_over_init(CPUX86State *env, const CPUX86State *before)
{
    /* As KVM does */
    env->poll_control_msr = before->poll_control_msr;
    env->spec_ctrl = 0;
    env->virt_ssbd = 0;
    /* INIT ends the timer's mode. */
    env->tsc_deadline = 0;
}
