/*
 * vas-load: SSE registers, arithmetic and MXCSR
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <emmintrin.h>
#include <float.h>
#include <string.h>

#include "load.h"

static void registers_over_spin(void)
{
    uint8_t want[8][16], got[8][16];
    uint32_t n = load.light ? 20000 : 200000;

    for (unsigned i = 0; i < sizeof(want); i++) {
        want[i / 16][i % 16] = i * 37 + load.rounds;
    }
    __asm__ volatile("movdqu (%2), %%xmm0\n\tmovdqu 16(%2), %%xmm1\n\t"
                     "movdqu 32(%2), %%xmm2\n\tmovdqu 48(%2), %%xmm3\n\t"
                     "movdqu 64(%2), %%xmm4\n\tmovdqu 80(%2), %%xmm5\n\t"
                     "movdqu 96(%2), %%xmm6\n\tmovdqu 112(%2), %%xmm7\n"
                     "1: subl $1, %0\n\tjnz 1b\n\t"
                     "movdqu %%xmm0, (%1)\n\tmovdqu %%xmm1, 16(%1)\n\t"
                     "movdqu %%xmm2, 32(%1)\n\tmovdqu %%xmm3, 48(%1)\n\t"
                     "movdqu %%xmm4, 64(%1)\n\tmovdqu %%xmm5, 80(%1)\n\t"
                     "movdqu %%xmm6, 96(%1)\n\tmovdqu %%xmm7, 112(%1)"
                     : "+r"(n) : "r"(got), "r"(want)
                     : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3",
                       "xmm4", "xmm5", "xmm6", "xmm7");
    check_bytes("sse: registers over a spin", want, got, sizeof(want));
}

/* MXCSR's rounding field and its sticky flags, each kept over a spin. */
static void mxcsr_over_spin(void)
{
    static const int plus[4] = { 2, 2, 3, 2 };
    uint32_t saved = _mm_getcsr();
    double half = 2.5;

    for (unsigned i = 0; i < 4; i++) {
        int32_t rounded;

        _mm_setcsr((saved & ~0x603f) | i << 13);
        load_spin();
        /* by hand: the compiler knows what 2.5 is rounded to, by default */
        __asm__ volatile("cvtsd2si %1, %0" : "=r"(rounded) : "m"(half));
        check_u64("sse: rounding 2.5", plus[i], rounded);
        load_spin();
        /* the conversion was inexact: PE */
        check_u64("sse: sticky flags", 0x20, _mm_getcsr() & 0x3f);
    }
    /* flush to zero: the smallest normal number halved */
    _mm_setcsr((saved & ~0x3f) | 0x8000);
    load_spin();
    {
        float tiny = FLT_MIN, scale = 0.5f;
        float r = tiny;

        __asm__ volatile("movss %0, %%xmm0\n\tmulss %1, %%xmm0\n\t"
                         "movss %%xmm0, %0"
                         : "+m"(r) : "m"(scale) : "xmm0");

        check_double("sse: flush to zero", 0, r, 0);
    }
    _mm_setcsr(saved);
}

static void known_answers(void)
{
    unsigned n = load.light ? 500 : 5000;
    __m128d sum = _mm_setzero_pd(), i = _mm_set_pd(1, 2);
    __m128i a, b;
    uint16_t got[8];
    static const uint16_t sat[8] = {
        0xffff, 0xffff, 60000, 60001, 60002, 60003, 60004, 60005,
    };
    double parts[2];

    /* 1^2 + ... + (2n)^2, exact in doubles */
    for (unsigned k = 0; k < n; k++) {
        sum = _mm_add_pd(sum, _mm_mul_pd(i, i));
        i = _mm_add_pd(i, _mm_set1_pd(2));
    }
    _mm_storeu_pd(parts, sum);
    check_double("sse: sum of squares",
                 2.0 * n * (2.0 * n + 1) * (4.0 * n + 1) / 6,
                 parts[0] + parts[1], 0);
    check_double("sse: square root", 1.4142135623730951,
                 _mm_cvtsd_f64(_mm_sqrt_sd(_mm_set_sd(0), _mm_set_sd(2))),
                 0);
    a = _mm_set_epi16(60005, 60004, 60003, 60002, 60001, 60000, 60000, 65535);
    b = _mm_set_epi16(0, 0, 0, 0, 0, 0, 9999, 1);
    _mm_storeu_si128((__m128i *)got, _mm_adds_epu16(a, b));
    check_bytes("sse: saturated add", sat, got, sizeof(sat));
    a = _mm_shuffle_epi32(_mm_set_epi32(4, 3, 2, 1), 0x1b);
    check_u64("sse: shuffle", 4, _mm_cvtsi128_si32(a));
    check_u64("sse: movemask", 0x5,
              _mm_movemask_ps(_mm_set_ps(1, -2, 3, -4)));
}

void sse_round(void)
{
    registers_over_spin();
    mxcsr_over_spin();
    known_answers();
}
