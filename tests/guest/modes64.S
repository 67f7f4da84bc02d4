/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What modes64 runs at CPL3, each with switches in the middle. */
#include "lib/ask-switch.S"
#include "modes64.h"

    .text
    .code32
    .globl  user32
user32:
    movl    $USER_BASED, %edx
    movl    %edx, %fs
    movl    $LDT_BASED, %edx
    movl    %edx, %gs
    movl    $USER32_DS, %edx
    movl    %edx, %ds
    movl    %edx, %es
    movl    %fs:0, %eax
    ask_switch
    movl    %fs:4, %ecx
    movl    %gs:0, %esi
    ask_switch
    movl    %gs:4, %edi
    incl    %ebx
    ud2

    /* Its segment starts here. */
    .code16
    .globl  user16
user16:
    movl    $USER_BASED, %edx
    movl    %edx, %ds
    movl    0, %eax
    ask_switch
    movl    4, %ecx
    incl    %ebx
    ud2

    .code64
    .globl  user_to_and_fro
user_to_and_fro:
    pushq   $USER32_CS
    pushq   $1f
    ask_switch
    lretq
    .code32
1:  incl    %ebx
    ask_switch
    ljmp    $USER64_CS, $1f
    .code64
1:  incl    %ebx
    ask_switch
    ljmp    *2f
    .code32
1:  incl    %ebx
    ask_switch
    ud2
    .balign 8
2:  .long   1b
    .word   USER32_CS

    .code64
    .globl  user_syscall
user_syscall:
    xorl    %r12d, %r12d                /* ZF and no CF, for syscall_entry */
    syscall
    incl    %ebx
    ask_switch
    ud2

    .globl  user_syscall32
user_syscall32:
    movl    $1, %r12d
    syscall
    ud2
    .code32
back32:
    incl    %ebx
    ask_switch
    ud2

    .code64
    .globl  syscall_entry
syscall_entry:
    setz    %r13b
    setc    %r14b
    pause                               /* leaves TCG in the middle of a step */
    swapgs
    movq    %gs:0, %rsi
    ask_switch
    movq    %gs:8, %rdi
    swapgs
    incl    %ebx
    testl   %r12d, %r12d
    jnz     1f
    sysretq
1:  movl    $back32, %ecx
    sysretl

    .globl  user_gate
user_gate:
    lcall   *1f
    incl    %ebx
    ask_switch
    ud2
    .balign 8
1:  .long   0
    .word   GATE

    /* At CPL0, with a null SS. */
    .globl  gate_target
gate_target:
    movl    %ss, %eax
    ask_switch
    movl    %ss, %ecx
    movl    %cs, %esi
    pushq   %rsi
    popq    %rdi
    incl    %ebx
    lretq

    .globl  user_bases
user_bases:
    movq    %fs:0, %rax
    movq    %gs:0, %rcx
    ask_switch
    movq    %fs:8, %rsi
    movq    %gs:8, %rdi
    incl    %ebx
    ud2

    .globl  user_tsc_aux
user_tsc_aux:
    rdtscp
    movq    %rcx, %rsi
    ask_switch
    rdtscp
    movq    %rcx, %rdi
    incl    %ebx
    xorl    %eax, %eax
    ud2
