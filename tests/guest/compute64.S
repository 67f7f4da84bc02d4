/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * compute64's work: FUNCTIONS small functions that compute with registers and
 * with memory.  Each is another code, so that TCG translates each.
 */
#include "compute64.h"

    .text
/*
 * uint64_t compute(uint64_t seed, void *buffer, volatile uint64_t *work):
 * call all functions, and add 1 to *work after each FUNCTIONS_PER_UNIT.
 */
    .globl compute
compute:
    movq    %rdi, %rax
    .set    number, 0
    .rept   FUNCTIONS
    call    functions + FUNCTION_SIZE * number
    .set    number, number + 1
    .if     number % FUNCTIONS_PER_UNIT == 0
    incq    (%rdx)
    .endif
    .endr
    ret

/* RAX: the value so far.  RSI: the buffer.  RCX, R8: free. */
    .balign FUNCTION_SIZE
functions:
    .set    number, 0
    .rept   FUNCTIONS
    .balign FUNCTION_SIZE
    imulq   $(number * 2 + 3), %rax, %rax
    movq    %rax, %rcx
    shrq    $29, %rcx
    xorq    %rcx, %rax
    movq    number % BUFFER_WORDS * 8(%rsi), %r8
    testb   $4, %al
    jz      1f
    addq    %r8, %rax
1:  rolq    $(number % 61 + 1), %rax
    subq    $number, %rax
    movq    %rax, number % BUFFER_WORDS * 8(%rsi)
    ret
    .set    number, number + 1
    .endr
