/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hostile64: writes whatever it is told to, to any register.
 *
 * Prints a '.' for each lap, in which it checks its own registers, and that
 * each control register, debug register and MSR that it was told to write
 * reads as it did right after that.
 *
 * A line on the serial line is a command:
 *
 *   KM INDEX VALUE     both numbers in hexadecimal
 *
 * K is the kind: 'w' an MSR, 'c' a control register, 'd' a debug register, 'x'
 * XCR0 and its like, 'm' MXCSR, 'g' and 'i' the bases of GDT and IDT.  M is '='
 * to write VALUE, '^' to write the old value with the bits VALUE flipped.  The
 * answer has the old and the new value, and the exception if there was one:
 *
 *   done: ok OLD NEW
 *   done: trap VECTOR OLD NEW
 *
 * 'q= LEAF SUBLEAF' asks CPUID:
 *
 *   done: cpuid EAX EBX ECX EDX
 *
 * The command 'r' gives every register its first value again, "done: restored".
 *
 * 'x' and 'm' are for TCG alone: a KVM that emulates CPL0 does not have them.
 */
#include "lib/long.h"
#include "lib/uart.h"

#define SPINS           2000
#define VECTOR_DB       1
#define RFLAGS_RF       (1 << 16)
#define DR7_GD          (1 << 13)
/* TCG keeps them; VM entry on VMX clears them (SDM volume 3, 27.3.1.1). */
#define DR7_RESERVED    0xd000
#define MSR_TSC         0x10
#define MSR_APIC_BASE   0x1b
#define APIC_BASE_MODE  0xc00
#define NO_EXCEPTION    0xff

typedef struct Register {
    char kind;
    uint32_t index;
    uint64_t first, now;
} Register;

typedef struct Table {
    uint16_t limit;
    uint64_t base;
} __attribute__((packed)) Table;

static Register changed[64];
static unsigned changed_count;

/* Where an exception goes on, if not NULL, and what came. */
static void *volatile resume_at;
static volatile uint32_t caught;

static void report(const char *what, char kind, uint32_t index,
                   uint64_t expected, uint64_t got)
{
    put_string("\nERROR ");
    put_string(what);
    put_char(' ');
    put_char(kind);
    put_char(' ');
    put_hex(index);
    put_string(" expected ");
    put_hex(expected);
    put_string(" got ");
    put_hex(got);
    put_char('\n');
}

void trap(Frame *frame)
{
    if (frame->vector == VECTOR_DB) {
        /* A breakpoint that a command has set: go on behind it. */
        frame->rflags |= RFLAGS_RF;
        return;
    }
    if (!resume_at) {
        report("exception", 'v', frame->vector, 0, frame->rip);
        debug_exit(2);
    }
    caught = frame->vector;
    frame->rip = (uintptr_t)resume_at;
}

/* Execute one instruction; an exception only sets @caught. */
#define ATTEMPT(instruction, ...) \
    asm volatile("movq $1f, %0\n\t" instruction "\n1:" \
                 : "=m" (resume_at) : __VA_ARGS__ : "memory")

/* The same for one that leaves 64 bits in @low and @high. */
#define ATTEMPT_READ(instruction, low, high, ...) \
    asm volatile("movq $1f, %0\n\t" instruction "\n1:" \
                 : "=m" (resume_at), "+a" (low), "+d" (high) \
                 : __VA_ARGS__ : "memory")

/* An exception must leave what came before it in the same block: @before. */
#define WRITE(name) \
    asm volatile("movq $1f, %0\n\taddq $1, %1\n\tmovq %2, %%" name "\n1:" \
                 : "=m" (resume_at), "+r" (before) : "r" (value) : "memory")

#define READ(name) \
    asm volatile("movq $1f, %0\n\tmovq %%" name ", %1\n1:" \
                 : "=m" (resume_at), "+r" (value) : : "memory")

static void check_before(uint64_t before)
{
    if (before != 1) {
        report("register before an exception", 'b', 0, 1, before);
    }
}

static void write_cr(uint32_t index, uint64_t value)
{
    uint64_t before = 0;

    switch (index) {
    case 0:
        WRITE("cr0");
        break;
    case 2:
        WRITE("cr2");
        break;
    case 3:
        WRITE("cr3");
        break;
    case 4:
        WRITE("cr4");
        break;
    case 8:
        WRITE("cr8");
        break;
    }
    check_before(before);
}

static uint64_t read_cr(uint32_t index)
{
    uint64_t value = 0;

    switch (index) {
    case 0:
        READ("cr0");
        break;
    case 2:
        READ("cr2");
        break;
    case 3:
        READ("cr3");
        break;
    case 4:
        READ("cr4");
        break;
    case 8:
        READ("cr8");
        break;
    }
    return value;
}

static void write_dr(uint32_t index, uint64_t value)
{
    uint64_t before = 0;

    switch (index) {
    case 0:
        WRITE("db0");
        break;
    case 1:
        WRITE("db1");
        break;
    case 2:
        WRITE("db2");
        break;
    case 3:
        WRITE("db3");
        break;
    case 6:
        WRITE("db6");
        break;
    case 7:
        WRITE("db7");
        break;
    }
    check_before(before);
}

static uint64_t read_dr(uint32_t index)
{
    uint64_t value = 0;

    switch (index) {
    case 0:
        READ("db0");
        break;
    case 1:
        READ("db1");
        break;
    case 2:
        READ("db2");
        break;
    case 3:
        READ("db3");
        break;
    case 6:
        READ("db6");
        break;
    case 7:
        READ("db7");
        break;
    }
    return value;
}

static void write_table(char kind, uint64_t base)
{
    Table table = { 0, 0 };

    if (kind == 'g') {
        asm volatile("sgdt %0" : "=m" (table));
        table.base = base;
        ATTEMPT("lgdt %[table]", [table] "m" (table));
    } else {
        asm volatile("sidt %0" : "=m" (table));
        table.base = base;
        ATTEMPT("lidt %[table]", [table] "m" (table));
    }
}

static uint64_t read_table(char kind)
{
    Table table = { 0, 0 };

    if (kind == 'g') {
        asm volatile("sgdt %0" : "=m" (table));
    } else {
        asm volatile("sidt %0" : "=m" (table));
    }
    return table.base;
}

/* Returns the exception, or NO_EXCEPTION. */
static uint32_t write_register(char kind, uint32_t index, uint64_t value)
{
    uint32_t low = value, high = value >> 32;

    caught = NO_EXCEPTION;
    switch (kind) {
    case 'w':
        ATTEMPT("wrmsr", "c" (index), "a" (low), "d" (high));
        break;
    case 'c':
        write_cr(index, value);
        break;
    case 'd':
        write_dr(index, value);
        break;
    case 'x':
        ATTEMPT("xsetbv", "c" (index), "a" (low), "d" (high));
        break;
    case 'm':
        ATTEMPT("ldmxcsr %[value]", [value] "m" (low));
        break;
    case 'g':
    case 'i':
        write_table(kind, value);
        break;
    }
    resume_at = NULL;
    return caught;
}

/* 0 if it can't be read. */
static uint64_t read_register(char kind, uint32_t index)
{
    uint32_t low = 0, high = 0;
    uint64_t value = 0;

    switch (kind) {
    case 'w':
        ATTEMPT_READ("rdmsr", low, high, "c" (index));
        value = low | (uint64_t)high << 32;
        break;
    case 'c':
        value = read_cr(index);
        break;
    case 'd':
        value = read_dr(index);
        break;
    case 'x':
        ATTEMPT_READ("xgetbv", low, high, "c" (index));
        value = low | (uint64_t)high << 32;
        break;
    case 'm':
        asm volatile("movq $1f, %0\n\tstmxcsr %1\n1:"
                     : "=m" (resume_at), "+m" (low));
        value = low;
        break;
    case 'g':
    case 'i':
        value = read_table(kind);
        break;
    }
    resume_at = NULL;
    return value;
}

/* What of a register stays as it was written, and can be read anywhere. */
static uint64_t steady_bits(char kind, uint32_t index)
{
    switch (kind) {
    case 'w':
        return index == MSR_TSC ? 0 : -1ull;
    case 'd':
        /* A breakpoint changes DR6; GD is cleared by its own exception. */
        return index == 6 ? 0 :
               index == 7 ? ~(uint64_t)(DR7_GD | DR7_RESERVED) : -1ull;
    case 'c':
        return -1ull;
    default:
        return 0;
    }
}

static Register *find_register(char kind, uint32_t index)
{
    unsigned i;

    for (i = 0; i < changed_count; i++) {
        if (changed[i].kind == kind && changed[i].index == index) {
            return &changed[i];
        }
    }
    if (changed_count == 64) {
        report("too many registers", kind, index, 0, 0);
        debug_exit(2);
    }
    changed[i].kind = kind;
    changed[i].index = index;
    changed[i].first = changed[i].now = read_register(kind, index);
    changed_count++;
    return &changed[i];
}

static void obey_write(char kind, bool flip, uint32_t index, uint64_t value)
{
    Register *r = find_register(kind, index);
    uint64_t old = read_register(kind, index);
    uint32_t vector = write_register(kind, index, flip ? old ^ value : value);

    r->now = read_register(kind, index);
    if (vector != NO_EXCEPTION &&
        (old ^ r->now) & steady_bits(kind, index)) {
        report("changed in spite of an exception", kind, index, old, r->now);
    }
    put_string("\ndone: ");
    if (vector == NO_EXCEPTION) {
        put_string("ok ");
    } else {
        put_string("trap ");
        put_hex(vector);
        put_char(' ');
    }
    put_hex(old);
    put_char(' ');
    put_hex(r->now);
    put_char('\n');
}

/*
 * One register may be in the way of another (XCR0 without CR4.OSXSAVE): go over
 * all of them, the last first, until each has its first value.
 */
static void obey_restore(void)
{
    for (unsigned tries = 0; tries <= changed_count; tries++) {
        bool good = true;

        for (int i = changed_count - 1; i >= 0; i--) {
            Register *r = &changed[i];

            if (r->kind == 'w' && r->index == MSR_APIC_BASE &&
                r->first != r->now) {
                /* From x2APIC mode there is no way but over disabled. */
                write_register('w', MSR_APIC_BASE, r->first & ~APIC_BASE_MODE);
            }
            write_register(r->kind, r->index, r->first);
            r->now = read_register(r->kind, r->index);
            if ((r->first ^ r->now) & steady_bits(r->kind, r->index)) {
                good = false;
            }
        }
        if (good) {
            changed_count = 0;
            put_string("\ndone: restored\n");
            return;
        }
    }
    for (unsigned i = 0; i < changed_count; i++) {
        Register *r = &changed[i];

        if ((r->first ^ r->now) & steady_bits(r->kind, r->index)) {
            report("not restored", r->kind, r->index, r->first, r->now);
        }
    }
    debug_exit(2);
}

static char receive(void)
{
    char command;

    while (!told(&command)) {
        ;
    }
    return command;
}

static uint64_t receive_hex(void)
{
    uint64_t value = 0;

    for (;;) {
        char c = receive();

        if (c >= '0' && c <= '9') {
            value = value << 4 | (c - '0');
        } else if (c >= 'a' && c <= 'f') {
            value = value << 4 | (c - 'a' + 10);
        } else {
            return value;
        }
    }
}

static void obey_cpuid(uint32_t leaf, uint32_t subleaf)
{
    uint32_t registers[4];

    asm volatile("cpuid" : "=a" (registers[0]), "=b" (registers[1]),
                           "=c" (registers[2]), "=d" (registers[3])
                         : "a" (leaf), "c" (subleaf));
    put_string("\ndone: cpuid");
    for (int i = 0; i < 4; i++) {
        put_char(' ');
        put_hex(registers[i]);
    }
    put_char('\n');
}

static void obey(char kind)
{
    uint64_t index;
    bool flip;

    if (kind == 'r') {
        obey_restore();
        return;
    }
    flip = receive() == '^';
    receive();
    index = receive_hex();
    if (kind == 'q') {
        obey_cpuid(index, receive_hex());
    } else {
        obey_write(kind, flip, index, receive_hex());
    }
}

/* All general registers but RSP with known contents through a loop. */
static void check_own_registers(uint64_t seed)
{
    uint64_t sum = seed;

    asm volatile(
        "leaq 1(%%rax), %%rbx\n\t"
        "leaq 2(%%rax), %%rdx\n\t"
        "leaq 3(%%rax), %%rsi\n\t"
        "leaq 4(%%rax), %%rdi\n\t"
        "leaq 5(%%rax), %%rbp\n\t"
        "leaq 6(%%rax), %%r8\n\t"
        "leaq 7(%%rax), %%r9\n\t"
        "leaq 8(%%rax), %%r10\n\t"
        "leaq 9(%%rax), %%r11\n\t"
        "leaq 10(%%rax), %%r12\n\t"
        "leaq 11(%%rax), %%r13\n\t"
        "leaq 12(%%rax), %%r14\n\t"
        "leaq 13(%%rax), %%r15\n\t"
        "movl %1, %%ecx\n"
        "1:\n\t"
        "decq %%rcx\n\t"
        "jnz 1b\n\t"
        "addq %%rbx, %%rax\n\t"
        "addq %%rdx, %%rax\n\t"
        "addq %%rsi, %%rax\n\t"
        "addq %%rdi, %%rax\n\t"
        "addq %%rbp, %%rax\n\t"
        "addq %%r8, %%rax\n\t"
        "addq %%r9, %%rax\n\t"
        "addq %%r10, %%rax\n\t"
        "addq %%r11, %%rax\n\t"
        "addq %%r12, %%rax\n\t"
        "addq %%r13, %%rax\n\t"
        "addq %%r14, %%rax\n\t"
        "addq %%r15, %%rax\n\t"
        : "+a" (sum) : "i" (SPINS)
        : "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "r8", "r9", "r10", "r11",
          "r12", "r13", "r14", "r15", "cc");
    if (sum != 14 * seed + 13 * 14 / 2) {
        report("own registers", 'o', 0, 14 * seed + 13 * 14 / 2, sum);
    }
}

static void check_changed_registers(void)
{
    for (unsigned i = 0; i < changed_count; i++) {
        Register *r = &changed[i];
        uint64_t mask = steady_bits(r->kind, r->index);
        uint64_t now = mask ? read_register(r->kind, r->index) : 0;

        if ((now ^ r->now) & mask) {
            report("register", r->kind, r->index, r->now, now);
            r->now = now;
        }
    }
}

void kernel_main(void)
{
    uint64_t pattern = 0x123456789abcdef;
    char command;

    setup_idt();
    put_string("hostile64\n");
    for (;;) {
        check_own_registers(next_pattern(&pattern));
        if (told(&command)) {
            obey(command);
        }
        check_changed_registers();
        put_char('.');
    }
}
