/*
 * Canonical forms: states that mean the same to the guest compare equal
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "table.h"

#define SEGMENTS 8

static struct kvm_segment *segment(X86KVMState *s, int i)
{
    /* Code and data first */
    struct kvm_segment *segments[SEGMENTS] = {
        &s->sregs.cs, &s->sregs.ds, &s->sregs.es, &s->sregs.fs, &s->sregs.gs,
        &s->sregs.ss, &s->sregs.tr, &s->sregs.ldt,
    };

    return segments[i];
}

#define CODE_AND_DATA_SEGMENTS 6

/* Only selector, base and limit of an unusable segment have a meaning. */
static void unusable_segments(X86KVMState *s)
{
    for (int i = 0; i < SEGMENTS; i++) {
        struct kvm_segment *seg = segment(s, i);

        if (seg->unusable || !seg->present) {
            *seg = (struct kvm_segment) {
                .selector = seg->selector,
                .base = seg->base,
                .limit = seg->limit,
                .unusable = 1,
            };
        }
    }
}

static void not_present_is_unusable(X86KVMState *s)
{
    for (int i = 0; i < CODE_AND_DATA_SEGMENTS; i++) {
        segment(s, i)->unusable |= !segment(s, i)->present;
    }
}

static void accessed_segments(X86KVMState *s)
{
    for (int i = 0; i < SEGMENTS; i++) {
        struct kvm_segment *seg = segment(s, i);

        seg->type |= seg->s;
    }
}

static void real_mode_segments(X86KVMState *s)
{
    for (int i = 0; i < CODE_AND_DATA_SEGMENTS; i++) {
        struct kvm_segment *seg = segment(s, i);

        if (seg->unusable && !(s->sregs.cr0 & CR0_PE_MASK)) {
            seg->unusable = 0;
            seg->present = seg->s = 1;
            seg->type = 3;
            seg->limit = 0xffff;
        }
    }
}

static void null_ldt(X86KVMState *s)
{
    if (!(s->sregs.ldt.selector & ~3) && !s->sregs.ldt.limit) {
        s->sregs.ldt = (struct kvm_segment) {};
    }
}

static void long_mode_tss(X86KVMState *s)
{
    if (s->sregs.efer & MSR_EFER_LMA) {
        s->sregs.tr.type |= 8;
    }
}

static void unused_xsave_components(X86KVMState *s)
{
    uint8_t *area = (uint8_t *)&s->xsave;
    X86LegacyXSaveArea *legacy = (X86LegacyXSaveArea *)area;
    X86XSaveHeader *header = (X86XSaveHeader *)(area + sizeof(*legacy));
    uint64_t used = header->xstate_bv;
    uint32_t mxcsr = legacy->mxcsr;

    if (!(s->have & X86_KVM_XSAVE)) {
        return;
    }
    if (!(used & XSTATE_FP_MASK)) {
        memset(legacy, 0, offsetof(X86LegacyXSaveArea, xmm_regs));
        legacy->fcw = 0x37f;
    }
    if (!(used & XSTATE_SSE_MASK)) {
        /* MXCSR is not part of the SSE component (SDM vol. 1, 13.6). */
        memset(legacy->xmm_regs, 0, sizeof(legacy->xmm_regs));
    }
    legacy->mxcsr = mxcsr;
    for (int i = XSTATE_YMM_BIT; i < XSAVE_STATE_AREA_COUNT; i++) {
        const ExtSaveArea *esa = &x86_ext_save_areas[i];

        if (esa->offset && esa->size && !(used >> i & 1) &&
            esa->offset + esa->size <= sizeof(s->xsave)) {
            memset(area + esa->offset, 0, esa->size);
        }
    }
}

static void numbers_without_an_event(X86KVMState *s)
{
    struct kvm_vcpu_events *e = &s->events;

    if (!e->exception.injected && !e->exception.pending) {
        memset(&e->exception, 0, sizeof(e->exception));
    }
    if (!e->interrupt.injected) {
        e->interrupt.nr = 0;
    }
}

static void parts_of_an_event(X86KVMState *s)
{
    struct kvm_vcpu_events *e = &s->events;

    if (!e->exception.injected && !e->exception.pending) {
        e->exception_has_payload = 0;
    }
    if (!e->exception_has_payload) {
        e->exception_payload = 0;
    }
    if (!e->exception.has_error_code) {
        e->exception.error_code = 0;
    }
    if (!e->interrupt.injected) {
        e->interrupt.soft = 0;
    }
}

static void pending_exception(X86KVMState *s)
{
    struct kvm_vcpu_events *e = &s->events;
    uint64_t payload = e->exception_payload;

    if (!e->exception.pending) {
        return;
    }
    e->exception.pending = 0;
    e->exception.injected = 1;
    if (e->exception.nr == EXCP01_DB) {
        if (e->exception_has_payload) {
            s->debugregs.dr6 = ((s->debugregs.dr6 & ~0xfull) | DR6_FIXED_1 |
                                payload) ^ (payload & DR6_FIXED_1);
        }
        s->debugregs.dr7 &= ~(uint64_t)DR7_GD;
    } else if (e->exception.nr == EXCP0E_PAGE && e->exception_has_payload) {
        s->sregs.cr2 = payload;
    }
    e->exception_has_payload = 0;
    e->exception_payload = 0;
}

static void instruction_raises_it_again(X86KVMState *s)
{
    struct kvm_vcpu_events *e = &s->events;
    int nr = e->exception.nr;

    if (nr == EXCP03_INT3 || nr == EXCP04_INTO || nr == EXCP06_ILLOP) {
        e->exception.injected = 0;
        e->exception.pending = 0;
    }
}

static void nmi_in_delivery(X86KVMState *s)
{
    if (s->events.nmi.injected) {
        s->events.nmi.masked = 0;
    }
}

static void interrupt_shadow(X86KVMState *s)
{
    s->events.interrupt.shadow = !!s->events.interrupt.shadow;
}

static void pending_nmis(X86KVMState *s)
{
    s->events.nmi.pending = !!s->events.nmi.pending;
}

static void pending_smi(X86KVMState *s)
{
    s->events.smi.pending = !!s->events.smi.pending;
}

static void xapic_mode(X86KVMState *s)
{
    if (!(s->sregs.apic_base & MSR_IA32_APICBASE_EXTD)) {
        *x86_lapic_register(s, X86_LAPIC_LDR) &= 0xff000000;
        *x86_lapic_register(s, X86_LAPIC_ICR + 4) = 0;
    }
}

static void waiting_for_sipi(X86KVMState *s)
{
    if (s->mp_state.mp_state == KVM_MP_STATE_UNINITIALIZED) {
        s->mp_state.mp_state = KVM_MP_STATE_INIT_RECEIVED;
    }
}

/* Applied in this order: some forms depend on what others have changed. */
const X86CanonicalForm x86_canonical_forms[] = {
    { "exception.pending", X86_ROUND_TRIP, pending_exception,
      "TCG knows no exception that is pending only: it is injected, and its"
      " payload is where the exception puts it (C6)" },
    { "tr.type", X86_ROUND_TRIP, long_mode_tss,
      "after INIT AMD's KVM has a 16-bit TSS in long mode, which Intel refuses"
      " (C4)" },
    { "unusable segments", X86_READ_BACK, unusable_segments,
      "only selector, base and limit of an unusable segment have a meaning" },
    { "segments.unusable", X86_ROUND_TRIP, not_present_is_unusable,
      "some KVMs show a null selector's segment as usable, but not present" },
    { "segments.type", X86_BOTH_SCOPES, accessed_segments,
      "hardware demands that what is loaded was Accessed (C12)" },
    { "segments in real mode", X86_ROUND_TRIP, real_mode_segments,
      "a segment that was null in protected mode is usable in real mode"
      " (C12)" },
    { "ldt", X86_ROUND_TRIP, null_ldt,
      "there is none, whatever a null selector has left in the cache" },
    { "exception", X86_ROUND_TRIP, instruction_raises_it_again,
      "RIP is still at the instruction, which raises it again: INT3, INTO, and"
      " #UD, which KVM queues for instructions that it alone lacks, too" },
    { "exception, interrupt.nr", X86_BOTH_SCOPES, numbers_without_an_event,
      "numbers without an event are left from the last one" },
    { "exception_payload, error_code, interrupt.soft", X86_READ_BACK,
      parts_of_an_event, "without the event they mean nothing" },
    { "XSAVE", X86_BOTH_SCOPES, unused_xsave_components,
      "a component that XSTATE_BV leaves out is in its initial state (SDM"
      " vol. 1, 13.6)" },
    { "nmi.masked", X86_BOTH_SCOPES, nmi_in_delivery,
      "it is an NMI's delivery that masks others; some KVMs say so before" },
    { "interrupt.shadow", X86_BOTH_SCOPES, interrupt_shadow,
      "AMD's does not tell MOV SS's from STI's, nor does TCG" },
    { "nmi.pending", X86_ROUND_TRIP, pending_nmis,
      "TCG keeps one NMI pending, KVM up to two" },
    { "smi.pending", X86_READ_BACK, pending_smi,
      "QEMU gives KVM another bit than the one that KVM shows" },
    { "LAPIC LDR, upper half of ICR", X86_ROUND_TRIP, xapic_mode,
      "what x2APIC mode had there, KVM leaves in bits that mean nothing in"
      " xAPIC mode" },
    { "mp_state", X86_ROUND_TRIP, waiting_for_sipi,
      "to TCG both are waiting for SIPI" },
};

const int x86_canonical_form_count = ARRAY_SIZE(x86_canonical_forms);

void x86_state_canonicalise(X86KVMState *s, X86StateScope scope)
{
    for (int i = 0; i < ARRAY_SIZE(x86_canonical_forms); i++) {
        if (x86_canonical_forms[i].scopes & scope) {
            x86_canonical_forms[i].apply(s);
        }
    }
}
