/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * To be included: the macro ask_switch does what ask_switch() of io.h does,
 * in any mode, and keeps all registers.
 */
#include "io.h"

    .macro  ask_switch
    pushw   %ax
    pushw   %dx
    movw    $SWITCH_PORT, %dx
    movb    $SWITCH_TO_OTHER, %al
    outb    %al, %dx
    popw    %dx
    popw    %ax
    jmp     .Lasked\@
.Lasked\@:
    .endm
