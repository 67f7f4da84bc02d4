/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * told16: goes, when told to, where a guest can't be switched, in real mode.
 *
 * Prints what soak64 prints.  A byte that comes on the serial line is a
 * command, and is printed when it was carried out:
 *
 * 'm' masks the A20 line, 'u' unmasks it (port 0x92); 't' does the one, and the
 *     other some tenths of a second later.
 * 'n' loads FS with a null selector in protected mode, and with another one in
 *     real mode, through which memory is then used in each lap.
 * 'f' divides by 0 in the x87 unit with CR0.NE clear: FERR#, which a PC makes
 *     interrupt 13; 'i' writes to port 0xf0 (IGNNE#), 'c' clears the error.
 * 'v' writes a VGA's planes in each lap, waits without an exit, where a
 *     switch meets writes that KVM keeps until QEMU asks for them, and reads
 *     them back.
 * 'd' unmasks the A20 line, and resets the virtio-blk at 00:04.0, which waits
 *     for its requests.
 * 'p' asks for the other accelerator by isa-accel-switch's port.
 * 's' enters System Management Mode by an SMI (of an i440FX machine with
 *     smm=on), where the laps go on, 'r' leaves it by RSM.
 */
#include "lib/real.h"
#include "lib/uart.h"
#include "told16.h"

#define PORT92          0x92
#define PORT92_A20      2
#define PIC1_COMMAND    0xa0
#define PIC_READ_IRR    0x0a
#define PIC1_MASK       0xa1
#define PIC_POLL        0x0c
#define PIC_POLLED      0x80
#define PIC_EOI         0x20
#define PIC1_IRQ13      (1 << 5)
#define FERR_CLEAR      0xf0
#define X87_MASKS_BUT_ZE 0x37b
#define VGA_SEQUENCER   0x3c4
#define VGA_GRAPHICS    0x3ce
#define VGA_SEGMENT     0xa000
/* Most of a lap: some milliseconds. */
#define VGA_KEPT_TICKS  10000000
#define A20_TICKS       4000000000u
#define APM_CONTROL     0xb2
#define PCI_ADDRESS     0xcf8
#define PCI_DATA        0xcfc
/* PIIX4's power management, 00:01.3, register 0x58: bit 25 is APMC_EN. */
#define PIIX4_DEVACTB   0x80000b58
#define APMC_EN         (1 << 25)
#define VIRTIO_BLK      0x80002000
#define PCI_COMMAND     0x04
#define PCI_COMMAND_IO  1
#define PCI_BAR0        0x10
#define VIRTIO_PORTS    0xc000
#define VIRTIO_STATUS   0x12            /* of a legacy device */

static volatile bool in_smm;
static bool uses_fs, uses_vga;

void irq0(const uint16_t *frame)
{
    report("no interrupt, at IP", 0, frame[0]);
}

static void done(char command)
{
    char text[] = "\ndone: ?\n";

    text[7] = command;
    put_string(text);
}

void smm_main(void)
{
    char command = 's';

    in_smm = true;
    done(command);
    while (command != 'r') {
        lap_done("in SMM", in_smm, 0);
        told(&command);
    }
    in_smm = false;
}

/* The handler is at SMBASE + 0x8000, and SMBASE is 0x30000 after a reset. */
static void enter_smm(void)
{
    const char *from = smi_entry;

    asm volatile("pushw %%es\n"
                 "movw %3, %%es\n"
                 "rep movsb\n"
                 "popw %%es"
                 : "+S" (from), "+D" ((int){ 0x8000 }),
                   "+c" ((int){ smi_entry_end - smi_entry })
                 : "r" ((uint16_t)0x3000) : "memory");
    outl(PCI_ADDRESS, PIIX4_DEVACTB);
    outl(PCI_DATA, inl(PCI_DATA) | APMC_EN);
    outb(APM_CONTROL, 0);
}

static uint8_t pic1_irr(void)
{
    outb(PIC1_COMMAND, PIC_READ_IRR);
    return inb(PIC1_COMMAND);
}

/* By polling the PIC (82C59A, "Poll Command"), with interrupts off. */
static void take_irq13(void)
{
    uint8_t mask = inb(PIC1_MASK), polled;

    outb(PIC1_MASK, 0xff & ~PIC1_IRQ13);
    outb(PIC1_COMMAND, PIC_POLL);
    polled = inb(PIC1_COMMAND);
    outb(PIC1_COMMAND, PIC_EOI);
    outb(PIC1_MASK, mask);
    if (polled != (PIC_POLLED | 5)) {
        report("interrupt 13, polled", PIC_POLLED | 5, polled);
    }
}

static void raise_ferr(void)
{
    const uint16_t control = X87_MASKS_BUT_ZE;

    asm volatile("movl %%cr0, %%eax\n"
                 "andb $0xdf, %%al\n"           /* NE */
                 "movl %%eax, %%cr0\n"
                 "fninit\n"
                 "fldcw %0\n"
                 "fld1\n"
                 "fldz\n"
                 "fdivrp" : : "m" (control) : "eax", "memory");
    if (pic1_irr() & PIC1_IRQ13) {
        report("interrupt 13 too early", 0, 1);
    }
    asm volatile("fwait");
    if (!(pic1_irr() & PIC1_IRQ13)) {
        report("no interrupt 13", 1, 0);
    }
    take_irq13();
}

static void vga_set(uint16_t index_port, uint8_t index, uint8_t value)
{
    outb(index_port, index);
    outb(index_port + 1, value);
}

/* All planes written as they come, without a latch or a mask; plane 0 read. */
static void setup_vga(void)
{
    vga_set(VGA_SEQUENCER, 2, 0x0f);        /* map mask */
    vga_set(VGA_SEQUENCER, 4, 0x06);        /* memory mode: planar */
    for (int i = 0; i < 8; i++) {
        vga_set(VGA_GRAPHICS, i, 0);
    }
    vga_set(VGA_GRAPHICS, 8, 0xff);         /* bit mask */
}

static void wait_ticks(uint64_t ticks)
{
    uint64_t start = rdtsc(), now;

    do {
        now = rdtsc();
    } while (now - start < ticks);
}

static void use_vga(uint32_t lap)
{
    uint8_t got;

    asm volatile("movw %0, %%gs" : : "r" ((uint16_t)VGA_SEGMENT));
    for (uint32_t i = 0; i < 64; i++) {
        asm volatile("movb %0, %%gs:(%1)"
                     : : "q" ((uint8_t)(lap + i)), "r" (i) : "memory");
    }
    wait_ticks(VGA_KEPT_TICKS);
    for (uint32_t i = 0; i < 64; i++) {
        asm volatile("movb %%gs:(%1), %0" : "=q" (got) : "r" (i) : "memory");
        if (got != (uint8_t)(lap + i)) {
            report("in a VGA's plane", (uint8_t)(lap + i), got);
            return;
        }
    }
}

static void set_a20(bool on)
{
    uint8_t others = inb(PORT92) & ~PORT92_A20;

    outb(PORT92, others | (on ? PORT92_A20 : 0));
}

static void reset_disk(void)
{
    outl(PCI_ADDRESS, VIRTIO_BLK | PCI_BAR0);
    outl(PCI_DATA, VIRTIO_PORTS);
    outl(PCI_ADDRESS, VIRTIO_BLK | PCI_COMMAND);
    outl(PCI_DATA, PCI_COMMAND_IO);
    set_a20(true);
    outb(VIRTIO_PORTS + VIRTIO_STATUS, 0);
}

static void obey(char command)
{
    switch (command) {
    case 'm':
        set_a20(false);
        break;
    case 'u':
        set_a20(true);
        break;
    case 't':
        set_a20(false);
        done(command);
        wait_ticks(A20_TICKS);
        set_a20(true);
        return;
    case 'n':
        null_fs_in_protected_mode();
        uses_fs = true;
        break;
    case 'f':
        raise_ferr();
        break;
    case 'i':
        outb(FERR_CLEAR, 0);
        break;
    case 'c':
        asm volatile("fninit");
        break;
    case 'v':
        setup_vga();
        uses_vga = true;
        break;
    case 'd':
        reset_disk();
        break;
    case 'p':
        ask_switch();
        break;
    case 's':
        enter_smm();
        command = 'r';
        break;
    }
    done(command);
}

static void use_fs(uint32_t value)
{
    uint32_t got;

    asm volatile("movl %1, %%fs:0x10\n"
                 "movl %%fs:0x10, %0" : "=r" (got) : "r" (value) : "memory");
    if (got != value) {
        report("through FS", value, got);
    }
}

void real_main(void)
{
    uint32_t lap = 0;
    char command;

    put_string("told16\n");
    /* The A20 gate of port 0x92 is one of two; the other one is open. */
    set_a20(true);
    for (;;) {
        if (told(&command)) {
            obey(command);
        }
        lap++;
        if (uses_fs) {
            use_fs(lap);
        }
        if (uses_vga) {
            use_vga(lap);
        }
        lap_done("in SMM", in_smm, 0);
    }
}
