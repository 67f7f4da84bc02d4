/*
 * vas-load: counting and reporting checks
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "load.h"

struct load load;

/* A broken guest fails thousands of times: the first lines tell it all. */
#define FAIL_LINES 50

static bool fails(bool ok)
{
    load.checks++;
    if (ok) {
        return false;
    }
    return ++load.failures <= FAIL_LINES;
}

void check_u64(const char *what, uint64_t expected, uint64_t got)
{
    if (fails(expected == got)) {
        printf("vas-load: FAIL %s: expected 0x%" PRIx64 " got 0x%" PRIx64
               "\n",
               what, expected, got);
    }
}

void check_double(const char *what, double expected, double got,
                  double tolerance)
{
    /* so written that NaN fails */
    if (fails(fabs(expected - got) <= tolerance)) {
        printf("vas-load: FAIL %s: expected %.17g got %.17g\n",
               what, expected, got);
    }
}

void check_bytes(const char *what, const void *expected, const void *got,
                 size_t len)
{
    const uint8_t *e = expected, *g = got;
    size_t i = 0;

    if (!memcmp(e, g, len)) {
        fails(true);
        return;
    }
    while (e[i] == g[i]) {
        i++;
    }
    if (fails(false)) {
        printf("vas-load: FAIL %s: byte %zu of %zu: expected 0x%x got "
               "0x%x\n",
               what, i, len, e[i], g[i]);
    }
}

void check_true(const char *what, bool ok, const char *expected,
                long long got)
{
    if (fails(ok)) {
        printf("vas-load: FAIL %s: expected %s got %lld\n",
               what, expected, got);
    }
}

void check_errno(const char *what)
{
    int error = errno;

    if (fails(false)) {
        printf("vas-load: FAIL %s: expected success got %s\n",
               what, strerror(error));
    }
}
