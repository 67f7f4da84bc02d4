/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between syscall64.S and those who use it. */
#ifndef GUEST_SYSCALL64_H
#define GUEST_SYSCALL64_H

#include <stdint.h>

#include "lib/long.h"

#define MSR_EFER        0xc0000080
#define EFER_SCE        1
#define MSR_STAR        0xc0000081
#define MSR_LSTAR       0xc0000082
#define MSR_SFMASK      0xc0000084
#define RFLAGS_IF       0x200

/* The kernel's end of a system call. */
extern const uint8_t syscall_entry[];

/* Have SYSCALL lead there, with interrupts off. */
static inline void setup_syscall(void)
{
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SCE);
    wrmsr(MSR_STAR, (uint64_t)KERNEL_CS << 32);
    wrmsr(MSR_LSTAR, (uintptr_t)syscall_entry);
    wrmsr(MSR_SFMASK, RFLAGS_IF);
}

/* Call the kernel, at CPL3; returns @number + 1. */
uint64_t syscall_number(uint64_t number);

#endif
