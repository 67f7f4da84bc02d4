/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Between the two halves of the payloads fpu64 and xsave64: fpu64.c at CPL0
 * and fpu64-user.S, fpu64-user.c at CPL3.
 */
#ifndef GUEST_FPU64_H
#define GUEST_FPU64_H

#define XSAVE_X87       1
#define XSAVE_SSE       2
#define XSAVE_AVX       4

/* xsave64 has them all, each in use or not; fpu64's FXSAVE knows no such. */
#ifdef USE_XSAVE
#define XSAVE_ALL       (XSAVE_X87 | XSAVE_SSE | XSAVE_AVX)
#else
#define XSAVE_ALL       (XSAVE_X87 | XSAVE_SSE)
#endif

/* What UD2 at CPL3 asks of CPL0, in RAX. */
#define CALL_SWITCH     0
#define CALL_VERIFY     1
#define CALL_LAP        2

/* In Results. */
#define X87_RESULTS     5
#define RESULTS_SSE     (16 * X87_RESULTS)
#define RESULTS_MXCSR   (RESULTS_SSE + 64)
#define RESULTS_FSW     (RESULTS_MXCSR + 4)

#ifndef __ASSEMBLER__
/* SDM vol. 1, 10.5.1 and 13.4: FXSAVE's area is the beginning of XSAVE's. */
typedef struct XSaveArea {
    uint16_t fcw, fsw;
    uint8_t ftw, reserved_5;
    uint16_t fop;
    uint64_t fip, fdp;
    uint32_t mxcsr, mxcsr_mask;
    struct {
        uint8_t bytes[10];
        uint8_t reserved[6];
    } st[8];
    uint64_t xmm[16][2];
    uint8_t unused[96];
    uint64_t xstate_bv, xcomp_bv, header_reserved[6];
    uint64_t ymm_high[16][2];
} __attribute__((aligned(64))) XSaveArea;

/* What arithmetic gives under some rounding: see calculate(). */
typedef struct Results {
    uint8_t x87[X87_RESULTS][16];
    uint64_t sse[8];
    uint32_t mxcsr;
    uint16_t fsw;
} Results;

/* fpu64.c: how many errors FWAIT has found. */
extern volatile uint32_t x87_errors;

/* fpu64-user.S */

/* As verify() and lap_done(), at CPL0. */
void verify_from_user(const char *what, uint64_t expected, uint64_t got);
void lap_done_from_user(void);

/*
 * Have the x87 unit, the SSE and (xsave64) the AVX registers hold what @in
 * says, ask for a switch, and write to @out what they hold; then FNINIT.
 */
void hold_xstate(const XSaveArea *in, XSaveArea *out);
/* Likewise, and wait for the x87 unit's error, if it has one pending. */
void hold_x87_error(const XSaveArea *in);
/* MOVQ to MM0...MM7, a switch, MOVQ from there. */
void hold_mmx(const uint64_t *in, uint64_t *out);
/* Divide 1 by 0, which is not masked, ask for a switch; FSW, and FWAIT. */
uint16_t hold_x87_division(void);
/* Under @fcw and @mxcsr, with a switch in the middle if @ask. */
void calculate(uint16_t fcw, uint32_t mxcsr, Results *results, uint64_t ask);

/* fpu64-user.c */
void user_main(void);

#endif /* __ASSEMBLER__ */
#endif
