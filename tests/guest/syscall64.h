/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between syscall64.c and syscall64.S. */
#ifndef GUEST_SYSCALL64_H
#define GUEST_SYSCALL64_H

#include <stdint.h>

/* The kernel's end of a system call. */
extern const uint8_t syscall_entry[];
/* Call the kernel, at CPL3; returns @number + 1. */
uint64_t syscall_number(uint64_t number);

#endif
