/*
 * vas-load: fork, exec, pipes, exit codes
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "load.h"

#define CHILD_EXIT 42

void process_child(const char *token)
{
    char line[64];
    ssize_t n = read(0, line, sizeof(line));

    /* What came through one pipe goes out of the other, with the argument. */
    if (n > 0 && write(1, token, strlen(token)) > 0 && write(1, line, n) == n) {
        _exit(CHILD_EXIT);
    }
    _exit(1);
}

static void through_pipes(void)
{
    int to[2], from[2], status = 0;
    char token[32], line[32], expected[64], got[64];
    ssize_t len = 0, n;
    pid_t pid;

    if (pipe2(to, O_CLOEXEC) || pipe2(from, O_CLOEXEC)) {
        check_errno("process: pipe");
        return;
    }
    snprintf(token, sizeof(token), "token%lu:", load.rounds);
    snprintf(line, sizeof(line), "line%lu\n", load.rounds * 7919);
    pid = fork();
    if (pid < 0) {
        check_errno("process: fork");
        return;
    }
    if (!pid) {
        dup2(to[0], 0);
        dup2(from[1], 1);
        execl(load.self, load.self, "--child", token, (char *)NULL);
        _exit(127);
    }
    close(to[0]);
    close(from[1]);
    if (write(to[1], line, strlen(line)) < 0) {
        check_errno("process: write");
    }
    close(to[1]);
    while ((n = read(from[0], got + len, sizeof(got) - 1 - len)) > 0) {
        len += n;
    }
    got[len] = 0;
    close(from[0]);
    if (waitpid(pid, &status, 0) != pid) {
        check_errno("process: waitpid");
        return;
    }
    snprintf(expected, sizeof(expected), "%s%s", token, line);
    check_true("process: exit code", WIFEXITED(status) &&
               WEXITSTATUS(status) == CHILD_EXIT, "42",
               WIFEXITED(status) ? WEXITSTATUS(status) : -status);
    check_true("process: echo through pipes", !strcmp(expected, got),
               "the token and the line", len);
}

/* After fork() parent and child see each its own copy. */
static void copy_on_write(void)
{
    /* volatile: the compiler must not know what it reads back */
    static volatile uint32_t shared[1024];
    int status = 0;
    pid_t pid;

    for (unsigned i = 0; i < 1024; i++) {
        shared[i] = i;
    }
    pid = fork();
    if (!pid) {
        for (unsigned i = 0; i < 1024; i++) {
            if (shared[i] != i) {
                _exit(2);
            }
            shared[i] = ~i;
        }
        _exit(shared[5] == ~5u ? 3 : 2);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid) {
        check_errno("process: fork");
        return;
    }
    check_u64("process: child's view", 3, WEXITSTATUS(status));
    check_u64("process: parent's view", 1023, shared[1023]);
}

void process_round(void)
{
    through_pipes();
    copy_on_write();
}
