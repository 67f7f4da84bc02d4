/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A second vCPU for a 64-bit payload. */
#ifndef GUEST_SMP_H
#define GUEST_SMP_H

#include "lib/long.h"

/* Of the startup interprocessor interrupt. */
#define AP_PAGE         0x8000
#define AP_ID           1

#define LAPIC_ICR_HIGH  0x310
#define ICR_FIXED       0x00000
#define ICR_LOWEST      0x00100
#define ICR_NMI         0x00400
#define ICR_INIT        0x04500
#define ICR_STARTUP     0x04600
#define ICR_LOGICAL     0x00800
#define ICR_SELF        0x40000
#define ICR_ALL         0x80000
#define ICR_OTHERS      0xc0000

#ifndef __ASSEMBLER__
/* smp.S: what goes to AP_PAGE. */
extern const uint8_t ap_begin[], ap_end[];

/* The payload's: the second vCPU's, with interrupts off. */
void ap_main(void);

/* Before its first startup. */
static inline void copy_ap_code(void)
{
    for (uint32_t i = 0; i < ap_end - ap_begin; i++) {
        ((volatile uint8_t *)AP_PAGE)[i] = ap_begin[i];
    }
}

/* To an APIC's ID, or the vCPUs of the mask @to if the @command is logical. */
static inline void send_ipi(uint32_t to, uint32_t command)
{
    *lapic(LAPIC_ICR_HIGH) = to << 24;
    *lapic(LAPIC_ICR) = command;
}
#endif

#endif
