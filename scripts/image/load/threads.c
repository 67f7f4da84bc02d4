/*
 * vas-load: threads that meet: locked instructions, mutexes, TLB shootdowns
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include "load.h"

#define THREADS 2

static uint32_t atomic_count, locked_count;
static uint64_t wide_count;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void *work(void *unused)
{
    unsigned times = load.light ? 200 : 5000;

    (void)unused;
    for (unsigned i = 0; i < times; i++) {
        __atomic_fetch_add(&atomic_count, 1, __ATOMIC_SEQ_CST);
        /* cmpxchg8b */
        __atomic_fetch_add(&wide_count, 0x100000001ull, __ATOMIC_SEQ_CST);
        pthread_mutex_lock(&lock);
        locked_count++;
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

void thread_round(void)
{
    unsigned times = (load.light ? 200 : 5000) * THREADS;
    pthread_t threads[THREADS];
    int started = 0;

    atomic_count = locked_count = 0;
    wide_count = 0;
    while (started < THREADS &&
           !pthread_create(&threads[started], NULL, work, NULL)) {
        started++;
    }
    for (int i = 0; i < started; i++) {
        pthread_join(threads[i], NULL);
    }
    check_u64("threads: started", THREADS, started);
    check_u64("threads: atomic counter", times, atomic_count);
    check_u64("threads: cmpxchg8b counter", times * 0x100000001ull,
              wide_count);
    check_u64("threads: counter under a mutex", times, locked_count);
}
