/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fpu64, CPL3 half: what is checked in each lap.
 */
#include "lib/long.h"
#include "fpu64.h"

#define IMAGES          24

#define FCW_MASKS       0x003f
#define FCW_RESERVED_1  0x0040
#define FCW_CONTROLS    0x0f3f          /* masks, precision, rounding */
#define FCW_INIT        0x037f
#define FSW_FLAGS       0x003f
#define FSW_ZE          0x0004
#define FSW_ES          0x0080
#define FSW_B           0x8000
#define FSW_FREE        0x7f7f          /* but ES and B */
/* In FSW and MXCSR.  TCG does not set it. */
#define DENORMAL_FLAG   0x0002
#define MXCSR_FREE      0xffff
#define MXCSR_MASKS     0x1f80
#define MXCSR_DAZ       0x0040
#define MXCSR_FTZ       0x8000

static uint64_t pattern = 0x2545f4914f6cdd1d;

static void fill(void *to, unsigned bytes)
{
    uint8_t *byte = to;

    for (unsigned i = 0; i < bytes; i++) {
        byte[i] = next_pattern(&pattern) >> 24;
    }
}

/* Any state that XRSTOR takes: each component there, or not. */
static void make_image(XSaveArea *image, uint64_t components)
{
    *image = (XSaveArea) { 0 };
    image->xstate_bv = components;
    image->fcw = (next_pattern(&pattern) & FCW_CONTROLS) | FCW_RESERVED_1;
    image->fsw = next_pattern(&pattern) & FSW_FREE;
    if (image->fsw & FSW_FLAGS & ~image->fcw) {
        image->fsw |= FSW_ES | FSW_B;
    }
    image->ftw = next_pattern(&pattern);
    image->mxcsr = next_pattern(&pattern) & MXCSR_FREE;
    for (int i = 0; i < 8; i++) {
        fill(image->st[i].bytes, sizeof(image->st[i].bytes));
    }
    fill(image->xmm, sizeof(image->xmm));
    fill(image->ymm_high, sizeof(image->ymm_high));
}

static bool error_pending(const XSaveArea *image)
{
    return image->xstate_bv & XSAVE_X87 && image->fsw & FSW_ES;
}

/* What a component has that is not in the image. */
static void expect_initial(XSaveArea *image)
{
    uint64_t components = image->xstate_bv;

    if (!(components & XSAVE_X87)) {
        image->fcw = FCW_INIT;
        image->fsw = 0;
        image->ftw = 0;
        for (int i = 0; i < 8; i++) {
            image->st[i] = (typeof(image->st[i])) { 0 };
        }
    }
    for (int i = 0; i < 16; i++) {
        for (int j = 0; j < 2; j++) {
            image->xmm[i][j] &= components & XSAVE_SSE ? ~0ull : 0;
            image->ymm_high[i][j] &= components & XSAVE_AVX ? ~0ull : 0;
        }
    }
}

static void check_st(const char *what, const uint8_t *expected,
                     const uint8_t *got)
{
    uint64_t low[2] = { 0 }, high[2] = { 0 };

    for (int i = 0; i < 8; i++) {
        low[0] |= (uint64_t)expected[i] << 8 * i;
        low[1] |= (uint64_t)got[i] << 8 * i;
    }
    for (int i = 0; i < 2; i++) {
        high[0] |= (uint64_t)expected[8 + i] << 8 * i;
        high[1] |= (uint64_t)got[8 + i] << 8 * i;
    }
    verify_from_user(what, low[0], low[1]);
    verify_from_user(what, high[0], high[1]);
}

static void check_image(uint64_t components)
{
    static XSaveArea in, out;

    make_image(&in, components);
    hold_xstate(&in, &out);
    expect_initial(&in);
    verify_from_user("FCW", in.fcw, out.fcw);
    verify_from_user("FSW", in.fsw, out.fsw);
    verify_from_user("FTW", in.ftw, out.ftw);
    verify_from_user("MXCSR", in.mxcsr, out.mxcsr);
    for (int i = 0; i < 8; i++) {
        check_st("ST", in.st[i].bytes, out.st[i].bytes);
    }
    for (int i = 0; i < 16; i++) {
        for (int j = 0; j < 2; j++) {
            verify_from_user("XMM", in.xmm[i][j], out.xmm[i][j]);
#ifdef USE_XSAVE
            verify_from_user("YMM's upper half", in.ymm_high[i][j],
                             out.ymm_high[i][j]);
#endif
        }
    }
}

/* The error comes with the next instruction that waits for it, and once. */
static void check_error(void)
{
    static XSaveArea in;
    uint32_t before = x87_errors;

    make_image(&in, XSAVE_ALL);
    hold_x87_error(&in);
    verify_from_user("#MF", error_pending(&in), x87_errors - before);
}

static void check_mmx(void)
{
    uint64_t in[8], out[8];

    fill(in, sizeof(in));
    hold_mmx(in, out);
    for (int i = 0; i < 8; i++) {
        verify_from_user("MM", in[i], out[i]);
    }
}

/* A division by 0 that is not masked, and the error it leaves. */
static void check_division(void)
{
    uint32_t before = x87_errors;

    verify_from_user("FSW of a division", FSW_ES | FSW_B | FSW_ZE | 7 << 11,
                     hold_x87_division());
    verify_from_user("#MF of a division", 1, x87_errors - before);
}

static void check_same(const Results *before, const Results *after)
{
    for (int i = 0; i < X87_RESULTS; i++) {
        check_st("x87's result", before->x87[i], after->x87[i]);
    }
    for (int i = 0; i < 8; i++) {
        verify_from_user("SSE's result", before->sse[i], after->sse[i]);
    }
    verify_from_user("SSE's flags", before->mxcsr & ~DENORMAL_FLAG,
                     after->mxcsr & ~DENORMAL_FLAG);
    verify_from_user("x87's flags", before->fsw & ~DENORMAL_FLAG,
                     after->fsw & ~DENORMAL_FLAG);
}

/* All roundings and precisions, denormals and what is too small as 0. */
static void check_arithmetic(void)
{
    for (uint32_t rounding = 0; rounding < 4; rounding++) {
        for (uint32_t choice = 0; choice < 4; choice++) {
            Results before = { 0 }, after = { 0 };
            uint16_t fcw = FCW_MASKS | FCW_RESERVED_1 | rounding << 10 |
                           (choice == 1 ? 3 : choice) << 8;
            uint32_t mxcsr = MXCSR_MASKS | rounding << 13 |
                             (choice & 1 ? MXCSR_DAZ : 0) |
                             (choice & 2 ? MXCSR_FTZ : 0);

            calculate(fcw, mxcsr, &before, false);
            calculate(fcw, mxcsr, &after, true);
            check_same(&before, &after);
        }
    }
}

void user_main(void)
{
    for (;;) {
        for (int i = 0; i < IMAGES; i++) {
#ifdef USE_XSAVE
            check_image(i & XSAVE_ALL);
#else
            check_image(XSAVE_ALL);
#endif
            check_error();
        }
        check_mmx();
        check_division();
        check_arithmetic();
        lap_done_from_user();
    }
}
