/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The vectors that came, in their order; for payloads whose trap() says so. */
#ifndef GUEST_SEEN_H
#define GUEST_SEEN_H

#include "lib/long.h"

#define MAX_SEEN        8

static volatile uint32_t seen[MAX_SEEN], count;

static inline void forget(void)
{
    count = 0;
}

static inline void saw(uint32_t vector)
{
    if (count < MAX_SEEN) {
        seen[count] = vector;
    }
    count++;
}

/* That @number came, of which these were the first. */
static inline void expect(const char *what, uint32_t number, uint32_t first,
                          uint32_t second)
{
    verify(what, number, count);
    if (number > 0) {
        verify(what, first, seen[0]);
    }
    if (number > 1) {
        verify(what, second, seen[1]);
    }
}

#endif
