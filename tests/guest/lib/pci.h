/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The configuration space of PCI's bus 0, by its ports. */
#ifndef GUEST_PCI_H
#define GUEST_PCI_H

#include "lib/io.h"

#define PCI_ADDRESS     0xcf8
#define PCI_DATA        0xcfc

#define PCI_COMMAND     0x04
#define PCI_COMMAND_IO  0x01
#define PCI_COMMAND_MEM 0x02
#define PCI_BAR0        0x10

/* The register of 32 bits that @offset lies in is at PCI_DATA then. */
static inline void pci_select(unsigned device, unsigned function,
                              unsigned offset)
{
    outl(PCI_ADDRESS, 0x80000000 | device << 11 | function << 8 |
                      (offset & 0xfc));
}

static inline void pci_write(unsigned device, unsigned function,
                             unsigned offset, uint32_t value)
{
    pci_select(device, function, offset);
    outl(PCI_DATA, value);
}

static inline uint32_t pci_read(unsigned device, unsigned function,
                                unsigned offset)
{
    pci_select(device, function, offset);
    return inl(PCI_DATA);
}

static inline void pci_write_byte(unsigned device, unsigned function,
                                  unsigned offset, uint8_t value)
{
    pci_select(device, function, offset);
    outb(PCI_DATA + (offset & 3), value);
}

#endif
