/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The first serial line, on which commands come. */
#ifndef GUEST_UART_H
#define GUEST_UART_H

#include <stdbool.h>
#include "io.h"

#define COM1            0x3f8
#define COM1_IER        (COM1 + 1)
#define COM1_IIR        (COM1 + 2)      /* read */
#define COM1_FCR        (COM1 + 2)      /* written */
#define COM1_LCR        (COM1 + 3)
#define COM1_MCR        (COM1 + 4)
#define COM1_LSR        (COM1 + 5)
#define COM1_IRQ        4

#define LSR_DR          1

/* Whether a byte has come, which is then the @command. */
static inline bool told(char *command)
{
    if (!(inb(COM1_LSR) & LSR_DR)) {
        return false;
    }
    *command = inb(COM1);
    return true;
}

#endif
