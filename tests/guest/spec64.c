/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * spec64: the MSRs that control speculation, as many as the CPU has: each keeps
 * what is written under one accelerator, and has it under the other; commands
 * can't be read; reserved bits and MSRs that are not there fault (SDM vol. 4;
 * APM vol. 2, "Speculation Control MSRs").
 */
#include "lib/fault.h"

#define MSR_SPEC_CTRL   0x48
#define MSR_PRED_CMD    0x49
#define MSR_FLUSH_CMD   0x10b
#define MSR_VIRT_SSBD   0xc001011f

#define IBRS            0x1
#define STIBP           0x2
#define SSBD            0x4
#define IBPB            0x1
#define L1D_FLUSH       0x1

static uint32_t leaf7_edx, leaf8_ebx;

void trap(Frame *frame)
{
    if (!fault_taken(frame)) {
        check_value("no other trap, at RIP", frame->rip, frame->vector);
        debug_exit(2);
    }
}

static void cpuid(uint32_t leaf, uint32_t *ebx, uint32_t *edx)
{
    uint32_t ecx = 0;

    asm volatile("cpuid" : "+a" (leaf), "=b" (*ebx), "+c" (ecx), "=d" (*edx));
}

static uint64_t write_fault(uint32_t msr, uint64_t value)
{
    return MAY_FAULT("movl %2, %%ecx\n\t"
                     "movl %3, %%eax\n\t"
                     "movl %4, %%edx\n\t"
                     "wrmsr",
                     "r" (msr), "r" ((uint32_t)value),
                     "r" ((uint32_t)(value >> 32)));
}

static uint64_t read_fault(uint32_t msr)
{
    return MAY_FAULT("movl %2, %%ecx\n\t"
                     "rdmsr", "r" (msr));
}

static void check_kept(const char *what, uint32_t msr, uint64_t value)
{
    static const uint64_t masks[] = { ~0ull, 0, SSBD, IBRS };

    for (int i = 0; i < sizeof(masks) / sizeof(masks[0]); i++) {
        verify(what, 0, write_fault(msr, value & masks[i]));
        ask_switch();
        /* Not in the digest, as hosts differ in it. */
        check_value(what, value & masks[i], rdmsr(msr));
    }
    wrmsr(msr, 0);
}

static void check_absent(const char *what, uint32_t msr, uint64_t value)
{
    verify(what, VECTOR_GP, write_fault(msr, value));
    ask_switch();
    verify(what, VECTOR_GP, write_fault(msr, value));
    verify(what, VECTOR_GP, read_fault(msr));
}

static void check_spec_ctrl(void)
{
    uint64_t value = 0;

    if (leaf7_edx & 1u << 26) {
        value |= IBRS | STIBP;
    }
    if (leaf7_edx & 1u << 31) {
        value |= SSBD;
    }
    if (leaf8_ebx & (1u << 14 | 1u << 15)) {
        value |= IBRS | STIBP;
    }
    if (leaf8_ebx & 1u << 24) {
        value |= SSBD;
    }
    if (!(leaf7_edx & 1u << 26) &&
        !(leaf8_ebx & (1u << 14 | 1u << 15 | 1u << 24))) {
        check_absent("SPEC_CTRL", MSR_SPEC_CTRL, value);
        return;
    }
    check_kept("SPEC_CTRL", MSR_SPEC_CTRL, value);
    verify("a reserved bit of SPEC_CTRL", VECTOR_GP,
           write_fault(MSR_SPEC_CTRL, 1ull << 63));
}

/* A command's MSR is always 0, and can't be read. */
static void check_command(const char *what, uint32_t msr, uint64_t command,
                          bool there)
{
    if (!there) {
        check_absent(what, msr, command);
        return;
    }
    verify(what, 0, write_fault(msr, command));
    ask_switch();
    verify(what, 0, write_fault(msr, 0));
    verify("a reserved bit of a command", VECTOR_GP,
           write_fault(msr, 1ull << 63));
    ask_switch();
    verify("a command, read", VECTOR_GP, read_fault(msr));
}

static void check_virt_ssbd(void)
{
    if (leaf8_ebx & 1u << 25) {
        check_kept("VIRT_SSBD", MSR_VIRT_SSBD, SSBD);
    } else {
        check_absent("VIRT_SSBD", MSR_VIRT_SSBD, SSBD);
    }
}

void kernel_main(void)
{
    uint32_t unused;

    put_string("spec64\n");
    setup_idt();
    cpuid(7, &unused, &leaf7_edx);
    cpuid(0x80000008, &leaf8_ebx, &unused);
    for (;;) {
        check_spec_ctrl();
        check_command("PRED_CMD", MSR_PRED_CMD, IBPB,
                      leaf7_edx & 1u << 26 || leaf8_ebx & 1u << 12);
        check_command("FLUSH_CMD", MSR_FLUSH_CMD, L1D_FLUSH,
                      leaf7_edx & 1u << 28);
        check_virt_ssbd();
        lap_done();
    }
}
