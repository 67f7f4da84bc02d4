/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef GUEST_WINDOW64_H
#define GUEST_WINDOW64_H

/* window64.S; tests/local/windows.py knows the instructions of function(). */
#define FUNCTION_LOOPS  100
#define FUNCTION_NOPS   200

/* Numbers of system calls */
#define CALL_ONE        7
#define CALL_OTHER      9

#ifndef __ASSEMBLER__
#include <stdint.h>

uint64_t function(uint64_t start);
/* Returns @argument + 1. */
uint64_t call_kernel(uint64_t argument, uint64_t number);
#endif

#endif
