/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * cross32: x87 and SSE stores and loads that cross from one page into the
 * next, where the next page's frame is not the frame that follows.  Needs a
 * CPU, or a KVM, that has paging outside long mode.
 *
 * Each store is done twice, to one page and across two; the same bytes must
 * come, and nothing else be written to, least of all the frame that follows
 * the first page's.
 *
 * Prints what soak64 prints, and takes the number of laps from the same place.
 * If the byte at 0x504 is not 0, stores go to a second page without memory,
 * too; an instruction emulator such as KVM's may not have these.
 */
#include "lib/flat.h"

#define PAGE            4096
#define FRAMES          0x400000
#define WINDOW          0x40000000
/* Neither memory nor a device. */
#define NO_MEMORY       0xd0000000
#define PRESENT_WRITABLE 3
#define LARGE           0x80
#define MARGIN          64
#define FILLER          0xa5

static uint32_t directory[1024] __attribute__((aligned(PAGE)));
static uint32_t table[1024] __attribute__((aligned(PAGE)));
static uint8_t plain[512] __attribute__((aligned(PAGE)));
static uint8_t registers[8][10];
static uint8_t vectors[8][16];

/* The window shows the first and the last of three frames in a row. */
static uint8_t *const first = (uint8_t *)FRAMES;
static uint8_t *const following = (uint8_t *)FRAMES + PAGE;
static uint8_t *const second = (uint8_t *)FRAMES + 2 * PAGE;

static void store_fstp(void *to)
{
    asm volatile("fstpt (%0)" : : "r" (to) : "memory");
}

static void store_fnsave(void *to)
{
    asm volatile("fnsave (%0)" : : "r" (to) : "memory");
}

static void store_fxsave(void *to)
{
    asm volatile("fxsave (%0)" : : "r" (to) : "memory");
}

/*
 * Of an image only the part is compared that hardware, KVM and TCG agree on:
 * not the last instruction's address, not MXCSR's mask, not padding.
 */
static const struct {
    const char *name;
    void (*store)(void *to);
    uint32_t size;
    uint32_t compare_from, compare_to;
    uint32_t step;
} stores[] = {
    { "FSTP m80", store_fstp, 10, 0, 10, 1 },
    { "FNSAVE", store_fnsave, 108, 28, 108, 1 },
    { "FXSAVE", store_fxsave, 512, 160, 288, 16 },
};

#define STORES (sizeof(stores) / sizeof(stores[0]))

static uint32_t next_pattern(void)
{
    static uint32_t x = 20;

    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    return x;
}

static void fill(uint8_t *to, uint32_t size)
{
    while (size--) {
        *to++ = FILLER;
    }
}

static void check_filler(const char *what, const uint8_t *from, uint32_t size)
{
    while (size--) {
        check(what, FILLER, *from++);
    }
}

/* New contents for all registers: valid numbers, which no load changes. */
static void new_registers(void)
{
    for (int i = 0; i < 8; i++) {
        uint32_t *number = (uint32_t *)registers[i];

        number[0] = next_pattern();
        number[1] = next_pattern() | 0x80000000;
        registers[i][8] = next_pattern();
        registers[i][9] = 0x3f;
        for (int j = 0; j < 4; j++) {
            ((uint32_t *)vectors[i])[j] = next_pattern();
        }
    }
}

static void load_registers(void)
{
    asm volatile("fninit");
    for (int i = 0; i < 8; i++) {
        asm volatile("fldt %0" : : "m" (registers[i]));
    }
    asm volatile("movups 0x00(%0), %%xmm0; movups 0x10(%0), %%xmm1;"
                 "movups 0x20(%0), %%xmm2; movups 0x30(%0), %%xmm3;"
                 "movups 0x40(%0), %%xmm4; movups 0x50(%0), %%xmm5;"
                 "movups 0x60(%0), %%xmm6; movups 0x70(%0), %%xmm7"
                 : : "r" (vectors), "m" (vectors));
}

/* One store with @before bytes of it in the first page. */
static void check_store(uint32_t number, uint32_t before)
{
    const char *name = stores[number].name;
    uint32_t size = stores[number].size;
    uint32_t after = size - before;

    fill(plain, size);
    load_registers();
    stores[number].store(plain);

    fill(first + PAGE - before - MARGIN, before + MARGIN);
    fill(following, size + MARGIN);
    fill(second, after + MARGIN);
    load_registers();
    stores[number].store((uint8_t *)WINDOW + PAGE - before);

    for (uint32_t i = stores[number].compare_from;
         i < stores[number].compare_to; i++) {
        check(name, plain[i],
              i < before ? first[PAGE - before + i] : second[i - before]);
    }
    check_filler("filler before", first + PAGE - before - MARGIN, MARGIN);
    check_filler("filler in the frame that follows", following, size + MARGIN);
    check_filler("filler after", second + after, MARGIN);
}

static void check_load(uint32_t before)
{
    uint8_t *number = registers[0];

    for (uint32_t i = 0; i < 10; i++) {
        *(i < before ? first + PAGE - before + i : second + i - before) =
            number[i];
    }
    asm volatile("fninit; fldt (%0); fstpt (%1)"
                 : : "r" (WINDOW + PAGE - before), "r" (plain) : "memory");
    for (uint32_t i = 0; i < 10; i++) {
        check("FLD m80", number[i], plain[i]);
    }
}

/* The second page of the window is not memory: its bytes go nowhere. */
static void check_no_memory(uint32_t before)
{
    fill(first + PAGE - before - MARGIN, before + MARGIN);
    fill(following, 10 + MARGIN);
    load_registers();
    store_fstp((uint8_t *)WINDOW + 3 * PAGE - before);
    for (uint32_t i = 0; i < before; i++) {
        check("FSTP m80 to no memory", registers[7][i],
              first[PAGE - before + i]);
    }
    check_filler("filler before", first + PAGE - before - MARGIN, MARGIN);
    check_filler("filler in the frame that follows", following, 10 + MARGIN);
}

static void setup(void)
{
    for (uint32_t i = 0; i < 1024; i++) {
        directory[i] = i << 22 | LARGE | PRESENT_WRITABLE;
    }
    directory[WINDOW >> 22] = (uintptr_t)table | PRESENT_WRITABLE;
    table[0] = (uintptr_t)first | PRESENT_WRITABLE;
    table[1] = (uintptr_t)second | PRESENT_WRITABLE;
    table[2] = (uintptr_t)first | PRESENT_WRITABLE;
    table[3] = NO_MEMORY | PRESENT_WRITABLE;
    /* PSE, OSFXSR */
    asm volatile("mov %%cr4, %%eax; or $0x210, %%eax; mov %%eax, %%cr4"
                 : : : "eax", "memory");
    asm volatile("mov %0, %%cr3" : : "r" (directory) : "memory");
    /* PG, NE, MP */
    asm volatile("mov %%cr0, %%eax; or $0x80000022, %%eax; mov %%eax, %%cr0"
                 : : : "eax", "memory");
}

void flat_main(void)
{
    bool no_memory = *(volatile uint8_t *)0x504;

    put_string("cross32\n");
    setup();
    for (;;) {
        new_registers();
        for (uint32_t i = 0; i < STORES; i++) {
            for (uint32_t before = stores[i].step; before < stores[i].size;
                 before += stores[i].step) {
                check_store(i, before);
            }
        }
        for (uint32_t before = 1; before < 10; before++) {
            check_load(before);
            if (no_memory) {
                check_no_memory(before);
            }
        }
        lap_done();
    }
}
