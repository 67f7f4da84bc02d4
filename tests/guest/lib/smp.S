/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the second vCPU begins: in real mode, at the start of a page below
 * 1 MiB, to which this is copied.  From there to long mode in one step.
 */
#include "lib/smp.h"

    .text
    .globl ap_begin
    .globl ap_end
    .code16
ap_begin:
    cli
    xorw    %ax, %ax
    movw    %ax, %ds
    movl    $0x620, %eax            /* PAE, OSFXSR, OSXMMEXCPT */
    movl    %eax, %cr4
    movl    $page_table_4, %eax
    movl    %eax, %cr3
    movl    $0xc0000080, %ecx       /* EFER */
    rdmsr
    orl     $0x100, %eax            /* LME */
    wrmsr
    lgdtl   AP_PAGE + ap_gdt_pointer - ap_begin
    movl    $0x80000033, %eax       /* PG, NE, ET, MP, PE */
    movl    %eax, %cr0
    ljmpl   $KERNEL_CS, $ap_start64
    .balign 8
ap_gdt:
    .quad   0
    .quad   0x00af9b000000ffff      /* KERNEL_CS */
    .quad   0x00cf93000000ffff      /* KERNEL_DS */
ap_gdt_pointer:
    .word   ap_gdt_pointer - ap_gdt - 1
    .long   AP_PAGE + ap_gdt - ap_begin
ap_end:

    .code64
ap_start64:
    movl    $KERNEL_DS, %eax
    movl    %eax, %ds
    movl    %eax, %es
    movl    %eax, %ss
    leaq    ap_stack_end(%rip), %rsp
    call    ap_main
1:  hlt
    jmp     1b

    .bss
    .balign 16
ap_stack:
    .skip   8192
ap_stack_end:
