/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What control64 runs at CPL3: see control64.h. */
#include "lib/ask-switch.S"

    .text
    .globl  user_tsc
user_tsc:
    rdtsc
    jmp     user_done

    .globl  user_sgdt
user_sgdt:
    sgdt    -16(%rsp)
    jmp     user_done

    .globl  user_smsw
user_smsw:
    smsw    %eax
    jmp     user_done

    .globl  user_bases
user_bases:
    wrfsbase %rax
    wrgsbase %rbx
    ask_switch
    rdfsbase %rcx
    rdgsbase %rdx

    .globl  user_done
user_done:
    ud2
