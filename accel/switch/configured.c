/*
 * Was QEMU started with -accel switch?
 *
 * Apart from the accelerator, because code that is compiled once for all
 * targets asks the question.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "system/accel-switch.h"

bool accel_switch_allowed;
