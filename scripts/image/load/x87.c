/*
 * vas-load: the x87 FPU and MMX, which share registers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#define _GNU_SOURCE
#include <math.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "load.h"

/* a few units in the last place of a double near 1 */
#define TINY (1 / 1e15)

/*
 * The whole register stack is full around a spin, and its top is not where
 * FNINIT leaves it: x87 registers travel in stack order or in physical order,
 * and taking one for the other shows only then.
 */
static void stack_over_spin(unsigned rotate)
{
    /* fldpi, fldl2e, fldl2t, fldlg2, fldln2, fld1, fldz, -1, in 80 bits */
    static const uint8_t want[8][10] = {
        { 0x35, 0xc2, 0x68, 0x21, 0xa2, 0xda, 0x0f, 0xc9, 0x00, 0x40 },
        { 0xbc, 0xf0, 0x17, 0x5c, 0x29, 0x3b, 0xaa, 0xb8, 0xff, 0x3f },
        { 0xfe, 0x8a, 0x1b, 0xcd, 0x4b, 0x78, 0x9a, 0xd4, 0x00, 0x40 },
        { 0x99, 0xf7, 0xcf, 0xfb, 0x84, 0x9a, 0x20, 0x9a, 0xfd, 0x3f },
        { 0xac, 0x79, 0xcf, 0xd1, 0xf7, 0x17, 0x72, 0xb1, 0xfe, 0x3f },
        { 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x80, 0xff, 0x3f },
        { 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00 },
        { 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x80, 0xff, 0xbf },
    };
    uint8_t got[8][10];
    uint32_t n = load.light ? 20000 : 200000;

    __asm__ volatile("fninit\n"
                     "1: subl $1, %2\n\tjs 2f\n\tfincstp\n\tjmp 1b\n"
                     "2:\n\t"
                     "fld1\n\tfchs\n\tfldz\n\tfld1\n\tfldln2\n\t"
                     "fldlg2\n\tfldl2t\n\tfldl2e\n\tfldpi\n"
                     "3: subl $1, %0\n\tjnz 3b\n\t"
                     "fstpt (%1)\n\tfstpt 10(%1)\n\tfstpt 20(%1)\n\t"
                     "fstpt 30(%1)\n\tfstpt 40(%1)\n\tfstpt 50(%1)\n\t"
                     "fstpt 60(%1)\n\tfstpt 70(%1)\n\tfninit"
                     : "+r"(n), "+r"((void *){ got }), "+r"(rotate)
                     : : "memory", "cc", "st", "st(1)", "st(2)", "st(3)",
                       "st(4)", "st(5)", "st(6)", "st(7)");
    check_bytes("x87: register stack over a spin", want, got, sizeof(want));
}

static void rounding_modes(void)
{
    /* 2.5 and -2.5 to nearest, down, up, towards zero */
    static const int plus[4] = { 2, 2, 3, 2 }, minus[4] = { -2, -3, -2, -2 };
    uint16_t saved, mode;
    double p = 2.5, m = -2.5;

    __asm__ volatile("fnstcw %0" : "=m"(saved));
    for (unsigned i = 0; i < 4; i++) {
        int32_t rp, rm;

        mode = (saved & ~0xc00) | i << 10;
        __asm__ volatile("fldcw %0" : : "m"(mode));
        load_spin();
        __asm__ volatile("fldl %2\n\tfistpl %0\n\tfldl %3\n\tfistpl %1"
                         : "=m"(rp), "=m"(rm) : "m"(p), "m"(m) : "st");
        __asm__ volatile("fldcw %0" : : "m"(saved));
        check_u64("x87: rounding 2.5", plus[i], rp);
        check_u64("x87: rounding -2.5", minus[i] & 0xffffffffu,
                  rm & 0xffffffffu);
    }
}

static void status_over_spin(void)
{
    uint16_t status;

    /* 1 / 0 sets ZE (4) and fcom of 1 with 0 leaves C3,C2,C0 clear */
    __asm__ volatile("fninit\n\tfld1\n\tfldz\n\tfdivrp\n\tfstp %%st(0)\n\t"
                     : : : "st", "st(1)");
    load_spin();
    __asm__ volatile("fnstsw %0\n\tfnclex" : "=m"(status));
    check_u64("x87: zero divide remembered", 4, status & 0x3f);
}

/*
 * Ten bytes stored and loaded at each place where they cross into another
 * page, which is not the next one in physical memory.
 */
static void across_pages(void)
{
    static const uint8_t pi[10] = {
        0x35, 0xc2, 0x68, 0x21, 0xa2, 0xda, 0x0f, 0xc9, 0x00, 0x40,
    };
    static uint8_t *pages;

    if (!pages) {
        int fd = memfd_create("vas-load", MFD_CLOEXEC);

        if (fd < 0 || ftruncate(fd, 2 * 4096)) {
            check_errno("x87: memfd_create");
            return;
        }
        /* the file's pages are allocated in order, and mapped in reverse */
        if (pwrite(fd, "1", 1, 0) != 1 || pwrite(fd, "2", 1, 4096) != 1) {
            check_errno("x87: pwrite");
        }
        pages = mmap(NULL, 2 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED,
                     fd, 0);
        mmap(pages, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
             fd, 4096);
        mmap(pages + 4096, 4096, PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_FIXED, fd, 0);
        close(fd);
    }
    for (unsigned before = 1; before < 10; before++) {
        uint8_t *place = pages + 4096 - before;
        double back;

        memset(pages + 4096 - 16, 0, 32);
        __asm__ volatile("fldpi\n\tfstpt (%0)" : : "r"(place)
                         : "memory", "st");
        check_bytes("x87: store across pages", pi, place, sizeof(pi));
        __asm__ volatile("fldt (%1)" : "=t"(back) : "r"(place) : "memory");
        check_double("x87: load across pages", M_PI, back, 0);
    }
}

static void mmx_over_spin(void)
{
    static const uint64_t want[8] = {
        0x0101010101010101, 0x0202020202020202, 0x0404040404040404,
        0x0808080808080808, 0x1010101010101010, 0x2020202020202020,
        0x4040404040404040, 0x8080808080808080,
    };
    uint64_t got[8];
    uint32_t n = load.light ? 20000 : 200000;

    __asm__ volatile("movq (%2), %%mm0\n\tmovq 8(%2), %%mm1\n\t"
                     "movq 16(%2), %%mm2\n\tmovq 24(%2), %%mm3\n\t"
                     "movq 32(%2), %%mm4\n\tmovq 40(%2), %%mm5\n\t"
                     "movq 48(%2), %%mm6\n\tmovq 56(%2), %%mm7\n"
                     "1: subl $1, %0\n\tjnz 1b\n\t"
                     "movq %%mm0, (%1)\n\tmovq %%mm1, 8(%1)\n\t"
                     "movq %%mm2, 16(%1)\n\tmovq %%mm3, 24(%1)\n\t"
                     "movq %%mm4, 32(%1)\n\tmovq %%mm5, 40(%1)\n\t"
                     "movq %%mm6, 48(%1)\n\tmovq %%mm7, 56(%1)\n\temms"
                     : "+r"(n) : "r"(got), "r"(want)
                     : "memory", "cc", "mm0", "mm1", "mm2", "mm3", "mm4",
                       "mm5", "mm6", "mm7");
    check_bytes("x87: MMX registers over a spin", want, got, sizeof(want));
}

static void known_answers(void)
{
    unsigned terms = load.light ? 200 : 2000;
    long double sum = 0, x = 0.5L;

    /* Basel: the sum's rest after n terms is between 1/(n+1) and 1/n */
    for (unsigned n = terms; n; n--) {
        sum += 1.0L / ((long double)n * n);
    }
    check_double("x87: sum of 1/n^2", M_PI * M_PI / 6 - 1.0 / terms,
                 sum, 1.0 / ((double)terms * terms));
    for (int i = 0; i < 40; i++) {
        x = (x + 2 / x) / 2;
    }
    check_double("x87: Newton's root of 2", M_SQRT2, x, TINY);
    for (double a = -3; a < 3; a += load.light ? 0.5 : 0.05) {
        double s, c, t;

        __asm__("fsincos" : "=t"(c), "=u"(s) : "0"(a));
        check_double("x87: sin^2 + cos^2", 1, s * s + c * c, 10 * TINY);
        __asm__("fpatan" : "=t"(t) : "0"(c), "u"(s) : "st(1)");
        check_double("x87: atan of sin and cos", a, t, 10 * TINY);
    }
}

void x87_round(void)
{
    stack_over_spin(load.rounds % 8);
    status_over_spin();
    across_pages();
    rounding_modes();
    mmx_over_spin();
    known_answers();
}
