/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/ask-switch.S"
#include "lib/monitor.h"

    .globl  stepped, steps, steps_end
/* Each label is where a single step ends. */
stepped:
    nop
1:  movl    $SWITCH_PORT, %edx
2:  movl    $SWITCH_TO_OTHER, %eax
3:  outb    %al, %dx                /* the step ends after the switch */
4:  pushl   $0x5a5a5a5a
5:  popl    %ebx
6:  addl    $1, %ebx
7:  jmp     8f
    hlt
8:  pushfl
9:  popl    %ecx
10: int     $VECTOR_BACK

    .section .rodata
steps:
    .long   1b, 2b, 3b, 4b, 5b, 6b, 7b, 8b, 9b, 10b
steps_end:
    .text

    .globl  broken, broken_here, broken_stored
broken:
    ask_switch
    incl    %ebx
broken_here:
    incl    %ebx
    ask_switch
    movl    $0x600df00d, watched
broken_stored:
    movl    watched, %ecx
    int     $VECTOR_BACK

    .bss
    .balign 4
    .globl  watched
watched:
    .skip   4
