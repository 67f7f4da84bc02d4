/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef GUEST_DEBUG32_H
#define GUEST_DEBUG32_H

#include <stdint.h>

/* Code for CPL3 that is stepped through, and where each step ends. */
extern const uint8_t stepped[];
extern const uint32_t steps[], steps_end[];

/* Code that is broken into, before broken_here and after its store. */
extern const uint8_t broken[], broken_here[], broken_stored[];
extern volatile uint32_t watched;

#endif
