/* SPDX-License-Identifier: GPL-2.0-or-later */
    .code16
    .text
    /* An SMI comes here with segments of 4 GiB, and no stack. */
    .globl smi_entry
smi_entry:
    xorw    %ax, %ax
    movw    %ax, %ds
    movw    %ax, %es
    movw    %ax, %ss
    movl    $0x6000, %esp
    ljmpw   $0, $smm_call
    .globl smi_entry_end
smi_entry_end:
smm_call:
    calll   smm_main
    rsm

    /* void null_fs_in_protected_mode(void): leaves FS at 0x20000 */
    .globl null_fs_in_protected_mode
null_fs_in_protected_mode:
    lgdtl   gdt_pointer
    movl    %cr0, %eax
    orb     $1, %al
    movl    %eax, %cr0
    xorw    %dx, %dx
    movw    %dx, %fs
    andb    $0xfe, %al
    movl    %eax, %cr0
    movw    $0x2000, %dx
    movw    %dx, %fs
    retl

    .balign 8
gdt:
    .quad   0
gdt_pointer:
    .word   gdt_pointer - gdt - 1
    .long   gdt
