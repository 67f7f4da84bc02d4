/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Long mode for a payload in C: kernel_main() runs at CPL0 with interrupts
 * off; enter_user() goes to CPL3; every exception and interrupt calls trap().
 */
#include "long.h"

#define FRAME_VECTOR (15 * 8)
#define FRAME_RIP    (17 * 8)

    .section .text.first, "ax"
    .code32
    .globl start32
start32:
    /*
     * 1 GiB in 2 MiB pages, all of it for CPL3 too; the caller adds what else
     * it wants.
     */
    movl    $page_table_2, %edi
    movl    $0x87, %eax
    movl    $512, %ecx
1:  movl    %eax, (%edi)
    addl    $0x200000, %eax
    addl    $8, %edi
    decl    %ecx
    jnz     1b
    movl    $page_table_2 + 7, page_table_3
    /* The gigabyte at 1 GiB: the window, in 4 KiB pages. */
    movl    $window_table_2 + 7, page_table_3 + 8
    movl    $window_table_1 + 7, window_table_2
    /* The gigabyte that ends at 4 GiB: the IOAPIC and the LAPIC, uncached. */
    movl    $mmio_table_2 + 7, page_table_3 + 24
    movl    $0xfec00000 + 0x9b, mmio_table_2 + 0x1f6 * 8
    movl    $0xfee00000 + 0x9b, mmio_table_2 + 0x1f7 * 8
    movl    $page_table_3 + 7, page_table_4

    movl    %cr4, %eax
    orl     $0x620, %eax            /* PAE, OSFXSR, OSXMMEXCPT */
    movl    %eax, %cr4
    movl    $page_table_4, %eax
    movl    %eax, %cr3
    movl    $0xc0000080, %ecx       /* EFER */
    rdmsr
    orl     $0x100, %eax            /* LME */
    wrmsr
    movl    %cr0, %eax
    andl    $~0xc, %eax             /* not EM, not TS */
    orl     $0x80000022, %eax       /* PG, NE, MP */
    movl    %eax, %cr0
    lgdt    gdt64_pointer
    ljmpl   $KERNEL_CS, $start64

    .code64
start64:
    movl    $KERNEL_DS, %eax
    movl    %eax, %ds
    movl    %eax, %es
    movl    %eax, %ss
    xorl    %eax, %eax
    movl    %eax, %fs
    movl    %eax, %gs
    leaq    kernel_stack_end(%rip), %rsp
    /* The TSS's address is not in one piece in its descriptor. */
    leaq    tss(%rip), %rax
    movw    %ax, gdt64_tss + 2(%rip)
    shrq    $16, %rax
    movb    %al, gdt64_tss + 4(%rip)
    movb    %ah, gdt64_tss + 7(%rip)
    leaq    kernel_stack_end(%rip), %rax
    movq    %rax, tss + 4(%rip)     /* RSP0 */
    movl    $TSS_SELECTOR, %eax
    ltr     %ax
    call    kernel_main
1:  hlt
    jmp     1b

/* void enter_user(void (*function)(void), void *stack): does not return. */
    .globl enter_user
enter_user:
    pushq   $USER_DS
    pushq   %rsi
    pushq   $0x202                  /* IF */
    pushq   $USER_CS
    pushq   %rdi
    movl    $USER_DS, %eax
    movl    %eax, %ds
    movl    %eax, %es
    iretq

    /* What return_to_caller returns to.  RAX: RSP0. */
    .macro  save_caller
    pushq   %rbx
    pushq   %rbp
    pushq   %r12
    pushq   %r13
    pushq   %r14
    pushq   %r15
    movq    %rsp, caller_rsp(%rip)
    leaq    other_stack_end(%rip), %rax
    movq    %rax, tss + 4(%rip)     /* RSP0: not the stack that is in use */
    .endm

/* void take_interrupts(unsigned spins) */
    .globl take_interrupts
take_interrupts:
    save_caller
    movl    %edi, %ecx
    pushq   $USER_DS
    pushq   %rax
    pushq   $0x202                  /* IF */
    pushq   $USER_CS
    leaq    1f(%rip), %rax
    pushq   %rax
    iretq
1:  loop    1b
taken:
    ud2

/* void run(const Frame *frame) */
    .globl run
run:
    save_caller
    movq    %rdi, %rsp
    jmp     restore_and_return

/* bool interrupts_taken(Frame *frame) */
    .globl interrupts_taken
interrupts_taken:
    xorl    %eax, %eax
    cmpl    $VECTOR_UD, FRAME_VECTOR(%rdi)
    jne     1f
    leaq    taken(%rip), %rdx
    cmpq    %rdx, FRAME_RIP(%rdi)
    je      return_to_caller
1:  ret

/* void return_to_caller(Frame *frame) */
    .globl return_to_caller
return_to_caller:
    leaq    1f(%rip), %rdx
    movq    %rdx, FRAME_RIP(%rdi)
    movq    $KERNEL_CS, FRAME_RIP + 8(%rdi)
    movq    $2, FRAME_RIP + 16(%rdi)
    movq    caller_rsp(%rip), %rdx
    movq    %rdx, FRAME_RIP + 24(%rdi)
    movq    $KERNEL_DS, FRAME_RIP + 32(%rdi)
    movl    $1, %eax
    ret
1:  popq    %r15
    popq    %r14
    popq    %r13
    popq    %r12
    popq    %rbp
    popq    %rbx
    ret

/*
 * One entry for each vector, 16 bytes apart: all have pushed an error code and
 * the vector.
 */
    .balign 16
    .globl vector_entries
vector_entries:
    .set    vector, 0
    .rept   VECTORS
    .balign 16
    .if     !(vector == 8 || (vector >= 10 && vector <= 14) || \
              vector == 17 || vector == 21)
    pushq   $0
    .endif
    pushq   $vector
    jmp     common_entry
    .set    vector, vector + 1
    .endr

common_entry:
    cld
    pushq   %r15
    pushq   %r14
    pushq   %r13
    pushq   %r12
    pushq   %r11
    pushq   %r10
    pushq   %r9
    pushq   %r8
    pushq   %rbp
    pushq   %rdi
    pushq   %rsi
    pushq   %rdx
    pushq   %rcx
    pushq   %rbx
    pushq   %rax
    movq    %rsp, %rdi
    call    trap
restore_and_return:
    popq    %rax
    popq    %rbx
    popq    %rcx
    popq    %rdx
    popq    %rsi
    popq    %rdi
    popq    %rbp
    popq    %r8
    popq    %r9
    popq    %r10
    popq    %r11
    popq    %r12
    popq    %r13
    popq    %r14
    popq    %r15
    addq    $16, %rsp
    iretq

    .data
    .balign 8
gdt64:
    .quad   0
    .quad   0x00af9b000000ffff      /* KERNEL_CS */
    .quad   0x00cf93000000ffff      /* KERNEL_DS */
    .quad   0x00cff3000000ffff      /* USER_DS */
    .quad   0x00affb000000ffff      /* USER_CS */
gdt64_tss:
    .quad   0x0000890000000067      /* TSS_SELECTOR */
    .quad   0
gdt64_pointer:
    .word   gdt64_pointer - gdt64 - 1
    .long   gdt64

    .bss
    .balign 4096
    .globl page_table_4
    .globl window_table_1
page_table_4:
    .skip   4096
page_table_3:
    .skip   4096
page_table_2:
    .skip   4096
mmio_table_2:
    .skip   4096
window_table_2:
    .skip   4096
window_table_1:
    .skip   4096
kernel_stack:
    .skip   8192
kernel_stack_end:
    .balign 16
    .globl tss
tss:
    .skip   104
    .balign 16
other_stack:
    .skip   4096
other_stack_end:
caller_rsp:
    .skip   8
