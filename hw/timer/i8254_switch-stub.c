/*
 * The PIT under -accel switch, for machines that do not have both it and a PIC
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "system/accel-switch.h"

bool accel_switch_pit_waits(struct PITChannelState *s)
{
    return false;
}

void accel_switch_pic_acknowledged(struct PICCommonState *pic, int irq)
{
}
