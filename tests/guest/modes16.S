/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What modes16 does in real mode and on the way to protected mode and back. */
#include "lib/ask-switch.S"
#include "modes16.h"

    .code16
    .text
    .globl  through_switch
through_switch:
    pushal
    pushfl
    movl    %esp, %cs:own_esp
    pushl   %cs:state_in + 28
    popfl
    movw    %cs:state_in + 38, %ds
    movw    %cs:state_in + 40, %es
    movw    %cs:state_in + 42, %fs
    movw    %cs:state_in + 44, %gs
    movl    %cs:state_in, %eax
    movl    %cs:state_in + 4, %ebx
    movl    %cs:state_in + 8, %ecx
    movl    %cs:state_in + 12, %edx
    movl    %cs:state_in + 16, %esi
    movl    %cs:state_in + 20, %edi
    movl    %cs:state_in + 24, %ebp
    lssl    %cs:state_in + 32, %esp
    ask_switch
    movl    %eax, %cs:state_out
    movl    %ebx, %cs:state_out + 4
    movl    %ecx, %cs:state_out + 8
    movl    %edx, %cs:state_out + 12
    movl    %esi, %cs:state_out + 16
    movl    %edi, %cs:state_out + 20
    movl    %ebp, %cs:state_out + 24
    movl    %esp, %cs:state_out + 32
    movw    %ss, %cs:state_out + 36
    movw    %ds, %cs:state_out + 38
    movw    %es, %cs:state_out + 40
    movw    %fs, %cs:state_out + 42
    movw    %gs, %cs:state_out + 44
    pushfl
    popl    %cs:state_out + 28
    movw    %cs, %ax
    movw    %ax, %ss
    movl    %cs:own_esp, %esp
    movw    %ax, %ds
    movw    %ax, %es
    movw    %ax, %fs
    movw    %ax, %gs
    popfl
    popal
    retl

    .globl  load_limits
load_limits:
    movl    4(%esp), %ecx
    lgdtl   gdt_pointer
    movl    %cr0, %eax
    orb     $1, %al
    movl    %eax, %cr0
    ask_switch
    movw    %cx, %fs
    movw    %cx, %gs
    ask_switch
    andb    $0xfe, %al
    movl    %eax, %cr0
    ask_switch
    retl

    .globl  interrupt_40
interrupt_40:
    xorl    %eax, %eax
    ask_switch
    int     $0x40
    retl

    .globl  int40_entry
int40_entry:
    ask_switch
    movl    $0x40404040, %eax
    iretw

/*
 * seen: CS, DS, SS of the visit; a dword at DS; what was pushed; ESP's upper
 * half in the visit; SS's use in real mode before it is loaded again; the same
 * of DS.
 */
    .globl  visit_protected
visit_protected:
    pushl   %ebx
    pushl   %ebp
    movl    %esp, %ebx
    lgdtl   gdt_pointer
    movl    %cr0, %eax
    orb     $1, %al
    movl    %eax, %cr0
    /* Protected mode with real mode's segments. */
    ask_switch
    ljmpw   $CODE_16, $1f
1:  ask_switch
    movw    $DATA_64K, %cx
    movw    %cx, %ss
    movw    %cx, %es
    movw    $DATA_16, %cx
    movw    %cx, %ds
    ask_switch
    movw    %cs, %es:seen
    movw    %ds, %es:seen + 4
    movw    %ss, %es:seen + 8
    movl    0x10, %ecx
    movl    %ecx, %es:seen + 12
    orl     $ESP_UPPER, %esp
    pushl   $PUSHED
    ask_switch
    popl    %ecx
    movl    %ecx, %es:seen + 16
    movl    %esp, %ecx
    xorw    %cx, %cx
    movl    %ecx, %es:seen + 20
    movzwl  %sp, %esp
    ask_switch
    andb    $0xfe, %al
    movl    %eax, %cr0
    /* Real mode with protected mode's segments. */
    ask_switch
    ljmpw   $0, $1f
1:  ask_switch
    pushl   $PUSHED
    popl    %ecx
    movl    %ecx, %es:seen + 24
    movl    0x10, %ecx
    movl    %ecx, %es:seen + 28
    xorw    %cx, %cx
    movw    %cx, %ss
    movw    %cx, %ds
    movw    %cx, %es
    /* 64 KiB for DS again: its limit was the visit's. */
    movl    %ebx, %esp
    popl    %ebp
    popl    %ebx
    retl

    .balign 8
gdt:
    .quad   0
    .quad   0x00009b000000ffff      /* CODE_16 */
    .quad   0x000093020000ffff      /* DATA_16 */
    .quad   0x000093000000ffff      /* DATA_64K */
    .quad   0x00cf93000000ffff      /* DATA_4G */
gdt_pointer:
    .word   gdt_pointer - gdt - 1
    .long   gdt

    .bss
    .balign 4
    .globl  state_in
state_in:
    .skip   48
    .globl  state_out
state_out:
    .skip   48
    .globl  seen
seen:
    .skip   32
own_esp:
    .skip   4
