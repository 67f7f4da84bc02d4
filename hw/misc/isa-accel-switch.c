/*
 * isa-accel-switch: a port by which the guest itself asks for a switch
 *
 * One byte wide.  A write asks for an accelerator: 0 TCG, 1 KVM, 2 the one
 * that does not run.  The vCPU that writes stands still until it has been
 * switched or refused: under KVM it executes no instruction in between; under
 * TCG those up to the next jump.  Only where a switch has to wait for what a
 * vCPU does (SMM, A20) it runs on in the meantime.  A read gives bit 0: KVM
 * runs; bit 6: what was asked for has to wait, and what is asked for now is
 * refused; bit 7: what was asked for last was refused.  Without -accel switch
 * a write does nothing, so that a program can run unchanged under any
 * accelerator.
 *
 * A write of 16 to 255 is for triggers and windows that wait for that number,
 * and does nothing if none does.
 *
 * A guest that may be hostile must not have this device: KVM is a security
 * boundary, and TCG is not (QEMU's docs/system/security.rst).  By this port the
 * guest leaves that boundary whenever it likes.  Each switch also takes time of
 * the host's, so that the port refuses more than max-switches-per-second.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/coroutine.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "qemu/timer.h"
#include "hw/core/cpu.h"
#include "hw/isa/isa.h"
#include "hw/qdev-properties.h"
#include "migration/vmstate.h"
#include "qom/object.h"
#include "system/cpus.h"
#include "system/kvm.h"
#include "system/runstate.h"
#include "accel/switch/switch.h"
#include "accel/switch/window.h"

#define TYPE_ISA_ACCEL_SWITCH "isa-accel-switch"
OBJECT_DECLARE_SIMPLE_TYPE(ISAAccelSwitchState, ISA_ACCEL_SWITCH)

#define ASK_TCG         0
#define ASK_KVM         1
#define ASK_OTHER       2

#define STATUS_KVM      0x01
#define STATUS_WAITS    0x40
#define STATUS_REFUSED  0x80

#define REPORTS_MAX     100

struct ISAAccelSwitchState {
    ISADevice parent_obj;

    MemoryRegion io;
    uint32_t iobase;
    uint32_t max_per_second;    /* 0: any number */
    bool refused;
    int reports;                /* how many were made */
    int64_t paid_until;         /* see accel_switch_port_has_time() */
    /* The vCPU that waits, and what for; NULL if none does. */
    CPUState *cpu;
    SwitchableAccel to;
};

/* Why a switch was refused; a guest can't fill the host's disk with it. */
static void accel_switch_port_report(ISAAccelSwitchState *s, const char *why)
{
    if (s->reports < REPORTS_MAX) {
        error_report(TYPE_ISA_ACCEL_SWITCH ": %s%s", why,
                     ++s->reports < REPORTS_MAX ? ""
                                                : " (no more is reported)");
    }
}

/*
 * Each switch costs a share of a second.  A guest may be in debt for one
 * second: it can make a second's switches at once, and then as many a second.
 */
static bool accel_switch_port_has_time(ISAAccelSwitchState *s)
{
    int64_t now = get_clock(), until;

    if (!s->max_per_second) {
        return true;
    }
    until = MAX(now, s->paid_until) +
            NANOSECONDS_PER_SECOND / s->max_per_second;
    if (until > now + NANOSECONDS_PER_SECOND) {
        return false;
    }
    s->paid_until = until;
    return true;
}

static void coroutine_fn accel_switch_port_co(void *opaque)
{
    ISAAccelSwitchState *s = opaque;
    const SwitchRequest request = { .to = s->to, .by_guest = true };
    g_autoptr(AccelSwitchInfo) info = NULL;
    Error *err = NULL;

    info = accel_switch_to_co(&request, &err);
    s->refused = !info;
    if (err) {
        accel_switch_port_report(s, error_get_pretty(err));
        error_free(err);
    }
    /* A switch that was made, or tried, has let it go already. */
    if (runstate_is_running()) {
        cpu_resume(s->cpu);
    }
    s->cpu = NULL;
}

static void accel_switch_port_bh(void *opaque)
{
    qemu_coroutine_enter(qemu_coroutine_create(accel_switch_port_co, opaque));
}

static uint64_t accel_switch_port_read(void *opaque, hwaddr addr,
                                       unsigned size)
{
    ISAAccelSwitchState *s = opaque;

    return (kvm_enabled() ? STATUS_KVM : 0) | (s->cpu ? STATUS_WAITS : 0) |
           (s->refused ? STATUS_REFUSED : 0);
}

static void accel_switch_port_write(void *opaque, hwaddr addr, uint64_t value,
                                    unsigned size)
{
    ISAAccelSwitchState *s = opaque;
    bool kvm = value == ASK_OTHER ? !kvm_enabled() : value == ASK_KVM;

    if (!accel_switch_configured()) {
        return;
    }
    if (value >= SWITCH_PORT_NUMBERS && current_cpu) {
        switch_window_port(current_cpu, value);
        switch_trigger_port(current_cpu, value);
    }
    if (value > ASK_OTHER) {
        return;
    }
    if (s->cpu || !current_cpu) {
        accel_switch_port_report(s, s->cpu
            ? "can't switch: a switch is already in progress"
            : "can't switch: only a vCPU can ask for a switch by this port");
        s->refused = true;
        return;
    }
    if (!accel_switch_port_has_time(s)) {
        g_autofree char *why = g_strdup_printf(
            "can't switch: the guest asks for more than %" PRIu32 " switches a"
            " second (max-switches-per-second)", s->max_per_second);

        accel_switch_port_report(s, why);
        s->refused = true;
        return;
    }
    s->cpu = current_cpu;
    s->to = kvm ? SWITCHABLE_ACCEL_KVM : SWITCHABLE_ACCEL_TCG;
    /* As cpu_stop_current(), which says that the vCPU has stopped already. */
    s->cpu->stop = true;
    cpu_exit(s->cpu);
    aio_bh_schedule_oneshot(qemu_get_aio_context(), accel_switch_port_bh, s);
}

static const MemoryRegionOps accel_switch_port_ops = {
    .read = accel_switch_port_read,
    .write = accel_switch_port_write,
    .impl.min_access_size = 1,
    .impl.max_access_size = 1,
    .endianness = DEVICE_LITTLE_ENDIAN,
};

static void accel_switch_port_realize(DeviceState *dev, Error **errp)
{
    ISAAccelSwitchState *s = ISA_ACCEL_SWITCH(dev);

    memory_region_init_io(&s->io, OBJECT(dev), &accel_switch_port_ops, s,
                          TYPE_ISA_ACCEL_SWITCH, 1);
    isa_register_ioport(ISA_DEVICE(dev), &s->io, s->iobase);
}

static const VMStateDescription vmstate_accel_switch_port = {
    .name = TYPE_ISA_ACCEL_SWITCH,
    .version_id = 1,
    .minimum_version_id = 1,
    .fields = (const VMStateField[]) {
        VMSTATE_BOOL(refused, ISAAccelSwitchState),
        VMSTATE_END_OF_LIST()
    }
};

static const Property accel_switch_port_properties[] = {
    DEFINE_PROP_UINT32("iobase", ISAAccelSwitchState, iobase, 0x5ac),
    DEFINE_PROP_UINT32("max-switches-per-second", ISAAccelSwitchState,
                       max_per_second, 100),
};

static void accel_switch_port_class_init(ObjectClass *klass, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);

    dc->desc = "a port by which the guest asks for a switch (-accel switch);"
               " not for a guest that you don't trust, as TCG is no security"
               " boundary";
    dc->realize = accel_switch_port_realize;
    dc->vmsd = &vmstate_accel_switch_port;
    device_class_set_props(dc, accel_switch_port_properties);
    set_bit(DEVICE_CATEGORY_MISC, dc->categories);
}

static const TypeInfo accel_switch_port_type = {
    .name = TYPE_ISA_ACCEL_SWITCH,
    .parent = TYPE_ISA_DEVICE,
    .instance_size = sizeof(ISAAccelSwitchState),
    .class_init = accel_switch_port_class_init,
};

static void accel_switch_port_register_types(void)
{
    type_register_static(&accel_switch_port_type);
}
type_init(accel_switch_port_register_types)
