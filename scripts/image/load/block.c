/*
 * vas-load: disks written and read past the cache, with requests in flight on
 * all of them at once
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "load.h"

#define DISKS       8
#define REQUESTS    8               /* of each disk in a round */
#define SLOTS       64              /* places on a disk */
#define SLOT        (16 * 1024)

typedef struct Disk {
    const char *name;
    int fd;
    /* the round that wrote a slot last; 0: none */
    uint32_t written[SLOTS];
    uint8_t *buffers[REQUESTS];
} Disk;

static Disk disks[DISKS];
static unsigned count;
static aio_context_t context;

static void fill(uint8_t *buffer, unsigned disk, unsigned slot,
                 uint32_t round)
{
    uint64_t x = ((uint64_t)round << 32 | disk << 16 | slot) + 1;

    for (size_t i = 0; i < SLOT / sizeof(x); i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        ((uint64_t *)buffer)[i] = x;
    }
}

bool block_add(const char *name)
{
    Disk *disk = &disks[count];

    if (count == DISKS ||
        (!context && syscall(SYS_io_setup, DISKS * REQUESTS, &context))) {
        return false;
    }
    disk->name = name;
    disk->fd = open(name, O_RDWR | O_DIRECT | O_CLOEXEC);
    for (unsigned i = 0; i < REQUESTS; i++) {
        disk->buffers[i] = aligned_alloc(4096, SLOT);
        if (!disk->buffers[i]) {
            return false;
        }
    }
    count++;
    return disk->fd >= 0;
}

/* Slot of request @i in @round: another one for each, and in each round. */
static unsigned slot_of(unsigned i, uint32_t round)
{
    return (i * 7 + round * 11) % SLOTS;
}

/* All requests of all disks at once, and then wait for them all. */
static void transfer(int opcode, uint32_t round)
{
    static struct iocb iocbs[DISKS * REQUESTS];
    struct io_event events[DISKS * REQUESTS];
    unsigned total = count * REQUESTS;

    for (unsigned i = 0; i < total; i++) {
        struct iocb *iocb = &iocbs[i];
        Disk *disk = &disks[i / REQUESTS];

        *iocb = (struct iocb) {
            .aio_data = i,
            .aio_lio_opcode = opcode,
            .aio_fildes = disk->fd,
            .aio_buf = (uintptr_t)disk->buffers[i % REQUESTS],
            .aio_nbytes = SLOT,
            .aio_offset = (uint64_t)slot_of(i % REQUESTS, round) * SLOT,
        };
        if (syscall(SYS_io_submit, context, 1, &iocb) != 1) {
            check_errno("block: io_submit");
            exit(1);
        }
    }
    if (syscall(SYS_io_getevents, context, total, total, events, NULL) !=
        (int)total) {
        check_errno("block: io_getevents");
        exit(1);
    }
    for (unsigned i = 0; i < total; i++) {
        check_true(disks[events[i].data / REQUESTS].name,
                   events[i].res == SLOT, "16384 bytes", events[i].res);
    }
}

/*
 * Read what earlier rounds have left, a half of the disk away from what is
 * written next.
 */
void block_round(void)
{
    static uint8_t expected[SLOT];
    uint32_t round = load.rounds + 1;

    for (unsigned i = 0; i < count * REQUESTS; i++) {
        unsigned slot = slot_of(i % REQUESTS, round);

        fill(disks[i / REQUESTS].buffers[i % REQUESTS], i / REQUESTS, slot,
             round);
        disks[i / REQUESTS].written[slot] = round;
    }
    transfer(IOCB_CMD_PWRITE, round);
    round += SLOTS / 2;
    transfer(IOCB_CMD_PREAD, round);
    for (unsigned i = 0; i < count * REQUESTS; i++) {
        Disk *disk = &disks[i / REQUESTS];
        unsigned slot = slot_of(i % REQUESTS, round);

        if (disk->written[slot]) {
            fill(expected, i / REQUESTS, slot, disk->written[slot]);
            check_bytes(disk->name, expected, disk->buffers[i % REQUESTS],
                        SLOT);
        }
    }
}
