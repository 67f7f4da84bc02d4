/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/monitor.h"

/* See paging32.h. */
    .globl  user_load, user_store, user_call
user_load:
    movl    (%esi), %eax
    int     $VECTOR_BACK
user_store:
    movl    %eax, (%esi)
    int     $VECTOR_BACK
user_call:
    call    *%esi
    int     $VECTOR_BACK
