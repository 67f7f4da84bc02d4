/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "lib/monitor.h"

/* At CPL3: load from, store to, and call what ESI points to. */
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
