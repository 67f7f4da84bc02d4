/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "monitor.h"

/* const Trap *run(const Entry *entry) */
    .globl  run
run:
    movl    4(%esp), %eax
    pushl   %ebx
    pushl   %esi
    pushl   %edi
    pushl   %ebp
    movl    %esp, kernel_esp
    movl    %eax, %esp
    popl    %gs
    popl    %fs
    popl    %es
    popl    %ds
    popal
    iretl

/* One entry for each vector, 16 bytes apart. */
    .balign 16
    .globl  monitor_entries
monitor_entries:
    .set    vector, 0
    .rept   MONITOR_VECTORS
    .balign 16
    .if     !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17)
    pushl   $0
    .endif
    pushl   $vector
    jmp     trapped
    .set    vector, vector + 1
    .endr

/* PUSH of a segment register writes 16 bits on Intel's processors (SDM 2). */
    .macro  push_segment register
    pushl   $0
    movw    \register, (%esp)
    .endm

trapped:
    cld
    pushal
    push_segment %ds
    push_segment %es
    push_segment %fs
    push_segment %gs
    movl    $KERNEL_DS, %eax
    movl    %eax, %ds
    movl    %eax, %es
    movl    %eax, %fs
    movl    %eax, %gs
    movl    %esp, %eax
    movl    kernel_esp, %esp
    popl    %ebp
    popl    %edi
    popl    %esi
    popl    %ebx
    ret

    .bss
    .balign 4
kernel_esp:
    .skip   4
