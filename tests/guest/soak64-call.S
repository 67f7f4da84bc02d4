/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/long.h"

    .text
/*
 * CPL3's way into CPL0.  Not INT n or SYSCALL: a KVM that emulates CPL0 may
 * have neither, but an exception it must deliver.
 */
    .globl kernel_call
kernel_call:
    ud2
    ret

#define FXSAVE  144

/*
 * void hold_state(const HeldState *in, HeldState *out): see soak64.h.  RSP is
 * one of the held registers: an interrupt from CPL3 takes its stack from the
 * TSS.
 */
    .globl hold_state
hold_state:
    pushq   %rbx
    pushq   %rbp
    pushq   %r12
    pushq   %r13
    pushq   %r14
    pushq   %r15
    pushfq
    movq    %rsp, saved_rsp(%rip)
    movq    %rsi, saved_out(%rip)
    fxrstor64 FXSAVE(%rdi)
    pushq   128(%rdi)
    popfq
    movq    0(%rdi), %rax
    movq    8(%rdi), %rbx
    movq    16(%rdi), %rcx
    movq    24(%rdi), %rdx
    movq    32(%rdi), %rsi
    movq    48(%rdi), %rbp
    movq    56(%rdi), %rsp
    movq    64(%rdi), %r8
    movq    72(%rdi), %r9
    movq    80(%rdi), %r10
    movq    88(%rdi), %r11
    movq    96(%rdi), %r12
    movq    104(%rdi), %r13
    movq    112(%rdi), %r14
    movq    120(%rdi), %r15
    movq    40(%rdi), %rdi
    /* A loop that changes no flag. */
1:  leaq    -1(%rcx), %rcx
    jrcxz   2f
    jmp     1b
2:  movq    %rdi, saved_rdi(%rip)
    movq    saved_out(%rip), %rdi
    movq    %rax, 0(%rdi)
    movq    %rbx, 8(%rdi)
    movq    %rcx, 16(%rdi)
    movq    %rdx, 24(%rdi)
    movq    %rsi, 32(%rdi)
    movq    saved_rdi(%rip), %rax
    movq    %rax, 40(%rdi)
    movq    %rbp, 48(%rdi)
    movq    %rsp, 56(%rdi)
    movq    %r8, 64(%rdi)
    movq    %r9, 72(%rdi)
    movq    %r10, 80(%rdi)
    movq    %r11, 88(%rdi)
    movq    %r12, 96(%rdi)
    movq    %r13, 104(%rdi)
    movq    %r14, 112(%rdi)
    movq    %r15, 120(%rdi)
    movq    saved_rsp(%rip), %rsp
    pushfq
    popq    128(%rdi)
    fxsave64 FXSAVE(%rdi)
    fninit
    ldmxcsr default_mxcsr(%rip)
    popfq
    popq    %r15
    popq    %r14
    popq    %r13
    popq    %r12
    popq    %rbp
    popq    %rbx
    ret

    .data
default_mxcsr:
    .long   0x1f80

    .bss
    .balign 8
saved_rsp:
    .skip   8
saved_out:
    .skip   8
saved_rdi:
    .skip   8
