/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pages64: long mode's pages of 4 KiB, 2 MiB and 1 GiB: frames, rights and
 * sizes that change under one accelerator and count under the other, with no
 * flush but those that the manual asks for (SDM vol. 3A, 4.10.4).
 *
 * The machine's CPU has 1 GiB pages, and RAM at 1 GiB.
 */
#include "lib/code.h"
#include "lib/control.h"
#include "lib/fault.h"

#define P               0x001
#define RW              0x002
#define A               0x020
#define D               0x040
#define PS              0x080
#define G               0x100
#define NX              (1ull << 63)
#define RESERVED        (1ull << 51)
#define FRAME_MASK      0x000ffffffffff000ull

#define CR0_WP          0x10000
#define CR4_PGE         0x80
#define MSR_EFER        0xc0000080
#define EFER_NXE        0x800

#define KIB4            0x1000ull
#define MIB2            0x200000ull
#define GIB1            0x40000000ull

#define CODE            16              /* behind a frame's number */
#define NUMBER          0xf00d0000
#define RETURNS         0xc0de0000

typedef struct Size {
    uint64_t bytes;
    uint64_t linear;
    uint64_t frames[2];
    uint64_t offset;                    /* of what is used of the page */
    uint64_t flags;
    volatile uint64_t *entry;
    /* A table of smaller pages, if there are such. */
    uint64_t *smaller;
} Size;

static uint64_t tables[2][512] __attribute__((aligned(4096)));

static Size sizes[] = {
    { .bytes = KIB4, .linear = WINDOW, .frames = { 0x1000000, 0x1001000 } },
    { .bytes = MIB2, .linear = WINDOW + MIB2,
      .frames = { 0x2000000, 0x2200000 }, .offset = KIB4, .flags = PS },
    { .bytes = GIB1, .linear = 2 * GIB1, .frames = { 0, GIB1 },
      .offset = 0x3000000, .flags = PS },
};

static void set_wp(bool on)
{
    write_cr0(on ? read_cr0() | CR0_WP : read_cr0() & ~(uint64_t)CR0_WP);
}

static void flush_all(void)
{
    write_cr3(page_table_4);
}

static void flush(const Size *size)
{
    asm volatile("invlpg (%0)" : : "r" (size->linear + size->offset)
                 : "memory");
}

void trap(Frame *frame)
{
    if (frame->vector != VECTOR_PF || !fault_taken(frame)) {
        check_value("no other trap, at RIP", frame->rip, frame->vector);
        debug_exit(2);
    }
}

/* The number of the frame at the size's page; 0 after a fault. */
static uint32_t load(const Size *size)
{
    return may_load(size->linear + size->offset);
}

static void store(const Size *size, uint32_t value)
{
    may_store(size->linear + size->offset, value);
}

/* What the frame's code returns; likewise. */
static uint32_t call(const Size *size)
{
    return may_call(size->linear + size->offset + CODE);
}

static uint64_t entry_of(const Size *size, int frame, uint64_t flags)
{
    return size->frames[frame] | size->flags | P | flags;
}

static void map(const Size *size, int frame, uint64_t flags)
{
    *size->entry = entry_of(size, frame, flags);
}

static void fill(const Size *size, int frame)
{
    map(size, frame, RW);
    flush(size);
    store(size, NUMBER + frame);
    write_function(size->linear + size->offset + CODE, RETURNS + frame);
}

static void setup(void)
{
    uint64_t *table_3 = (uint64_t *)(page_table_4[0] & FRAME_MASK);
    uint64_t *window_table_2 = (uint64_t *)(table_3[1] & FRAME_MASK);

    setup_idt();
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_NXE);
    sizes[0].entry = &window_table_1[0];
    sizes[1].entry = &window_table_2[1];
    sizes[1].smaller = tables[0];
    sizes[2].entry = &table_3[2];
    sizes[2].smaller = tables[1];
    for (int i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        fill(&sizes[i], 0);
        fill(&sizes[i], 1);
    }
}

static void check_fault(const char *what, const Size *size, uint64_t taken,
                        uint64_t error_code, uint64_t offset)
{
    verify(what, taken + 1, fault.count);
    verify(what, error_code, fault.error_code);
    verify(what, size->linear + size->offset + offset, fault.address);
    ask_switch();
    verify("CR2 after a switch", fault.address, read_cr2());
}

static void check_frames(const Size *size)
{
    uint64_t taken;

    map(size, 0, RW);
    flush(size);
    verify("first frame", NUMBER, load(size));
    map(size, 1, RW);
    flush(size);
    ask_switch();
    verify("frame flushed before the switch", NUMBER + 1, load(size));
    map(size, 0, RW);
    ask_switch();
    flush(size);
    verify("frame flushed after the switch", NUMBER, load(size));
    map(size, 1, RW);
    ask_switch();
    flush_all();
    verify("frame flushed by CR3", NUMBER + 1, load(size));
    *size->entry = 0;
    flush(size);
    ask_switch();
    taken = fault.count;
    load(size);
    check_fault("not present", size, taken, 0, 0);
    map(size, 0, RW);
    verify("not present before", NUMBER, load(size));
    map(size, 0, RW | RESERVED);
    flush(size);
    ask_switch();
    taken = fault.count;
    load(size);
    check_fault("reserved bit", size, taken, FAULT_P | FAULT_RESERVED, 0);
}

static void check_code(const Size *size)
{
    uint64_t taken;

    map(size, 0, RW);
    flush(size);
    verify("code", RETURNS, call(size));
    map(size, 1, RW);
    ask_switch();
    flush(size);
    verify("code of another frame", RETURNS + 1, call(size));
    map(size, 1, RW | NX);
    flush(size);
    ask_switch();
    taken = fault.count;
    verify("no code", 0, call(size));
    check_fault("no code", size, taken, FAULT_P | FAULT_FETCH, CODE);
    verify("but data", NUMBER + 1, load(size));
    map(size, 1, RW);
    flush(size);
    verify("code again", RETURNS + 1, call(size));
}

/* Executed under one accelerator, changed under the other; then the reverse. */
static void check_changed_code(const Size *size)
{
    uint64_t code = size->linear + size->offset + CODE;

    map(size, 0, RW);
    flush(size);
    for (int i = 0; i < 2; i++) {
        verify("code before its change", RETURNS, call(size));
        ask_switch();
        write_function(code, ~RETURNS);
        ask_switch();
        verify("changed code", ~RETURNS, call(size));
        write_function(code, RETURNS);
        ask_switch();
    }
}

static void check_bits(const Size *size)
{
    uint64_t taken = fault.count;

    map(size, 0, 0);
    flush(size);
    ask_switch();
    store(size, NUMBER);
    check_fault("store to read-only", size, taken, FAULT_P | FAULT_W, 0);
    map(size, 0, 0);
    flush(size);
    ask_switch();
    verify("read-only", NUMBER, load(size));
    verify("A and D after a load", A, *size->entry & (A | D));
    /* More rights need no flush, at the cost of a fault that may come. */
    set_wp(false);
    ask_switch();
    store(size, NUMBER);
    verify("A and D after a store", A | D, *size->entry & (A | D));
    set_wp(true);
}

static void check_global(const Size *size)
{
    uint64_t cr4 = read_cr4();

    write_cr4(cr4 | CR4_PGE);
    map(size, 0, RW | G);
    flush(size);
    verify("global", NUMBER, load(size));
    map(size, 1, RW | G);
    ask_switch();
    write_cr4(cr4);
    verify("global, flushed by CR4", NUMBER + 1, load(size));
}

/* The page's range in smaller ones, of which one has the other frame. */
static void check_split(const Size *size, const Size *smaller)
{
    uint64_t step = smaller->bytes;
    unsigned index = size->offset / step;

    for (unsigned i = 0; i < 512; i++) {
        size->smaller[i] = (size->frames[i == index] + i * step) |
                           smaller->flags | P | RW;
    }
    map(size, 0, RW);
    flush(size);
    verify("whole", NUMBER, load(size));
    *size->entry = (uintptr_t)size->smaller | P | RW;
    ask_switch();
    /* The whole of it, in what sizes the processor ever keeps it. */
    flush_all();
    verify("split", NUMBER + 1, load(size));
    size->smaller[index] = (size->frames[0] + index * step) | smaller->flags |
                           P | RW;
    flush(size);
    ask_switch();
    verify("a piece's frame", NUMBER, load(size));
    map(size, 1, RW);
    ask_switch();
    flush_all();
    verify("whole again", NUMBER + 1, load(size));
}

void kernel_main(void)
{
    put_string("pages64\n");
    setup();
    set_wp(true);
    for (;;) {
        for (int i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            check_frames(&sizes[i]);
            check_code(&sizes[i]);
            check_changed_code(&sizes[i]);
            check_bits(&sizes[i]);
            check_global(&sizes[i]);
            if (i > 0) {
                check_split(&sizes[i], &sizes[i - 1]);
            }
        }
        lap_done();
    }
}
