/*
 * The accelerator switch and migration: which accelerator a stream or snapshot
 * was saved under, and no switch while that is done
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "migration/blocker.h"
#include "migration/misc.h"
#include "migration/vmstate.h"
#include "accel/switch/arch.h"

/* The guest can't be saved as streams= says.  NULL: it can. */
static Error *switch_save_blocker;

/*
 * With plain QEMU's form of streams the section is left out.  For such a
 * section QEMU makes no other call; it makes this one once a save.  A guest
 * that is elsewhere is not to be saved: switch_pre_save() says so.
 */
static bool switch_section_needed(void *opaque)
{
    SwitchableAccel plain;

    if (switch_plain_accel(&plain) && plain == switch_state->active) {
        switch_before_save();
        return false;
    }
    return true;
}

/*
 * The form of a vCPU's state depends on the accelerator (x87 order, MSRs,
 * kvm-clock): a stream names the accelerator that it was saved under.
 */
static int switch_pre_save(void *opaque)
{
    SwitchState *s = opaque;

    if (switch_save_blocker) {
        /* Not all ways to save ask for blockers (xen-save-devices-state). */
        error_report("%s", error_get_pretty(switch_save_blocker));
        return -EINVAL;
    }
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
    return switch_load_vcpus();
}

static const VMStateDescription vmstate_switch = {
    .name = "accel-switch",
    .version_id = 2,
    .minimum_version_id = 2,
    .priority = MIG_PRI_MAX,
    .needed = switch_section_needed,
    .pre_save = switch_pre_save,
    .post_load = switch_post_load,
    .fields = (const VMStateField[]) {
        VMSTATE_UINT32(saved_active, SwitchState),
        VMSTATE_UINT32(saved_inverse, SwitchState),
        VMSTATE_END_OF_LIST()
    }
};

/*
 * Plain QEMU has the device kvmvapic, which patches accesses to the LAPIC's TPR
 * in the guest's code.  There is none here (hazard E8): it is only looked at
 * whether it has patched anything.
 */
#define KVMVAPIC_ACTIVE 1       /* VAPICMode in hw/i386/vapic.c */

typedef struct PlainKVMVAPIC {
    uint32_t mode;
} PlainKVMVAPIC;

static int kvmvapic_post_load(void *opaque, int version_id)
{
    const PlainKVMVAPIC *s = opaque;

    if (s->mode == KVMVAPIC_ACTIVE) {
        error_report("the guest's code was patched by the device kvmvapic: save"
                     " it from a QEMU with -global apic-common.vapic=off");
        return -EINVAL;
    }
    return 0;
}

static bool kvmvapic_needed(void *opaque)
{
    return false;               /* it is loaded, not saved */
}

static const VMStateDescription vmstate_kvmvapic = {
    .name = "kvm-tpr-opt",
    .version_id = 1,
    .minimum_version_id = 1,
    .needed = kvmvapic_needed,
    .post_load = kvmvapic_post_load,
    .fields = (const VMStateField[]) {
        VMSTATE_UNUSED(124),    /* the guest's copy of the option ROM's data */
        VMSTATE_UINT32(mode, PlainKVMVAPIC),
        VMSTATE_UNUSED(16),
        VMSTATE_END_OF_LIST()
    }
};

void switch_moved_for_streams(void)
{
    SwitchableAccel plain;
    Error *err = NULL;

    if (!switch_plain_accel(&plain)) {
        return;
    }
    if (plain == switch_state->active) {
        migrate_del_blocker(&switch_save_blocker);
    } else if (!switch_save_blocker) {
        error_setg(&switch_save_blocker, "the guest is in %s, and"
                   " streams=%s: switch it first (switch_accel %s)",
                   SwitchableAccel_str(switch_state->active),
                   AccelStreams_str(switch_state->streams),
                   SwitchableAccel_str(plain));
        if (migrate_add_blocker_internal(&switch_save_blocker, &err) < 0) {
            warn_report_err(err);
        }
    }
}

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

    static PlainKVMVAPIC kvmvapic;

    switch_add_blocker(&migration);
    vmstate_register(NULL, 0, &vmstate_switch, switch_state);
    if (switch_state->streams != ACCEL_STREAMS_SWITCH) {
        vmstate_register(NULL, 0, &vmstate_kvmvapic, &kvmvapic);
    }
}
