/* SPDX-License-Identifier: GPL-2.0-or-later */
/* 32-bit protected mode without paging, interrupts off, for a payload in C. */
    .section .text.first, "ax"
    .globl start32
start32:
    call    flat_main
1:  cli
    hlt
    jmp     1b
