/*
 * The rig's agent: what the host asks of the machine inside
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Each TCP connection is one request, a line:
 *   run COMMAND      /bin/sh -c COMMAND; what follows the line is its input
 *   spawn COMMAND    the same without input; it dies with the connection
 *   connect PATH     be a pipe to the unix socket PATH
 *
 * run and spawn answer with frames: four bytes of length, then so many bytes
 * of output.  The first frame is the process id in decimal, the last one has
 * the length 0xffffffff and is followed by four bytes, the exit status as a
 * shell has it.  connect answers with "ok\n" or with a line that says why not.
 * All numbers are big-endian.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define PORT 1
#define END 0xffffffffu

static bool send_all(int fd, const void *data, size_t len)
{
    const char *p = data;

    while (len) {
        ssize_t n = write(fd, p, len);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        p += n;
        len -= n;
    }
    return true;
}

static bool send_frame(int fd, const void *data, uint32_t len)
{
    uint32_t head = htonl(len);

    return send_all(fd, &head, sizeof(head)) && send_all(fd, data, len);
}

/* Reads the request, byte by byte: what follows it is not for us. */
static bool read_line(int fd, char *line, size_t size)
{
    size_t n = 0;

    while (n < size - 1 && read(fd, line + n, 1) == 1) {
        if (line[n] == '\n') {
            line[n] = 0;
            return true;
        }
        n++;
    }
    return false;
}

static int exit_status(pid_t pid)
{
    int status;

    if (waitpid(pid, &status, 0) != pid) {
        return 255;
    }
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void run(int fd, const char *command, bool with_input)
{
    int out[2], in[2];
    char data[65536], number[16];
    bool linked = true;
    uint32_t end[2];
    ssize_t n;
    pid_t pid;

    if (pipe(out) || pipe(in)) {
        return;
    }
    pid = fork();
    if (!pid) {
        setsid();
        dup2(in[0], 0);
        dup2(out[1], 1);
        dup2(out[1], 2);
        for (int i = 3; i < 256; i++) {
            close(i);
        }
        signal(SIGPIPE, SIG_DFL);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    close(out[1]);
    close(in[0]);
    if (!with_input) {
        close(in[1]);
        in[1] = -1;
    }
    snprintf(number, sizeof(number), "%d", pid);
    send_frame(fd, number, strlen(number));
    for (;;) {
        struct pollfd wait[2] = {
            { .fd = out[0], .events = POLLIN },
            { .fd = linked ? fd : -1, .events = POLLIN },
        };

        if (poll(wait, 2, -1) < 0) {
            break;
        }
        if (wait[0].revents) {
            n = read(out[0], data, sizeof(data));
            if (n <= 0) {
                break;
            }
            if (!send_frame(fd, data, n)) {
                kill(-pid, SIGKILL);
                break;
            }
        }
        if (wait[1].revents) {
            n = read(fd, data, sizeof(data));
            if (n > 0 && with_input) {
                send_all(in[1], data, n);
            } else if (n <= 0) {
                linked = false;
                if (with_input) {
                    close(in[1]);
                    in[1] = -1;
                } else {
                    kill(-pid, SIGKILL);
                }
            }
        }
    }
    end[0] = htonl(END);
    end[1] = htonl(exit_status(pid));
    send_all(fd, end, sizeof(end));
}

/* Both ways until either side is done. */
static void relay(int a, int b)
{
    char data[65536];

    for (;;) {
        struct pollfd wait[2] = {
            { .fd = a, .events = POLLIN },
            { .fd = b, .events = POLLIN },
        };

        if (poll(wait, 2, -1) < 0) {
            return;
        }
        for (int i = 0; i < 2; i++) {
            ssize_t n;

            if (!wait[i].revents) {
                continue;
            }
            n = read(wait[i].fd, data, sizeof(data));
            if (n <= 0 || !send_all(wait[!i].fd, data, n)) {
                return;
            }
        }
    }
}

static void connect_to(int fd, const char *path)
{
    struct sockaddr_un name = { .sun_family = AF_UNIX };
    int other = socket(AF_UNIX, SOCK_STREAM, 0);

    strncpy(name.sun_path, path, sizeof(name.sun_path) - 1);
    if (connect(other, (struct sockaddr *)&name, sizeof(name))) {
        dprintf(fd, "%s: %s\n", path, strerror(errno));
        return;
    }
    send_all(fd, "ok\n", 3);
    relay(fd, other);
}

static void serve(int fd)
{
    static char line[65536];

    if (!read_line(fd, line, sizeof(line))) {
        return;
    }
    if (!strncmp(line, "run ", 4)) {
        run(fd, line + 4, true);
    } else if (!strncmp(line, "spawn ", 6)) {
        run(fd, line + 6, false);
    } else if (!strncmp(line, "connect ", 8)) {
        connect_to(fd, line + 8);
    }
}

int main(void)
{
    struct sockaddr_in name = {
        .sin_family = AF_INET,
        .sin_port = htons(PORT),
    };
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);

    signal(SIGPIPE, SIG_IGN);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(listener, (struct sockaddr *)&name, sizeof(name)) ||
        listen(listener, 16)) {
        perror("agent");
        return 1;
    }
    printf("rig-agent: ready\n");
    fflush(stdout);
    for (;;) {
        int fd = accept(listener, NULL, NULL);

        while (waitpid(-1, NULL, WNOHANG) > 0) {
            /* a connection that is over */
        }
        if (fd < 0) {
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        if (!fork()) {
            close(listener);
            serve(fd);
            _exit(0);
        }
        close(fd);
    }
}
