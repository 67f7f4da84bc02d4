/* SPDX-License-Identifier: GPL-2.0-or-later */
/* window64: what windows open at; syscall64.S has the kernel's end of a call */
#include "window64.h"

    .text
/* RDI + FUNCTION_LOOPS.  It is one straight line but for the loop. */
    .globl function
    .balign 64
function:
    movl    $FUNCTION_LOOPS, %ecx       /* 5 bytes */
1:  incq    %rdi                        /* 3 */
    decl    %ecx                        /* 2 */
    jnz     1b                          /* 2 */
    .rept   FUNCTION_NOPS
    nop                                 /* 1 */
    .endr
    movq    %rdi, %rax                  /* 3 */
    ret

/* RDI: an argument, RSI: the call's number. */
    .globl call_kernel
call_kernel:
    movq    %rsi, %rax
    syscall
    ret
