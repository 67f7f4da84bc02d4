/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From the reset vector to real_main() of a payload in 16-bit C (gcc -m16),
 * with its body copied to RAM and all segments 0.  IRQ 0 calls irq0(), any
 * other vector below 0x20 calls unexpected().
 */
    .code16
    .section .vector, "ax"
    .globl reset
reset:
    ljmp    $0xf000, $start16
    .balign 16, 0

    .section .reset, "ax"
start16:
    cli
    cld
    /* The ROM's start, below 1 MiB. */
    movw    $0xe000, %ax
    movw    %ax, %ds
    xorw    %ax, %ax
    movw    %ax, %es
    movw    %ax, %ss
    movl    $0x7000, %esp
    xorw    %si, %si
    movw    $BODY, %di
    movw    $body_end + 3, %cx
    subw    %di, %cx
    shrw    $2, %cx
    rep movsl
    movw    $bss_start, %di
    movw    $bss_end + 3, %cx
    subw    %di, %cx
    shrw    $2, %cx
    xorl    %eax, %eax
    rep stosl
    movw    %ax, %ds
    movw    %ax, %fs
    movw    %ax, %gs
    /*
     * The PIC reaches the CPU through the LAPIC's LINT0, masked after a reset.
     * The LAPIC is out of real mode's reach: have a segment of 4 GiB for one
     * write.
     */
    lgdtl   %cs:gdt_pointer
    movl    %cr0, %eax
    andl    $0x9fffffff, %eax       /* CD and NW are set after a reset */
    orb     $1, %al
    movl    %eax, %cr0
    movw    $8, %bx
    movw    %bx, %ds
    /* In this order: masks can't be cleared as long as the LAPIC is off. */
    movl    $0xfee000f0, %edx
    movl    $0x1ff, (%edx)
    movl    $0xfee00350, %edx
    movl    $0x700, (%edx)
    movw    $16, %bx
    movw    %bx, %ds
    andb    $0xfe, %al
    movl    %eax, %cr0
    ljmp    $0, $start_body

    .balign 8
gdt:
    .quad   0
    .quad   0x00cf93000000ffff      /* 8: data, 4 GiB */
    .quad   0x000093000000ffff      /* 16: data, 64 KiB */
gdt_pointer:
    .word   gdt_pointer - gdt - 1
    .long   gdt + 0xf0000

    .section .text.first, "ax"
start_body:
    xorw    %ax, %ax
    movw    %ax, %ds
    /* The interrupt vector table. */
    xorw    %di, %di
    movl    $unexpected_entry, %eax
    movw    $32, %cx
    rep stosl
    movl    $irq0_entry, 8 * 4
    calll   real_main
1:  cli
    hlt
    jmp     1b

irq0_entry:
    pushal
    cld
    /* After the 32 bytes of PUSHAL: IP, CS, FLAGS. */
    leal    32(%esp), %eax
    pushl   %eax
    calll   irq0
    addw    $4, %sp
    popal
    iretw

unexpected_entry:
    pushal
    cld
    calll   unexpected
    popal
    iretw
