/* SPDX-License-Identifier: GPL-2.0-or-later */
/* syscall64: both ends of a system call. */
#include "lib/long.h"

    .text
/* uint64_t syscall_number(uint64_t number), at CPL3 */
    .globl syscall_number
syscall_number:
    syscall
    ret

/*
 * Keeps to the caller's stack.  It returns by IRETQ: KVM's emulator, by which
 * a KVM without hardware runs CPL0, has no SYSRET.
 */
    .globl syscall_entry
syscall_entry:
    leaq    1(%rdi), %rax
    movq    %rsp, %rdx
    pushq   $USER_DS
    pushq   %rdx
    pushq   %r11
    pushq   $USER_CS
    pushq   %rcx
    iretq
