/*
 * vas-load: signals, sent and caused by the processor's exceptions
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#include "load.h"

static sigjmp_buf back;
static volatile sig_atomic_t seen, value, code, ticks;
/* volatile: written by signal handlers */
static void *volatile address;

static void on_signal(int number, siginfo_t *info, void *context)
{
    (void)context;
    seen = number;
    value = info->si_value.sival_int;
    code = info->si_code;
    address = info->si_addr;
}

static void on_fault(int number, siginfo_t *info, void *context)
{
    on_signal(number, info, context);
    siglongjmp(back, 1);
}

static void on_tick(int number)
{
    (void)number;
    ticks++;
}

static void handle(int number, void (*handler)(int, siginfo_t *, void *))
{
    struct sigaction action = {
        .sa_sigaction = handler,
        .sa_flags = SA_SIGINFO,
    };

    sigaction(number, &action, NULL);
}

static void divide_by_zero(void)
{
    __asm__ volatile("divl %2" : : "a"(1), "d"(0), "r"(0) : "cc");
}

static void undefined(void)
{
    __asm__ volatile("ud2");
}

static void breakpoint(void)
{
    __asm__ volatile("int3");
}

static void *guarded;

static void touch_guarded(void)
{
    /* volatile: a store that nobody reads */
    *(volatile char *)guarded = 1;
}

/* An exception must become its own signal, with the address that caused it. */
static void exception(const char *what, int number, void (*cause)(void),
                      void *where)
{
    handle(number, on_fault);
    seen = 0;
    address = NULL;
    if (!sigsetjmp(back, 1)) {
        cause();
    }
    check_u64(what, number, seen);
    if (where) {
        check_u64("signals: faulting address", (uintptr_t)where,
                  (uintptr_t)address);
    }
    signal(number, SIG_DFL);
}

static void queued(void)
{
    handle(SIGUSR1, on_signal);
    seen = 0;
    sigqueue(getpid(), SIGUSR1,
             (union sigval){ .sival_int = (int)load.rounds });
    check_u64("signals: queued", SIGUSR1, seen);
    check_u64("signals: its value", (int)load.rounds, value);
    check_u64("signals: its code", (uint32_t)SI_QUEUE, (uint32_t)code);
}

/* A few ticks of an interval timer, taken while the CPU is idle. */
static void interval_timer(void)
{
    int want = load.light ? 2 : 5;
    struct itimerval period = {
        .it_interval.tv_usec = 2000,
        .it_value.tv_usec = 2000,
    };
    struct sigaction action = { .sa_handler = on_tick };
    sigset_t block, old;

    sigaction(SIGALRM, &action, NULL);
    sigemptyset(&block);
    sigaddset(&block, SIGALRM);
    sigprocmask(SIG_BLOCK, &block, &old);
    ticks = 0;
    setitimer(ITIMER_REAL, &period, NULL);
    while (ticks < want) {
        sigsuspend(&old);
    }
    memset(&period, 0, sizeof(period));
    setitimer(ITIMER_REAL, &period, NULL);
    signal(SIGALRM, SIG_IGN);
    sigprocmask(SIG_SETMASK, &old, NULL);
    check_true("signals: interval timer", ticks >= want, "ticks", ticks);
}

void signal_round(void)
{
    if (!guarded) {
        guarded = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
                       -1, 0);
    }
    queued();
    exception("signals: #DE", SIGFPE, divide_by_zero, NULL);
    exception("signals: #UD", SIGILL, undefined, NULL);
    exception("signals: #BP", SIGTRAP, breakpoint, NULL);
    exception("signals: #PF", SIGSEGV, touch_guarded, guarded);
    interval_timer();
}
