/*
 * vas-load --rate: system calls, context switches or page faults per second
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Each unit of work leaves user space in another way: a system call; two
 * processes on one CPU that wake each other through pipes, which is two
 * context switches; a page fault of a page that was dropped.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "load.h"

#define PAGE        4096
#define PAGES       64

static int to_child[2], to_parent[2];
static char *memory;

static bool call_getpid(void)
{
    return syscall(SYS_getpid) > 0;
}

static bool pass_on(int from, int to)
{
    char byte;

    return read(from, &byte, 1) == 1 && write(to, &byte, 1) == 1;
}

static bool begin_switching(void)
{
    cpu_set_t one;

    CPU_ZERO(&one);
    CPU_SET(0, &one);
    if (sched_setaffinity(0, sizeof(one), &one) || pipe(to_child) ||
        pipe(to_parent)) {
        return false;
    }
    switch (fork()) {
    case -1:
        return false;
    case 0:
        /* The program's end is the end of its pipe. */
        close(to_child[1]);
        while (pass_on(to_child[0], to_parent[1])) {
            continue;
        }
        _exit(1);
    default:
        return write(to_child[1], "", 1) == 1;
    }
}

static bool switch_twice(void)
{
    return pass_on(to_parent[0], to_child[1]);
}

static bool begin_faulting(void)
{
    memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory != MAP_FAILED &&
           !madvise(memory, PAGES * PAGE, MADV_NOHUGEPAGE);
}

/* A fault of each page, and one system call for all */
static bool fault_pages(void)
{
    for (int i = 0; i < PAGES; i++) {
        memory[i * PAGE] = 1;
    }
    return !madvise(memory, PAGES * PAGE, MADV_DONTNEED);
}

static const struct {
    const char *name;
    bool (*begin)(void);
    bool (*work)(void);
    unsigned units;             /* of one work() */
    unsigned works_per_look;    /* at the clock */
} rates[] = {
    { "getpid", NULL, call_getpid, 1, 1000 },
    { "switch", begin_switching, switch_twice, 2, 100 },
    { "fault", begin_faulting, fault_pages, PAGES, 4 },
};

bool rate_measure(const char *name, double seconds)
{
    for (size_t i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
        double start, passed;
        double units = 0;

        if (strcmp(rates[i].name, name)) {
            continue;
        }
        if (rates[i].begin && !rates[i].begin()) {
            perror("vas-load: --rate");
            return false;
        }
        start = load_seconds();
        do {
            for (unsigned n = 0; n < rates[i].works_per_look; n++) {
                if (!rates[i].work()) {
                    perror("vas-load: --rate");
                    return false;
                }
            }
            units += (double)rates[i].works_per_look * rates[i].units;
            passed = load_seconds() - start;
        } while (passed < seconds);
        printf("vas-load: rate %s %.1f\n", name, units / passed);
        return true;
    }
    fprintf(stderr, "vas-load: there is no rate '%s'\n", name);
    return false;
}
