/*
 * The accelerator switch and migration: which accelerator a stream or snapshot
 * was made under, and no switch while one is made
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qemu/error-report.h"
#include "migration/misc.h"
#include "migration/vmstate.h"
#include "accel/switch/arch.h"

/*
 * The form of a vCPU's state depends on the accelerator (x87 order, MSRs,
 * kvm-clock): a stream names the accelerator that it was made under, and is
 * loaded only under the same one.
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
    const char *saved;

    if (s->saved_active == s->active) {
        if (s->active == SWITCHABLE_ACCEL_KVM) {
            return switch_arch_post_load_kvm();
        }
        switch_arch_post_load_tcg();
        return 0;
    }
    if (s->saved_active >= SWITCHABLE_ACCEL__MAX) {
        error_report("the guest was saved under an accelerator that this QEMU"
                     " does not know");
        return -EINVAL;
    }
    saved = SwitchableAccel_str(s->saved_active);
    error_report("the guest was saved under %s and can't be loaded under %s:"
                 " start QEMU with -accel switch,initial=%s, or run"
                 " 'switch_accel %s' before loadvm", saved,
                 SwitchableAccel_str(s->active), saved, saved);
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

static char *switch_migration_reason(void)
{
    return migration_is_running() ? g_strdup("a migration is running") : NULL;
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
