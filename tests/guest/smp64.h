/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef GUEST_SMP64_H
#define GUEST_SMP64_H

#include "lib/long.h"

/* Of the startup interprocessor interrupt. */
#define AP_PAGE     0x8000

#ifndef __ASSEMBLER__
extern const uint8_t ap_begin[], ap_end[];
/* The second vCPU's; interrupts are off. */
void ap_main(void);
#endif

#endif
