/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What modes32 runs in its modes: each asks for a switch in the middle. */
#include "lib/ask-switch.S"
#include "modes32.h"

    .globl  user32
user32:
    movl    $0x11111111, %ebx
    ask_switch
    incl    %ebx
    int     $VECTOR_BACK

    .globl  user_gate
user_gate:
    pushl   $PARAMETER
    lcall   $GATE, $0
    movl    %esp, %esi
    int     $VECTOR_BACK

/* At CPL0, with a copy of the parameter. */
    .globl  gate_target
gate_target:
    ask_switch
    movl    8(%esp), %eax
    movl    %cs, %ecx
    movl    %ss, %edx
    lretl   $4

    .globl  user_ldt
user_ldt:
    movl    $LDT_DATA, %eax
    movl    %eax, %fs
    movl    %fs:0, %eax
    ask_switch
    movl    %fs:12, %ebx
    int     $VECTOR_BACK

    .globl  user_down
user_down:
    movl    $EXPAND_DOWN, %eax
    movl    %eax, %gs
    movl    %gs:0x1000, %eax
    ask_switch
    movl    %gs:0x1004, %ebx
    int     $VECTOR_BACK

    .globl  user_null
user_null:
    xorl    %eax, %eax
    movl    %eax, %es
    ask_switch
    movl    %es, %ecx
    int     $VECTOR_BACK

/* A task of its own: each call goes on after the last IRET. */
    .globl  task_entry
task_entry:
    incl    %ebx
    ask_switch
    pushfl
    popl    task_flags
    str     task_tr
    movl    task_tss, %eax
    movl    %eax, task_link
    movb    monitor_gdt + TASK_SELECTOR + 5, %al
    movb    %al, task_access
    movb    monitor_gdt + TSS_SELECTOR + 5, %al
    movb    %al, task_main_access
    iretl
    jmp     task_entry

    .code16
    .globl  user16
user16:
    pushw   $0x1234
    ask_switch
    popw    %bx
    int     $VECTOR_BACK

    .globl  v86_code, v86_code_end, v86_pushf
v86_code:
    movw    $0x5678, 0
    ask_switch
    movw    %cs, %cx
    movw    0, %dx
v86_pushf:
    pushfw
    popw    %bx
    int     $VECTOR_BACK
v86_code_end:
    .code32

    .bss
    .balign 4
    .globl  task_flags, task_link, task_tr, task_access, task_main_access
task_flags:
    .skip   4
task_link:
    .skip   4
task_tr:
    .skip   2
task_access:
    .skip   1
task_main_access:
    .skip   1
