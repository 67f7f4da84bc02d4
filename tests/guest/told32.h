/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between the two halves of the payload told32: told32.c and told32.S. */
#ifndef GUEST_TOLD32_H
#define GUEST_TOLD32_H

#define KERNEL_CS       0x08
#define KERNEL_DS       0x10
#define USER_CS         0x1b
#define USER_DS         0x23
#define TSS_SELECTOR    0x28
#define VECTOR_GP       0x0d
#define VECTOR_BACK     0x30

#ifndef __ASSEMBLER__

#include <stdint.h>

/*
 * Go to CPL3 on the stack that ends at @stack, print a lap there, and come back
 * by the interrupt VECTOR_BACK.  @esp0: where the TSS has the stack for that.
 * Returns 0, or VECTOR_GP if that came in between.
 */
uint32_t visit_cpl3(uint32_t *esp0, void *stack);

/* The handlers of VECTOR_BACK and VECTOR_GP, for visit_cpl3() alone. */
void back_from_cpl3(void);
void protection_fault(void);

#endif /* __ASSEMBLER__ */
#endif
