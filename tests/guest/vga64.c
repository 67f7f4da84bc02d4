/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vga64: draws on a VGA's screen when told to.
 *
 * The screen has ROWS of 8-bit pixels, for which QEMU draws those again that
 * its dirty log names.  A letter that comes on the serial line fills the row of
 * that number, 'a' the first one: with another colour each time, by which it is
 * told apart.  Prints a '.' for each lap, in which it looks at what the rows
 * hold.
 */
#include "lib/long.h"
#include "lib/pci.h"
#include "lib/uart.h"

#define VGA_DEVICE      2               /* the first one behind the chipset's */
#define FRAMEBUFFER     0xe0000000
#define P_RW_PCD        0x13

#define VGA_ATTRIBUTE   0x3c0
#define VGA_DAC_INDEX   0x3c8
#define VGA_DAC         0x3c9
#define VGA_STATUS      0x3da
#define ATTRIBUTE_ON    0x20

/* Bochs' display interface (QEMU's docs/specs/standard-vga.rst). */
#define DISPI_INDEX     0x1ce
#define DISPI_DATA      0x1cf
#define DISPI_XRES      1
#define DISPI_YRES      2
#define DISPI_BPP       3
#define DISPI_ENABLE    4
#define DISPI_ON        0x41            /* with the linear framebuffer */

#define COLUMNS         640
#define ROWS            16
#define COLOURS         64

static uint8_t colour[ROWS], last;

void trap(Frame *frame)
{
    check_value("no trap, at RIP", frame->rip, frame->vector);
    debug_exit(2);
}

static void outw(uint16_t port, uint16_t value)
{
    asm volatile("outw %0, %1" : : "a" (value), "Nd" (port) : "memory");
}

static void set_display(uint16_t index, uint16_t value)
{
    outw(DISPI_INDEX, index);
    outw(DISPI_DATA, value);
}

static volatile uint32_t *pixels(unsigned row)
{
    return (volatile uint32_t *)(uint64_t)(WINDOW + row * COLUMNS);
}

static void fill(unsigned row)
{
    /* Black is what QEMU shows before. */
    last = last % (COLOURS - 1) + 1;
    colour[row] = last;
    for (unsigned i = 0; i < COLUMNS / 4; i++) {
        pixels(row)[i] = last * 0x01010101u;
    }
}

static void setup(void)
{
    setup_idt();
    for (unsigned i = 0; i < (ROWS * COLUMNS + 4095) / 4096; i++) {
        window_table_1[i] = (FRAMEBUFFER + i * 4096) | P_RW_PCD;
    }
    pci_write(VGA_DEVICE, 0, PCI_BAR0, FRAMEBUFFER);
    pci_write(VGA_DEVICE, 0, PCI_COMMAND, PCI_COMMAND_MEM | PCI_COMMAND_IO);
    inb(VGA_STATUS);
    outb(VGA_ATTRIBUTE, ATTRIBUTE_ON);
    set_display(DISPI_ENABLE, 0);
    set_display(DISPI_XRES, COLUMNS);
    set_display(DISPI_YRES, ROWS);
    set_display(DISPI_BPP, 8);
    set_display(DISPI_ENABLE, DISPI_ON);
    /* Colour n is a red of n. */
    outb(VGA_DAC_INDEX, 0);
    for (int i = 0; i < COLOURS; i++) {
        outb(VGA_DAC, i);
        outb(VGA_DAC, 0);
        outb(VGA_DAC, 0);
    }
}

void kernel_main(void)
{
    char command;

    put_string("vga64\n");
    setup();
    for (;;) {
        if (told(&command)) {
            fill((command - 'a') % ROWS);
            put_string("\ndone: ");
            put_char(command);
            put_char('\n');
        }
        for (unsigned row = 0; row < ROWS; row++) {
            check_value("row", colour[row] * 0x01010101u, *pixels(row));
        }
        put_char('.');
    }
}
