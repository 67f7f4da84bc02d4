/*
 * Whether a comparison of what KVM holds of a vCPU sees each bit of it:
 * target/i386/switch/kvm-state.c, for the read-back and the round trip
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "system/kvm.h"
#include "cpu.h"
#include "target/i386/switch/kvm-state.h"

/* What kvm-state.c refers to */

KVMState *kvm_state;

/* As processors with AVX and protection keys have them. */
ExtSaveArea x86_ext_save_areas[XSAVE_STATE_AREA_COUNT] = {
    [XSTATE_YMM_BIT] = { .offset = 0x240, .size = 0x100 },
    [XSTATE_PKRU_BIT] = { .offset = 0xa80, .size = 8 },
};

int kvm_vcpu_ioctl(CPUState *cpu, unsigned long type, ...)
{
    g_assert_not_reached();
}

int kvm_check_extension(KVMState *s, unsigned int extension)
{
    g_assert_not_reached();
}

/* Bytes in which a difference means nothing, and why. */
typedef struct Exception {
    size_t offset;
    size_t size;
    const char *why;
} Exception;

#define STATE(f, why) \
    { offsetof(X86KVMState, f), sizeof_field(X86KVMState, f), why }
#define LAPIC(r, why) { offsetof(X86KVMState, lapic.regs[r]), 4, why }
#define XSAVE(first, end, why) \
    { offsetof(X86KVMState, xsave) + (first), (end) - (first), why }

static const Exception exceptions[] = {
    STATE(sregs.gdt.padding, "padding"),
    STATE(sregs.idt.padding, "padding"),
    STATE(sregs.flags, "says that PDPTRs are there, as @have does"),
    STATE(xcrs.nr_xcrs, "always 1"),
    STATE(xcrs.flags, "always 0"),
    STATE(xcrs.xcrs[0].xcr, "always 0"),
    STATE(xcrs.xcrs[0].reserved, "reserved"),
    STATE(xcrs.padding, "padding"),
    STATE(events.nmi.pad, "padding"),
    STATE(events.sipi_vector, "KVM has it as 0"),
    STATE(events.flags, "says what is there"),
    STATE(events.reserved, "reserved"),
    STATE(debugregs.flags, "KVM has it as 0"),
    STATE(debugregs.reserved, "reserved"),
    LAPIC(0x30, "its version"),
    LAPIC(0xa0, "PPR follows from TPR and ISR"),
    LAPIC(0x390, "the timer's count runs"),
    XSAVE(0x1c, 0x20, "MXCSR_MASK is the host's"),
    XSAVE(0x1a0, 0x200, "reserved"),
    XSAVE(0x200, 0x240, "the header says what is in use"),
};

/* Within each of sregs' segments, which come first there. */
static const Exception in_segments[] = {
    { offsetof(struct kvm_segment, padding), 1, "padding" },
    { offsetof(struct kvm_segment, g), 1, "follows from the limit" },
};

/* All is there, and nothing is such that something else has no meaning. */
static X86KVMState full_state(void)
{
    const struct kvm_segment segment = {
        .base = 0x1000, .limit = 0xffff, .selector = 8, .type = 3,
        .present = 1, .dpl = 3, .db = 1, .s = 1, .avl = 1,
    };
    X86KVMState s = {
        .have = (X86_KVM_PDPTRS << 1) - 1,
        .sregs = {
            .cs = segment, .ds = segment, .es = segment, .fs = segment,
            .gs = segment, .ss = segment, .tr = segment, .ldt = segment,
        },
        .events = {
            .exception = { .injected = 1, .nr = 14, .has_error_code = 1 },
            .exception_has_payload = 1,
            .interrupt = { .injected = 1, .nr = 32 },
        },
        .nmsrs = 1,
        .msrs[0] = { .index = MSR_EFER },
    };
    X86XSaveHeader *header = (void *)&s.xsave.region[0x200 / 4];

    s.xsave.region[0] = 0x37f;
    header->xstate_bv = XSTATE_FP_MASK | XSTATE_SSE_MASK | XSTATE_YMM_MASK |
                        XSTATE_PKRU_MASK;
    return s;
}

static char *diff(X86KVMState *a, X86KVMState *b)
{
    x86_kvm_state_normalise(a);
    x86_kvm_state_normalise(b);
    return x86_kvm_state_diff(a, b);
}

static const char *excused(size_t byte, uint8_t bit)
{
    size_t in_sregs = byte - offsetof(X86KVMState, sregs);
    size_t in_segment = in_sregs % sizeof(struct kvm_segment);

    if (in_sregs < offsetof(struct kvm_sregs2, gdt)) {
        for (int i = 0; i < ARRAY_SIZE(in_segments); i++) {
            if (in_segment == in_segments[i].offset) {
                return in_segments[i].why;
            }
        }
        if (in_segment == offsetof(struct kvm_segment, type) && bit == 1) {
            return "hardware demands that what is loaded was Accessed (C12)";
        }
    }
    if (byte - offsetof(X86KVMState, xcrs.xcrs[1]) <
        offsetof(struct kvm_xcrs, padding) -
        offsetof(struct kvm_xcrs, xcrs[1])) {
        return "there is no XCR1 to write";
    }
    for (int i = 0; i < ARRAY_SIZE(exceptions); i++) {
        if (byte - exceptions[i].offset < exceptions[i].size) {
            return exceptions[i].why;
        }
    }
    return NULL;
}

static void check_bits(size_t first, size_t size)
{
    for (size_t byte = first; byte < first + size; byte++) {
        for (int bit = 1; bit < 0x100; bit <<= 1) {
            X86KVMState a = full_state(), b = full_state();
            g_autofree char *found = NULL;
            const char *why = excused(byte, bit);

            ((uint8_t *)&b)[byte] ^= bit;
            found = diff(&a, &b);
            if (!found != !!why) {
                g_test_message("byte 0x%zx, bit 0x%x: %s, though %s", byte,
                               bit, found ?: "not seen", why ?: "it matters");
                g_test_fail();
            }
        }
    }
}

static void test_each_bit(void)
{
    size_t regs = offsetof(X86KVMState, regs);
    size_t lapic = offsetof(X86KVMState, lapic);

    check_bits(regs, lapic - regs);
    check_bits(lapic, sizeof_field(X86KVMState, lapic));
    check_bits(offsetof(X86KVMState, tsc_offset),
               sizeof_field(X86KVMState, tsc_offset));
    check_bits(offsetof(X86KVMState, xsave), sizeof(struct kvm_xsave));
}

static void test_msr(void)
{
    X86KVMState a = full_state(), b = full_state();
    g_autofree char *found = NULL;

    b.msrs[0].data = 1ull << 63;
    found = diff(&a, &b);
    g_assert_cmpstr(found, ==, "MSR 0xc0000080 is 0x0, not"
                    " 0x8000000000000000");
}

/* PKRU counts whether XCR0 has its bit or not (SDM vol. 3A, 4.6.2). */
static void test_component_off_in_xcr0(void)
{
    X86KVMState a = full_state(), b = full_state();
    g_autofree char *found = NULL;

    a.xcrs.xcrs[0].value = b.xcrs.xcrs[0].value = XSTATE_FP_MASK;
    b.xsave.region[0xa80 / 4] = 4;
    found = diff(&a, &b);
    g_assert_cmpstr(found, ==, "XSAVE[0xa80] is 0x0, not 0x4");
}

/* What is in its initial state is that whatever the area has there. */
static void test_initial_state(void)
{
    X86KVMState a = full_state(), b = full_state();
    X86XSaveHeader *header = (void *)&b.xsave.region[0x200 / 4];

    header->xstate_bv &= ~XSTATE_YMM_MASK;
    b.xsave.region[0x240 / 4] = 4;
    g_assert_null(diff(&a, &b));
}

/*
 * In x2APIC mode ICR has 64 bits, whose upper half KVM keeps at 0x304, too, or
 * not; and LDR follows from the ID.
 */
static void test_x2apic(void)
{
    static const int registers[] = { 0x304, 0xd0 };

    for (int i = 0; i < ARRAY_SIZE(registers); i++) {
        X86KVMState a = full_state(), b = full_state();
        g_autofree char *found = NULL;

        b.lapic.regs[registers[i]] = 1;
        found = diff(&a, &b);
        g_assert_nonnull(found);

        a = b = full_state();
        a.sregs.apic_base = b.sregs.apic_base = MSR_IA32_APICBASE_EXTD;
        b.lapic.regs[registers[i]] = 1;
        g_assert_null(diff(&a, &b));
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/kvm-state/each-bit", test_each_bit);
    g_test_add_func("/kvm-state/msr", test_msr);
    g_test_add_func("/kvm-state/off-in-xcr0", test_component_off_in_xcr0);
    g_test_add_func("/kvm-state/initial-state", test_initial_state);
    g_test_add_func("/kvm-state/x2apic", test_x2apic);
    return g_test_run();
}
