/*
 * A LAPIC with two engines
 *
 * "switch-apic" is an "apic" (whose code casts to that type), of which each
 * method goes to the engine of the accelerator that runs the guest: KVM's,
 * in the kernel, or QEMU's own.  Both engines keep their state in
 * APICCommonState; target/i386/switch/ moves it between the kernel and there.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/module.h"
#include "hw/i386/apic_internal.h"
#include "hw/pci/msi.h"
#include "system/accel-switch.h"
#include "system/kvm.h"

#define TYPE_SWITCH_APIC "switch-apic"

static APICCommonClass *kvm_engine, *tcg_engine;
static const MemoryRegionOps *tcg_io_ops;
static MemoryRegionOps switch_io_ops;

static APICCommonClass *engine(void)
{
    return kvm_enabled() ? kvm_engine : tcg_engine;
}

static int switch_apic_set_base(APICCommonState *s, uint64_t val)
{
    return engine()->set_base(s, val);
}

static void switch_apic_set_tpr(APICCommonState *s, uint8_t val)
{
    engine()->set_tpr(s, val);
}

static uint8_t switch_apic_get_tpr(APICCommonState *s)
{
    return engine()->get_tpr(s);
}

static void switch_apic_vapic_base_update(APICCommonState *s)
{
    engine()->vapic_base_update(s);
}

static void switch_apic_external_nmi(APICCommonState *s)
{
    engine()->external_nmi(s);
}

static void switch_apic_pre_save(APICCommonState *s)
{
    if (engine()->pre_save) {
        engine()->pre_save(s);
    }
}

/*
 * KVM's one-shot would tick at once, as QEMU loads no current count: the
 * timer is off in KVM until the machine starts.
 */
static void switch_apic_post_load(APICCommonState *s)
{
    uint32_t initial_count = s->initial_count;

    if (kvm_enabled()) {
        accel_switch_keep_lapic_timer(s);
        s->initial_count = 0;
    }
    engine()->post_load(s);
    s->initial_count = initial_count;
}

static void switch_apic_reset(APICCommonState *s)
{
    if (engine()->reset) {
        engine()->reset(s);
    }
}

static void switch_apic_send_msi(MSIMessage *msi)
{
    engine()->send_msi(msi);
}

/*
 * Under KVM the region sees only devices' MSIs: a vCPU's own accesses stay
 * in the kernel.
 */
static uint64_t switch_apic_mem_read(void *opaque, hwaddr addr, unsigned size)
{
    return kvm_enabled() ? ~(uint64_t)0 : tcg_io_ops->read(opaque, addr, size);
}

static void switch_apic_mem_write(void *opaque, hwaddr addr, uint64_t data,
                                  unsigned size)
{
    MSIMessage msi = { .address = addr, .data = data };

    if (kvm_enabled()) {
        kvm_engine->send_msi(&msi);
    } else {
        tcg_io_ops->write(opaque, addr, data, size);
    }
}

static void switch_apic_realize(DeviceState *dev, Error **errp)
{
    APICCommonState *s = APIC_COMMON(dev);

    if (s->vapic_control & VAPIC_ENABLE_MASK) {
        error_setg(errp, "-accel switch does not work with kvmvapic"
                   " (apic-common.vapic=on)");
        return;
    }
    assert(kvm_has_gsi_routing());
    /* Makes the timer, and enters the device in the table of LAPICs. */
    tcg_engine->realize(dev, errp);

    if (!tcg_io_ops) {
        tcg_io_ops = s->io_memory.ops;
        switch_io_ops = *tcg_io_ops;
        switch_io_ops.read = switch_apic_mem_read;
        switch_io_ops.write = switch_apic_mem_write;
    }
    s->io_memory.ops = &switch_io_ops;
}

static void switch_apic_class_init(ObjectClass *klass, void *data)
{
    APICCommonClass *k = APIC_COMMON_CLASS(klass);

    tcg_engine = APIC_COMMON_CLASS(object_class_by_name("apic"));
    kvm_engine = APIC_COMMON_CLASS(object_class_by_name("kvm-apic"));

    k->realize = switch_apic_realize;
    k->set_base = switch_apic_set_base;
    k->set_tpr = switch_apic_set_tpr;
    k->get_tpr = switch_apic_get_tpr;
    k->vapic_base_update = switch_apic_vapic_base_update;
    k->external_nmi = switch_apic_external_nmi;
    k->pre_save = switch_apic_pre_save;
    k->post_load = switch_apic_post_load;
    k->reset = switch_apic_reset;
    k->send_msi = switch_apic_send_msi;
    /* No enable_tpr_reporting: only kvmvapic needs it. */
}

static const TypeInfo switch_apic_info = {
    .name = TYPE_SWITCH_APIC,
    .parent = "apic",
    .instance_size = sizeof(APICCommonState),
    .class_init = switch_apic_class_init,
};

static void switch_apic_register_types(void)
{
    type_register_static(&switch_apic_info);
}
type_init(switch_apic_register_types)
