/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between compute64.c and compute64.S. */
#ifndef GUEST_COMPUTE64_H
#define GUEST_COMPUTE64_H

#define FUNCTIONS       512
#define FUNCTIONS_PER_UNIT 16
/* At least as many bytes as the longest function has. */
#define FUNCTION_SIZE   64
#define BUFFER_WORDS    512

#ifndef __ASSEMBLER__
#include <stdint.h>

uint64_t compute(uint64_t seed, void *buffer, volatile uint64_t *work);
#endif

#endif
