/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * compute64: a guest of ./vas bench that computes at CPL3.
 *
 * A round calls 512 different functions, which work on registers and on a
 * buffer of 4 KiB.  A unit of work (lib/work.h) is 16 of these calls.  Each
 * round begins with the same seed and buffer, and must have the same result.
 *
 * Each vCPU that is asked for (VCPUS_WANTED) does so, the first prints a '.'
 * each ROUNDS_PER_LAP rounds.
 */
#include "lib/smp.h"
#include "lib/work.h"
#include "compute64.h"

#define ROUNDS_PER_LAP  4096
#define SEED            0x9e3779b97f4a7c15

typedef struct VCPU {
    uint64_t buffer[BUFFER_WORDS] __attribute__((aligned(4096)));
    uint8_t stack[4096] __attribute__((aligned(16)));
    uint64_t expected, got;
} VCPU;

static VCPU vcpus[WORK_VCPUS];
static volatile uint32_t starting;
static struct {
    uint16_t limit;
    uint64_t base;
} __attribute__((packed)) gdt_pointer;

/* The only exception that is expected: #UD, by which CPL3 asks for a lap. */
static void end_lap(void)
{
    asm volatile("ud2" : : : "memory");
}

static void work(unsigned number)
{
    VCPU *vcpu = &vcpus[number];

    for (uint64_t round = 1; ; round++) {
        for (int i = 0; i < BUFFER_WORDS; i++) {
            vcpu->buffer[i] = i;
        }
        vcpu->got = compute(SEED, vcpu->buffer, WORK_DONE(number));
        if (round == 1) {
            vcpu->expected = vcpu->got;
        }
        if (number == 0 && (round % ROUNDS_PER_LAP == 0 ||
                            vcpu->got != vcpu->expected)) {
            end_lap();
        } else if (vcpu->got != vcpu->expected) {
            /* Its work no longer counts, which the host notices. */
            for (;;) {
                continue;
            }
        }
    }
}

static void work_first(void)
{
    work(0);
}

static void work_other(void)
{
    unsigned number = starting;

    starting = 0;
    work(number);
}

static void *stack_of(unsigned number)
{
    return vcpus[number].stack + sizeof(vcpus[number].stack) - 8;
}

/* One after the other, as all come here on one stack. */
void ap_main(void)
{
    asm volatile("lgdt %0" : : "m" (gdt_pointer));
    enter_user(work_other, stack_of(starting));
}

void trap(Frame *frame)
{
    end_lap_by_trap(frame, "result of a round", vcpus[0].expected,
                    vcpus[0].got);
}

void kernel_main(void)
{
    unsigned wanted = *(volatile uint32_t *)VCPUS_WANTED;

    put_string("compute64\n");
    setup_idt();
    setup_pic();
    setup_lapic();
    asm volatile("sgdt %0" : "=m" (gdt_pointer));
    copy_ap_code();
    for (unsigned number = 1; number < wanted && number < WORK_VCPUS;
         number++) {
        starting = number;
        send_ipi(number, ICR_INIT);
        send_ipi(number, ICR_STARTUP | AP_PAGE >> 12);
        while (starting) {
            continue;
        }
    }
    enter_user(work_first, stack_of(0));
}
