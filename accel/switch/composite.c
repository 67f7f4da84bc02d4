/*
 * -accel switch: an accelerator made of KVM and TCG
 *
 * Both are initialised, KVM first, and both stay initialised.  While the
 * machine is made KVM is the active one, so that all that is decided then
 * (split irqchip, one LAPIC a vCPU, CPUID) is decided as KVM needs it; with
 * initial=tcg the first switch happens before the first reset.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/module.h"
#include "qemu/plugin.h"
#include "hw/boards.h"
#include "hw/qdev-core.h"
#include "migration/vmstate.h"
#include "system/cpu-timers.h"
#include "system/kvm.h"
#include "system/kvm_int.h"
#include "system/replay.h"
#include "system/runstate-action.h"
#include "system/runstate.h"
#include "system/system.h"
#include "system/tcg.h"
#include "internal.h"

SwitchState *switch_state;

static const char *const switch_fixup_names[SWITCH_FIXUP__MAX] = {
    [SWITCH_FIXUP_TB_FLUSH]         = "tb-flush",
    [SWITCH_FIXUP_SHADOW_FLUSH]     = "shadow-flush",
    [SWITCH_FIXUP_REINJECT]         = "reinject",
    [SWITCH_FIXUP_EXTINT]           = "extint",
    [SWITCH_FIXUP_LAPIC_EXPIRED]    = "lapic-expired",
    [SWITCH_FIXUP_LAPIC_COUNT]      = "lapic-count",
    [SWITCH_FIXUP_TSC_OFFSET]       = "tsc-offset",
    [SWITCH_FIXUP_TSC_ORDER]        = "tsc-order",
    [SWITCH_FIXUP_XSTATE_BV]        = "xstate-bv",
    [SWITCH_FIXUP_X87_ORDER]        = "x87-order",
    [SWITCH_FIXUP_INTERRUPT_SHADOW] = "interrupt-shadow",
    [SWITCH_FIXUP_DESCRIPTORS]      = "descriptors",
    [SWITCH_FIXUP_GUEST_VALUES]     = "guest-values",
    [SWITCH_FIXUP_COALESCED_MMIO]   = "coalesced-mmio",
    [SWITCH_FIXUP_INTERRUPT_READY]  = "interrupt-ready",
    [SWITCH_FIXUP_KVM_CLOCK]        = "kvm-clock",
    [SWITCH_FIXUP_CPUID]            = "cpuid",
};

/* Parse x-omit; false and @errp set for an unknown name. */
static bool switch_parse_omit(const char *names, uint64_t *omit,
                              Error **errp)
{
    g_auto(GStrv) list = g_strsplit(names, ":", 0);
    uint64_t mask = 0;

    for (char **name = list; *name; name++) {
        int i;

        for (i = 0; i < SWITCH_FIXUP__MAX; i++) {
            if (g_str_equal(*name, switch_fixup_names[i])) {
                mask |= 1ull << i;
                break;
            }
        }
        if (i == SWITCH_FIXUP__MAX) {
            error_setg(errp, "x-omit: there is no fix-up '%s'", *name);
            return false;
        }
    }
    *omit = mask;
    return true;
}

/* What the options ask for and no switch can carry (before any init). */
static bool switch_check_options(SwitchState *s, MachineState *ms,
                                 Error **errp)
{
    g_autofree char *thread = object_property_get_str(OBJECT(s->tcg), "thread",
                                                      &error_abort);

    if (replay_mode != REPLAY_MODE_NONE) {
        error_setg(errp, "-accel switch does not work with record/replay"
                   " (-icount rr=)");
    } else if (icount_enabled()) {
        error_setg(errp, "-accel switch does not work with -icount");
    } else if (g_str_equal(thread, "single")) {
        error_setg(errp, "-accel switch needs thread=multi");
    } else if (!s->kvm->kernel_irqchip_allowed) {
        error_setg(errp, "-accel switch needs kernel-irqchip=split, not off");
    } else if (s->kvm->kernel_irqchip_split == ON_OFF_AUTO_OFF) {
        error_setg(errp, "-accel switch needs kernel-irqchip=split, not on");
    } else if (s->kvm->kvm_dirty_ring_size) {
        error_setg(errp, "-accel switch does not work with dirty-ring-size");
    } else if (s->kvm->xen_version) {
        error_setg(errp, "-accel switch does not work with xen-version");
    } else if (s->kvm->msr_energy.enable) {
        error_setg(errp, "-accel switch does not work with rapl");
    } else if (ms->cgs) {
        error_setg(errp, "-accel switch does not work with"
                   " confidential-guest-support");
    } else if (enable_cpu_pm) {
        /*
         * KVM neither shows nor takes that a vCPU sleeps in a HLT that made no
         * exit (VMX's activity state); and WAITPKG, which TCG does not have,
         * is added to such a CPU.
         */
        error_setg(errp, "-accel switch does not work with"
                   " -overcommit cpu-pm=on");
    } else if (ms->smp.max_cpus > ms->smp.cpus) {
        error_setg(errp, "-accel switch does not work with CPU hotplug"
                   " (-smp maxcpus=)");
    } else {
        return true;
    }
    return false;
}

/*
 * Initialise a child as accel_init_machine() would, with the machine's
 * accelerator pointing at it meanwhile: kvm_init() and tcg_init_machine()
 * look there for their own state (HAZARDS A2, A3).
 */
static int switch_init_child(AccelState *child, MachineState *ms)
{
    AccelClass *ac = ACCEL_GET_CLASS(child);
    AccelState *self = ms->accelerator;
    int ret;

    ms->accelerator = child;
    *ac->allowed = true;
    ret = ac->init_machine(ms);
    if (ret < 0) {
        *ac->allowed = false;
    }
    ms->accelerator = self;
    return ret;
}

static void switch_machine_done(Notifier *notifier, void *data)
{
    Error *err = NULL;

    if (!switch_check_machine(current_machine, &err)) {
        error_report_err(err);
        exit(1);
    }
    if (switch_state->initial == SWITCHABLE_ACCEL_TCG) {
        g_autoptr(AccelSwitchInfo) info = switch_transact(SWITCHABLE_ACCEL_TCG,
                                                          &err);
        if (!info) {
            error_prepend(&err, "initial=tcg: ");
            error_report_err(err);
            exit(1);
        }
    }
}

static Notifier switch_machine_done_notifier = {
    .notify = switch_machine_done,
};

/*
 * QEMU's end (qemu_cleanup) frees what a switch asks, the migration's state
 * first, and runs coroutines afterwards: one that waits for a switch may be
 * among them.
 */
static void switch_shutdown(Notifier *notifier, void *data)
{
    switch_state->ending = shutdown_action != SHUTDOWN_ACTION_PAUSE;
}

static Notifier switch_shutdown_notifier = {
    .notify = switch_shutdown,
};

/*
 * A vCPU's state has another form under each accelerator (x87 order, MSRs,
 * kvm-clock): a stream says which one it was made under, and is loaded under
 * that one only.
 */
static int switch_pre_save(void *opaque)
{
    SwitchState *s = opaque;

    s->saved_active = s->active;
    if (s->active == SWITCHABLE_ACCEL_TCG) {
        switch_arch_pre_save_tcg();
    }
    return 0;
}

static int switch_post_load(void *opaque, int version_id)
{
    SwitchState *s = opaque;

    if (s->saved_active == s->active) {
        if (s->active == SWITCHABLE_ACCEL_KVM) {
            return switch_arch_post_load_kvm();
        }
        switch_arch_post_load_tcg();
        return 0;
    }
    error_report("the guest was saved under %s and can't be loaded under %s:"
                 " switch_accel, or initial=, first",
                 s->saved_active < SWITCHABLE_ACCEL__MAX
                 ? SwitchableAccel_str(s->saved_active) : "another accelerator",
                 SwitchableAccel_str(s->active));
    return -EINVAL;
}

static const VMStateDescription vmstate_switch = {
    .name = "accel-switch",
    .version_id = 1,
    .minimum_version_id = 1,
    .priority = MIG_PRI_MAX,
    .pre_save = switch_pre_save,
    .post_load = switch_post_load,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT32(saved_active, SwitchState),
        VMSTATE_END_OF_LIST()
    }
};

static int switch_init_machine(MachineState *ms)
{
    SwitchState *s = SWITCH_ACCEL(ms->accelerator);
    Error *err = NULL;
    int ret;

    switch_state = s;
    object_apply_compat_props(OBJECT(s->kvm));
    object_apply_compat_props(OBJECT(s->tcg));

    if (!switch_check_options(s, ms, &err)) {
        goto fail;
    }
    s->kvm->kernel_irqchip_allowed = true;
    s->kvm->kernel_irqchip_required = true;
    s->kvm->kernel_irqchip_split = ON_OFF_AUTO_ON;

    ret = switch_init_child(ACCEL(s->kvm), ms);
    if (ret == 0) {
        ret = switch_init_child(s->tcg, ms);
    } else {
        const char *device = s->kvm->device ?: "/dev/kvm";

        if (access(device, R_OK | W_OK) < 0) {
            error_report("-accel switch needs KVM: %s must be there, and yours"
                         " to read and write", device);
        }
    }
    if (ret < 0) {
        switch_state = NULL;
        return ret;
    }

    /* KVM runs until the machine is made. */
    tcg_allowed = false;
    s->active = SWITCHABLE_ACCEL_KVM;
    /* An irqfd would inject behind QEMU's back into a sleeping KVM. */
    kvm_msi_via_irqfd_allowed = false;

    if (!switch_arch_init(ms, &err)) {
        goto fail;
    }
    qemu_add_machine_init_done_notifier(&switch_machine_done_notifier);
    qemu_register_shutdown_notifier(&switch_shutdown_notifier);
    vmstate_register(NULL, 0, &vmstate_switch, s);
    return 0;

fail:
    error_report_err(err);
    exit(1);
}

static bool switch_cpu_common_realize(CPUState *cpu, Error **errp)
{
    AccelClass *tcg = ACCEL_GET_CLASS(switch_state->tcg);
    AccelClass *kvm = ACCEL_GET_CLASS(switch_state->kvm);
    Error *reason = NULL;

#ifdef CONFIG_PLUGIN
    /* Every TB of a plugin-enabled build looks at it (HAZARDS A5). */
    cpu->plugin_state = qemu_plugin_create_vcpu_state();
#endif
    if (kvm->cpu_common_realize && !kvm->cpu_common_realize(cpu, errp)) {
        return false;
    }
    if (!tcg->cpu_common_realize(cpu, errp)) {
        return false;
    }
    /* A vCPU's TCG context is never given back (HAZARDS B10). */
    error_setg(&reason, "-accel switch does not work with CPU hot-unplug");
    qdev_add_unplug_blocker(DEVICE(cpu), reason);
    return true;
}

static void switch_cpu_common_unrealize(CPUState *cpu)
{
    AccelClass *tcg = ACCEL_GET_CLASS(switch_state->tcg);
    AccelClass *kvm = ACCEL_GET_CLASS(switch_state->kvm);

    tcg->cpu_common_unrealize(cpu);
    if (kvm->cpu_common_unrealize) {
        kvm->cpu_common_unrealize(cpu);
    }
}

static int switch_gdbstub_supported_sstep_flags(void)
{
    AccelState *active = switch_state->active == SWITCHABLE_ACCEL_KVM
                         ? ACCEL(switch_state->kvm) : switch_state->tcg;

    return ACCEL_GET_CLASS(active)->gdbstub_supported_sstep_flags();
}

static bool switch_has_memory(MachineState *ms, AddressSpace *as,
                              hwaddr start, hwaddr size)
{
    AccelClass *kvm = ACCEL_GET_CLASS(switch_state->kvm);

    return kvm->has_memory && kvm->has_memory(ms, as, start, size);
}

static void switch_setup_post(MachineState *ms, AccelState *accel)
{
    AccelClass *kvm = ACCEL_GET_CLASS(switch_state->kvm);

    if (kvm->setup_post) {
        kvm->setup_post(ms, ACCEL(switch_state->kvm));
    }
}

static int switch_get_initial(Object *obj, Error **errp)
{
    return SWITCH_ACCEL(obj)->initial;
}

static void switch_set_initial(Object *obj, int value, Error **errp)
{
    SWITCH_ACCEL(obj)->initial = value;
}

static int switch_get_on_kvm_error(Object *obj, Error **errp)
{
    return SWITCH_ACCEL(obj)->on_kvm_error;
}

static void switch_set_on_kvm_error(Object *obj, int value, Error **errp)
{
    SWITCH_ACCEL(obj)->on_kvm_error = value;
}

#define SWITCH_BOOL_PROPERTY(field) \
    static bool switch_get_##field(Object *obj, Error **errp) \
    { \
        return SWITCH_ACCEL(obj)->field; \
    } \
    static void switch_set_##field(Object *obj, bool value, Error **errp) \
    { \
        SWITCH_ACCEL(obj)->field = value; \
    }

SWITCH_BOOL_PROPERTY(read_back)
SWITCH_BOOL_PROPERTY(check_rules)
SWITCH_BOOL_PROPERTY(fail_ioctls)

static void switch_set_omit(Object *obj, const char *value, Error **errp)
{
    switch_parse_omit(value, &SWITCH_ACCEL(obj)->omit, errp);
}

/* Make every property of a child, that we have not, a property of ours. */
static void switch_alias_properties(Object *obj, Object *child)
{
    ObjectPropertyIterator iter;
    ObjectProperty *prop;

    object_property_iter_init(&iter, child);
    while ((prop = object_property_iter_next(&iter))) {
        if (prop->set && !object_property_find(obj, prop->name)) {
            object_property_add_alias(obj, prop->name, child, prop->name);
        }
    }
}

static void switch_instance_init(Object *obj)
{
    SwitchState *s = SWITCH_ACCEL(obj);

    s->read_back = true;
    s->check_rules = true;
    s->wait = 5;
    s->kvm = (KVMState *)object_new(ACCEL_CLASS_NAME("kvm"));
    s->tcg = ACCEL(object_new(ACCEL_CLASS_NAME("tcg")));
    object_property_add_uint32_ptr(obj, "x-wait", &s->wait,
                                   OBJ_PROP_FLAG_READWRITE);
    object_property_set_description(obj, "x-wait",
        "for tests only: seconds that a switch waits for a guest");
    object_property_add_child(obj, "kvm", OBJECT(s->kvm));
    object_property_add_child(obj, "tcg", OBJECT(s->tcg));
    object_unref(OBJECT(s->kvm));
    object_unref(OBJECT(s->tcg));
    switch_alias_properties(obj, OBJECT(s->kvm));
    switch_alias_properties(obj, OBJECT(s->tcg));
}

static void switch_add_default(GPtrArray *props, const char *driver,
                               const char *property, const char *value)
{
    GlobalProperty *p = g_new0(GlobalProperty, 1);

    p->driver = driver;
    p->property = property;
    p->value = value;
    g_ptr_array_add(props, p);
}

static void switch_accel_class_init(ObjectClass *oc, void *data)
{
    AccelClass *ac = ACCEL_CLASS(oc);

    ac->name = "switch";
    ac->allowed = &accel_switch_allowed;
    ac->init_machine = switch_init_machine;
    ac->setup_post = switch_setup_post;
    ac->has_memory = switch_has_memory;
    ac->cpu_common_realize = switch_cpu_common_realize;
    ac->cpu_common_unrealize = switch_cpu_common_unrealize;
    ac->gdbstub_supported_sstep_flags = switch_gdbstub_supported_sstep_flags;

    ac->compat_props = g_ptr_array_new();
    /* Patches VMCALL into the guest's code (HAZARDS E8). */
    switch_add_default(ac->compat_props, "apic-common", "vapic", "off");

    object_class_property_add_enum(oc, "initial", "SwitchableAccel",
                                   &SwitchableAccel_lookup,
                                   switch_get_initial, switch_set_initial);
    object_class_property_set_description(oc, "initial",
        "the accelerator that the guest starts in: kvm (default) or tcg");

    object_class_property_add_enum(oc, "on-kvm-error", "OnKvmError",
                                   &OnKvmError_lookup,
                                   switch_get_on_kvm_error,
                                   switch_set_on_kvm_error);
    object_class_property_set_description(oc, "on-kvm-error",
        "what to do when KVM can't execute an instruction:"
        " report (default) or tcg, which is no security boundary");

    object_class_property_add_bool(oc, "read-back", switch_get_read_back,
                                   switch_set_read_back);
    object_class_property_set_description(oc, "read-back",
        "refuse a switch to a KVM that doesn't hold what it was given"
        " (default: on)");

    object_class_property_add_bool(oc, "check-rules", switch_get_check_rules,
                                   switch_set_check_rules);
    object_class_property_set_description(oc, "check-rules",
        "refuse a switch to KVM with a state that VMX or SVM hardware would"
        " not run (default: on)");

    object_class_property_add_bool(oc, "x-fail-ioctls", switch_get_fail_ioctls,
                                   switch_set_fail_ioctls);
    object_class_property_set_description(oc, "x-fail-ioctls",
        "for tests only: have each ioctl of a switch fail in turn");

    object_class_property_add_str(oc, "x-omit", NULL, switch_set_omit);
    object_class_property_set_description(oc, "x-omit",
        "for tests only: fix-ups that a switch leaves out");
}

static const TypeInfo switch_accel_type = {
    .name = TYPE_SWITCH_ACCEL,
    .parent = TYPE_ACCEL,
    .instance_init = switch_instance_init,
    .instance_size = sizeof(SwitchState),
    .class_init = switch_accel_class_init,
};

static void switch_register_types(void)
{
    type_register_static(&switch_accel_type);
}
type_init(switch_register_types);
