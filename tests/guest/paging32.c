/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * paging32: page tables that change under one accelerator and are used under
 * the other, with no flush but those that the manual asks for (SDM vol. 3A,
 * 4.7 to 4.10).
 *
 * Each lap goes through no paging, 32-bit paging and PAE, with a switch before
 * and after each change, and uses one window: pages of 4 KiB, and one of 4 MiB
 * or 2 MiB beside them.
 */
#include "lib/control.h"
#include "lib/flat.h"
#include "lib/monitor.h"
#include "paging32.h"

#define PAGE            4096
#define P               0x001
#define RW              0x002
#define US              0x004
#define A               0x020
#define D               0x040
#define PS              0x080
#define NX              (1ull << 63)
#define RESERVED        (1ull << 62)
#define ALL             (P | RW | US)

/* Bits of a page fault's error code */
#define FAULT_P         0x01
#define FAULT_W         0x02
#define FAULT_US        0x04
#define FAULT_RESERVED  0x08
#define FAULT_FETCH     0x10

#define CR0_PG          0x80000000
#define CR0_WP          0x10000
#define CR4_PSE         0x10
#define CR4_PAE         0x20
#define MSR_EFER        0xc0000080
#define EFER_NXE        0x800

#define WINDOW          0x40000000
#define WINDOW_LARGE    0x40400000
#define FRAMES          0x1000000
#define FRAME(n)        (FRAMES + (n) * PAGE)
#define LARGE_FRAMES    0x2000000
#define LARGE_FRAME(n)  (LARGE_FRAMES + (n) * 0x400000)
#define RET             0xc3

typedef struct Mode {
    bool pae;
    void (*set_page)(int page, uint64_t entry);
    uint64_t (*page)(int page);
    void (*set_large)(uint64_t entry);
} Mode;

static uint32_t directory32[1024] __attribute__((aligned(PAGE)));
static uint32_t table32[1024] __attribute__((aligned(PAGE)));
static uint64_t pointers[4] __attribute__((aligned(32)));
static uint64_t directories[2][512] __attribute__((aligned(PAGE)));
static uint64_t table[512] __attribute__((aligned(PAGE)));
static uint8_t user_stack[256] __attribute__((aligned(16)));

static void set_page32(int page, uint64_t entry)
{
    ((volatile uint32_t *)table32)[page] = entry;
}

static uint64_t page32(int page)
{
    return ((volatile uint32_t *)table32)[page];
}

static void set_large32(uint64_t entry)
{
    ((volatile uint32_t *)directory32)[WINDOW_LARGE >> 22] = entry;
}

static void set_page_pae(int page, uint64_t entry)
{
    /* Not present while it is half written. */
    ((volatile uint32_t *)&table[page])[0] = 0;
    ((volatile uint32_t *)&table[page])[1] = entry >> 32;
    ((volatile uint32_t *)&table[page])[0] = entry;
}

static uint64_t page_pae(int page)
{
    return ((volatile uint64_t *)table)[page];
}

static void set_large_pae(uint64_t entry)
{
    ((volatile uint64_t *)directories[1])[WINDOW_LARGE >> 21 & 511] = entry;
}

static const Mode MODES[] = {
    { false, set_page32, page32, set_large32 },
    { true, set_page_pae, page_pae, set_large_pae },
};

static void set_cr0(uint32_t clear, uint32_t set)
{
    write_cr0((read_cr0() & ~clear) | set);
}

static void invlpg(uint32_t address)
{
    asm volatile("invlpg (%0)" : : "r" (address) : "memory");
}

static void setup(void)
{
    for (uint32_t i = 0; i < 16; i++) {
        directory32[i] = i << 22 | PS | ALL;
    }
    directory32[WINDOW >> 22] = (uintptr_t)table32 | ALL;
    for (uint32_t i = 0; i < 32; i++) {
        directories[0][i] = (uint64_t)i << 21 | PS | ALL;
    }
    directories[1][0] = (uintptr_t)table | ALL;
    pointers[0] = (uintptr_t)directories[0] | P;
    pointers[1] = (uintptr_t)directories[1] | P;
    for (int i = 0; i < 4; i++) {
        *(volatile uint32_t *)FRAME(i) = 0xf00d0000 + i;
        *(volatile uint8_t *)(FRAME(i) + 16) = RET;
    }
    for (int i = 0; i < 2; i++) {
        *(volatile uint32_t *)LARGE_FRAME(i) = 0xb16b0000 + i;
    }
}

static void enable(const Mode *mode)
{
    uint32_t low, high;

    write_cr4(mode->pae ? CR4_PAE : CR4_PSE);
    asm volatile("rdmsr" : "=a" (low), "=d" (high) : "c" (MSR_EFER));
    low = mode->pae ? low | EFER_NXE : low & ~EFER_NXE;
    asm volatile("wrmsr" : : "a" (low), "d" (high), "c" (MSR_EFER));
    ask_switch();
    write_cr3(mode->pae ? (void *)pointers : (void *)directory32);
    set_cr0(0, CR0_PG | CR0_WP);
}

/* CPL3 does @function with @address: by what vector it came back. */
static const Trap *user(void (*function)(void), uint32_t address,
                        uint32_t value)
{
    Entry entry = user_entry(function, user_stack + sizeof(user_stack));

    entry.regs.esi = address;
    entry.regs.eax = value;
    return run(&entry);
}

static void check_load(const char *what, uint32_t address, uint32_t expected)
{
    const Trap *trap = user(user_load, address, 0);

    check("vector of a load", VECTOR_BACK, trap->vector);
    check(what, expected, trap->regs.eax);
}

static void check_fault(const char *what, void (*function)(void),
                        uint32_t address, uint32_t error_code)
{
    const Trap *trap = user(function, address, 0);
    uint32_t cr2 = read_cr2();

    check("vector of a page fault", VECTOR_PF, trap->vector);
    check(what, error_code, trap->error_code);
    check("CR2", address, cr2);
    ask_switch();
    check("CR2 after a switch", address, read_cr2());
}

static void check_mapping(const Mode *mode)
{
    mode->set_page(0, FRAME(0) | ALL);
    invlpg(WINDOW);
    check_load("first frame", WINDOW, 0xf00d0000);
    /* flushed before the switch */
    mode->set_page(0, FRAME(1) | ALL);
    invlpg(WINDOW);
    ask_switch();
    check_load("frame flushed before the switch", WINDOW, 0xf00d0001);
    /* after it */
    mode->set_page(0, FRAME(2) | ALL);
    ask_switch();
    invlpg(WINDOW);
    check_load("frame flushed after the switch", WINDOW, 0xf00d0002);
    /* by CR3 */
    mode->set_page(0, FRAME(3) | ALL);
    ask_switch();
    write_cr3(mode->pae ? (void *)pointers : (void *)directory32);
    check_load("frame flushed by CR3", WINDOW, 0xf00d0003);
    /* What was not present needs no flush. */
    mode->set_page(1, 0);
    invlpg(WINDOW + PAGE);
    check_fault("not present", user_load, WINDOW + PAGE, FAULT_US);
    mode->set_page(1, FRAME(1) | ALL);
    check_load("not present before", WINDOW + PAGE, 0xf00d0001);
}

static void check_rights(const Mode *mode)
{
    const Trap *trap;

    mode->set_page(2, FRAME(2) | P | US);
    invlpg(WINDOW + 2 * PAGE);
    check_load("read-only", WINDOW + 2 * PAGE, 0xf00d0002);
    ask_switch();
    check_fault("store to read-only", user_store, WINDOW + 2 * PAGE,
                FAULT_P | FAULT_W | FAULT_US);
    /* CPL0 may, without CR0.WP. */
    set_cr0(CR0_WP, 0);
    ask_switch();
    *(volatile uint32_t *)(WINDOW + 2 * PAGE) = 0xf00d0002;
    set_cr0(0, CR0_WP);
    mode->set_page(2, FRAME(2) | P | RW);
    invlpg(WINDOW + 2 * PAGE);
    ask_switch();
    check_fault("load from CPL0's", user_load, WINDOW + 2 * PAGE,
                FAULT_P | FAULT_US);
    /* More rights need no flush, at the cost of a fault that may come. */
    mode->set_page(3, FRAME(3) | ALL | (mode->pae ? NX : 0));
    invlpg(WINDOW + 3 * PAGE);
    check_load("data", WINDOW + 3 * PAGE, 0xf00d0003);
    ask_switch();
    if (mode->pae) {
        check_fault("fetch", user_call, WINDOW + 3 * PAGE + 16,
                    FAULT_P | FAULT_US | FAULT_FETCH);
        mode->set_page(4, FRAME(3) | ALL | RESERVED);
        invlpg(WINDOW + 4 * PAGE);
        check_fault("reserved bit", user_load, WINDOW + 4 * PAGE,
                    FAULT_P | FAULT_US | FAULT_RESERVED);
    } else {
        trap = user(user_call, WINDOW + 3 * PAGE + 16, 0);
        check("vector of a call", VECTOR_BACK, trap->vector);
    }
}

static void check_bits(const Mode *mode)
{
    const Trap *trap;

    mode->set_page(5, FRAME(0) | ALL);
    invlpg(WINDOW + 5 * PAGE);
    ask_switch();
    check("A and D at first", 0, mode->page(5) & (A | D));
    check_load("to be accessed", WINDOW + 5 * PAGE, 0xf00d0000);
    check("A and D after a load", A, mode->page(5) & (A | D));
    ask_switch();
    trap = user(user_store, WINDOW + 5 * PAGE + 4, 0x12345678);
    check("vector of a store", VECTOR_BACK, trap->vector);
    check("A and D after a store", A | D, mode->page(5) & (A | D));
    check("what was stored", 0x12345678, *(volatile uint32_t *)(FRAME(0) + 4));
    *(volatile uint32_t *)(FRAME(0) + 4) = 0;
}

static void check_large(const Mode *mode)
{
    mode->set_large(LARGE_FRAME(0) | PS | ALL);
    invlpg(WINDOW_LARGE);
    check_load("large page", WINDOW_LARGE, 0xb16b0000);
    mode->set_large(LARGE_FRAME(1) | PS | ALL);
    invlpg(WINDOW_LARGE);
    ask_switch();
    check_load("large page, another", WINDOW_LARGE, 0xb16b0001);
}

void flat_main(void)
{
    put_string("paging32\n");
    setup_monitor();
    setup();
    for (;;) {
        for (int i = 0; i < sizeof(MODES) / sizeof(MODES[0]); i++) {
            const Mode *mode = &MODES[i];

            enable(mode);
            check_mapping(mode);
            check_rights(mode);
            check_bits(mode);
            check_large(mode);
            set_cr0(CR0_PG | CR0_WP, 0);
            ask_switch();
        }
        lap_done();
    }
}
