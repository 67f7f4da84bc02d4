/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * shadow64: what the 440FX shows at an address: RAM, to be written or not, or
 * a ROM, by its PAM registers, and RAM or a device's place, by SMRAM's.  Data
 * and code, written under one accelerator and used under the other.
 *
 * Nothing is written to RAM that is read-only: QEMU has KVM let that through.
 */
#include "lib/code.h"
#include "lib/long.h"
#include "lib/pci.h"

#define WORDS           64
#define STEP            64
#define CODE            0x2000

#define PAM_ROM         0               /* reads and writes go to PCI */
#define PAM_READ        1
#define PAM_READ_WRITE  3

#define SMRAM           0x72
#define SMRAM_OPEN      0x42
#define SMRAM_CLOSED    0x02
#define SMRAM_AREA      0xa0000ull

/* Each has 16 KiB of its own. */
static const struct {
    uint64_t address;
    uint8_t reg, shift;
} areas[] = {
    { 0xc0000, 0x5a, 0 }, { 0xc4000, 0x5a, 4 }, { 0xdc000, 0x5d, 4 },
};

#define AREAS (sizeof(areas) / sizeof(areas[0]))

static uint64_t state = 20;

void trap(Frame *frame)
{
    check_value("no trap, at RIP", frame->rip, frame->vector);
    debug_exit(2);
}

static void set_pam(int area, uint8_t value)
{
    static uint8_t registers[8];
    uint8_t *reg = &registers[areas[area].reg & 7];

    *reg = (*reg & ~(3 << areas[area].shift)) | value << areas[area].shift;
    pci_write_byte(0, 0, areas[area].reg, *reg);
}

static volatile uint32_t *word(uint64_t address, unsigned i)
{
    return (volatile uint32_t *)(address + i * STEP);
}

static void store(uint64_t address, uint32_t first)
{
    for (unsigned i = 0; i < WORDS; i++) {
        *word(address, i) = first + i;
    }
}

/* Whether all of them are there. */
static bool holds(uint64_t address, uint32_t first)
{
    for (unsigned i = 0; i < WORDS; i++) {
        if (*word(address, i) != first + i) {
            return false;
        }
    }
    return true;
}

static bool is_rom(uint64_t address)
{
    for (unsigned i = 0; i < WORDS; i++) {
        if (*word(address, i)) {
            return false;
        }
    }
    return true;
}

static void check_data(int area)
{
    uint64_t at = areas[area].address;
    uint32_t here = next_pattern(&state), there = next_pattern(&state);

    set_pam(area, PAM_READ_WRITE);
    store(at, here);
    verify("RAM", true, holds(at, here));
    ask_switch();
    verify("RAM after a switch", true, holds(at, here));
    set_pam(area, PAM_READ);
    verify("RAM, read-only", true, holds(at, here));
    ask_switch();
    verify("RAM, read-only after a switch", true, holds(at, here));
    set_pam(area, PAM_ROM);
    verify("ROM", true, is_rom(at));
    ask_switch();
    verify("ROM after a switch", true, is_rom(at));
    store(at, there);
    verify("ROM, not written", true, is_rom(at));
    set_pam(area, PAM_READ_WRITE);
    ask_switch();
    verify("RAM again", true, holds(at, here));
    store(at, there);
    ask_switch();
    verify("RAM, written before a switch", true, holds(at, there));
    /* Changed, and looked at from the other accelerator alone. */
    set_pam(area, PAM_ROM);
    ask_switch();
    verify("ROM from before a switch", true, is_rom(at));
    set_pam(area, PAM_READ);
    ask_switch();
    verify("RAM from before a switch", true, holds(at, there));
}

static void check_code(int area)
{
    uint64_t at = areas[area].address + CODE;
    uint32_t value = next_pattern(&state);

    set_pam(area, PAM_READ_WRITE);
    write_function(at, value);
    verify("code", value, call_function(at));
    ask_switch();
    verify("code after a switch", value, call_function(at));
    write_function(at, value + 1);
    verify("code, changed", value + 1, call_function(at));
    set_pam(area, PAM_READ);
    ask_switch();
    verify("code that is read-only", value + 1, call_function(at));
    set_pam(area, PAM_ROM);
    ask_switch();
    verify("no code", 0, *(volatile uint32_t *)at);
    set_pam(area, PAM_READ_WRITE);
    verify("code again", value + 1, call_function(at));
    write_function(at, value);
    ask_switch();
    verify("code, changed before a switch", value, call_function(at));
}

static void set_smram(uint8_t value)
{
    pci_write_byte(0, 0, SMRAM, value);
}

/* As firmware fills it. */
static void check_smram(void)
{
    uint32_t here = next_pattern(&state), there = next_pattern(&state);

    set_smram(SMRAM_OPEN);
    store(SMRAM_AREA, here);
    write_function(SMRAM_AREA + CODE, here);
    ask_switch();
    verify("SMRAM", true, holds(SMRAM_AREA, here));
    verify("SMRAM's code", here, call_function(SMRAM_AREA + CODE));
    set_smram(SMRAM_CLOSED);
    verify("SMRAM, closed", false, holds(SMRAM_AREA, here));
    store(SMRAM_AREA, there);
    ask_switch();
    verify("SMRAM, closed before a switch", false, holds(SMRAM_AREA, here));
    store(SMRAM_AREA, there);
    set_smram(SMRAM_OPEN);
    ask_switch();
    verify("SMRAM again", true, holds(SMRAM_AREA, here));
    write_function(SMRAM_AREA + CODE, there);
    verify("SMRAM's code, changed", there, call_function(SMRAM_AREA + CODE));
    ask_switch();
    verify("SMRAM's code after a switch", there,
           call_function(SMRAM_AREA + CODE));
    set_smram(SMRAM_CLOSED);
    ask_switch();
}

void kernel_main(void)
{
    put_string("shadow64\n");
    setup_idt();
    for (;;) {
        for (int i = 0; i < AREAS; i++) {
            check_data(i);
            check_code(i);
        }
        check_smram();
        lap_done();
    }
}
