/*
 * vas-load: a file written, synced, dropped from the cache and read again
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "load.h"

static void drop_caches(int fd)
{
    int control = open("/proc/sys/vm/drop_caches", O_WRONLY);

    /* Only root may; the file's own pages can be dropped by anybody. */
    if (control >= 0) {
        if (write(control, "1\n", 2) != 2) {
            check_errno("file: drop_caches");
        }
        close(control);
    }
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
}

void file_round(void)
{
    size_t size = load.light ? 16 * 1024 : 512 * 1024;
    uint8_t *wrote = malloc(size), *read_back = calloc(1, size);
    char name[64];
    int fd;

    snprintf(name, sizeof(name), "/var/tmp/vas-load.%d", getpid());
    fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || !wrote || !read_back) {
        check_errno("file: open");
        return;
    }
    for (size_t i = 0; i < size; i++) {
        wrote[i] = (i * 2654435761u + load.rounds * 40503u) >> 13;
    }
    if (pwrite(fd, wrote, size, 0) != (ssize_t)size) {
        check_errno("file: write");
    } else if (fsync(fd)) {
        check_errno("file: fsync");
    } else {
        drop_caches(fd);
        if (pread(fd, read_back, size, 0) != (ssize_t)size) {
            check_errno("file: read");
        } else {
            check_bytes("file: contents", wrote, read_back, size);
        }
    }
    close(fd);
    unlink(name);
    free(wrote);
    free(read_back);
}
