/*
 * vas-load --rate: how often in a second, for ./vas bench linux
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Each unit of work leaves user space in another way: a system call; two
 * processes on one CPU that wake each other through pipes, which is two
 * context switches; a page fault of a page that was dropped.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

#define PAGE        4096
#define PAGES       64

static int to_child[2], to_parent[2];
static char *memory;

static void call(void)
{
    syscall(SYS_getpid);
}

static void pass_on(int from, int to)
{
    char byte;

    if (read(from, &byte, 1) != 1 || write(to, &byte, 1) != 1) {
        _exit(1);
    }
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
        for (;;) {
            pass_on(to_child[0], to_parent[1]);
        }
    default:
        return write(to_child[1], "", 1) == 1;
    }
}

static void pass(void)
{
    pass_on(to_parent[0], to_child[1]);
}

static bool begin_faulting(void)
{
    memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory != MAP_FAILED &&
           !madvise(memory, PAGES * PAGE, MADV_NOHUGEPAGE);
}

/* A fault of each page, and one system call for all */
static void fault(void)
{
    for (int i = 0; i < PAGES; i++) {
        memory[i * PAGE] = 1;
    }
    madvise(memory, PAGES * PAGE, MADV_DONTNEED);
}

static const struct {
    const char *name;
    bool (*begin)(void);
    void (*work)(void);
    unsigned units;             /* of one work() */
    unsigned times;             /* between two looks at the clock */
} rates[] = {
    { "getpid", NULL, call, 1, 1000 },
    { "switch", begin_switching, pass, 2, 100 },
    { "fault", begin_faulting, fault, PAGES, 4 },
};

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

bool rate_tell(const char *name, double seconds)
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
        start = now();
        do {
            for (unsigned n = 0; n < rates[i].times; n++) {
                rates[i].work();
            }
            units += (double)rates[i].times * rates[i].units;
            passed = now() - start;
        } while (passed < seconds);
        printf("vas-load: rate %s %.1f\n", name, units / passed);
        return true;
    }
    fprintf(stderr, "vas-load: there is no rate '%s'\n", name);
    return false;
}
