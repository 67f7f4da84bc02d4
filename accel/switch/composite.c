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
#include "qapi/visitor.h"
#include "qemu/error-report.h"
#include "qemu/module.h"
#include "qemu/plugin.h"
#include "exec/tb-validate.h"
#include "hw/boards.h"
#include "hw/qdev-core.h"
#include "system/cpu-timers.h"
#include "system/kvm.h"
#include "system/kvm_int.h"
#include "system/replay.h"
#include "system/runstate-action.h"
#include "system/runstate.h"
#include "system/system.h"
#include "system/tcg.h"
#include "internal.h"
#include "kvm-trace.h"
#include "window.h"

SwitchState *switch_state;

/* Refuse options with which no switch works.  Called before any init. */
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
         * A vCPU may then sleep in a HLT that made no exit (VMX's activity
         * state), which KVM's ioctls neither show nor set.  And QEMU gives
         * such a CPU WAITPKG, which TCG does not have.
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
 * Initialise a child as accel_init_machine() would; QEMU does so for one
 * accelerator only.  The child is the machine's accelerator meanwhile:
 * kvm_init() and tcg_init_machine() cast that to their own state, and the cast
 * of the composite would abort (hazards A2, A3).
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

    if (!switch_check_devices(&err)) {
        error_report_err(err);
        exit(1);
    }
    switch_init_parallel();
    if (switch_state->initial == SWITCHABLE_ACCEL_TCG) {
        const SwitchRequest request = { .to = SWITCHABLE_ACCEL_TCG };
        g_autoptr(AccelSwitchInfo) info = NULL;

        if (switch_transact(&request, &info, &err) != SWITCH_OK) {
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
 * qemu_cleanup() frees state that accel_switch_blockers() reads, that of the
 * migration first, and runs coroutines afterwards: a coroutine that waits for a
 * switch may be among them.
 */
static void switch_shutdown(Notifier *notifier, void *data)
{
    switch_state->ending = shutdown_action != SHUTDOWN_ACTION_PAUSE;
}

static Notifier switch_shutdown_notifier = {
    .notify = switch_shutdown,
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

    if (s->keep_translations) {
        tb_validate_init();
    }
    /* KVM runs until the machine is made. */
    tcg_allowed = false;
    s->active = SWITCHABLE_ACCEL_KVM;
    switch_moved_for_streams();
    /* In TCG an irqfd would inject into KVM, behind QEMU's back. */
    kvm_msi_via_irqfd_allowed = false;

    if (!switch_arch_init(ms, &err)) {
        goto fail;
    }
    switch_init_ioctl();
    switch_init_hrtimers();
    switch_init_blockers();
    switch_init_migration();
    switch_init_load();
    switch_init_devices();
    switch_init_holds(ms);
    switch_init_triggers();
    switch_init_kvm_trace();
    switch_init_plugins();
    qemu_add_machine_init_done_notifier(&switch_machine_done_notifier);
    qemu_register_shutdown_notifier(&switch_shutdown_notifier);
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
    /*
     * Every TB of a plugin-enabled build dereferences it; QEMU itself allocates
     * it only if TCG runs when the vCPU is made (hazard A5).
     */
    cpu->plugin_state = qemu_plugin_create_vcpu_state();
#endif
    if (kvm->cpu_common_realize && !kvm->cpu_common_realize(cpu, errp)) {
        return false;
    }
    if (!tcg->cpu_common_realize(cpu, errp)) {
        return false;
    }
    /*
     * TCG never frees a thread's context: vCPUs that are plugged in again would
     * run out of them, and tcg_register_thread() would abort (hazard B10).
     */
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
    AccelClass *tcg = ACCEL_GET_CLASS(switch_state->tcg);
    AccelClass *kvm = ACCEL_GET_CLASS(switch_state->kvm);

    /* A debugger asks once, and steps under both. */
    return tcg->gdbstub_supported_sstep_flags() &
           kvm->gdbstub_supported_sstep_flags();
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

static int switch_get_streams(Object *obj, Error **errp)
{
    return SWITCH_ACCEL(obj)->streams;
}

static void switch_set_streams(Object *obj, int value, Error **errp)
{
    SWITCH_ACCEL(obj)->streams = value;
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

SWITCH_BOOL_PROPERTY(keep_translations)
SWITCH_BOOL_PROPERTY(plugins)
SWITCH_BOOL_PROPERTY(read_back)
SWITCH_BOOL_PROPERTY(check_rules)

static void switch_get_max_windows(Object *obj, Visitor *v, const char *name,
                                   void *opaque, Error **errp)
{
    visit_type_uint32(v, name, &SWITCH_ACCEL(obj)->max_windows_per_second,
                      errp);
}

static void switch_set_max_windows(Object *obj, Visitor *v, const char *name,
                                   void *opaque, Error **errp)
{
    visit_type_uint32(v, name, &SWITCH_ACCEL(obj)->max_windows_per_second,
                      errp);
}

/* Alias each property of @child that @obj does not have itself. */
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

    s->keep_translations = true;
    s->read_back = true;
    s->check_rules = true;
    s->wait = 5;
    s->max_windows_per_second = 1000;
    s->kvm = (KVMState *)object_new(ACCEL_CLASS_NAME("kvm"));
    s->tcg = ACCEL(object_new(ACCEL_CLASS_NAME("tcg")));
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
    /*
     * kvmvapic patches VMCALL or OUT into the guest's code, as the accelerator
     * of that moment needs it, and a switch does not undo that (hazard E8).
     */
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

    object_class_property_add_enum(oc, "streams", "AccelStreams",
                                   &AccelStreams_lookup,
                                   switch_get_streams, switch_set_streams);
    object_class_property_set_description(oc, "streams",
        "whose migration streams and snapshots are saved and loaded: switch"
        " (default), plain-kvm or plain-tcg");

    object_class_property_add_bool(oc, "keep-translations",
                                   switch_get_keep_translations,
                                   switch_set_keep_translations);
    object_class_property_set_description(oc, "keep-translations",
        "keep TCG's translations while the guest is in KVM, and compare the"
        " guest's code before they are used again (default: on)");

    object_class_property_add_bool(oc, "plugins",
                                   switch_get_plugins, switch_set_plugins);
    object_class_property_set_description(oc, "plugins",
        "let the monitor load plugins, which are code that QEMU executes"
        " (default: off, but on with a -plugin)");

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

    object_class_property_add(oc, "max-windows-per-second", "uint32",
                              switch_get_max_windows, switch_set_max_windows,
                              NULL, NULL);
    object_class_property_set_description(oc, "max-windows-per-second",
        "how many windows triggers may open in a second; 0: any number"
        " (default: 1000)");

    switch_selftest_class_init(oc);
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
