/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "told32.h"

/* uint32_t visit_cpl3(uint32_t *esp0, void *stack) */
    .globl visit_cpl3
visit_cpl3:
    movl    4(%esp), %eax
    movl    8(%esp), %edx
    pushl   %ebx
    pushl   %esi
    pushl   %edi
    pushl   %ebp
    movl    %esp, (%eax)
    pushl   $USER_DS
    pushl   %edx
    pushl   $2
    pushl   $USER_CS
    pushl   $1f
    iretl
1:  movb    $'.', %al
    outb    %al, $0xe9
    int     $VECTOR_BACK

    .globl protection_fault
protection_fault:
    movl    $VECTOR_GP, %eax
    addl    $4, %esp                /* the error code */
    jmp     1f
    .globl back_from_cpl3
back_from_cpl3:
    xorl    %eax, %eax
    /* The frame is thrown away. */
1:  addl    $20, %esp
    /* IRET has left no segment here that is CPL0's. */
    movl    $KERNEL_DS, %edx
    movl    %edx, %ds
    movl    %edx, %es
    popl    %ebp
    popl    %edi
    popl    %esi
    popl    %ebx
    ret
