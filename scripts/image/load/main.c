/*
 * vas-load: rounds of work that checks itself, and a verdict
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Output, a line each, for programs to read:
 *   vas-load: start pid P [light]
 *   vas-load: round N checks M ok|FAILED
 *   vas-load: FAIL <check>: expected ... got ...
 *   vas-load: verdict pass checks N
 *   vas-load: verdict fail checks N failures M
 *   vas-load: rate NAME R
 * It ends after --rounds, after --seconds, or at SIGTERM or SIGINT.
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

static sigset_t stop_signals;

/*
 * The signals that end the program are blocked and asked for between two
 * concerns: a check must not fail, nor a child die, since somebody has typed
 * Ctrl-C.
 */
static bool stop_wanted(void)
{
    static const struct timespec now;
    static bool stop;

    stop = stop || sigtimedwait(&stop_signals, NULL, &now) > 0;
    return stop;
}

static void (*const concerns[])(void) = {
    integer_round,
    x87_round,
    sse_round,
    memory_round,
    code_round,
    file_round,
    process_round,
    signal_round,
    thread_round,
    clock_round,
    NULL
};

/* Those that were asked for by an option: in place of the others. */
static void (*asked[4])(void);

static void ask(void (*concern)(void))
{
    int i = 0;

    while (asked[i] && asked[i] != concern) {
        i++;
    }
    asked[i] = concern;
}

double load_seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void usage(void)
{
    fprintf(stderr, "usage: vas-load [--light] [--rounds N] [--seconds S] "
            "[--every S]\n"
            "                [--block DISK]... [--link INTERFACE,INTERFACE]\n"
            "                [--pm-timer PORT]\n"
            "       vas-load --rate getpid|switch|fault [--seconds S]\n"
            "--block overwrites DISK.  With it, --link, --pm-timer or --rate "
            "nothing else is done.\n");
    exit(2);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        { "light", no_argument, NULL, 'l' },
        { "rounds", required_argument, NULL, 'r' },
        { "seconds", required_argument, NULL, 's' },
        { "every", required_argument, NULL, 'e' },
        { "block", required_argument, NULL, 'b' },
        { "link", required_argument, NULL, 'n' },
        { "pm-timer", required_argument, NULL, 'p' },
        { "rate", required_argument, NULL, 'R' },
        { "child", required_argument, NULL, 'c' },
        { 0 },
    };
    unsigned long rounds = 0;
    double limit = 0, every = 1, start, told = 0;
    void (*const *work)(void);
    const char *rate = NULL;
    char *second;
    int c;

    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (c) {
        case 'l':
            load.light = true;
            break;
        case 'r':
            rounds = strtod(optarg, NULL);
            break;
        case 's':
            limit = strtod(optarg, NULL);
            break;
        case 'e':
            every = strtod(optarg, NULL);
            break;
        case 'b':
            if (!block_add(optarg)) {
                perror(optarg);
                return 2;
            }
            ask(block_round);
            break;
        case 'n':
            second = strchr(optarg, ',');
            if (!second) {
                usage();
            }
            *second++ = 0;
            if (!link_open(optarg, second)) {
                perror("--link");
                return 2;
            }
            ask(link_round);
            break;
        case 'p':
            if (!drift_begin(strtoul(optarg, NULL, 0))) {
                perror("--pm-timer");
                return 2;
            }
            ask(drift_round);
            break;
        case 'R':
            rate = optarg;
            break;
        case 'c':
            process_child(optarg);
            break;
        default:
            usage();
        }
    }
    if (optind != argc) {
        usage();
    }
    if (rate) {
        return rate_measure(rate, limit ? limit : 1) ? 0 : 2;
    }
    load.self = "/proc/self/exe";
    setvbuf(stdout, NULL, _IOLBF, 0);
    sigemptyset(&stop_signals);
    sigaddset(&stop_signals, SIGTERM);
    sigaddset(&stop_signals, SIGINT);
    sigprocmask(SIG_BLOCK, &stop_signals, NULL);
    printf("vas-load: start pid %d%s\n", getpid(),
           load.light ? " light" : "");
    start = load_seconds();
    work = asked[0] ? asked : concerns;
    if (work == concerns) {
        clock_begin();
    }
    while (!stop_wanted()) {
        double t;

        for (size_t i = 0; work[i] && !stop_wanted(); i++) {
            work[i]();
        }
        load.rounds++;
        t = load_seconds();
        if (t - told >= every) {
            printf("vas-load: round %lu checks %lu %s\n", load.rounds,
                   load.checks, load.failures ? "FAILED" : "ok");
            told = t;
        }
        if ((rounds && load.rounds >= rounds) ||
            (limit && t - start >= limit)) {
            break;
        }
    }
    if (work == concerns) {
        clock_end();
    }
    drift_end();
    if (load.failures) {
        printf("vas-load: verdict fail checks %lu failures %lu\n",
               load.checks, load.failures);
        return 1;
    }
    printf("vas-load: verdict pass checks %lu\n", load.checks);
    return 0;
}
