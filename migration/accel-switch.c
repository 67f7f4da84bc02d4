/*
 * The accelerator switch and migration: which accelerator a stream or snapshot
 * was saved under, and no switch while that is done
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "migration/misc.h"
#include "migration/vmstate.h"
#include "accel/switch/arch.h"

/*
 * The form of a vCPU's state depends on the accelerator (x87 order, MSRs,
 * kvm-clock): a stream names the accelerator that it was saved under.
 */
static int switch_pre_save(void *opaque)
{
    SwitchState *s = opaque;

    s->saved_active = s->active;
    s->saved_inverse = ~s->active;
    switch_before_save();
    return 0;
}

static int switch_post_load(void *opaque, int version_id)
{
    SwitchState *s = opaque;
    Error *err = NULL;

    if (s->saved_inverse != ~s->saved_active) {
        error_report("the stream is damaged where it says under which"
                     " accelerator the guest was saved");
        return -EINVAL;
    }
    if (s->saved_active >= SWITCHABLE_ACCEL__MAX) {
        error_report("the guest was saved under an accelerator that this QEMU"
                     " does not know");
        return -EINVAL;
    }
    if (!switch_load_begin(s->saved_active, &err)) {
        error_reportf_err(err, "the guest was saved under %s: ",
                          SwitchableAccel_str(s->saved_active));
        return -EINVAL;
    }
    if (s->active == SWITCHABLE_ACCEL_KVM) {
        return switch_arch_post_load_kvm();
    }
    switch_arch_post_load_tcg();
    return 0;
}

static const VMStateDescription vmstate_switch = {
    .name = "accel-switch",
    .version_id = 2,
    .minimum_version_id = 2,
    .priority = MIG_PRI_MAX,
    .pre_save = switch_pre_save,
    .post_load = switch_post_load,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT32(saved_active, SwitchState),
        VMSTATE_UINT32(saved_inverse, SwitchState),
        VMSTATE_END_OF_LIST()
    }
};

static char *switch_migration_reason(void)
{
    return migration_is_running() || migration_in_incoming_postcopy()
           ? g_strdup("a migration is running") : NULL;
}

void switch_init_migration(void)
{
    static SwitchBlocker migration = {
        .id = "migration",
        .reason = switch_migration_reason,
        .passes = true,
    };

    switch_add_blocker(&migration);
    vmstate_register(NULL, 0, &vmstate_switch, switch_state);
}
