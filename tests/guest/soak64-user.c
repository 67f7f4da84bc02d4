/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * soak64, CPL3 half: what is checked in each lap.
 */
#include "lib/long.h"
#include "soak64.h"

#define BUFFER_WORDS    2048
#define SPINS           10000
/*
 * CF PF AF ZF SF DF OF ID.  Not AC: a KVM that runs CPL3 under the host's
 * CR0.AM makes alignment checks of it.
 */
#define HELD_FLAGS      0x200cd5
/* About 10 s: an interrupt that is this late won't come. */
#define TSC_TOO_LATE    (1ull << 35)
#define SYSTEM_LAPS     16
#define HALT_LAPS       8

static uint64_t pattern = 0x9e3779b97f4a7c15;
static uint64_t lap_number;
static uint64_t digest = 0xcbf29ce484222325;

static void check(const char *what, uint64_t expected, uint64_t got)
{
    Mismatch mismatch = { what, expected, got };

    if (expected != got) {
        kernel_call(CALL_MISMATCH, (uintptr_t)&mismatch);
    }
}

static void add_to_digest(uint64_t value)
{
    digest = (digest ^ value) * 0x100000001b3;
}

/* FXSAVE's layout. */
enum {
    FCW = 0, FSW = 2, FTW = 4, MXCSR = 24, ST0 = 32, XMM0 = 160
};

static void fill_fxsave(uint8_t *image)
{
    /*
     * Of the 8 x87 registers some are left empty, so that TOP is not always 0.
     */
    unsigned full = 1 + lap_number % 8;
    unsigned top = (8 - full) & 7;

    for (int i = 0; i < 512; i++) {
        image[i] = 0;
    }
    *(uint16_t *)(image + FCW) = 0x037f | (lap_number & 3) << 10;
    *(uint16_t *)(image + FSW) = top << 11 | (lap_number & 0x21);
    /* A bit for each physical register: those from TOP up are full. */
    image[FTW] = 0xff << top;
    *(uint32_t *)(image + MXCSR) = 0x1f80 | (lap_number >> 2 & 3) << 13
                                   | (lap_number & 0x3f);
    for (unsigned i = 0; i < full; i++) {
        uint64_t bits = next_pattern(&pattern);

        *(uint64_t *)(image + ST0 + 16 * i) = bits | 1ull << 63;
        *(uint16_t *)(image + ST0 + 16 * i + 8) = 0x3ff0 + (bits & 0x8007) + i;
    }
    for (int i = 0; i < 32; i++) {
        *(uint64_t *)(image + XMM0 + 8 * i) = next_pattern(&pattern);
    }
}

static void check_held_state(void)
{
    static const char *const names[16] = {
        "RAX", "RBX", "RCX", "RDX", "RSI", "RDI", "RBP", "RSP",
        "R8", "R9", "R10", "R11", "R12", "R13", "R14", "R15",
    };
    static HeldState in, out;
    unsigned full = 1 + lap_number % 8;

    for (int i = 0; i < 16; i++) {
        in.gpr[i] = next_pattern(&pattern);
    }
    in.gpr[2] = SPINS;
    /* RSP must stay canonical, or IRETQ faults. */
    in.gpr[7] >>= 18;
    in.rflags = (next_pattern(&pattern) & HELD_FLAGS) | 0x202;
    fill_fxsave(in.fxsave);
    hold_state(&in, &out);
    in.gpr[2] = 0;
    for (int i = 0; i < 16; i++) {
        check(names[i], in.gpr[i], out.gpr[i]);
    }
    check("RFLAGS", in.rflags, out.rflags);
    check("FCW", *(uint16_t *)(in.fxsave + FCW),
          *(uint16_t *)(out.fxsave + FCW));
    check("FSW", *(uint16_t *)(in.fxsave + FSW),
          *(uint16_t *)(out.fxsave + FSW));
    check("FTW", in.fxsave[FTW], out.fxsave[FTW]);
    check("MXCSR", *(uint32_t *)(in.fxsave + MXCSR),
          *(uint32_t *)(out.fxsave + MXCSR));
    for (unsigned i = 0; i < full; i++) {
        check("x87 significand", *(uint64_t *)(in.fxsave + ST0 + 16 * i),
              *(uint64_t *)(out.fxsave + ST0 + 16 * i));
        check("x87 exponent", *(uint16_t *)(in.fxsave + ST0 + 16 * i + 8),
              *(uint16_t *)(out.fxsave + ST0 + 16 * i + 8));
    }
    for (int i = 0; i < 32; i++) {
        check("XMM", *(uint64_t *)(in.fxsave + XMM0 + 8 * i),
              *(uint64_t *)(out.fxsave + XMM0 + 8 * i));
    }
}

/* The last lap's pattern is there, and a new one takes its place. */
static void check_memory(void)
{
    static uint64_t buffer[BUFFER_WORDS];
    static uint64_t seed;
    uint64_t old = seed;
    uint64_t new = seed = next_pattern(&pattern);

    for (int i = 0; i < BUFFER_WORDS; i++) {
        if (old) {
            check("memory", next_pattern(&old), buffer[i]);
        }
        buffer[i] = next_pattern(&new);
    }
}

/* MOV EAX, imm32; RET */
static void write_code(volatile uint8_t *code, uint32_t value)
{
    code[0] = 0xb8;
    *(volatile uint32_t *)(code + 1) = value;
    code[5] = 0xc3;
}

static uint32_t run_code(volatile uint8_t *code)
{
    return ((uint32_t (*)(void))code)();
}

/* The last code is run once more: another accelerator may have written it. */
static void check_self_modified_code(void)
{
    static uint8_t code[64];
    static uint32_t value;

    for (int i = 0; i < 4; i++) {
        if (value) {
            check("self-modified code", value, run_code(code));
        }
        value = next_pattern(&pattern);
        write_code(code, value);
    }
}

/*
 * Each frame holds a word and a function that tell which it is.  A page of the
 * window is given another frame, and must then show and run that one, and
 * write to that one.
 */
static void check_remapped_page(void)
{
    static bool prepared;
    unsigned page = next_pattern(&pattern) % WINDOW_PAGES;
    unsigned frame = next_pattern(&pattern) % FRAMES;
    volatile uint8_t *window = (uint8_t *)(uintptr_t)WINDOW + page * 4096;

    if (!prepared) {
        for (int i = 0; i < FRAMES; i++) {
            *(uint64_t *)frames[i] = 0xf00d0000 + i;
            write_code(frames[i] + 64, 0xc0de0000 + i);
        }
        prepared = true;
    }
    kernel_call(CALL_MAP, page + frame * WINDOW_PAGES);
    check("remapped page", 0xf00d0000 + frame, *(volatile uint64_t *)window);
    check("code of a remapped page", 0xc0de0000 + frame, run_code(window + 64));
    *(volatile uint64_t *)(window + 8) = lap_number;
    check("write to a remapped page", lap_number,
          *(volatile uint64_t *)(frames[frame] + 8));
    /*
     * Into code that was translated through the window, by its other address.
     */
    write_code(frames[frame] + 128, lap_number);
    check("code written by another address", (uint32_t)lap_number,
          run_code(window + 128));
}

/*
 * Arithmetic in all rounding modes, with results that depend on each: in TCG
 * softfloat computes it.  The result must be the same in every lap.
 */
static void check_arithmetic(void)
{
    static uint64_t first[4];
    unsigned mode = lap_number & 3;
    uint32_t mxcsr = 0x1f80 | mode << 13, default_mxcsr = 0x1f80;
    uint16_t fcw = 0x037f | mode << 10;
    volatile double x = 1.0;
    volatile long double y = 1.0L;
    uint64_t result = 0;
    double root;
    long double long_root;

    asm volatile("ldmxcsr %0; fldcw %1" : : "m" (mxcsr), "m" (fcw));
    for (int i = 1; i < 64; i++) {
        asm volatile("sqrtsd %1, %0" : "=x" (root) : "x" (x + i));
        asm volatile("fsqrt" : "=t" (long_root) : "0" (y + i));
        x = x / 3.0 + root * 1.1;
        y = y / 3.0L + long_root * 1.1L;
        result = result * 31 + *(volatile uint64_t *)&x;
        result = result * 31 + *(volatile uint64_t *)&y;
    }
    asm volatile("ldmxcsr %0; fninit" : : "m" (default_mxcsr));
    if (!first[mode]) {
        first[mode] = result;
        add_to_digest(result);
    }
    check("arithmetic", first[mode], result);
}

static void check_time(void)
{
    uint64_t pit = pit_tsc, timer = timer_tsc;
    uint64_t now = rdtsc();

    if (now < user_tsc) {
        check("TSC of CPL3 after", user_tsc, now);
    }
    user_tsc = now;
    if (now > pit && now - pit > TSC_TOO_LATE) {
        check("PIT interrupt since TSC", pit, now);
        pit_tsc = now;
    }
    if (now > timer && now - timer > TSC_TOO_LATE) {
        check("LAPIC timer interrupt since TSC", timer, now);
        timer_tsc = now;
    }
}

void user_main(void)
{
    do {
        check_held_state();
        check_memory();
        check_self_modified_code();
        check_remapped_page();
        check_arithmetic();
        check_time();
        lap_number++;
        if (lap_number % HALT_LAPS == 0) {
            kernel_call(CALL_HALT, 0);
        }
        if (lap_number % SYSTEM_LAPS == 0) {
            kernel_call(CALL_CHECK_SYSTEM, 0);
        }
        add_to_digest(pattern);
    } while (kernel_call(CALL_LAP, digest));
}
