/*
 * The PIT under -accel switch: no tick is lost
 *
 * A tick that comes while the one before is still pending is lost to a guest
 * whose time is made of them, and a switch may take longer than a tick.  KVM's
 * own PIT keeps such ticks and delivers them one after the other
 * (lost_tick_policy=delay); it is not there, as the switch needs QEMU's.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "hw/intc/ioapic_internal.h"
#include "hw/isa/i8259_internal.h"
#include "hw/timer/i8254.h"
#include "hw/timer/i8254_internal.h"
#include "system/accel-switch.h"

#define IRQ_PIT         0
#define IOAPIC_PIN_PIT  2

/* A guest that masks it for so long does not count its ticks. */
#define MASKED_NS       NANOSECONDS_PER_SECOND

/* The channel whose tick is deferred; the guest may have reprogrammed it. */
static PITChannelState *deferred_channel;
/* No tick was acknowledged since; QEMU_CLOCK_VIRTUAL.  0: IRQ 0 is unmasked. */
static int64_t irq0_masked_since_ns;

/* Nobody acknowledges what the IOAPIC makes of an edge. */
static bool ioapic_takes_pit(void)
{
    static Object *ioapic;

    if (!ioapic) {
        ioapic = object_resolve_path_type("", TYPE_IOAPIC_COMMON, NULL);
    }
    return ioapic && !(IOAPIC_COMMON(ioapic)->ioredtbl[IOAPIC_PIN_PIT] &
                       IOAPIC_LVT_MASKED);
}

static bool masked_for_long(int64_t now)
{
    if (!(isa_pic->imr & BIT(IRQ_PIT))) {
        irq0_masked_since_ns = 0;
        return false;
    }
    /* A snapshot's load sets the clock back. */
    if (!irq0_masked_since_ns || irq0_masked_since_ns > now) {
        irq0_masked_since_ns = now;
    }
    return now - irq0_masked_since_ns >= MASKED_NS;
}

bool accel_switch_pit_waits(PITChannelState *s)
{
    int64_t now = qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL);
    bool periodic = s->mode == 2 || s->mode == 3;

    if (!accel_switch_configured() || !isa_pic || !periodic ||
        !pit_get_out(s, s->next_transition_time) || ioapic_takes_pit()) {
        return false;
    }
    if (masked_for_long(now)) {
        s->next_transition_time = now;
        return false;
    }
    if (!(isa_pic->irr & BIT(IRQ_PIT))) {
        return false;
    }
    deferred_channel = s;
    /* The guest may take it from the IOAPIC by then, or mask it for long. */
    timer_mod(s->irq_timer,
              now + muldiv64(s->count, NANOSECONDS_PER_SECOND, PIT_FREQ));
    return true;
}

void accel_switch_pic_acknowledged(PICCommonState *pic, int irq)
{
    PITChannelState *s = deferred_channel;

    if (pic != isa_pic || irq != IRQ_PIT) {
        return;
    }
    deferred_channel = NULL;
    irq0_masked_since_ns = 0;
    if (s && s->next_transition_time >= 0 &&
        s->next_transition_time <= qemu_clock_get_ns(QEMU_CLOCK_VIRTUAL)) {
        timer_mod(s->irq_timer, s->next_transition_time);
    }
}
