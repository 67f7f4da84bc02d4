/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From the reset vector to 32-bit protected mode without paging, with the body
 * copied to RAM and the stack set up; then "start32" of the body takes over.
 * Every address here is an offset in segment 0xf000 until the far jump.
 */
    .section .vector, "ax"
    .code16
    .globl reset
reset:
    ljmp    $0xf000, $start16
    .balign 16, 0

    .section .reset, "ax"
start16:
    cli
    cld
    movw    %cs, %ax
    movw    %ax, %ds
    lgdtl   gdt_pointer
    movl    %cr0, %eax
    /* CD and NW are set after a reset. */
    andl    $0x9fffffff, %eax
    orl     $1, %eax
    movl    %eax, %cr0
    ljmpl   $8, $(start32_rom + 0xf0000)

    .code32
start32_rom:
    movl    $16, %eax
    movl    %eax, %ds
    movl    %eax, %es
    movl    %eax, %ss
    /* The ROM ends at 4 GiB. */
    movl    $0xfffe0000, %esi
    movl    $0x100000, %edi
    movl    $body_end + 3, %ecx
    subl    %edi, %ecx
    shrl    $2, %ecx
    rep movsl
    movl    $bss_start, %edi
    movl    $bss_end + 3, %ecx
    subl    %edi, %ecx
    shrl    $2, %ecx
    xorl    %eax, %eax
    rep stosl
    movl    $0x90000, %esp
    ljmpl   $8, $start32

    .balign 8
gdt:
    .quad   0
    .quad   0x00cf9b000000ffff      /* 8: code, 32-bit, flat */
    .quad   0x00cf93000000ffff      /* 16: data, flat */
gdt_pointer:
    .word   gdt_pointer - gdt - 1
    .long   gdt + 0xf0000
