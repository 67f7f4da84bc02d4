/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What lib/flat.S and lib/flat.c give to a 32-bit payload.  All of it runs at
 * CPL0 with flat segments; who wants paging turns it on.
 */
#ifndef GUEST_FLAT_H
#define GUEST_FLAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/io.h"

/* The payload's: called with paging and interrupts off. */
void flat_main(void);

/* flat.c: to the debug console. */
void put_string(const char *text);
void put_hex(uint32_t value);

/* Print an ERROR line if @got is not @expected; the digest is made of @got. */
void check(const char *what, uint64_t expected, uint64_t got);

/*
 * A lap is done: print its '.', and end QEMU if it was the last of those that
 * were asked for.
 */
void lap_done(void);

#endif
