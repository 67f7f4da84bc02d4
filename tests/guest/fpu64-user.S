/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fpu64.h"

    .text

    .macro  ask_cpl0 function
    pushq   %rax
    movl    $\function, %eax
    ud2
    popq    %rax
    .endm

    .globl verify_from_user
verify_from_user:
    ask_cpl0 CALL_VERIFY
    ret

    .globl lap_done_from_user
lap_done_from_user:
    ask_cpl0 CALL_LAP
    ret

    .macro  load_xstate area
#ifdef USE_XSAVE
    movl    $XSAVE_ALL, %eax
    xorl    %edx, %edx
    xrstor64 \area
#else
    fxrstor64 \area
#endif
    .endm

    .macro  save_xstate area
#ifdef USE_XSAVE
    movl    $XSAVE_ALL, %eax
    xorl    %edx, %edx
    xsave64 \area
#else
    fxsave64 \area
#endif
    .endm

/* void hold_xstate(const XSaveArea *in, XSaveArea *out) */
    .globl hold_xstate
hold_xstate:
    load_xstate (%rdi)
    ask_cpl0 CALL_SWITCH
    save_xstate (%rsi)
    fninit
    ret

/* void hold_x87_error(const XSaveArea *in) */
    .globl hold_x87_error
hold_x87_error:
    load_xstate (%rdi)
    ask_cpl0 CALL_SWITCH
    fwait
    fninit
    ret

/* void hold_mmx(const uint64_t *in, uint64_t *out) */
    .globl hold_mmx
hold_mmx:
    .irp    n, 0, 1, 2, 3, 4, 5, 6, 7
    movq    8 * \n(%rdi), %mm\n
    .endr
    ask_cpl0 CALL_SWITCH
    .irp    n, 0, 1, 2, 3, 4, 5, 6, 7
    movq    %mm\n, 8 * \n(%rsi)
    .endr
    emms
    ret

/* uint16_t hold_x87_division(void) */
    .globl hold_x87_division
hold_x87_division:
    fninit
    fldcw   divide_fcw(%rip)
    fld1
    fdivs   zero(%rip)
    ask_cpl0 CALL_SWITCH
    fnstsw  %ax
    fwait
    fninit
    ret

/*
 * void calculate(uint16_t fcw, uint32_t mxcsr, Results *results, uint64_t ask)
 *
 * The second operands, 3, a NaN with a payload, a denormal and so on, are in
 * registers over the switch.
 */
    .globl calculate
calculate:
    fninit
    pushq   %rdi
    fldcw   (%rsp)
    movl    %esi, (%rsp)
    ldmxcsr (%rsp)
    popq    %rax
    fldl    third(%rip)
    fldl    nan(%rip)
    fldt    denormal_x87(%rip)
    fld1
    .irp    n, 0, 1, 2, 3, 4, 5, 6, 7
    movsd   operands + 8 * \n(%rip), %xmm\n
    .endr
    testq   %rcx, %rcx
    jz      1f
    ask_cpl0 CALL_SWITCH
1:  fdiv    %st(3)                  /* 1 / (1 / 3.0) */
    fsqrt
    fstpt   0(%rdx)
    fadd    %st(0)
    fstpt   16(%rdx)
    fadds   zero(%rip)
    fstpt   32(%rdx)
    fdivrs  three(%rip)
    frndint                         /* 9, or a little more */
    fstpt   48(%rdx)
    fld1
    fisubrl integer(%rip)           /* exact only if it was loaded so */
    fstpt   64(%rdx)
    fnstsw  RESULTS_FSW(%rdx)
    divsd   %xmm1, %xmm0            /* 1 / 3 */
    movsd   %xmm0, RESULTS_SSE(%rdx)
    addsd   %xmm1, %xmm2            /* a NaN */
    movsd   %xmm2, RESULTS_SSE + 8(%rdx)
    addsd   %xmm3, %xmm3            /* a denormal */
    movsd   %xmm3, RESULTS_SSE + 16(%rdx)
    mulsd   %xmm5, %xmm4            /* too small */
    movsd   %xmm4, RESULTS_SSE + 24(%rdx)
    mulsd   %xmm6, %xmm6            /* too big */
    movsd   %xmm6, RESULTS_SSE + 32(%rdx)
    cvtsd2si %xmm7, %rax            /* 2.5 */
    movq    %rax, RESULTS_SSE + 40(%rdx)
    sqrtsd  %xmm1, %xmm1
    movsd   %xmm1, RESULTS_SSE + 48(%rdx)
    cvtsd2ss %xmm0, %xmm0
    movq    %xmm0, RESULTS_SSE + 56(%rdx)
    stmxcsr RESULTS_MXCSR(%rdx)
    fninit
    ret

    .section .rodata
    .balign 16
third:
    .double 0.3333333333333333
nan:
    .quad   0x7ff8000012345678
denormal_x87:
    .quad   0x123456789abcdef
    .word   0
    .balign 8
operands:
    .double 1
    .double 3
    .quad   0xfff8abcdef012345
    .quad   0x000123456789abcd
    .quad   0x0010000000000001
    .double 0.3
    .quad   0x7fe0000000000001
    .double 2.5
three:
    .float  3
integer:
    .long   0x1000001
divide_fcw:
    .word   0x37b
zero:
    .float  0
