/*
 * Devices that no switch can carry
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "hw/qdev-core.h"
#include "hw/virtio/vhost.h"
#include "internal.h"

/*
 * They inject interrupts into KVM themselves, write guest memory behind QEMU's
 * back, or translate interrupts in a way that only one accelerator knows
 * (hazards A14, E7).
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

/* In the order in which they were realized, or tried to be; a reference each */
static GSList *refused;

static void switch_device_realized(DeviceListener *listener, DeviceState *dev)
{
    for (int i = 0; i < ARRAY_SIZE(switch_refused_devices); i++) {
        if (object_dynamic_cast(OBJECT(dev), switch_refused_devices[i])) {
            refused = g_slist_append(refused, object_ref(OBJECT(dev)));
            return;
        }
    }
}

static void switch_device_unrealized(DeviceListener *listener, DeviceState *dev)
{
    GSList *found = g_slist_find(refused, dev);

    if (found) {
        refused = g_slist_delete_link(refused, found);
        object_unref(OBJECT(dev));
    }
}

static char *switch_device_reason(void)
{
    for (GSList *l = refused; l; l = l->next) {
        /*
         * QEMU tells no listener of a device whose buses could not be realized.
         * It stays in the list, as one that is about to be realized looks the
         * same.
         */
        if (DEVICE(l->data)->realized) {
            return g_strdup_printf("-accel switch does not work with device"
                                   " '%s'", object_get_typename(l->data));
        }
    }
    return NULL;
}

static char *switch_vhost_reason(void)
{
    /* The limit is UINT_MAX as long as there is no vhost device. */
    return vhost_get_max_memslots() == UINT_MAX ? NULL
           : g_strdup("-accel switch does not work with vhost devices"
                      " (vhost=on)");
}

bool switch_check_devices(Error **errp)
{
    g_autofree char *reason = switch_device_reason() ?: switch_vhost_reason();

    if (reason) {
        error_setg(errp, "%s", reason);
    }
    return !reason;
}

void switch_init_devices(void)
{
    static DeviceListener listener = {
        .realize = switch_device_realized,
        .unrealize = switch_device_unrealized,
    };
    static SwitchBlocker device = {
        .id = "device", .reason = switch_device_reason,
    };
    static SwitchBlocker vhost = {
        .id = "vhost", .reason = switch_vhost_reason,
    };

    device_listener_register(&listener);
    switch_add_blocker(&device);
    switch_add_blocker(&vhost);
}
