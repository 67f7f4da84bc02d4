/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * soak64: a 64-bit guest that checks itself while it is switched, CPL0 half.
 *
 * It prints a '.' for each lap, a status line now and then, and "ERROR what
 * expected x got y" for whatever is not as it was left.  It runs for ever, or
 * for as many laps as the 32-bit number at address 0x500 tells (-device
 * loader,addr=0x500,data=N,data-len=4), then prints "DIGEST", which depends on
 * nothing but the number of laps, and ends QEMU by isa-debug-exit.
 * A 1 at address 0x504 says that KVM shows more in CPUID than QEMU gives it.
 */
#include "lib/long.h"
#include "soak64.h"

#define PIT_HERTZ       250
/* LAPIC clock: 1 GHz in QEMU and in KVM. */
#define TIMER_COUNT     3000000
/* Between the timer's modes, one-shot and periodic. */
#define TIMER_MODE_TICKS 64
#define STATUS_LAPS     256
#define MAX_REPORTS     20
#define SHOWS_MORE      (*(volatile uint32_t *)0x504)

#define MSR_STAR        0xc0000081
#define MSR_LSTAR       0xc0000082
#define MSR_CSTAR       0xc0000083
#define MSR_SFMASK      0xc0000084
#define MSR_FS_BASE     0xc0000100
#define MSR_GS_BASE     0xc0000101
#define MSR_KERNEL_GS_BASE 0xc0000102
#define MSR_SYSENTER_CS 0x174
#define MSR_SYSENTER_ESP 0x175
#define MSR_SYSENTER_EIP 0x176
#define MSR_PAT         0x277
#define MSR_EFER        0xc0000080
#define MSR_APIC_BASE   0x1b

uint8_t frames[FRAMES][4096] __attribute__((aligned(4096)));
volatile uint64_t user_tsc;
volatile uint64_t pit_tsc;
volatile uint64_t timer_tsc;

static uint8_t user_stack[16384] __attribute__((aligned(16)));

static uint64_t laps, laps_wanted, errors;
static uint64_t pit_ticks, timer_ticks, halts;
static bool timer_periodic;

static void report(const char *what, uint64_t expected, uint64_t got)
{
    if (++errors > MAX_REPORTS) {
        return;
    }
    put_string("\nERROR ");
    put_string(what);
    put_string(" expected ");
    put_hex(expected);
    put_string(" got ");
    put_hex(got);
    put_string(" in lap ");
    put_decimal(laps);
    put_char('\n');
}

static void check(const char *what, uint64_t expected, uint64_t got)
{
    if (expected != got) {
        report(what, expected, got);
    }
}

/*
 * MSRs that keep what is written, with what is written to them.  An AMD
 * processor keeps 32 bits of the SYSENTER registers, Intel's 64.
 */
static const struct {
    const char *name;
    uint32_t msr;
    uint64_t value;
} kept_msrs[] = {
    { "STAR",           MSR_STAR,           0x0010000800000000 },
    { "LSTAR",          MSR_LSTAR,          0xffff800012345670 },
    { "CSTAR",          MSR_CSTAR,          0xffff800023456780 },
    { "SFMASK",         MSR_SFMASK,         0x47700 },
    { "KERNEL_GS_BASE", MSR_KERNEL_GS_BASE, 0xffff880034567890 },
    { "SYSENTER_CS",    MSR_SYSENTER_CS,    0x1230 },
    { "SYSENTER_ESP",   MSR_SYSENTER_ESP,   0x321089a0 },
    { "SYSENTER_EIP",   MSR_SYSENTER_EIP,   0x321089b0 },
    { "PAT",            MSR_PAT,            0x0007040100070406 },
};

/* Control registers and MSRs whose value at the start must stay. */
static uint64_t first_cr0, first_cr3, first_cr4, first_efer, first_apic_base;

#define READ_REGISTER(name) ({                          \
        uint64_t value_;                                \
        asm volatile("mov %%" name ", %0" : "=r" (value_)); \
        value_; })
#define WRITE_REGISTER(name, value)                     \
        asm volatile("mov %0, %%" name : : "r" ((uint64_t)(value)))

static uint64_t digest_cpuid(uint32_t leaf, uint32_t subleaf)
{
    uint64_t digest = 0xcbf29ce484222325;
    uint32_t a, b, c, d;

    asm volatile("cpuid" : "=a" (a), "=b" (b), "=c" (c), "=d" (d)
                         : "a" (leaf), "c" (subleaf));
    digest = (digest ^ a) * 0x100000001b3;
    digest = (digest ^ b) * 0x100000001b3;
    digest = (digest ^ c) * 0x100000001b3;
    return (digest ^ d) * 0x100000001b3;
}

/*
 * Each leaf is the same under both accelerators.  Only where KVM is known to
 * show features that TCG hides (SHOWS_MORE) it may have two values, one for
 * each.
 */
static void check_cpuid_leaf(int number, uint32_t leaf, uint32_t subleaf)
{
    static struct {
        uint64_t first, other;
    } leaves[64];
    uint64_t digest = digest_cpuid(leaf, subleaf);
    uint64_t *other = &leaves[number].other;

    if (!leaves[number].first) {
        leaves[number].first = digest;
    } else if (SHOWS_MORE && digest != leaves[number].first) {
        *other = *other ?: digest;
        check("CPUID under the other accelerator", *other, digest);
    } else {
        check("CPUID", leaves[number].first, digest);
    }
}

static void check_cpuid(void)
{
    static const uint32_t subleaves[][2] = {
        { 4, 1 }, { 7, 1 }, { 0xd, 1 }, { 0xd, 2 },
        { 0x40000000, 0 }, { 0x40000001, 0 },
    };
    int number = 0;

    for (uint32_t leaf = 0; leaf <= 0x16; leaf++) {
        check_cpuid_leaf(number++, leaf, 0);
    }
    for (int i = 0; i < sizeof(subleaves) / sizeof(subleaves[0]); i++) {
        check_cpuid_leaf(number++, subleaves[i][0], subleaves[i][1]);
    }
    for (uint32_t leaf = 0; leaf <= 0x1f; leaf++) {
        check_cpuid_leaf(number++, 0x80000000 + leaf, 0);
    }
}

static void setup_system(void)
{
    for (int i = 0; i < sizeof(kept_msrs) / sizeof(kept_msrs[0]); i++) {
        wrmsr(kept_msrs[i].msr, kept_msrs[i].value);
    }
    WRITE_REGISTER("cr8", 1);
    WRITE_REGISTER("dr0", 0x12345678);
    WRITE_REGISTER("dr1", 0x23456789);
    WRITE_REGISTER("dr2", 0x3456789a);
    WRITE_REGISTER("dr3", 0x456789ab);
    first_cr0 = READ_REGISTER("cr0");
    first_cr3 = READ_REGISTER("cr3");
    first_cr4 = READ_REGISTER("cr4");
    first_efer = rdmsr(MSR_EFER);
    first_apic_base = rdmsr(MSR_APIC_BASE);
    check_cpuid();
}

static void check_system(void)
{
    uint16_t tr;

    for (int i = 0; i < sizeof(kept_msrs) / sizeof(kept_msrs[0]); i++) {
        check(kept_msrs[i].name, kept_msrs[i].value, rdmsr(kept_msrs[i].msr));
    }
    check("CR8", 1, READ_REGISTER("cr8"));
    check("DR0", 0x12345678, READ_REGISTER("dr0"));
    check("DR1", 0x23456789, READ_REGISTER("dr1"));
    check("DR2", 0x3456789a, READ_REGISTER("dr2"));
    check("DR3", 0x456789ab, READ_REGISTER("dr3"));
    check("CR0", first_cr0, READ_REGISTER("cr0"));
    check("CR3", first_cr3, READ_REGISTER("cr3"));
    check("CR4", first_cr4, READ_REGISTER("cr4"));
    check("EFER", first_efer, rdmsr(MSR_EFER));
    check("APIC_BASE", first_apic_base, rdmsr(MSR_APIC_BASE));
    check_cpuid();
    asm volatile("str %0" : "=r" (tr));
    check("TR", TSS_SELECTOR, tr);
}

static void check_tsc(uint64_t now)
{
    static uint64_t last;

    if (now < last) {
        report("TSC after", last, now);
    }
    if (now < user_tsc) {
        report("TSC after CPL3's", user_tsc, now);
    }
    last = now;
}

static void interrupt(Frame *frame)
{
    uint64_t now = rdtsc();

    check_tsc(now);
    if (frame->cs == KERNEL_CS && halts % 2 == 0) {
        report("no interrupt at CPL0, at RIP", frame->vector, frame->rip);
    } else if (frame->cs != KERNEL_CS) {
        check("CS of an interrupt", USER_CS, frame->cs);
    }
    if (frame->vector == VECTOR_PIT) {
        pit_ticks++;
        pit_tsc = now;
        pic_eoi();
    } else if (frame->vector == VECTOR_TIMER) {
        timer_ticks++;
        timer_tsc = now;
        if (timer_ticks % TIMER_MODE_TICKS == 0) {
            timer_periodic = !timer_periodic;
            lapic_timer(TIMER_COUNT, timer_periodic);
        } else if (!timer_periodic) {
            lapic_timer(TIMER_COUNT, false);
        }
        lapic_eoi();
    } else if (frame->vector > VECTOR_PIT && frame->vector <= VECTOR_PIC_LAST) {
        /* Spurious: the PIC's input went away.  Nothing here makes one. */
        report("vector of the PIC", VECTOR_PIT, frame->vector);
    }
}

static void map(uint64_t argument)
{
    uint64_t page = argument % WINDOW_PAGES;
    uint64_t frame = argument / WINDOW_PAGES % FRAMES;
    uint8_t *address = (uint8_t *)(uintptr_t)(WINDOW + page * 4096);

    window_table_1[page] = (uintptr_t)frames[frame] | 7;
    asm volatile("invlpg %0" : : "m" (*address) : "memory");
}

static void print_status(void)
{
    put_string("\nlap ");
    put_decimal(laps);
    put_string(" pit ");
    put_decimal(pit_ticks);
    put_string(" timer ");
    put_decimal(timer_ticks);
    put_string(" tsc ");
    put_decimal(rdtsc());
    put_string(" errors ");
    put_decimal(errors);
    put_char('\n');
}

static bool lap(uint64_t digest)
{
    put_char('.');
    if (++laps % STATUS_LAPS == 0) {
        print_status();
    }
    if (laps != laps_wanted) {
        return true;
    }
    print_status();
    put_string("DIGEST ");
    put_hex(digest);
    put_char('\n');
    debug_exit(errors ? 1 : 0);
}

static uint64_t call(uint64_t function, uint64_t argument)
{
    const Mismatch *mismatch = (const Mismatch *)argument;

    switch (function) {
    case CALL_MISMATCH:
        report(mismatch->what, mismatch->expected, mismatch->got);
        return 0;
    case CALL_LAP:
        return lap(argument);
    case CALL_MAP:
        map(argument);
        return 0;
    case CALL_HALT:
        /* Odd while halted, for interrupt(). */
        halts++;
        asm volatile("sti; hlt; cli" : : : "memory");
        halts++;
        return 0;
    case CALL_CHECK_SYSTEM:
        check_system();
        return 0;
    }
    report("kernel_call", 0, function);
    return 0;
}

void trap(Frame *frame)
{
    if (frame->vector >= VECTOR_PIT) {
        interrupt(frame);
        return;
    }
    if (frame->vector == VECTOR_UD && frame->rip == (uintptr_t)kernel_call) {
        frame->rax = call(frame->rdi, frame->rsi);
        frame->rip += 2;
        return;
    }
    if (frame->vector == VECTOR_NMI) {
        /* From outside: there is nothing to do. */
        return;
    }
    report("no exception, at RIP", frame->rip, frame->vector);
    debug_exit(2);
}

void kernel_main(void)
{
    laps_wanted = *(volatile uint32_t *)0x500;
    setup_idt();
    setup_lapic();
    setup_system();
    for (int i = 0; i < WINDOW_PAGES; i++) {
        map(i + i * WINDOW_PAGES);
    }
    put_string("soak64\n");
    pit_tsc = timer_tsc = rdtsc();
    setup_pit(PIT_HERTZ);
    lapic_timer(TIMER_COUNT, false);
    enter_user(user_main, user_stack + sizeof(user_stack) - 8);
}
