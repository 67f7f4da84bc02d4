/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * control64: what control registers and MSRs turn on, set under one accelerator
 * and felt under the other: CR0.TS and EM; CR4.TSD, DE, OSFXSR, UMIP, FSGSBASE,
 * SMEP, SMAP and PKE; CR8 and the TPR; EFER.SCE; XCR0.  MSRs keep what is
 * written: PAT, MTRRs, those of SYSENTER and SYSCALL, bases.  CPUID says the
 * same.
 */
#include "lib/code.h"
#include "lib/control.h"
#include "lib/fault.h"
#include "control64.h"

#define VECTOR_NM       7

#define FAULT_KEY       0x20

#define CR0_MP          0x2
#define CR0_EM          0x4
#define CR0_TS          0x8
#define CR0_WP          0x10000
#define CR4_TSD         0x4
#define CR4_DE          0x8
#define CR4_OSFXSR      0x200
#define CR4_UMIP        0x800
#define CR4_FSGSBASE    0x10000
#define CR4_OSXSAVE     0x40000
#define CR4_SMEP        0x100000
#define CR4_SMAP        0x200000
#define CR4_PKE         0x400000

#define MSR_EFER        0xc0000080
#define EFER_SCE        1

#define XCR0_AVX        4

#define P_RW            3
#define P_USER          4
#define FRAME_MASK      0x000ffffffffff000ull
#define PKEY(n)         ((uint64_t)(n) << 59)
#define PKRU_AD(n)      (1u << 2 * (n))
#define PKRU_WD(n)      (2u << 2 * (n))

#define FRAME           0x1000000ull
#define CODE            64
#define NUMBER          0xf00d0000
#define RETURNS         0xc0de0000

#define NOT_CANONICAL   "0x1234567812345670"

#define FLAGS           0x3002          /* IOPL 3: CPL3 may ask for a switch */

static uint64_t user_stack[64] __attribute__((aligned(16)));
static Frame seen;
static bool at_user;
static uint64_t state = 24;

void trap(Frame *frame)
{
    if (at_user) {
        at_user = false;
        seen = *frame;
        return_to_caller(frame);
    } else if (!fault_taken(frame)) {
        check_value("no other trap, at RIP", frame->rip, frame->vector);
        debug_exit(2);
    }
}

static void flush_all(void)
{
    write_cr3(page_table_4);
}

/* The vector of the fault at CPL3's @function, or that of UD2 at its end. */
static uint64_t user(void (*function)(void), uint64_t rax, uint64_t rbx)
{
    Frame entry = {
        .rax = rax, .rbx = rbx, .rip = (uintptr_t)function, .cs = USER_CS,
        .rflags = FLAGS, .rsp = (uintptr_t)(user_stack + 64), .ss = USER_DS,
    };

    at_user = true;
    run(&entry);
    return seen.vector;
}

static void check_user(const char *what, void (*function)(void),
                       uint64_t fault_vector)
{
    uintptr_t end = fault_vector ? (uintptr_t)function : (uintptr_t)user_done;

    verify(what, fault_vector ? fault_vector : VECTOR_UD,
           user(function, 0, 0));
    verify(what, true, seen.rip == end);
}

static void check_cr0(void)
{
    uint64_t cr0 = read_cr0();

    write_cr0(cr0 | CR0_TS | CR0_MP);
    ask_switch();
    verify("CR0 with TS", cr0 | CR0_TS | CR0_MP, read_cr0());
    verify("x87 with TS", VECTOR_NM, MAY_FAULT("fnop"));
    ask_switch();
    verify("WAIT with TS and MP", VECTOR_NM, MAY_FAULT("fwait"));
    verify("SSE with TS", VECTOR_NM, MAY_FAULT("xorps %%xmm0, %%xmm0"));
    asm volatile("clts" : : : "memory");
    ask_switch();
    verify("x87 after CLTS", 0, MAY_FAULT("fnop"));
    write_cr0(cr0 | CR0_EM);
    ask_switch();
    verify("x87 with EM", VECTOR_NM, MAY_FAULT("fnop"));
    verify("SSE with EM", VECTOR_UD, MAY_FAULT("xorps %%xmm0, %%xmm0"));
    write_cr0(cr0);
    ask_switch();
    verify("SSE again", 0, MAY_FAULT("xorps %%xmm0, %%xmm0"));
}

static void check_cr4(void)
{
    uint64_t cr4 = read_cr4();

    write_cr4((cr4 & ~(uint64_t)CR4_OSFXSR) | CR4_DE);
    ask_switch();
    verify("SSE without OSFXSR", VECTOR_UD, MAY_FAULT("xorps %%xmm0, %%xmm0"));
    verify("DR4 with DE", VECTOR_UD, MAY_FAULT("mov %%dr4, %%rax"));
    write_cr4(cr4 | CR4_TSD | CR4_UMIP);
    ask_switch();
    verify("SSE with OSFXSR", 0, MAY_FAULT("xorps %%xmm0, %%xmm0"));
    verify("DR4 without DE", 0, MAY_FAULT("mov %%dr4, %%rax"));
    check_user("RDTSC with TSD", user_tsc, VECTOR_GP);
    check_user("SGDT with UMIP", user_sgdt, VECTOR_GP);
    ask_switch();
    check_user("SMSW with UMIP", user_smsw, VECTOR_GP);
    write_cr4(cr4);
    ask_switch();
    check_user("RDTSC without TSD", user_tsc, 0);
    check_user("SGDT without UMIP", user_sgdt, 0);
    check_user("FSGSBASE off", user_bases, VECTOR_UD);
    write_cr4(cr4 | CR4_FSGSBASE);
    ask_switch();
    verify("FSGSBASE on", VECTOR_UD,
           user(user_bases, next_pattern(&state) >> 17,
                next_pattern(&state) >> 17));
    verify("FS's base", seen.rax, seen.rcx);
    verify("GS's base", seen.rbx, seen.rdx);
    verify("FS's base, not canonical", VECTOR_GP,
           MAY_FAULT("movabs $" NOT_CANONICAL ", %%rax\n\twrfsbase %%rax"));
    ask_switch();
    verify("GS's base, not canonical", VECTOR_GP,
           MAY_FAULT("movabs $" NOT_CANONICAL ", %%rax\n\twrgsbase %%rax"));
    write_cr4(cr4);
}

/*
 * In TCG RIP is where no code can be when the switch comes, which has to wait
 * for the fault.
 */
static void check_wild_jump(void)
{
    verify("jump to what is not canonical", VECTOR_GP,
           MAY_FAULT("movw $" STRING(SWITCH_PORT) ", %%dx\n\t"
                     "movb $" STRING(SWITCH_TO_OTHER) ", %%al\n\t"
                     "movabs $" NOT_CANONICAL ", %%rcx\n\t"
                     "outb %%al, %%dx\n\t"
                     "jmp *%%rcx"));
    while (switch_waits()) {
        continue;
    }
}

/* All that the kernel is in is the supervisor's, or not. */
static void set_supervisor(bool on)
{
    uint64_t *table_3 = (uint64_t *)(page_table_4[0] & FRAME_MASK);
    uint64_t *table_2 = (uint64_t *)(table_3[0] & FRAME_MASK);

    for (int i = 0; i < 512; i++) {
        table_2[i] = on ? table_2[i] & ~(uint64_t)P_USER : table_2[i] | P_USER;
    }
    flush_all();
}

static void check_page_fault(const char *what, uint64_t taken, uint64_t code)
{
    verify(what, taken + 1, fault.count);
    verify(what, VECTOR_PF, fault.vector);
    verify(what, code, fault.error_code);
}

static void check_smep_smap(void)
{
    uint64_t cr4 = read_cr4(), taken;

    set_supervisor(true);
    window_table_1[0] = FRAME | P_USER | P_RW;
    flush_all();
    verify("user's code", RETURNS, may_call(WINDOW + CODE));
    write_cr4(cr4 | CR4_SMEP);
    ask_switch();
    taken = fault.count;
    may_call(WINDOW + CODE);
    check_page_fault("SMEP", taken, FAULT_P | FAULT_FETCH);
    verify("user's data with SMEP", NUMBER, may_load(WINDOW));
    write_cr4(cr4 | CR4_SMAP);
    ask_switch();
    taken = fault.count;
    may_load(WINDOW);
    check_page_fault("SMAP", taken, FAULT_P);
    asm volatile("stac" : : : "memory", "cc");
    ask_switch();
    verify("user's data with AC", NUMBER, may_load(WINDOW));
    asm volatile("clac" : : : "memory", "cc");
    ask_switch();
    taken = fault.count;
    may_store(WINDOW, NUMBER);
    check_page_fault("SMAP, store", taken, FAULT_P | FAULT_W);
    write_cr4(cr4);
    ask_switch();
    verify("user's code again", RETURNS, may_call(WINDOW + CODE));
    set_supervisor(false);
}

static void write_pkru(uint32_t value)
{
    asm volatile("wrpkru" : : "a" (value), "c" (0), "d" (0) : "memory");
}

static uint32_t read_pkru(void)
{
    uint32_t value;

    asm volatile("rdpkru" : "=a" (value) : "c" (0) : "edx");
    return value;
}

static void check_keys(void)
{
    uint64_t cr4 = read_cr4(), taken;

    window_table_1[0] = FRAME | PKEY(3) | P_USER | P_RW;
    flush_all();
    write_cr4(cr4 | CR4_PKE);
    write_pkru(PKRU_AD(3));
    ask_switch();
    verify("PKRU", PKRU_AD(3), read_pkru());
    taken = fault.count;
    may_load(WINDOW);
    check_page_fault("key", taken, FAULT_KEY | FAULT_P);
    verify("code has no key", RETURNS, may_call(WINDOW + CODE));
    write_pkru(PKRU_WD(3) | PKRU_AD(4));
    ask_switch();
    verify("only stores are denied", NUMBER, may_load(WINDOW));
    taken = fault.count;
    may_store(WINDOW, NUMBER);
    check_page_fault("key, store", taken, FAULT_KEY | FAULT_P | FAULT_W);
    window_table_1[0] = FRAME | PKEY(4) | P_USER | P_RW;
    flush_all();
    ask_switch();
    taken = fault.count;
    may_load(WINDOW);
    check_page_fault("another key", taken, FAULT_KEY | FAULT_P);
    write_cr4(cr4);
    ask_switch();
    verify("without keys", NUMBER, may_load(WINDOW));
    write_cr4(cr4 | CR4_PKE);
    verify("PKRU again", PKRU_WD(3) | PKRU_AD(4), read_pkru());
    write_pkru(0);
    write_cr4(cr4);
}

static void write_xcr0(uint32_t value)
{
    asm volatile("xsetbv" : : "a" (value), "d" (0), "c" (0) : "memory");
}

#define XSAVE(instruction, mask)                                        \
    MAY_FAULT("movl %3, %%eax\n\t"                                      \
              "xorl %%edx, %%edx\n\t"                                   \
              instruction " (%2)", "r" (&xsave_area), "r" (mask))

static struct {
    uint8_t x87[24];
    uint32_t mxcsr, others[249];
} xsave_area __attribute__((aligned(64)));

/* MXCSR goes with AVX's state, too (SDM vol. 1, 13.5.2). */
static void check_xsave(void)
{
    static const uint32_t initial = 0x1f80, up = 0x5f80;
    uint64_t cr0 = read_cr0();
    uint32_t mxcsr;

    write_cr0(cr0 | CR0_TS);
    ask_switch();
    verify("XSAVE with TS", VECTOR_NM, XSAVE("xsave64", XCR0_AVX));
    verify("XRSTOR with TS", VECTOR_NM, XSAVE("xrstor64", XCR0_AVX));
    write_cr0(cr0);
    asm volatile("ldmxcsr %0" : : "m" (up));
    ask_switch();
    verify("XSAVE of AVX", 0, XSAVE("xsave64", XCR0_AVX));
    verify("MXCSR saved", up, xsave_area.mxcsr);
    asm volatile("ldmxcsr %0" : : "m" (initial));
    ask_switch();
    verify("XRSTOR of AVX", 0, XSAVE("xrstor64", XCR0_AVX));
    asm volatile("stmxcsr %0" : "=m" (mxcsr));
    verify("MXCSR loaded", up, mxcsr);
    asm volatile("ldmxcsr %0" : : "m" (initial));
}

/* What XCR0 turns off is as it was when it is on again. */
static void check_xcr0(void)
{
    uint64_t cr4 = read_cr4(), pattern[4], got[4];

    write_cr4(cr4 | CR4_OSXSAVE);
    write_xcr0(3 | XCR0_AVX);
    for (int i = 0; i < 4; i++) {
        pattern[i] = next_pattern(&state);
    }
    asm volatile("vmovups %0, %%ymm3" : : "m" (pattern));
    write_xcr0(3);
    ask_switch();
    verify("AVX without XCR0", VECTOR_UD,
           MAY_FAULT("vmovups %%ymm3, -32(%%rsp)"));
    write_xcr0(3 | XCR0_AVX);
    asm volatile("vmovups %%ymm3, %0" : "=m" (got));
    for (int i = 0; i < 4; i++) {
        verify("YMM3", pattern[i], got[i]);
    }
    check_xsave();
    ask_switch();
    write_xcr0(1);
    write_cr4(cr4);
}

static void check_cr8(void)
{
    uint64_t value;

    asm volatile("mov %0, %%cr8" : : "r" (5ull));
    ask_switch();
    verify("TPR by CR8", 0x50, *lapic(LAPIC_TPR));
    *lapic(LAPIC_TPR) = 0x70;
    ask_switch();
    asm volatile("mov %%cr8, %0" : "=r" (value));
    verify("CR8 by TPR", 7, value);
    *lapic(LAPIC_TPR) = 0;
}

static void check_syscall(void)
{
    uint64_t efer = rdmsr(MSR_EFER);

    wrmsr(MSR_EFER, efer & ~(uint64_t)EFER_SCE);
    ask_switch();
    verify("SYSCALL without SCE", VECTOR_UD, MAY_FAULT("syscall"));
    verify("EFER", efer & ~(uint64_t)EFER_SCE, rdmsr(MSR_EFER));
    wrmsr(MSR_EFER, efer);
}

/* Each keeps these bits of a pattern, with others that are always set. */
static const struct {
    uint32_t msr;
    uint64_t mask, set;
} msrs[] = {
    { 0x174, 0xffff, 0 },                               /* SYSENTER_CS */
    { 0x175, 0xffffffff, 0 }, { 0x176, 0xffffffff, 0 },
    { 0x277, 0x0101010101010101, 0x0404040404040404 },  /* PAT */
    { 0x200, 0x3ffff000, 6 }, { 0x201, 0x3ffff000, 0x800 }, /* MTRRs */
    { 0x20e, 0x3ffff000, 6 }, { 0x20f, 0x3ffff000, 0x800 },
    { 0x250, 0, 0x0606060606060606 }, { 0x26f, 0, 0x0505050505050505 },
    { 0x258, 0x0101010101010101, 0x0404040404040404 },
    { 0x2ff, 0, 0xc06 },
    { 0xc0000081, UINT64_MAX, 0 },                      /* STAR */
    { 0xc0000082, 0x7fffffffffff, 0 },                  /* LSTAR */
    { 0xc0000083, 0x7fffffffffff, 0 },                  /* CSTAR */
    { 0xc0000084, 0xffffffff, 0 },                      /* SFMASK */
    { 0xc0000100, 0x7fffffffffff, 0 }, { 0xc0000101, 0x7fffffffffff, 0 },
    { 0xc0000102, 0x7fffffffffff, 0xffff800000000000 }, /* KERNEL_GS_BASE */
    { 0xc0000103, 0xffffffff, 0 },                      /* TSC_AUX */
};

#define MSRS (sizeof(msrs) / sizeof(msrs[0]))

static void check_msrs(void)
{
    static uint64_t expected[MSRS];

    for (int i = 0; i < MSRS; i++) {
        expected[i] = (next_pattern(&state) & msrs[i].mask) | msrs[i].set;
        wrmsr(msrs[i].msr, expected[i]);
    }
    for (int half = 0; half < 2; half++) {
        ask_switch();
        for (int i = 0; i < MSRS; i++) {
            verify("MSR", expected[i], rdmsr(msrs[i].msr));
            if (i % 2 == half) {
                expected[i] = (next_pattern(&state) & msrs[i].mask) |
                              msrs[i].set;
                wrmsr(msrs[i].msr, expected[i]);
            }
        }
    }
    ask_switch();
    for (int i = 0; i < MSRS; i++) {
        verify("MSR at last", expected[i], rdmsr(msrs[i].msr));
    }
}

static void add_leaf(uint64_t *sum, uint32_t leaf, uint32_t subleaf)
{
    uint32_t eax = leaf, ebx, ecx = subleaf, edx;

    asm volatile("cpuid" : "+a" (eax), "=b" (ebx), "+c" (ecx), "=d" (edx));
    for (int i = 0; i < 4; i++) {
        *sum = (*sum ^ (i == 0 ? eax : i == 1 ? ebx : i == 2 ? ecx : edx)) *
               0x100000001b3ull;
    }
}

/* All leaves; FNV-1a of a kind. */
static uint64_t cpuid_sum(void)
{
    static const uint32_t ranges[] = { 0, 0x40000000, 0x80000000 };
    uint64_t sum = 0xcbf29ce484222325ull;

    for (int i = 0; i < 3; i++) {
        uint32_t last = ranges[i], ebx, ecx, edx;

        asm volatile("cpuid" : "+a" (last), "=b" (ebx), "=c" (ecx), "=d" (edx));
        if (last - ranges[i] > 0x40) {
            last = ranges[i];
        }
        for (uint32_t leaf = ranges[i]; leaf <= last; leaf++) {
            for (uint32_t subleaf = 0; subleaf < 4; subleaf++) {
                add_leaf(&sum, leaf, subleaf);
            }
        }
    }
    return sum;
}

static void check_cpuid(void)
{
    static uint64_t first;
    uint64_t sum = cpuid_sum();

    if (!first) {
        first = sum;
    }
    verify("CPUID as it was", true, sum == first);
    ask_switch();
    verify("CPUID after a switch", true, cpuid_sum() == first);
}

void kernel_main(void)
{
    put_string("control64\n");
    setup_idt();
    setup_lapic();
    write_cr0(read_cr0() | CR0_WP);
    *(volatile uint32_t *)FRAME = NUMBER;
    write_function(FRAME + CODE, RETURNS);
    check_wild_jump();
    check_wild_jump();
    for (;;) {
        check_cr0();
        check_cr4();
        check_smep_smap();
        check_keys();
        check_xcr0();
        check_cr8();
        check_syscall();
        check_msrs();
        check_cpuid();
        lap_done();
    }
}
