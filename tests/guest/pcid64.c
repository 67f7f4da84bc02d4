/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pcid64: process-context identifiers: two address spaces, loaded with and
 * without a flush, and INVPCID of each type.  Mappings change under one
 * accelerator and count under the other, with no flush but those that the
 * manual asks for (SDM vol. 3A, "Process-Context Identifiers (PCIDs)").
 */
#include "lib/fault.h"

#define P               0x001
#define RW              0x002
#define G               0x100
#define FRAME_MASK      0x000ffffffffff000ull

#define CR4_PGE         0x80
#define CR4_PCIDE       0x20000
#define CR3_PCD         0x10
#define NO_FLUSH        (1ull << 63)

#define FRAME           0x1000000ull
#define NUMBER          0xf00d0000

enum { ADDRESS, CONTEXT, ALL_AND_GLOBAL, ALL };

typedef struct Space {
    uint64_t pcid;
    uint64_t tables[4][512] __attribute__((aligned(4096)));
} Space;

static Space spaces[2] __attribute__((aligned(4096))) = {
    { .pcid = 1 }, { .pcid = 0xfff },
};

void trap(Frame *frame)
{
    if (!fault_taken(frame)) {
        check_value("no other trap, at RIP", frame->rip, frame->vector);
        debug_exit(2);
    }
}

static void map(Space *space, int frame, uint64_t flags)
{
    space->tables[3][0] = (FRAME + 0x1000 * frame) | P | RW | flags;
}

static uint64_t root(const Space *space)
{
    return (uintptr_t)space->tables[0] | space->pcid;
}

static void load_cr3(uint64_t value)
{
    write_cr3((void *)value);
}

static uint64_t read_cr3(void)
{
    uint64_t value;

    asm volatile("mov %%cr3, %0" : "=r" (value));
    return value;
}

static uint32_t load(void)
{
    return may_load(WINDOW);
}

/* The vector of INVPCID's fault, or 0. */
static uint64_t invpcid(uint64_t type, uint64_t pcid, uint64_t address)
{
    static volatile uint64_t operands[3];

    operands[0] = pcid;
    operands[1] = address;
    operands[2] = type;
    return MAY_FAULT("leaq %2, %%rcx\n\t"
                     "movq 16(%%rcx), %%rax\n\t"
                     "invpcid (%%rcx), %%rax",
                     "m" (operands));
}

static void flush(uint64_t type, const Space *space)
{
    verify("INVPCID", 0, invpcid(type, type < ALL_AND_GLOBAL ? space->pcid : 0,
                                 WINDOW));
}

static void copy_tables(Space *space)
{
    const uint64_t *from = page_table_4;
    int entry[] = { 0, WINDOW >> 30 & 511, 0 };

    for (int level = 0; level < 4; level++) {
        for (int i = 0; i < 512; i++) {
            space->tables[level][i] = from[i];
        }
        if (level < 3) {
            from = (uint64_t *)(from[entry[level]] & FRAME_MASK);
            space->tables[level][entry[level]] &= ~FRAME_MASK;
            space->tables[level][entry[level]] |=
                (uintptr_t)space->tables[level + 1];
        }
    }
}

static void setup(void)
{
    setup_idt();
    for (int i = 0; i < 2; i++) {
        copy_tables(&spaces[i]);
    }
    for (int i = 0; i < 4; i++) {
        *(volatile uint32_t *)(FRAME + 0x1000 * i) = NUMBER + i;
    }
}

static void check_enabling(void)
{
    uint64_t cr4 = read_cr4();

    load_cr3((uintptr_t)page_table_4 | CR3_PCD);
    ask_switch();
    verify("PCIDE while CR3 has other bits", VECTOR_GP,
           MAY_FAULT("movq %%cr4, %%rax\n\t"
                     "orl $0x20000, %%eax\n\t"
                     "movq %%rax, %%cr4"));
    load_cr3((uintptr_t)page_table_4);
    verify("INVPCID of a PCID without PCIDE", VECTOR_GP,
           invpcid(CONTEXT, 1, 0));
    verify("INVPCID of PCID 0 without PCIDE", 0, invpcid(CONTEXT, 0, 0));
    verify("CR3's highest bit without PCIDE", VECTOR_GP,
           MAY_FAULT("movq %%cr3, %%rax\n\t"
                     "btsq $63, %%rax\n\t"
                     "movq %%rax, %%cr3"));
    write_cr4(cr4 | CR4_PCIDE);
    ask_switch();
    verify("CR4 with PCIDE", cr4 | CR4_PCIDE, read_cr4());
    verify("paging off with PCIDE", VECTOR_GP,
           MAY_FAULT("movq %%cr0, %%rax\n\t"
                     "btrq $31, %%rax\n\t"
                     "movq %%rax, %%cr0"));
}

static void check_spaces(void)
{
    map(&spaces[0], 0, 0);
    map(&spaces[1], 1, 0);
    load_cr3(root(&spaces[0]));
    verify("the first space", NUMBER, load());
    ask_switch();
    load_cr3(root(&spaces[1]));
    verify("the second space", NUMBER + 1, load());
    verify("CR3", root(&spaces[1]), read_cr3());
    load_cr3(root(&spaces[0]) | NO_FLUSH);
    ask_switch();
    verify("CR3, loaded without a flush", root(&spaces[0]), read_cr3());
    verify("the first space again", NUMBER, load());
    ask_switch();
    load_cr3(root(&spaces[1]) | NO_FLUSH);
    verify("the second space again", NUMBER + 1, load());
    map(&spaces[0], 2, 0);
    ask_switch();
    load_cr3(root(&spaces[0]));
    verify("the first space, flushed by CR3", NUMBER + 2, load());
}

/* A translation of the other space's, and one of the own, are flushed. */
static void check_invpcid(uint64_t type)
{
    for (int own = 0; own < 2; own++) {
        const Space *now = &spaces[1];

        map(&spaces[0], 0, 0);
        map(&spaces[1], 1, 0);
        flush(ALL, now);
        load_cr3(root(&spaces[0]) | NO_FLUSH);
        verify("the first space", NUMBER, load());
        load_cr3(root(now) | NO_FLUSH);
        verify("the second space", NUMBER + 1, load());
        ask_switch();
        map(&spaces[own], 2 + own, 0);
        flush(type, &spaces[own]);
        ask_switch();
        if (!own) {
            load_cr3(root(&spaces[0]) | NO_FLUSH);
        }
        verify("flushed by INVPCID", NUMBER + 2 + own, load());
    }
}

static void check_global(void)
{
    write_cr4(read_cr4() | CR4_PGE);
    map(&spaces[0], 0, G);
    map(&spaces[1], 0, G);
    load_cr3(root(&spaces[0]));
    verify("a global page", NUMBER, load());
    map(&spaces[0], 3, G);
    map(&spaces[1], 3, G);
    ask_switch();
    flush(ALL_AND_GLOBAL, &spaces[0]);
    verify("a global page, flushed", NUMBER + 3, load());
    ask_switch();
    load_cr3(root(&spaces[1]) | NO_FLUSH);
    verify("and in the other space", NUMBER + 3, load());
    write_cr4(read_cr4() & ~(uint64_t)CR4_PGE);
}

static void check_faults(void)
{
    static const struct {
        const char *what;
        uint64_t type, pcid, address, vector;
    } table[] = {
        { "type 4", 4, 0, 0, VECTOR_GP },
        { "a PCID of 13 bits", CONTEXT, 0x1000, 0, VECTOR_GP },
        { "a high bit of the PCID", ADDRESS, NO_FLUSH, 0, VECTOR_GP },
        { "no canonical address", ADDRESS, 1, 1ull << 62, VECTOR_GP },
        { "an address that does not count", CONTEXT, 1, 1ull << 62, 0 },
    };

    for (int i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (i % 2) {
            ask_switch();
        }
        verify(table[i].what, table[i].vector,
               invpcid(table[i].type, table[i].pcid, table[i].address));
    }
    verify("another high bit of CR3", VECTOR_GP,
           MAY_FAULT("movq %%cr3, %%rax\n\t"
                     "btsq $62, %%rax\n\t"
                     "movq %%rax, %%cr3"));
}

static void check_disabling(void)
{
    map(&spaces[0], 0, 0);
    load_cr3((uintptr_t)spaces[0].tables[0]);
    verify("the first space as PCID 0", NUMBER, load());
    map(&spaces[0], 1, 0);
    ask_switch();
    write_cr4(read_cr4() & ~(uint64_t)CR4_PCIDE);
    verify("the first space, flushed by CR4", NUMBER + 1, load());
    ask_switch();
    verify("CR4 without PCIDE", 0, read_cr4() & CR4_PCIDE);
    load_cr3((uintptr_t)page_table_4);
}

void kernel_main(void)
{
    put_string("pcid64\n");
    setup();
    for (;;) {
        check_enabling();
        check_spaces();
        for (int type = ADDRESS; type <= ALL; type++) {
            check_invpcid(type);
        }
        check_global();
        check_faults();
        check_disabling();
        lap_done();
    }
}
