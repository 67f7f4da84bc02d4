/*
 * A CPU that both accelerators can run
 *
 * The AccelCPUClass of -accel switch: KVM's initialisation, plus what TCG
 * needs, plus the delivery of events that KVM had begun to deliver.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/module.h"
#include "accel/accel-cpu-target.h"
#include "accel/tcg/cpu-ops.h"
#include "cpu.h"
#include "cpu-internal.h"
#include "hw/boards.h"
#include "hw/i386/pc.h"
#include "tcg/helper-tcg.h"
#include "switch/kvm/kvm.h"
#include "switch/kvm/module.h"
#include "switch/tcg/tcg.h"
#include "switch/x86-switch.h"

static X86SwitchCPU *x86_switch_cpus;

X86SwitchCPU *x86_switch_cpu(CPUState *cs)
{
    return &x86_switch_cpus[cs->cpu_index];
}

/* Plain QEMU's machines have no device of kvm-clock in TCG, nor its section. */
static bool x86_switch_init_plain_machine(MachineState *ms, Error **errp)
{
    if (switch_state->streams != ACCEL_STREAMS_PLAIN_TCG) {
        return true;
    }
    if (!object_dynamic_cast(OBJECT(ms), TYPE_PC_MACHINE) ||
        !PC_MACHINE_GET_CLASS(ms)->pci_enabled) {
        error_setg(errp, "streams=plain-tcg works with the machines pc and q35"
                   " only");
        return false;
    }
    PC_MACHINE_GET_CLASS(ms)->kvmclock_create_always = false;
    return true;
}

bool switch_arch_init(MachineState *ms, Error **errp)
{
    x86_switch_cpus = g_new0(X86SwitchCPU, ms->smp.max_cpus);
    x86_kvm_module_init();
    if (!x86_switch_init_plain_machine(ms, errp) || !x86_kvm_init_pmu(errp)) {
        return false;
    }
    x86_kvm_init_tsc_load();
    x86_kvm_init_lapic_load();
    x86_kvm_init_load_kvm();
    x86_kvm_init_shadow();
    x86_kvm_init_rules();
    x86_switch_init_kvmclock();
    x86_tcg_init_lapic_deadline();
    x86_kvm_init_reset_msrs();
    return true;
}

bool switch_arch_init_vcpu(CPUState *cs, Error **errp)
{
    X86SwitchCPU *sc = x86_switch_cpu(cs);

    x86_tcg_init_cpuid(cs, sc);
    return x86_kvm_init_msrs(cs, sc, errp) &&
           x86_kvm_init_lapic(cs, sc, errp) &&
           x86_kvm_init_tsc(cs, sc, errp);
}

static AccelCPUClass *x86_switch_accel_cpu_class(const char *name)
{
    return ACCEL_CPU_CLASS(object_class_by_name(name));
}

#define KVM_CPU_CLASS() x86_switch_accel_cpu_class(ACCEL_CPU_NAME("kvm"))
#define TCG_CPU_CLASS() x86_switch_accel_cpu_class(ACCEL_CPU_NAME("tcg"))

/* TCG's operations, and the delivery of events that KVM had begun to deliver */
static TCGCPUOps x86_switch_tcg_ops;
static const TCGCPUOps *x86_plain_tcg_ops;
static void (*x86_plain_init_accel_cpu)(AccelCPUClass *accel_cpu,
                                        CPUClass *cc);

/*
 * Called by the vCPU's thread inside cpu_exec(), BQL held: a fault in the
 * delivery (a page fault on the stack, say) is raised as any other.
 */
static bool x86_switch_cpu_exec_interrupt(CPUState *cs, int interrupt_request)
{
    CPUX86State *env = cpu_env(cs);
    int vector;

    if (!(interrupt_request & CPU_INTERRUPT_INJECTED)) {
        return x86_plain_tcg_ops->cpu_exec_interrupt(cs, interrupt_request);
    }
    cs->interrupt_request &= ~CPU_INTERRUPT_INJECTED;
    if (env->nmi_injected) {
        env->nmi_injected = false;
        env->hflags2 |= HF2_NMI_MASK;
        vector = EXCP02_NMI;
    } else {
        vector = env->interrupt_injected;
        env->interrupt_injected = -1;
    }
    do_interrupt_x86_hardirq(env, vector, 1);
    return true;
}

static void x86_switch_init_accel_cpu(AccelCPUClass *accel_cpu, CPUClass *cc)
{
    x86_plain_init_accel_cpu(accel_cpu, cc);
    x86_plain_tcg_ops = cc->tcg_ops;
    x86_switch_tcg_ops = *cc->tcg_ops;
    x86_switch_tcg_ops.cpu_exec_interrupt = x86_switch_cpu_exec_interrupt;
    cc->tcg_ops = &x86_switch_tcg_ops;
}

static void x86_switch_cpu_class_init(CPUClass *cc)
{
    /* Sets cc->init_accel_cpu, which the caller calls next. */
    TCG_CPU_CLASS()->cpu_class_init(cc);
    x86_plain_init_accel_cpu = cc->init_accel_cpu;
    cc->init_accel_cpu = x86_switch_init_accel_cpu;
}

/*
 * Defaults of named CPU models: KVM's, which are applied first, without the
 * features that TCG lacks.  Each would be masked anyway, with a warning.
 */
static PropValue x86_switch_default_props[] = {
    { "vme", "off" },
    { "kvm-asyncpf", "off" },
    { "kvm-msi-ext-dest-id", "off" },
    /* KVM's default, but KVM's code drops it for a model asked for in TCG. */
    { "x2apic", "on" },
    { NULL, NULL },
};

/* They are no user's wish: note what the guest loses by them. */
static void x86_switch_apply_defaults(X86CPU *cpu)
{
    CPUX86State *env = &cpu->env;
    FeatureWordArray before;

    memcpy(before, env->features, sizeof(before));
    x86_cpu_apply_props(cpu, x86_switch_default_props);
    for (FeatureWord w = 0; w < FEATURE_WORDS; w++) {
        uint64_t left_out = before[w] & ~env->features[w];

        env->user_features[w] &= ~left_out;
        x86_tcg_note_left_out(w, left_out);
    }
}

static void x86_switch_cpu_instance_init(CPUState *cs)
{
    X86CPU *cpu = X86_CPU(cs);
    bool plain = switch_state && switch_state->streams != ACCEL_STREAMS_SWITCH;
    g_autofree X86CPU *model = plain ? g_memdup2(cpu, sizeof(*cpu)) : NULL;

    /*
     * Not TCG's cpu_instance_init(): it would overwrite the host's offsets of
     * XSAVE components, by which QEMU reads KVM's XSAVE area (hazard D4).
     * x86_tcg_feature_mask() drops features whose offsets differ in TCG.
     */
    KVM_CPU_CLASS()->cpu_instance_init(cs);
    if (!plain) {
        /* On by default in "max"; TCG has neither.  =on is refused. */
        x86_tcg_note_not_features(cpu->enable_pmu, cpu->enable_lmce);
        cpu->enable_pmu = false;
        cpu->enable_lmce = false;
    }
    if (X86_CPU_GET_CLASS(cpu)->model) {
        if (plain) {
            x86_tcg_plain_cpu_defaults(cpu, model);
        } else {
            x86_switch_apply_defaults(cpu);
        }
    }
}

static bool x86_switch_cpu_realize(CPUState *cs, Error **errp)
{
    X86CPU *cpu = X86_CPU(cs);

    x86_tcg_note_lost_features(cpu);
    return x86_tcg_check_plain_features(cpu, errp) &&
           x86_tcg_check_features(cpu, errp) &&
           x86_kvm_check_tsc_khz(&cpu->env, errp) &&
           KVM_CPU_CLASS()->cpu_target_realize(cs, errp);
}

static void x86_switch_accel_cpu_class_init(ObjectClass *oc, void *data)
{
    AccelCPUClass *acc = ACCEL_CPU_CLASS(oc);

    acc->cpu_class_init = x86_switch_cpu_class_init;
    acc->cpu_instance_init = x86_switch_cpu_instance_init;
    acc->cpu_target_realize = x86_switch_cpu_realize;
}

static const TypeInfo x86_switch_accel_cpu_type = {
    .name = ACCEL_CPU_NAME("switch"),
    .parent = TYPE_ACCEL_CPU,
    .class_init = x86_switch_accel_cpu_class_init,
    .abstract = true,
};

static void x86_switch_cpu_register_types(void)
{
    type_register_static(&x86_switch_accel_cpu_type);
}
type_init(x86_switch_cpu_register_types);
