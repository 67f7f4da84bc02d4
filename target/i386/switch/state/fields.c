/*
 * The table of a vCPU's state in KVM, but for its MSRs: msrs.c
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "hw/i386/apic_internal.h"
#include "table.h"

#define POISON_BYTES    0x5a5a5a5a5a5a5a5aull
/* Canonical (SDM vol. 1, 3.3.7.1) */
#define POISON_ADDRESS  0x5a5a5a5a5000ull
#define POISON_BYTE     0x5a

/* A row for member @f of X86KVMState; more of the row may follow. */
#define STATE(bit, f, ...) \
    { .name = #f, .part = X86_KVM_##bit, \
      .offset = offsetof(X86KVMState, f), \
      .size = sizeof_field(X86KVMState, f), \
      .word = sizeof_field(X86KVMState, f), ## __VA_ARGS__ }

/* The same for an array of bytes, or part of one, compared word by word. */
#define BYTES(bit, what, f, first, end, width, ...) \
    { .name = what, .part = X86_KVM_##bit, \
      .offset = offsetof(X86KVMState, f) + (first), \
      .size = (end) - (first), .word = width, .in_array = true, ## __VA_ARGS__ }

#define POISON(value) \
    .poisoned = X86_POISON_VALUE, .poison = (value)
#define IGNORED(in, why) \
    .ignored = (in), .reason = why
#define PADDING(bit, f) \
    { .name = #f, .part = X86_KVM_##bit, \
      .offset = offsetof(X86KVMState, f), \
      .size = sizeof_field(X86KVMState, f), .word = 1, \
      IGNORED(X86_BOTH_SCOPES, "padding, or reserved") }

#define REGISTER(f, ...)        STATE(REGS, regs.f, ## __VA_ARGS__)

#define SEGMENT(seg, poison_type, poison_s) \
    STATE(SREGS, sregs.seg.base, POISON(POISON_BYTE << 4)), \
    STATE(SREGS, sregs.seg.limit, POISON(0xffff)), \
    STATE(SREGS, sregs.seg.selector, POISON(POISON_BYTE)), \
    STATE(SREGS, sregs.seg.type, POISON(poison_type), \
          .loose_read_back = 1, .loose_round_trip = 1, \
          .reason = "Accessed: hardware demands it of what is loaded (C12)"), \
    STATE(SREGS, sregs.seg.present, POISON(1)), \
    STATE(SREGS, sregs.seg.dpl, POISON(0)), \
    STATE(SREGS, sregs.seg.db, POISON(0)), \
    STATE(SREGS, sregs.seg.s, POISON(poison_s)), \
    STATE(SREGS, sregs.seg.l, POISON(0)), \
    STATE(SREGS, sregs.seg.g, POISON(0), IGNORED(X86_READ_BACK, \
          "follows from the limit; AMD's have none in some segments")), \
    STATE(SREGS, sregs.seg.avl, POISON(0)), \
    STATE(SREGS, sregs.seg.unusable, POISON(0)), \
    PADDING(SREGS, sregs.seg.padding)

#define EVENT(f, ...)   STATE(EVENTS, events.f, POISON(0), ## __VA_ARGS__)

#define XSAVE(what, first, end, ...) \
    BYTES(XSAVE, what, xsave, first, end, 8, ## __VA_ARGS__)

/* Registers are 32 bits wide and 16 bytes apart. */
#define LAPIC(what, first, end, ...) \
    BYTES(LAPIC, what, lapic, first, end, 4, ## __VA_ARGS__)

const X86StateField x86_state_fields[] = {
    REGISTER(rax, POISON(POISON_BYTES)),
    REGISTER(rbx, POISON(POISON_BYTES)),
    REGISTER(rcx, POISON(POISON_BYTES)),
    REGISTER(rdx, POISON(POISON_BYTES)),
    REGISTER(rsi, POISON(POISON_BYTES)),
    REGISTER(rdi, POISON(POISON_BYTES)),
    REGISTER(rsp, POISON(POISON_BYTES)),
    REGISTER(rbp, POISON(POISON_BYTES)),
#ifdef TARGET_X86_64
#define UPPER(f) REGISTER(f, POISON(POISON_BYTES))
#else
#define UPPER(f) REGISTER(f, POISON(POISON_BYTES), IGNORED(X86_READ_BACK, \
                          "a 32-bit guest has none"))
#endif
    UPPER(r8), UPPER(r9), UPPER(r10), UPPER(r11),
    UPPER(r12), UPPER(r13), UPPER(r14), UPPER(r15),
    REGISTER(rip, POISON(POISON_ADDRESS)),
    REGISTER(rflags, POISON(2)),

    SEGMENT(cs, 3, 1), SEGMENT(ds, 3, 1), SEGMENT(es, 3, 1),
    SEGMENT(fs, 3, 1), SEGMENT(gs, 3, 1), SEGMENT(ss, 3, 1),
    SEGMENT(tr, 11, 0), SEGMENT(ldt, 2, 0),
    STATE(SREGS, sregs.gdt.base, POISON(POISON_ADDRESS)),
    STATE(SREGS, sregs.gdt.limit, POISON(POISON_BYTE)),
    PADDING(SREGS, sregs.gdt.padding),
    STATE(SREGS, sregs.idt.base, POISON(POISON_ADDRESS)),
    STATE(SREGS, sregs.idt.limit, POISON(POISON_BYTE)),
    PADDING(SREGS, sregs.idt.padding),
    /* Real mode, as KVM may hold the registers of any other. */
    STATE(SREGS, sregs.cr0, POISON(CR0_ET_MASK)),
    STATE(SREGS, sregs.cr2, POISON(POISON_ADDRESS)),
    STATE(SREGS, sregs.cr3, POISON(POISON_BYTE << 12)),
    STATE(SREGS, sregs.cr4, POISON(0)),
    STATE(SREGS, sregs.cr8, POISON(POISON_BYTE & 0xf)),
    STATE(SREGS, sregs.efer, POISON(0)),
    STATE(SREGS, sregs.apic_base),
    STATE(SREGS, sregs.flags, IGNORED(X86_BOTH_SCOPES,
          "says whether the PDPTRs are there")),
    STATE(PDPTRS, sregs.pdptrs[0]),
    STATE(PDPTRS, sregs.pdptrs[1]),
    STATE(PDPTRS, sregs.pdptrs[2]),
    STATE(PDPTRS, sregs.pdptrs[3]),

    STATE(XCRS, xcrs.nr_xcrs, IGNORED(X86_BOTH_SCOPES, "always 1"),
          POISON(1)),
    STATE(XCRS, xcrs.flags, IGNORED(X86_BOTH_SCOPES, "always 0")),
    STATE(XCRS, xcrs.xcrs[0].xcr, IGNORED(X86_BOTH_SCOPES, "always 0")),
    PADDING(XCRS, xcrs.xcrs[0].reserved),
    STATE(XCRS, xcrs.xcrs[0].value, POISON(XSTATE_FP_MASK)),
    { .name = "xcrs.xcrs[1…]", .part = X86_KVM_XCRS,
      .offset = offsetof(X86KVMState, xcrs.xcrs[1]),
      .size = sizeof_field(X86KVMState, xcrs.xcrs) -
              sizeof_field(X86KVMState, xcrs.xcrs[0]), .word = 8,
      IGNORED(X86_BOTH_SCOPES, "there is no XCR1 to write") },
    PADDING(XCRS, xcrs.padding),

    STATE(MP_STATE, mp_state.mp_state),

    EVENT(exception.injected),
    EVENT(exception.nr),
    EVENT(exception.has_error_code),
    EVENT(exception.pending),
    EVENT(exception.error_code),
    EVENT(interrupt.injected),
    EVENT(interrupt.nr),
    EVENT(interrupt.soft),
    STATE(EVENTS, events.interrupt.shadow, POISON(KVM_X86_SHADOW_INT_MOV_SS)),
    EVENT(nmi.injected),
    STATE(EVENTS, events.nmi.pending, POISON(1)),
    STATE(EVENTS, events.nmi.masked, POISON(1)),
    PADDING(EVENTS, events.nmi.pad),
    EVENT(sipi_vector, IGNORED(X86_BOTH_SCOPES, "KVM has it as 0")),
    STATE(EVENTS, events.flags, IGNORED(X86_BOTH_SCOPES, "says what is there"),
          POISON(KVM_VCPUEVENT_VALID_NMI_PENDING |
                 KVM_VCPUEVENT_VALID_SHADOW)),
    EVENT(smi.smm),
    EVENT(smi.pending),
    EVENT(smi.smm_inside_nmi),
    EVENT(smi.latched_init),
    EVENT(triple_fault.pending),
    PADDING(EVENTS, events.reserved),
    EVENT(exception_has_payload),
    EVENT(exception_payload),

    STATE(DEBUGREGS, debugregs.db[0], POISON(POISON_BYTE)),
    STATE(DEBUGREGS, debugregs.db[1], POISON(POISON_BYTE)),
    STATE(DEBUGREGS, debugregs.db[2], POISON(POISON_BYTE)),
    STATE(DEBUGREGS, debugregs.db[3], POISON(POISON_BYTE)),
    STATE(DEBUGREGS, debugregs.dr6, POISON(DR6_FIXED_1)),
    STATE(DEBUGREGS, debugregs.dr7, POISON(DR7_FIXED_1)),
    STATE(DEBUGREGS, debugregs.flags, IGNORED(X86_BOTH_SCOPES,
          "KVM has it as 0"), POISON(0)),
    PADDING(DEBUGREGS, debugregs.reserved),

    /* As after INIT, with the timer stopped (SDM vol. 3A, 11.4.7.1) */
    LAPIC("reserved", 0x000, 0x020),
    LAPIC("ID", 0x020, 0x030),
    LAPIC("version", 0x030, 0x034, IGNORED(X86_READ_BACK, "constant")),
    LAPIC("reserved", 0x034, 0x080, POISON(0)),
    LAPIC("TPR", 0x080, 0x090, POISON(0)),
    LAPIC("APR", 0x090, 0x0a0, POISON(0)),
    LAPIC("PPR", 0x0a0, 0x0a4, POISON(0), IGNORED(X86_BOTH_SCOPES,
          "follows from TPR and ISR")),
    LAPIC("reserved", 0x0a4, 0x0b0, POISON(0)),
    LAPIC("EOI", 0x0b0, 0x0c0, POISON(0)),
    LAPIC("RRD", 0x0c0, 0x0d0, POISON(0)),
    LAPIC("LDR", 0x0d0, 0x0d4, POISON(0), .exact_if_xapic = true,
          IGNORED(X86_READ_BACK,
                  "in x2APIC mode it follows from the ID (SDM vol. 3A,"
                  " 11.12.10.2)"),
          .loose_round_trip = 0x00ffffff),
    LAPIC("reserved", 0x0d4, 0x0e0, POISON(0)),
    LAPIC("DFR", 0x0e0, 0x0e4, POISON(0xffffffff)),
    LAPIC("reserved", 0x0e4, 0x0f0, POISON(0)),
    LAPIC("SVR", 0x0f0, 0x100, POISON(0)),
    LAPIC("ISR", 0x100, 0x180, POISON(0)),
    LAPIC("TMR", 0x180, 0x200, POISON(0)),
    LAPIC("IRR", 0x200, 0x280, POISON(0)),
    LAPIC("ESR", 0x280, 0x290, POISON(0)),
    LAPIC("reserved", 0x290, 0x2f0, POISON(0)),
    LAPIC("LVT CMCI", 0x2f0, 0x300, POISON(0)),
    LAPIC("ICR", 0x300, 0x304, POISON(0)),
    LAPIC("ICR, upper half in x2APIC mode", 0x304, 0x308, POISON(0),
          .exact_if_xapic = true, .loose_round_trip = 0xffffffff,
          IGNORED(X86_BOTH_SCOPES,
          "in x2APIC mode KVM keeps what 0x310 shows here, too, or not"
          " (kernel: kvm_apic_state_fixup(), x2apic_icr_is_split)")),
    LAPIC("reserved", 0x308, 0x310, POISON(0)),
    LAPIC("ICR2", 0x310, 0x320, POISON(0)),
    LAPIC("LVT timer", 0x320, 0x324, POISON(APIC_LVT_MASKED)),
    LAPIC("reserved", 0x324, 0x330, POISON(0)),
    LAPIC("LVT thermal", 0x330, 0x334, POISON(APIC_LVT_MASKED)),
    LAPIC("reserved", 0x334, 0x340, POISON(0)),
    LAPIC("LVT PMC", 0x340, 0x344, POISON(APIC_LVT_MASKED)),
    LAPIC("reserved", 0x344, 0x350, POISON(0)),
    LAPIC("LVT LINT0", 0x350, 0x354, POISON(APIC_LVT_MASKED)),
    LAPIC("reserved", 0x354, 0x360, POISON(0)),
    LAPIC("LVT LINT1", 0x360, 0x364, POISON(APIC_LVT_MASKED)),
    LAPIC("reserved", 0x364, 0x370, POISON(0)),
    LAPIC("LVT error", 0x370, 0x374, POISON(APIC_LVT_MASKED)),
    LAPIC("reserved", 0x374, 0x380, POISON(0)),
    LAPIC("TMICT", 0x380, 0x390, POISON(0)),
    LAPIC("TMCCT", 0x390, 0x394, POISON(0), IGNORED(X86_BOTH_SCOPES,
          "it counts; the round trip compares it by the time that has gone")),
    LAPIC("reserved", 0x394, 0x3e0, POISON(0)),
    LAPIC("TDCR", 0x3e0, 0x3f0, POISON(0)),
    LAPIC("self IPI", 0x3f0, 0x400, POISON(0)),

    STATE(TSC_OFFSET, tsc_offset),

    /* Standard format (SDM vol. 1, 13.4) */
    BYTES(XSAVE, "FCW", xsave, 0x000, 0x002, 2, POISON(0x37f)),
    BYTES(XSAVE, "FSW", xsave, 0x002, 0x004, 2, POISON(0)),
    BYTES(XSAVE, "FTW", xsave, 0x004, 0x006, 2, POISON(0)),
    BYTES(XSAVE, "FOP", xsave, 0x006, 0x008, 2, POISON(0)),
    XSAVE("FIP", 0x008, 0x010, POISON(0)),
    XSAVE("FDP", 0x010, 0x018, POISON(0)),
    BYTES(XSAVE, "MXCSR", xsave, 0x018, 0x01c, 4, POISON(0x1f80)),
    BYTES(XSAVE, "MXCSR_MASK", xsave, 0x01c, 0x020, 4, POISON(0),
          IGNORED(X86_BOTH_SCOPES, "the host's, whatever is put")),
    XSAVE("ST0 to ST7", 0x020, 0x0a0, POISON(POISON_BYTES)),
    XSAVE("XMM0 to XMM15", 0x0a0, 0x1a0, POISON(POISON_BYTES)),
    XSAVE("reserved", 0x1a0, 0x200, POISON(0), IGNORED(X86_BOTH_SCOPES,
          "reserved, or for software")),
    XSAVE("XSTATE_BV", 0x200, 0x208, POISON(XSTATE_FP_MASK | XSTATE_SSE_MASK),
          IGNORED(X86_BOTH_SCOPES,
          "a component in its initial state may be said to be in use (SDM"
          " vol. 1, 13.6)")),
    XSAVE("header, rest", 0x208, 0x240, POISON(0), IGNORED(X86_BOTH_SCOPES,
          "0 in the standard format")),
    XSAVE("extended components", 0x240, sizeof(struct kvm_xsave), POISON(0)),
};

const int x86_state_field_count = ARRAY_SIZE(x86_state_fields);

#define PART(what, bit, member, get_ioctl, set_ioctl) \
    { .name = what, .part = X86_KVM_##bit, \
      .offset = offsetof(X86KVMState, member), \
      .size = sizeof_field(X86KVMState, member), \
      .get = get_ioctl, .set = set_ioctl, .ioctls = #get_ioctl }

/*
 * In the order in which they are read: KVM_GET_MP_STATE may change what the
 * others show, as KVM takes an INIT or SIPI then.
 */
const X86StatePart x86_state_parts[] = {
    PART("MP state", MP_STATE, mp_state, KVM_GET_MP_STATE, KVM_SET_MP_STATE),
    PART("general registers", REGS, regs, KVM_GET_REGS, KVM_SET_REGS),
    PART("XSAVE area", XSAVE, xsave, KVM_GET_XSAVE, KVM_SET_XSAVE),
    PART("XCR0", XCRS, xcrs, KVM_GET_XCRS, KVM_SET_XCRS),
    PART("events", EVENTS, events, KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS),
    PART("debug registers", DEBUGREGS, debugregs, KVM_GET_DEBUGREGS,
         KVM_SET_DEBUGREGS),
    PART("LAPIC", LAPIC, lapic, KVM_GET_LAPIC, KVM_SET_LAPIC),
    /* KVM_GET_SREGS where the kernel is older than 5.14 */
    PART("system registers", SREGS, sregs, KVM_GET_SREGS2, KVM_SET_SREGS2),
    /* A vCPU's device attribute */
    PART("TSC offset", TSC_OFFSET, tsc_offset, KVM_GET_DEVICE_ATTR,
         KVM_SET_DEVICE_ATTR),
};

const int x86_state_part_count = ARRAY_SIZE(x86_state_parts);

const X86StatePart *x86_state_part(unsigned part)
{
    for (int i = 0; i < ARRAY_SIZE(x86_state_parts); i++) {
        if (x86_state_parts[i].part == part) {
            return &x86_state_parts[i];
        }
    }
    return NULL;
}
