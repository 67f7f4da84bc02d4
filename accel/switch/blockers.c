/*
 * What stands in the way of a switch
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/util.h"
#include "hw/boards.h"
#include "hw/qdev-core.h"
#include "hw/virtio/vhost.h"
#include "migration/migration.h"
#include "system/runstate.h"
#include "internal.h"

/*
 * Devices that give interrupts to KVM by themselves, that write guest
 * memory behind QEMU's back, or that translate interrupts in a way only
 * one accelerator knows (HAZARDS A14, E7).
 */
static const char *const switch_refused_devices[] = {
    "vfio-pci",
    "vfio-user-pci",
    "vhost-vdpa-device-base",
    "vhost-user-base",
    "ivshmem-doorbell",
    "x-pci-proxy-dev",
    "x86-iommu",
    "virtio-iommu-device",
};

static int switch_find_refused(Object *obj, void *opaque)
{
    const char **found = opaque;

    for (int i = 0; i < ARRAY_SIZE(switch_refused_devices); i++) {
        if (object_dynamic_cast(obj, switch_refused_devices[i])) {
            *found = object_get_typename(obj);
            return 1;
        }
    }
    return 0;
}

bool switch_check_machine(MachineState *ms, Error **errp)
{
    const char *found = NULL;

    object_child_foreach_recursive(OBJECT(ms), switch_find_refused, &found);
    if (found) {
        error_setg(errp, "-accel switch does not work with device '%s'",
                   found);
        return false;
    }
    if (vhost_get_max_memslots() != UINT_MAX) {
        error_setg(errp, "-accel switch does not work with vhost devices"
                   " (vhost=on)");
        return false;
    }
    return true;
}

/* A sentence, or NULL if a guest in this state can be switched. */
static char *switch_runstate_blocker(void)
{
    RunState state = runstate_get();

    switch (state) {
    case RUN_STATE_RUNNING:
    case RUN_STATE_PAUSED:
    case RUN_STATE_PRELAUNCH:
    case RUN_STATE_SUSPENDED:
    case RUN_STATE_IO_ERROR:
    case RUN_STATE_WATCHDOG:
        return NULL;
    case RUN_STATE_INMIGRATE:
        return g_strdup("the guest is still to come in by migration"
                        " (-incoming)");
    case RUN_STATE_POSTMIGRATE:
    case RUN_STATE_FINISH_MIGRATE:
        return g_strdup("the guest has been migrated away");
    case RUN_STATE_SHUTDOWN:
        return g_strdup("the guest has shut down");
    case RUN_STATE_GUEST_PANICKED:
        return g_strdup("the guest has panicked");
    case RUN_STATE_INTERNAL_ERROR:
        return g_strdup("the guest is lost after an internal error;"
                        " system_reset revives it");
    default:
        return g_strdup_printf("the guest is in state '%s'",
                               RunState_str(state));
    }
}

/*
 * KVM's breakpoints are INT3s in guest memory or in its debug registers,
 * TCG's are in lists of its own: neither can take the other's (HAZARDS G).
 */
static bool switch_debugger_active(void)
{
    CPUState *cpu;

    CPU_FOREACH(cpu) {
        if (cpu->singlestep_enabled) {
            return true;
        }
    }
    return switch_state->breakpoints > 0;
}

bool switch_is_blocked_for_now(void)
{
    return migration_is_running() || switch_debugger_active();
}

strList *switch_blockers(void)
{
    g_autoptr(Error) err = NULL;
    strList *list = NULL, **tail = &list;
    char *reason;

    if (!accel_switch_configured()) {
        QAPI_LIST_APPEND(tail,
                         g_strdup("QEMU was started without -accel switch"));
        return list;
    }
    if (switch_state->ending) {
        QAPI_LIST_APPEND(tail, g_strdup("QEMU is ending"));
        return list;
    }
    if (switch_state->in_progress) {
        QAPI_LIST_APPEND(tail, g_strdup("a switch is already in progress"));
    }
    if (!first_cpu) {
        QAPI_LIST_APPEND(tail, g_strdup("the machine has no vCPU"));
    }
    reason = switch_runstate_blocker();
    if (reason) {
        QAPI_LIST_APPEND(tail, reason);
    }
    if (migration_is_running()) {
        QAPI_LIST_APPEND(tail, g_strdup("a migration is running"));
    }
    if (!switch_check_machine(current_machine, &err)) {
        QAPI_LIST_APPEND(tail, g_strdup(error_get_pretty(err)));
    }
    if (switch_debugger_active()) {
        QAPI_LIST_APPEND(tail, g_strdup("a debugger has breakpoints set or is"
                                        " stepping"));
    }
    return list;
}
