/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What lib/long.S and lib/long.c give to a 64-bit payload.
 *
 * Code at CPL0 keeps to plain integer instructions: under some KVMs it is
 * emulated, instruction by instruction, and that emulator doesn't know all of
 * them.  CPL3 may do what the CPU can.
 */
#ifndef GUEST_LONG_H
#define GUEST_LONG_H

#define KERNEL_CS       0x08
#define KERNEL_DS       0x10
#define USER_DS         0x1b
#define USER_CS         0x23
#define TSS_SELECTOR    0x28

#define VECTORS         0x60
#define VECTOR_NMI      2
#define VECTOR_UD       6
#define VECTOR_PIT      0x20
#define VECTOR_PIC_LAST 0x2f
#define VECTOR_TIMER    0x40
#define VECTOR_SPURIOUS 0x5f

/* The start of the window's 512 pages; window_table_1 has their entries. */
#define WINDOW          0x40000000

#ifndef __ASSEMBLER__

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/io.h"

/* The registers at an exception or an interrupt, as long.S pushes them. */
typedef struct Frame {
    uint64_t rax, rbx, rcx, rdx, rsi, rdi, rbp;
    uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
    uint64_t vector, error_code;
    uint64_t rip, cs, rflags, rsp, ss;
} Frame;

/* The TSS, in pieces of 4 bytes (SDM vol. 3A, 8.7). */
#define TSS_IST(n)      (7 + 2 * (n))
extern uint32_t tss[26];

extern uint64_t page_table_4[512];
extern uint64_t window_table_1[512];

/* long.S */
extern const uint8_t vector_entries[VECTORS][16];
void enter_user(void (*function)(void), void *stack);

/*
 * Called with interrupts off: turn them on for @spins of a loop.  That is at
 * CPL3, as an emulator of CPL0 may take its time.  It ends with a trap, for
 * which trap() calls interrupts_taken(), and returns at once if that is true.
 */
void take_interrupts(unsigned spins);
bool interrupts_taken(Frame *frame);

/*
 * Called with interrupts off: go on with the registers of @frame, until trap()
 * calls return_to_caller(), upon whose return run() returns.
 */
void run(const Frame *frame);
void return_to_caller(Frame *frame);

/* The payload's: called at CPL0 with interrupts off. */
void kernel_main(void);
void trap(Frame *frame);

/* long.c */

/* Load an IDT with all VECTORS for trap(). */
void setup_idt(void);
/* @vector's handler on the TSS's stack @ist, 1 to 7; 0: on none of them. */
void set_ist(int vector, uint8_t ist);

/* The PICs at VECTOR_PIT, as new and with all masked. */
void setup_pic(void);
/* Then IRQ 0 alone unmasked, and the PIT at @hertz. */
void setup_pit(unsigned hertz);
void pic_eoi(void);

/* One of the LAPIC's registers, by its offset. */
#define LAPIC_TPR       0x080
#define LAPIC_ISR       0x100
#define LAPIC_IRR       0x200
#define LAPIC_ICR       0x300
#define LAPIC_LVT_TIMER 0x320
#define LAPIC_TIMER_ICR 0x380
#define LAPIC_TIMER_CCR 0x390
volatile uint32_t *lapic(uint32_t offset);
/* Of ISR or IRR. */
bool lapic_bit(uint32_t registers, int vector);

/* The LAPIC on, with the PIC's output as ExtINT on LINT0. */
void setup_lapic(void);
void lapic_timer(uint32_t count, bool periodic);
void lapic_eoi(void);

/* One of the IOAPIC's registers, by its number. */
#define IOAPIC_REDIRECTION(pin) (0x10 + 2 * (pin))  /* its lower half */
uint32_t ioapic_read(uint32_t number);
void ioapic_write(uint32_t number, uint32_t value);

/* To the debug console. */
void put_char(char c);
void put_string(const char *text);
void put_hex(uint64_t value);
void put_decimal(uint64_t value);
/* An ERROR line if @got is not @expected. */
void check_value(const char *what, uint64_t expected, uint64_t got);

/* Likewise, and it counts; the digest is made of @got. */
void verify(const char *what, uint64_t expected, uint64_t got);
/*
 * A lap is done: print its '.', and end QEMU if it was the last of those that
 * were asked for.
 */
void lap_done(void);

/* End QEMU by its isa-debug-exit device, with the exit status 2 * @code + 1. */
void debug_exit(uint8_t code) __attribute__((noreturn));

static inline uint64_t rdmsr(uint32_t msr)
{
    uint32_t low, high;

    asm volatile("rdmsr" : "=a" (low), "=d" (high) : "c" (msr));
    return low | (uint64_t)high << 32;
}

static inline void wrmsr(uint32_t msr, uint64_t value)
{
    uint32_t low = value, high = value >> 32;

    asm volatile("wrmsr" : : "c" (msr), "a" (low), "d" (high));
}

static inline uint64_t rdtsc(void)
{
    uint32_t low, high;

    asm volatile("rdtsc" : "=a" (low), "=d" (high) : : "memory");
    return low | (uint64_t)high << 32;
}

/* Marsaglia's xorshift64: the payloads' patterns. */
static inline uint64_t next_pattern(uint64_t *state)
{
    uint64_t x = *state;

    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return *state = x;
}

#endif /* __ASSEMBLER__ */
#endif
