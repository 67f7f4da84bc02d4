/*
 * vas-load: frames from one network interface to another and back
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The two hang on one hub.  A hub may drop what a receiver has no room for, so
 * that no more than a few frames are on their way; none may be lost, changed,
 * doubled or come in another order.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"

#define FRAMES      16
/* An EtherType for local experiments (IEEE 802). */
#define TYPE        0x88b5
#define TIMEOUT_MS  60000

typedef struct Frame {
    uint8_t to[6], from[6];
    uint16_t type;
    uint16_t number;
    uint32_t data[364];
} Frame;

typedef struct Interface {
    const char *name;
    int fd;
    uint8_t address[6];
} Interface;

static Interface ends[2];

static bool open_interface(Interface *end)
{
    struct sockaddr_ll address = {
        .sll_family = AF_PACKET,
        .sll_protocol = htons(TYPE),
    };
    struct ifreq request = { 0 };
    int bypass = 1;

    end->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(TYPE));
    if (end->fd < 0) {
        return false;
    }
    /* fq_codel would drop frames that a slow guest has kept for 100 ms. */
    if (setsockopt(end->fd, SOL_PACKET, PACKET_QDISC_BYPASS, &bypass,
                   sizeof(bypass))) {
        return false;
    }
    snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", end->name);
    if (ioctl(end->fd, SIOCGIFHWADDR, &request)) {
        return false;
    }
    memcpy(end->address, request.ifr_hwaddr.sa_data, sizeof(end->address));
    if (ioctl(end->fd, SIOCGIFFLAGS, &request)) {
        return false;
    }
    request.ifr_flags |= IFF_UP;
    if (ioctl(end->fd, SIOCSIFFLAGS, &request) ||
        ioctl(end->fd, SIOCGIFINDEX, &request)) {
        return false;
    }
    address.sll_ifindex = request.ifr_ifindex;
    return !bind(end->fd, (struct sockaddr *)&address, sizeof(address));
}

/* Whether both have a carrier, for which they may take some seconds. */
static bool running(void)
{
    for (int i = 0; i < 2; i++) {
        struct ifreq request = { 0 };

        snprintf(request.ifr_name, sizeof(request.ifr_name), "%s",
                 ends[i].name);
        if (ioctl(ends[i].fd, SIOCGIFFLAGS, &request) ||
            !(request.ifr_flags & IFF_RUNNING)) {
            return false;
        }
    }
    return true;
}

bool link_open(const char *first, const char *second)
{
    ends[0].name = first;
    ends[1].name = second;
    if (!open_interface(&ends[0]) || !open_interface(&ends[1])) {
        return false;
    }
    for (int tenths = 0; !running(); tenths++) {
        if (tenths == TIMEOUT_MS / 100) {
            return false;
        }
        usleep(100000);
    }
    return true;
}

static void fill(Frame *frame, const Interface *from, const Interface *to,
                 uint16_t number)
{
    memcpy(frame->to, to->address, sizeof(frame->to));
    memcpy(frame->from, from->address, sizeof(frame->from));
    frame->type = htons(TYPE);
    frame->number = number;
    for (size_t i = 0; i < sizeof(frame->data) / 4; i++) {
        frame->data[i] = (i + load.rounds * 977 + number) * 2654435761u;
    }
}

static void transfer(const Interface *from, const Interface *to)
{
    Frame expected, got;

    for (unsigned i = 0; i < FRAMES; i++) {
        fill(&expected, from, to, i);
        if (send(from->fd, &expected, sizeof(expected), 0) !=
            sizeof(expected)) {
            check_errno(from->name);
            return;
        }
    }
    for (unsigned i = 0; i < FRAMES; i++) {
        struct pollfd ready = { .fd = to->fd, .events = POLLIN };

        memset(&got, 0, sizeof(got));
        if (poll(&ready, 1, TIMEOUT_MS) != 1) {
            check_true(to->name, false, "a frame within a minute, not number",
                       i);
            return;
        }
        if (recv(to->fd, &got, sizeof(got), 0) < 0) {
            check_errno(to->name);
            return;
        }
        fill(&expected, from, to, i);
        check_bytes(to->name, &expected, &got, sizeof(got));
    }
}

void link_round(void)
{
    transfer(&ends[0], &ends[1]);
    transfer(&ends[1], &ends[0]);
}
