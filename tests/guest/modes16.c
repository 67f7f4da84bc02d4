/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * modes16: real mode, with segments of other limits than its own ("unreal
 * mode") and another interrupt table, 16-bit protected mode at CPL0, and each
 * step of the way there and back.  TCG checks no limits: none are broken.
 */
#include "lib/real.h"
#include "modes16.h"

/* RAM above what real mode reaches, and a word for each lap there. */
#define HIGH            0x200000
#define OTHER_TABLE     0x6000

/* CF, PF, AF, ZF, SF, DF, OF, IOPL, NT, AC, ID; bit 1 is always set. */
#define FLAGS           0x00247cd5
#define FLAGS_ALWAYS    0x00000002

static uint32_t digest = 2166136261u;

void irq0(const uint16_t *frame)
{
    report("no interrupt, at IP", 0, frame[0]);
}

static void check(const char *what, uint32_t expected, uint32_t got)
{
    digest = (digest ^ got) * 16777619;
    if (expected != got) {
        report(what, expected, got);
    }
}

static void check_state(uint32_t *pattern)
{
    for (int i = 0; i < EFLAGS; i++) {
        state_in.registers[i] = next_pattern(pattern);
    }
    state_in.registers[EFLAGS] = (next_pattern(pattern) & FLAGS) |
                                 FLAGS_ALWAYS;
    for (int i = 0; i < SEGMENTS; i++) {
        state_in.segments[i] = next_pattern(pattern);
    }
    /* A stack of its own, in RAM that nothing else uses. */
    state_in.segments[SS] = 0x4000 + (next_pattern(pattern) & 0xfff);
    state_in.registers[ESP] = 0x1000 + (next_pattern(pattern) & 0xfffe);
    through_switch();
    for (int i = 0; i < REGISTERS; i++) {
        check("a register", state_in.registers[i], state_out.registers[i]);
    }
    for (int i = 0; i < SEGMENTS; i++) {
        check("a selector", state_in.segments[i], state_out.segments[i]);
    }
}

static uint32_t load_fs(uint32_t offset)
{
    uint32_t value;

    asm volatile("movl %%fs:(%1), %0" : "=r" (value) : "r" (offset));
    return value;
}

static void store_fs(uint32_t offset, uint32_t value)
{
    asm volatile("movl %0, %%fs:(%1)" : : "r" (value), "r" (offset)
                 : "memory");
}

static void check_unreal(uint32_t lap)
{
    load_limits(DATA_4G);
    store_fs(HIGH, lap);
    ask_switch();
    check("beyond 1 MiB", lap, load_fs(HIGH));
    /* Real mode's load changes the base, not the limit. */
    asm volatile("movw %0, %%fs" : : "r" ((uint16_t)0x1000));
    ask_switch();
    check("beyond 1 MiB with another base", lap, load_fs(HIGH - 0x10000));
    load_limits(DATA_64K);
}

static void load_table(uint32_t base)
{
    struct {
        uint16_t limit;
        uint32_t base;
    } __attribute__((packed)) pointer = { 0x3ff, base };

    asm volatile("lidtl %0" : : "m" (pointer));
}

static void check_table(void)
{
    load_table(OTHER_TABLE);
    check("an interrupt by another table", 0x40404040, interrupt_40());
    load_table(0);
}

static void check_protected(uint32_t lap)
{
    asm volatile("movw %0, %%fs" : : "r" ((uint16_t)(DATA_16_BASE >> 4)));
    store_fs(0x10, lap);
    asm volatile("movw %0, %%fs" : : "r" ((uint16_t)0));
    visit_protected();
    check("CS", CODE_16, seen[0]);
    check("DS", DATA_16, seen[1]);
    check("SS", DATA_64K, seen[2]);
    check("through DS", lap, seen[3]);
    check("on the stack", PUSHED, seen[4]);
    check("ESP's upper half", ESP_UPPER, seen[5]);
    check("on the stack, in real mode", PUSHED, seen[6]);
    check("through DS, in real mode", lap, seen[7]);
}

void real_main(void)
{
    volatile uint32_t *other = (void *)OTHER_TABLE;
    uint32_t pattern = 0x2545f491;

    put_string("modes16\n");
    for (int i = 0; i < 256; i++) {
        other[i] = 0xf000fff0;
    }
    other[0x40] = (uintptr_t)int40_entry;
    for (uint32_t lap = 1; ; lap++) {
        check_state(&pattern);
        check_unreal(lap);
        check_table();
        check_protected(lap);
        lap_done("in", lap, digest);
    }
}
