/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * xsavec64: XSAVE's areas in compacted form: what one accelerator has written
 * with XSAVEC or XSAVES the other loads with XRSTOR or XRSTORS, each set of the
 * components x87, SSE, AVX and PKRU; what they refuse, also at CPL3; IA32_XSS,
 * and the areas' sizes in CPUID
 * (SDM vol. 1, "Managing State Using the XSAVE Feature Set").
 */
#include "lib/fault.h"

#define VECTOR_NM       7

#define MSR_XSS         0xda0
#define CR0_TS          0x8
#define CR4_OSXSAVE     0x40000
#define CR4_PKE         0x400000

#define X87             0x1
#define SSE             0x2
#define AVX             0x4
#define PKRU            0x200
#define ALL             (X87 | SSE | AVX | PKRU)
#define COMPACTED       (1ull << 63)
#define MXCSR_INITIAL   0x1f80
#define FCW_INITIAL     0x37f
#define FTW_ST0         0x80            /* after one FLD */

#define LEGACY_SIZE     512
#define HEADER_END      576
#define AVX_SIZE        256
#define PKRU_SIZE       8

typedef struct Area {
    uint16_t fcw, fsw;
    uint8_t ftw, reserved_5;
    uint16_t fop;
    uint64_t fip, fdp;
    uint32_t mxcsr, mxcsr_mask;
    struct {
        uint64_t mantissa;
        uint16_t exponent, reserved[3];
    } st[8];
    uint64_t xmm[16][2];
    uint8_t unused[96];
    uint64_t xstate_bv, xcomp_bv, reserved[6];
    uint8_t extended[512];
} __attribute__((aligned(64))) Area;

typedef struct Registers {
    uint64_t ymm[16][4];
    uint32_t mxcsr, pkru;
    struct {
        uint64_t mantissa;
        uint16_t exponent;
    } st0;
    uint16_t fcw;
    uint8_t ftw;
} Registers;

/*
 * XSAVES leaves out what has not changed since XRSTORS loaded it from the same
 * area: nothing is saved where it was loaded from.
 */
static Area saved, loaded;

static const Registers none = { .mxcsr = MXCSR_INITIAL, .fcw = FCW_INITIAL };

static bool at_user;
static uint64_t user_vector;
static uint8_t user_stack[4096] __attribute__((aligned(64)));

void trap(Frame *frame)
{
    if (at_user) {
        at_user = false;
        user_vector = frame->vector;
        return_to_caller(frame);
    } else if (!fault_taken(frame)) {
        check_value("no other trap, at RIP", frame->rip, frame->vector);
        debug_exit(2);
    }
}

static uint64_t next_random(void)
{
    static uint64_t state = 88172645463325252ull;

    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static void choose(Registers *r)
{
    for (int i = 0; i < 16; i++) {
        for (int k = 0; k < 4; k++) {
            r->ymm[i][k] = next_random() | 1;
        }
    }
    r->mxcsr = MXCSR_INITIAL ^ (next_random() & 0x603f);
    r->pkru = (next_random() & 0xfffffff0) | 4;
    /* A normal number; any rounding */
    r->st0.mantissa = next_random() | 1ull << 63;
    r->st0.exponent = 0x3000 + (next_random() & 0xfff);
    r->fcw = FCW_INITIAL ^ (next_random() & 0xc00);
    r->ftw = FTW_ST0;
}

/* XSAVEC writes no more of the header than the first two words. */
static void spoil(Area *area)
{
    for (int i = 0; i < sizeof(*area) / 8; i++) {
        ((uint64_t *)area)[i] = 0xa5a5a5a5a5a5a5a5;
    }
    for (int i = 0; i < 6; i++) {
        area->reserved[i] = 0;
    }
}

#define EACH_YMM(instruction)                                           \
    ".irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n\t"  \
    instruction "\n\t"                                                  \
    ".endr"

static void set(const Registers *r)
{
    asm volatile(EACH_YMM("vmovdqu 32*\\i(%0), %%ymm\\i")
                 : : "r" (r->ymm) : "memory");
    asm volatile("ldmxcsr %0" : : "m" (r->mxcsr));
    asm volatile("wrpkru" : : "a" (r->pkru), "c" (0), "d" (0) : "memory");
    asm volatile("fninit\n\t"
                 "fldcw %0\n\t"
                 "fldt %1" : : "m" (r->fcw), "m" (r->st0));
}

static void get(Registers *r)
{
    static Area x87;
    uint32_t edx;

    asm volatile("fxsave64 %0" : "=m" (x87));
    r->fcw = x87.fcw;
    r->ftw = x87.ftw;
    r->st0.mantissa = x87.st[0].mantissa;
    r->st0.exponent = x87.st[0].exponent;
    asm volatile(EACH_YMM("vmovdqu %%ymm\\i, 32*\\i(%0)")
                 : : "r" (r->ymm) : "memory");
    asm volatile("stmxcsr %0" : "=m" (r->mxcsr));
    asm volatile("rdpkru" : "=a" (r->pkru), "=d" (edx) : "c" (0));
}

#define WITH_MASK(instruction)                                          \
    "movl %3, %%eax\n\t"                                                \
    "xorl %%edx, %%edx\n\t"                                             \
    instruction " (%2)"
#define XSTATE(instruction, area, mask)                                 \
    MAY_FAULT(WITH_MASK(instruction), "r" (area), "r" ((uint32_t)(mask)))

static void verify_half(const char *what, const uint64_t *expected,
                        const void *got)
{
    const uint64_t *words = got;

    verify(what, expected[0], words[0]);
    verify(what, expected[1], words[1]);
}

static void verify_x87(const char *what, const Registers *r, uint16_t fcw,
                       uint8_t ftw, uint64_t mantissa, uint16_t exponent)
{
    verify(what, r->fcw, fcw);
    verify(what, r->ftw, ftw);
    verify(what, r->st0.mantissa, mantissa);
    verify(what, r->st0.exponent, exponent);
}

/* The registers of @mask as @r has them, the others as in @others. */
static void verify_registers(const char *what, uint64_t mask,
                             const Registers *r, const Registers *others)
{
    Registers now;

    get(&now);
    verify_x87(what, mask & X87 ? r : others, now.fcw, now.ftw,
               now.st0.mantissa, now.st0.exponent);
    for (int i = 0; i < 16; i++) {
        verify_half(what, (mask & SSE ? r : others)->ymm[i], now.ymm[i]);
        verify_half(what, &(mask & AVX ? r : others)->ymm[i][2],
                    &now.ymm[i][2]);
    }
    verify(what, (mask & SSE ? r : others)->mxcsr, now.mxcsr);
    verify(what, (mask & PKRU ? r : others)->pkru, now.pkru);
}

/* The components that are in use, in memory behind each other */
static void verify_area(uint64_t mask, const Registers *r)
{
    const uint8_t *place = saved.extended;

    verify("XCOMP_BV", mask | COMPACTED, saved.xcomp_bv);
    verify("XSTATE_BV", mask, saved.xstate_bv);
    if (mask & X87) {
        verify_x87("x87 in memory", r, saved.fcw, saved.ftw,
                   saved.st[0].mantissa, saved.st[0].exponent);
    }
    if (mask & SSE) {
        verify("MXCSR in memory", r->mxcsr, saved.mxcsr);
        for (int i = 0; i < 16; i++) {
            verify_half("XMM in memory", r->ymm[i], saved.xmm[i]);
        }
    }
    if (mask & AVX) {
        for (int i = 0; i < 16; i++) {
            verify_half("YMM in memory", &r->ymm[i][2], place + 16 * i);
        }
        place += AVX_SIZE;
    }
    if (mask & PKRU) {
        verify("PKRU in memory", r->pkru, *(const uint32_t *)place);
    }
}

static void check_round(bool supervisor, uint64_t mask)
{
    Registers first, second;

    choose(&first);
    choose(&second);
    spoil(&saved);
    set(&first);
    ask_switch();
    verify("saved", 0, supervisor ? XSTATE("xsaves64", &saved, mask)
                                  : XSTATE("xsavec64", &saved, mask));
    ask_switch();
    verify_area(mask, &first);
    loaded = saved;
    set(&second);
    ask_switch();
    verify("loaded", 0, supervisor ? XSTATE("xrstors64", &loaded, mask)
                                   : XSTATE("xrstor64", &loaded, mask));
    ask_switch();
    verify_registers("loaded registers", mask, &first, &second);

    /* Components that an area does not have are made as after a reset. */
    loaded.xstate_bv = 0;
    set(&second);
    verify("loaded as initial", 0,
           supervisor ? XSTATE("xrstors64", &loaded, mask)
                      : XSTATE("xrstor64", &loaded, mask));
    ask_switch();
    verify_registers("initial registers", mask, &none, &second);
}

static void verify_all(uint64_t vector, const char *why)
{
    verify(why, vector, XSTATE("xsavec64", &saved, SSE));
    verify(why, vector, XSTATE("xsaves64", &saved, SSE));
    verify(why, vector, XSTATE("xrstor64", &loaded, SSE));
    verify(why, vector, XSTATE("xrstors64", &loaded, SSE));
}

static void check_refusals(void)
{
    Area *area = &loaded;
    uint64_t cr0 = read_cr0();

    verify("saved", 0, XSTATE("xsavec64", &saved, ALL));
    loaded = saved;
    ask_switch();
    verify("XSAVEC at an odd place", VECTOR_GP,
           XSTATE("xsavec64", (uint8_t *)area + 8, ALL));
    verify("XSAVES at an odd place", VECTOR_GP,
           XSTATE("xsaves64", (uint8_t *)area + 8, ALL));
    area->xcomp_bv |= 1ull << 62;
    verify("an unknown component", VECTOR_GP, XSTATE("xrstor64", area, ALL));
    verify("an unknown component", VECTOR_GP, XSTATE("xrstors64", area, ALL));
    area->xcomp_bv = COMPACTED | SSE;
    area->xstate_bv = SSE | AVX;
    ask_switch();
    verify("a component without a place", VECTOR_GP,
           XSTATE("xrstor64", area, SSE));
    area->xstate_bv = SSE;
    verify("SSE alone", 0, XSTATE("xrstor64", area, SSE));
    area->reserved[5] = 1;
    verify("the header's end", VECTOR_GP, XSTATE("xrstor64", area, SSE));
    area->reserved[5] = 0;
    area->xcomp_bv = 0;
    ask_switch();
    verify("XRSTOR of the standard form", 0, XSTATE("xrstor64", area, SSE));
    verify("XRSTORS of the standard form", VECTOR_GP,
           XSTATE("xrstors64", area, SSE));

    write_cr0(cr0 | CR0_TS);
    ask_switch();
    verify_all(VECTOR_NM, "with TS");
    write_cr4(read_cr4() & ~CR4_OSXSAVE);
    ask_switch();
    verify_all(VECTOR_UD, "without OSXSAVE");
    write_cr4(read_cr4() | CR4_OSXSAVE);
    write_cr0(cr0);
}

/* At CPL3, of the area at RBX; with REX.W, and UD2 behind */
static const uint8_t user_xrstors[] = { 0x48, 0x0f, 0xc7, 0x1b, 0x0f, 0x0b };
static const uint8_t user_xsavec[] = { 0x48, 0x0f, 0xc7, 0x23, 0x0f, 0x0b };
static const uint8_t user_xsaves[] = { 0x48, 0x0f, 0xc7, 0x2b, 0x0f, 0x0b };

static uint64_t user(const uint8_t *code)
{
    Frame entry = {
        .rax = SSE, .rbx = (uintptr_t)&loaded, .rip = (uintptr_t)code,
        .cs = USER_CS, .rflags = 0x3002, .ss = USER_DS,
        .rsp = (uintptr_t)(user_stack + sizeof(user_stack) - 8),
    };

    at_user = true;
    run(&entry);
    return user_vector;
}

static void check_user(void)
{
    ask_switch();
    verify("XSAVES at CPL3", VECTOR_GP, user(user_xsaves));
    ask_switch();
    verify("XRSTORS at CPL3", VECTOR_GP, user(user_xrstors));
    verify("XSAVEC at CPL3", VECTOR_UD, user(user_xsavec));
}

static void check_xss(void)
{
    verify("XSS", 0, rdmsr(MSR_XSS));
    verify("XSS with an unknown component", VECTOR_GP,
           MAY_FAULT("movl %2, %%ecx\n\t"
                     "xorl %%eax, %%eax\n\t"
                     "movl $0x40000000, %%edx\n\t"
                     "wrmsr", "r" (MSR_XSS)));
    ask_switch();
    wrmsr(MSR_XSS, 0);
}

static void set_xcr0(uint32_t value)
{
    asm volatile("xsetbv" : : "a" (value), "d" (0), "c" (0));
}

static uint32_t compacted_size(void)
{
    uint32_t a = 0xd, b, c = 1, d;

    asm volatile("cpuid" : "+a" (a), "=b" (b), "+c" (c), "=d" (d));
    return b;
}

static void check_sizes(void)
{
    set_xcr0(X87 | SSE);
    ask_switch();
    verify("size with SSE", HEADER_END, compacted_size());
    set_xcr0(X87 | SSE | PKRU);
    ask_switch();
    verify("size with PKRU", HEADER_END + PKRU_SIZE, compacted_size());
    set_xcr0(ALL);
    ask_switch();
    verify("size", HEADER_END + AVX_SIZE + PKRU_SIZE, compacted_size());
}

void kernel_main(void)
{
    put_string("xsavec64\n");
    setup_idt();
    write_cr4(read_cr4() | CR4_OSXSAVE | CR4_PKE);
    set_xcr0(ALL);
    for (;;) {
        for (int i = 1; i < 16; i++) {
            uint64_t mask = (i & 7) | (i & 8 ? PKRU : 0);

            check_round(false, mask);
            check_round(true, mask);
        }
        check_refusals();
        check_user();
        check_xss();
        check_sizes();
        lap_done();
    }
}
