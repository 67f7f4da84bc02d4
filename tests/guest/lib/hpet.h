/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The HPET, which tells the time under both accelerators. */
#ifndef GUEST_HPET_H
#define GUEST_HPET_H

#include <stdint.h>

/* One of its registers, by its offset (IA-PC HPET 1.0a, 2.3). */
#define HPET(offset)    ((volatile uint64_t *)(0xfed00000ul + (offset)))
#define HPET_ID         0x000
#define HPET_CONFIG     0x010
#define HPET_STATUS     0x020
#define HPET_COUNTER    0x0f0
#define HPET_TIMER(n)   (0x100 + 0x20 * (n))
#define HPET_COMPARATOR(n) (0x108 + 0x20 * (n))
/* Of a timer's configuration. */
#define HPET_LEVEL      (1 << 1)
#define HPET_ENABLED    (1 << 2)
#define HPET_PERIODIC   (1 << 3)
#define HPET_SET_VALUE  (1 << 6)
#define HPET_ROUTE(pin) ((pin) << 9)

#define US              1000ull
#define MS              1000000ull
#define SECOND          1000000000ull

/* QEMU's counts every 10 ns. */
static uint64_t hpet_ns_per_count;

static inline void hpet_start(void)
{
    hpet_ns_per_count = (*HPET(HPET_ID) >> 32) / 1000000;
    *HPET(HPET_CONFIG) |= 1;
}

/* Since hpet_start(), or from wherever the count was then; in ns. */
static inline uint64_t hpet_ns(void)
{
    return *HPET(HPET_COUNTER) * hpet_ns_per_count;
}

static inline void wait_until(uint64_t end)
{
    while (hpet_ns() < end) {
        continue;
    }
}

/*
 * Stop timer @n.  It keeps its @pin: when QEMU's expires disabled, the pin is
 * lowered, and pin 0 is the PIT's, too, whose next update then is an edge more.
 */
static inline void hpet_stop(int n, uint32_t pin)
{
    *HPET(HPET_TIMER(n)) = HPET_ROUTE(pin);
}

#endif
