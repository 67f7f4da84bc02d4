/*
 * vas-load: work in the guest that checks itself.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Each concern is one file with one function, which does a round of its work
 * and reports each answer to a check_*() function.  A round is short, so that
 * a guest whose accelerator is switched has rounds on both sides of a switch,
 * and works at all under an emulator inside an emulator.
 */
#ifndef VAS_LOAD_H
#define VAS_LOAD_H

#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>

struct load {
    unsigned long rounds;
    unsigned long checks;
    unsigned long failures;
    /* smaller buffers and shorter loops, for slow machines */
    bool light;
    /* how a fork()ed child calls the program again */
    const char *self;
};

extern struct load load;

/* One check each: counts it, and prints a FAIL line if it fails. */
void check_u64(const char *what, uint64_t expected, uint64_t got);
void check_double(const char *what, double expected, double got,
                  double tolerance);
void check_bytes(const char *what, const void *expected, const void *got,
                 size_t len);
/* expected is told in words */
void check_true(const char *what, bool ok, const char *expected,
                long long got);
/* The work itself could not be done (errno is told): a failure. */
void check_errno(const char *what);

/*
 * Spin for a while without touching memory or leaving user space.  What is
 * held in registers around it is what a switch must carry over.
 */
static inline void load_spin(void)
{
    uint32_t n = load.light ? 20000 : 200000;

    __asm__ volatile("1: subl $1, %0\n\tjnz 1b" : "+r"(n) : : "cc");
}

/* The time, in seconds; of CLOCK_MONOTONIC. */
double load_seconds(void);

/*
 * Do the work @name (getpid, switch, fault) for @seconds, and print a line with
 * the units per second.  False, with a message: it could not be done.
 */
bool rate_measure(const char *name, double seconds);

/* The concerns: each does one round. */
void integer_round(void);
void x87_round(void);
void sse_round(void);
void memory_round(void);
void code_round(void);
void file_round(void);
void process_round(void);
void signal_round(void);
void thread_round(void);
void clock_round(void);
void block_round(void);
void link_round(void);
void drift_round(void);

/* What block_round() writes and reads; false with errno if it can't. */
bool block_add(const char *disk);
/* What link_round() sends frames between, up and running; likewise. */
bool link_open(const char *first, const char *second);
/* The I/O port of drift_round()'s PM timer; likewise. */
bool drift_begin(uint16_t pm_timer);
/* Prints how far the two have come apart, if drift_begin() was called. */
void drift_end(void);

/* Sets the clocks' starting points; call once, before the first round. */
void clock_begin(void);
/* What clocks can only be judged by over the whole run. */
void clock_end(void);
/* The child's side of process_round(): never returns. */
void process_child(const char *token);

#endif
