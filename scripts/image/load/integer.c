/*
 * vas-load: integer arithmetic against known answers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <string.h>

#include "load.h"

static uint32_t crc32(const uint8_t *data, size_t len)
{
    uint32_t crc = ~0u;

    for (size_t i = 0; i < len; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
        }
    }
    return ~crc;
}

/* The first 32 bits of the cube roots' fractions (FIPS 180-4, 4.2.2). */
static const uint32_t sha_k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1,
    0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3,
    0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
    0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
    0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
    0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
    0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
    0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
    0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t ror(uint32_t x, int n)
{
    return x >> n | x << (32 - n);
}

/* SHA-256 of "abc": one block, known from FIPS 180-4's examples. */
static void sha256_abc(uint32_t h[8])
{
    static const uint32_t start[8] = {
        0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
    };
    uint32_t w[64] = { 0x61626380, [15] = 24 }, s[8];

    for (int t = 16; t < 64; t++) {
        uint32_t a = w[t - 15], b = w[t - 2];

        w[t] = w[t - 16] + w[t - 7] + (ror(a, 7) ^ ror(a, 18) ^ a >> 3)
               + (ror(b, 17) ^ ror(b, 19) ^ b >> 10);
    }
    memcpy(s, start, sizeof(s));
    for (int t = 0; t < 64; t++) {
        uint32_t e = s[4], a = s[0];
        uint32_t t1 = s[7] + (ror(e, 6) ^ ror(e, 11) ^ ror(e, 25))
                      + ((e & s[5]) ^ (~e & s[6])) + sha_k[t] + w[t];
        uint32_t t2 = (ror(a, 2) ^ ror(a, 13) ^ ror(a, 22))
                      + ((a & s[1]) ^ (a & s[2]) ^ (s[1] & s[2]));

        memmove(s + 1, s, 7 * sizeof(s[0]));
        s[4] += t1;
        s[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++) {
        h[i] = start[i] + s[i];
    }
}

static unsigned primes_below(unsigned limit)
{
    unsigned count = 0;

    for (unsigned n = 2; n < limit; n++) {
        unsigned d = 2;

        while (d * d <= n && n % d) {
            d++;
        }
        count += d * d > n;
    }
    return count;
}

/* Flags that an instruction leaves, kept over a spin that would spoil them. */
static void flags(void)
{
    uint32_t value = 0x7fffffff, before, after;

    __asm__ volatile("addl $1, %0\n\tpushfl\n\tpopl %1"
                     : "+r"(value), "=r"(before) : : "cc");
    /* OF and SF and AF and PF, neither ZF nor CF */
    check_u64("integer: flags of 0x7fffffff + 1", 0x894, before & 0x8d5);
    load_spin();
    __asm__ volatile("pushl %1\n\tpopfl\n\tpushfl\n\tpopl %0"
                     : "=r"(after) : "r"(before) : "cc");
    check_u64("integer: flags restored", before & 0x8d5, after & 0x8d5);
}

/* All seven general registers hold something around a spin. */
static void registers(void)
{
    uint32_t got[6], *place = got;
    uint32_t count = load.light ? 20000 : 200000;

    __asm__ volatile("pushl %%ebp\n\t"
                     "pushl %%ebx\n\t"
                     "pushl %%esi\n\t"
                     "movl $0x11111111, %%eax\n\t"
                     "movl $0x22222222, %%ebx\n\t"
                     "movl $0x33333333, %%edx\n\t"
                     "movl $0x44444444, %%esi\n\t"
                     "movl $0x55555555, %%edi\n\t"
                     "movl $0x66666666, %%ebp\n\t"
                     "1: loop 1b\n\t"
                     "xchgl %%eax, (%%esp)\n\t"
                     "movl %%ebx, 4(%%eax)\n\t"
                     "movl %%edx, 8(%%eax)\n\t"
                     "movl %%esi, 12(%%eax)\n\t"
                     "movl %%edi, 16(%%eax)\n\t"
                     "movl %%ebp, 20(%%eax)\n\t"
                     "popl %%edx\n\t"
                     "movl %%edx, (%%eax)\n\t"
                     "popl %%ebx\n\t"
                     "popl %%ebp"
                     : "+S"(place), "+c"(count) :
                     : "eax", "edx", "edi", "memory", "cc");
    for (unsigned i = 0; i < 6; i++) {
        check_u64("integer: register over a spin", 0x11111111u * (i + 1),
                  got[i]);
    }
}

static void odd_instructions(void)
{
    uint32_t eax, edx, ecx;

    __asm__ volatile("mull %2" : "=a"(eax), "=d"(edx)
                     : "r"(0xdeadbeef), "a"(0xcafebabe) : "cc");
    check_u64("integer: mul", 0xb092ab7b88cf5b62ull,
              (uint64_t)edx << 32 | eax);
    __asm__ volatile("divl %2" : "+a"(eax), "+d"(edx)
                     : "r"(0xdeadbeef) : "cc");
    check_u64("integer: div", 0xcafebabe, eax);
    check_u64("integer: rest of div", 0, edx);
    __asm__ volatile("daa" : "=a"(eax) : "a"(0x9b) : "cc");
    check_u64("integer: daa", 0x01, eax & 0xff);
    __asm__ volatile("shldl $12, %1, %0" : "=r"(eax)
                     : "r"(0xabcdef01), "0"(0x12345678) : "cc");
    check_u64("integer: shld", 0x45678abc, eax);
    __asm__ volatile("bsrl %1, %0" : "=r"(eax) : "r"(0x00400000) : "cc");
    check_u64("integer: bsr", 22, eax);
    __asm__ volatile("movl $0xffffffff, %0\n\taddl $1, %0\n\t"
                     "movl $5, %1\n\tadcl $6, %1"
                     : "=&r"(eax), "=&r"(ecx) : : "cc");
    check_u64("integer: adc", 12, ecx);
}

void integer_round(void)
{
    static const uint32_t abc[8] = {
        0xba7816bf, 0x8f01cfea, 0x414140de, 0x5dae2223,
        0xb00361a3, 0x96177a9c, 0xb410ff61, 0xf20015ad,
    };
    uint32_t h[8];

    check_u64("integer: crc32", 0xcbf43926,
              crc32((const uint8_t *)"123456789", 9));
    sha256_abc(h);
    check_bytes("integer: sha256", abc, h, sizeof(h));
    if (load.light) {
        check_u64("integer: primes", 168, primes_below(1000));
    } else {
        check_u64("integer: primes", 1229, primes_below(10000));
    }
    flags();
    registers();
    odd_instructions();
}
