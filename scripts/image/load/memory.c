/*
 * vas-load: memory patterns, and mappings that change under an address
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "load.h"

#define PAGE 4096

static uint32_t mix(uint32_t x)
{
    x ^= x >> 16;
    x *= 0x7feb352d;
    x ^= x >> 15;
    x *= 0x846ca68b;
    return x ^ x >> 16;
}

/*
 * A pattern written in this round is verified in the next: one that was
 * written under one accelerator is then often read under the other.
 */
static void pattern(void)
{
    static uint32_t *area;
    static uint32_t seed;
    static size_t words;

    if (area) {
        size_t wrong = 0;

        for (size_t i = 0; i < words; i++) {
            wrong += area[i] != mix(seed + i);
        }
        check_u64("memory: wrong words in a pattern", 0, wrong);
    } else {
        words = (load.light ? 16 : 512) * PAGE / sizeof(*area);
        area = malloc(words * sizeof(*area));
        if (!area) {
            check_errno("memory: malloc");
            return;
        }
    }
    seed = mix(seed + load.rounds + 1);
    for (size_t i = 0; i < words; i++) {
        area[i] = mix(seed + i);
    }
}

/* One address that shows another page again and again: stale TLBs show. */
static void remap(void)
{
    unsigned pages = load.light ? 4 : 32;
    int fd = memfd_create("vas-load", 0);
    /* volatile: what is behind it changes by mmap() */
    volatile uint32_t *window;

    if (fd < 0 || ftruncate(fd, pages * PAGE)) {
        check_errno("memory: memfd_create");
        return;
    }
    for (unsigned i = 0; i < pages; i++) {
        uint32_t mark = mix(i + load.rounds);

        if (pwrite(fd, &mark, sizeof(mark), i * PAGE) != sizeof(mark)) {
            check_errno("memory: pwrite");
        }
    }
    window = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    for (unsigned i = 0; i < 2 * pages; i++) {
        unsigned page = i * 7 % pages;

        if (mmap((void *)window, PAGE, PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_FIXED, fd, page * PAGE) == MAP_FAILED) {
            check_errno("memory: mmap");
            break;
        }
        check_u64("memory: page behind a changed mapping",
                  mix(page + load.rounds), *window);
    }
    munmap((void *)window, PAGE);
    close(fd);
}

/* Fresh pages are zero, whatever was there before. */
static void fresh(void)
{
    size_t size = (load.light ? 8 : 128) * PAGE;
    uint32_t *area = mmap(NULL, size, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint32_t any = 0;

    if (area == MAP_FAILED) {
        check_errno("memory: mmap");
        return;
    }
    for (size_t i = 0; i < size / sizeof(*area); i++) {
        any |= area[i];
        area[i] = ~0u;
    }
    check_u64("memory: fresh pages", 0, any);
    munmap(area, size);
}

void memory_round(void)
{
    pattern();
    remap();
    fresh();
}
