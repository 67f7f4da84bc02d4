/*
 * Reading and comparing what KVM holds of a vCPU
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "kvm/hyperv-proto.h"
#include "system/kvm.h"
#include "cpu.h"
#include "kvm-state.h"

static void put_msr(X86KVMState *s, const struct kvm_msr_entry *entry)
{
    for (int i = 0; i < s->nmsrs; i++) {
        if (s->msrs[i].index == entry->index) {
            s->msrs[i].data = entry->data;
            return;
        }
    }
    if (s->nmsrs < X86_KVM_MSRS_MAX) {
        s->msrs[s->nmsrs++] = *entry;
    }
}

/* The older form has the interrupt bitmap where the newer has its flags. */
static void put_sregs(X86KVMState *s, const struct kvm_sregs *sregs)
{
    QEMU_BUILD_BUG_ON(offsetof(struct kvm_sregs, interrupt_bitmap) !=
                      offsetof(struct kvm_sregs2, flags));
    memset(&s->sregs, 0, sizeof(s->sregs));
    memcpy(&s->sregs, sregs, offsetof(struct kvm_sregs, interrupt_bitmap));
}

void x86_kvm_state_saw(X86KVMState *s, unsigned long type, const void *arg)
{
    const struct kvm_device_attr *attr = arg;
    const struct kvm_msrs *msrs = arg;

    switch (type) {
    case KVM_SET_REGS:
        s->regs = *(const struct kvm_regs *)arg;
        s->have |= X86_KVM_REGS;
        break;
    case KVM_SET_SREGS:
        put_sregs(s, arg);
        s->have |= X86_KVM_SREGS;
        s->have &= ~X86_KVM_PDPTRS;
        break;
    case KVM_SET_SREGS2:
        s->sregs = *(const struct kvm_sregs2 *)arg;
        s->have |= X86_KVM_SREGS;
        s->have &= ~X86_KVM_PDPTRS;
        if (s->sregs.flags & KVM_SREGS2_FLAGS_PDPTRS_VALID) {
            s->have |= X86_KVM_PDPTRS;
        }
        break;
    case KVM_SET_XSAVE:
        s->xsave = *(const struct kvm_xsave *)arg;
        s->have |= X86_KVM_XSAVE;
        break;
    case KVM_SET_XCRS:
        s->xcrs = *(const struct kvm_xcrs *)arg;
        s->have |= X86_KVM_XCRS;
        break;
    case KVM_SET_VCPU_EVENTS:
        s->events = *(const struct kvm_vcpu_events *)arg;
        s->have |= X86_KVM_EVENTS;
        break;
    case KVM_SET_DEBUGREGS:
        s->debugregs = *(const struct kvm_debugregs *)arg;
        s->have |= X86_KVM_DEBUGREGS;
        break;
    case KVM_SET_MP_STATE:
        s->mp_state = *(const struct kvm_mp_state *)arg;
        s->have |= X86_KVM_MP_STATE;
        break;
    case KVM_SET_LAPIC:
        s->lapic = *(const struct kvm_lapic_state *)arg;
        s->have |= X86_KVM_LAPIC;
        break;
    case KVM_SET_DEVICE_ATTR:
        if (attr->group == KVM_VCPU_TSC_CTRL) {
            s->tsc_offset = *(const int64_t *)(uintptr_t)attr->addr;
            s->have |= X86_KVM_TSC_OFFSET;
        }
        break;
    case KVM_SET_MSRS:
        for (int i = 0; i < msrs->nmsrs; i++) {
            put_msr(s, &msrs->entries[i]);
        }
        break;
    }
}

static int get_sregs(CPUState *cs, X86KVMState *s)
{
    struct kvm_sregs sregs;
    int ret;

    if (kvm_check_extension(kvm_state, KVM_CAP_SREGS2)) {
        ret = kvm_vcpu_ioctl(cs, KVM_GET_SREGS2, &s->sregs);
        if (s->sregs.flags & KVM_SREGS2_FLAGS_PDPTRS_VALID) {
            s->have |= X86_KVM_PDPTRS;
        }
        return ret;
    }
    ret = kvm_vcpu_ioctl(cs, KVM_GET_SREGS, &sregs);
    if (ret == 0) {
        put_sregs(s, &sregs);
    }
    return ret;
}

static int get_msrs(CPUState *cs, X86KVMState *s, const X86KVMState *like)
{
    g_autofree struct kvm_msrs *msrs =
        g_malloc0(sizeof(*msrs) + sizeof(like->msrs));
    int ret;

    msrs->nmsrs = like->nmsrs;
    memcpy(msrs->entries, like->msrs, sizeof(like->msrs));
    ret = kvm_vcpu_ioctl(cs, KVM_GET_MSRS, msrs);
    if (ret < 0) {
        return ret;
    }
    if (ret < msrs->nmsrs) {
        return -EINVAL;
    }
    s->nmsrs = msrs->nmsrs;
    memcpy(s->msrs, msrs->entries, sizeof(s->msrs));
    return 0;
}

static int msr_ioctl(CPUState *cs, unsigned long type, uint32_t index,
                     uint64_t *value)
{
    struct {
        struct kvm_msrs info;
        struct kvm_msr_entry entry;
    } msr = {
        .info.nmsrs = 1,
        .entry = { .index = index, .data = *value },
    };
    int ret = kvm_vcpu_ioctl(cs, type, &msr);

    if (ret != 1) {
        return ret < 0 ? ret : -EINVAL;
    }
    *value = msr.entry.data;
    return 0;
}

int x86_kvm_get_msr(CPUState *cs, uint32_t index, uint64_t *value)
{
    *value = 0;
    return msr_ioctl(cs, KVM_GET_MSRS, index, value);
}

int x86_kvm_put_msr(CPUState *cs, uint32_t index, uint64_t value)
{
    return msr_ioctl(cs, KVM_SET_MSRS, index, &value);
}

int x86_kvm_state_get(CPUState *cs, X86KVMState *s, const X86KVMState *like)
{
    const struct {
        unsigned have;
        unsigned long type;
        void *arg;
    } simple[] = {
        /* First: it may change what the others show. */
        { X86_KVM_MP_STATE, KVM_GET_MP_STATE, &s->mp_state },
        { X86_KVM_REGS, KVM_GET_REGS, &s->regs },
        { X86_KVM_XSAVE, KVM_GET_XSAVE, &s->xsave },
        { X86_KVM_XCRS, KVM_GET_XCRS, &s->xcrs },
        { X86_KVM_EVENTS, KVM_GET_VCPU_EVENTS, &s->events },
        { X86_KVM_DEBUGREGS, KVM_GET_DEBUGREGS, &s->debugregs },
        { X86_KVM_LAPIC, KVM_GET_LAPIC, &s->lapic },
    };
    struct kvm_device_attr tsc = {
        .group = KVM_VCPU_TSC_CTRL,
        .attr = KVM_VCPU_TSC_OFFSET,
        .addr = (uintptr_t)&s->tsc_offset,
    };
    int ret;

    memset(s, 0, sizeof(*s));
    s->have = like->have & ~X86_KVM_PDPTRS;
    for (int i = 0; i < ARRAY_SIZE(simple); i++) {
        if (!(like->have & simple[i].have)) {
            continue;
        }
        ret = kvm_vcpu_ioctl(cs, simple[i].type, simple[i].arg);
        if (ret < 0) {
            return ret;
        }
    }
    if (like->have & X86_KVM_SREGS) {
        ret = get_sregs(cs, s);
        if (ret < 0) {
            return ret;
        }
    }
    if (like->have & X86_KVM_TSC_OFFSET) {
        ret = kvm_vcpu_ioctl(cs, KVM_GET_DEVICE_ATTR, &tsc);
        if (ret < 0) {
            return ret;
        }
    }
    return like->nmsrs ? get_msrs(cs, s, like) : 0;
}

static void normalise_segment(struct kvm_segment *seg)
{
    if (seg->unusable || !seg->present) {
        *seg = (struct kvm_segment) {
            .selector = seg->selector,
            .base = seg->base,
            .limit = seg->limit,
            .unusable = 1,
        };
        return;
    }
    /* AMD's has none in some segments: KVM goes by the limit. */
    seg->g = seg->limit > 0xfffff;
    seg->type |= seg->s;
    seg->padding = 0;
}

static void normalise_sregs(struct kvm_sregs2 *sregs)
{
    struct kvm_segment *seg[] = {
        &sregs->cs, &sregs->ds, &sregs->es, &sregs->fs, &sregs->gs, &sregs->ss,
        &sregs->tr, &sregs->ldt,
    };

    for (int i = 0; i < ARRAY_SIZE(seg); i++) {
        normalise_segment(seg[i]);
    }
    sregs->flags = 0;
}

/* What XSTATE_BV does not have is in its initial state (SDM vol. 1, 13.6). */
void x86_kvm_state_normalise_xsave(X86KVMState *s)
{
    uint8_t *area = (uint8_t *)&s->xsave;
    X86LegacyXSaveArea *legacy = (X86LegacyXSaveArea *)area;
    X86XSaveHeader *header = (X86XSaveHeader *)(area + sizeof(*legacy));
    uint64_t used = header->xstate_bv;
    uint32_t mxcsr = legacy->mxcsr;

    if (!(used & XSTATE_FP_MASK)) {
        memset(legacy, 0, offsetof(X86LegacyXSaveArea, xmm_regs));
        legacy->fcw = 0x37f;
    }
    if (!(used & XSTATE_SSE_MASK)) {
        /* MXCSR is not part of it (SDM vol. 1, 13.6). */
        memset(legacy->xmm_regs, 0, sizeof(legacy->xmm_regs));
    }
    legacy->mxcsr = mxcsr;
    /* The host's, whatever is put. */
    legacy->mxcsr_mask = 0;
    for (int i = XSTATE_YMM_BIT; i < XSAVE_STATE_AREA_COUNT; i++) {
        const ExtSaveArea *esa = &x86_ext_save_areas[i];

        if (esa->offset && esa->size && !(used >> i & 1) &&
            esa->offset + esa->size <= sizeof(s->xsave)) {
            memset(area + esa->offset, 0, esa->size);
        }
    }
    memset(header, 0, sizeof(*header));
    memset(legacy->hw_reserved, 0, sizeof(legacy->hw_reserved));
    memset(legacy->sw_reserved, 0, sizeof(legacy->sw_reserved));
}

static void normalise_events(struct kvm_vcpu_events *e)
{
    if (!e->exception.injected && !e->exception.pending) {
        memset(&e->exception, 0, sizeof(e->exception));
        e->exception_has_payload = 0;
    }
    if (!e->exception_has_payload) {
        e->exception_payload = 0;
    }
    if (!e->exception.has_error_code) {
        e->exception.error_code = 0;
    }
    if (!e->interrupt.injected) {
        e->interrupt.nr = 0;
        e->interrupt.soft = 0;
    }
    /* It is its delivery that masks others. */
    if (e->nmi.injected) {
        e->nmi.masked = 0;
    }
    /* AMD's does not tell MOV SS from STI. */
    e->interrupt.shadow = !!e->interrupt.shadow;
}

static void normalise_lapic(struct kvm_lapic_state *lapic, uint64_t apic_base)
{
    /* Version: constant; PPR: follows from TPR and ISR; TMCCT: runs. */
    static const uint16_t none[] = { 0x30, 0xa0, 0x390 };

    for (int i = 0; i < ARRAY_SIZE(none); i++) {
        memset(lapic->regs + none[i], 0, 4);
    }
    if (apic_base & MSR_IA32_APICBASE_EXTD) {
        /*
         * ICR is one register of 64 bits.  Where KVM keeps it so, the upper
         * half is here, too, and is made of ICR2 when it is put (kernel:
         * kvm_apic_state_fixup(), x2apic_icr_is_split)
         */
        memset(lapic->regs + 0x304, 0, 4);
        /* LDR follows from the ID (SDM vol. 3A, "Logical x2APIC ID"). */
        memset(lapic->regs + 0xd0, 0, 4);
    }
}

void x86_kvm_state_normalise(X86KVMState *s)
{
    normalise_sregs(&s->sregs);
    if (s->have & X86_KVM_XSAVE) {
        x86_kvm_state_normalise_xsave(s);
    }
    normalise_events(&s->events);
    normalise_lapic(&s->lapic, s->sregs.apic_base);
#ifndef TARGET_X86_64
    memset(&s->regs.r8, 0, 8 * sizeof(s->regs.r8));
#endif
}

/* One field of X86KVMState, or of a segment: up to 8 bytes. */
typedef struct Field {
    const char *name;
    unsigned have;
    size_t offset, size;
} Field;

#define STATE(bit, f) \
    { #f, X86_KVM_##bit, offsetof(X86KVMState, f), \
      sizeof_field(X86KVMState, f) }
#define SEGMENT_FIELD(f) \
    { #f, X86_KVM_SREGS, offsetof(struct kvm_segment, f), \
      sizeof_field(struct kvm_segment, f) }

static const Field segment_fields[] = {
    SEGMENT_FIELD(selector), SEGMENT_FIELD(base), SEGMENT_FIELD(limit),
    SEGMENT_FIELD(type), SEGMENT_FIELD(present), SEGMENT_FIELD(dpl),
    SEGMENT_FIELD(db), SEGMENT_FIELD(s), SEGMENT_FIELD(l), SEGMENT_FIELD(g),
    SEGMENT_FIELD(avl), SEGMENT_FIELD(unusable),
};

static const Field segments[] = {
    STATE(SREGS, sregs.cs), STATE(SREGS, sregs.ds), STATE(SREGS, sregs.es),
    STATE(SREGS, sregs.fs), STATE(SREGS, sregs.gs), STATE(SREGS, sregs.ss),
    STATE(SREGS, sregs.tr), STATE(SREGS, sregs.ldt),
};

static const Field fields[] = {
    STATE(SREGS, sregs.cr0), STATE(SREGS, sregs.cr2), STATE(SREGS, sregs.cr3),
    STATE(SREGS, sregs.cr4), STATE(SREGS, sregs.cr8), STATE(SREGS, sregs.efer),
    STATE(SREGS, sregs.apic_base),
    STATE(SREGS, sregs.gdt.base), STATE(SREGS, sregs.gdt.limit),
    STATE(SREGS, sregs.idt.base), STATE(SREGS, sregs.idt.limit),
    STATE(PDPTRS, sregs.pdptrs[0]), STATE(PDPTRS, sregs.pdptrs[1]),
    STATE(PDPTRS, sregs.pdptrs[2]), STATE(PDPTRS, sregs.pdptrs[3]),
    STATE(REGS, regs.rax), STATE(REGS, regs.rbx), STATE(REGS, regs.rcx),
    STATE(REGS, regs.rdx), STATE(REGS, regs.rsi), STATE(REGS, regs.rdi),
    STATE(REGS, regs.rsp), STATE(REGS, regs.rbp), STATE(REGS, regs.r8),
    STATE(REGS, regs.r9), STATE(REGS, regs.r10), STATE(REGS, regs.r11),
    STATE(REGS, regs.r12), STATE(REGS, regs.r13), STATE(REGS, regs.r14),
    STATE(REGS, regs.r15), STATE(REGS, regs.rip), STATE(REGS, regs.rflags),
    STATE(XCRS, xcrs.xcrs[0].value),
    STATE(MP_STATE, mp_state.mp_state),
    STATE(EVENTS, events.exception.injected),
    STATE(EVENTS, events.exception.nr),
    STATE(EVENTS, events.exception.has_error_code),
    STATE(EVENTS, events.exception.pending),
    STATE(EVENTS, events.exception.error_code),
    STATE(EVENTS, events.exception_has_payload),
    STATE(EVENTS, events.exception_payload),
    STATE(EVENTS, events.interrupt.injected),
    STATE(EVENTS, events.interrupt.nr),
    STATE(EVENTS, events.interrupt.soft),
    STATE(EVENTS, events.interrupt.shadow),
    STATE(EVENTS, events.nmi.injected), STATE(EVENTS, events.nmi.pending),
    STATE(EVENTS, events.nmi.masked),
    STATE(EVENTS, events.smi.smm), STATE(EVENTS, events.smi.pending),
    STATE(EVENTS, events.smi.smm_inside_nmi),
    STATE(EVENTS, events.smi.latched_init),
    STATE(EVENTS, events.triple_fault.pending),
    STATE(DEBUGREGS, debugregs.db[0]), STATE(DEBUGREGS, debugregs.db[1]),
    STATE(DEBUGREGS, debugregs.db[2]), STATE(DEBUGREGS, debugregs.db[3]),
    STATE(DEBUGREGS, debugregs.dr6), STATE(DEBUGREGS, debugregs.dr7),
    STATE(TSC_OFFSET, tsc_offset),
};

static uint64_t field_value(const void *base, const Field *f)
{
    return ldn_he_p((const char *)base + f->offset, f->size);
}

/*
 * Names are made for what differs alone: this runs at every switch to KVM.
 * The limit is a length; more would not help whoever reads it.
 */
#define DIFFS_MAX 500

static void describe(GString *diffs, const char *name, uint64_t a, uint64_t b)
{
    if (diffs->len > DIFFS_MAX) {
        return;
    }
    if (diffs->len) {
        g_string_append(diffs, ", ");
    }
    g_string_append_printf(diffs, "%s is 0x%" PRIx64 ", not 0x%" PRIx64, name,
                           a, b);
}

static void diff_field(GString *diffs, const char *prefix, const void *a,
                       const void *b, const Field *f)
{
    uint64_t x = field_value(a, f), y = field_value(b, f);

    if (x != y) {
        g_autofree char *name = g_strconcat(prefix, f->name, NULL);

        describe(diffs, name, x, y);
    }
}

static void diff_segments(GString *diffs, const X86KVMState *a,
                          const X86KVMState *b)
{
    for (int i = 0; i < ARRAY_SIZE(segments); i++) {
        g_autofree char *prefix = g_strconcat(segments[i].name, ".", NULL);

        for (int j = 0; j < ARRAY_SIZE(segment_fields); j++) {
            diff_field(diffs, prefix, (const char *)a + segments[i].offset,
                       (const char *)b + segments[i].offset,
                       &segment_fields[j]);
        }
    }
}

/* In words of @word bytes. */
static void diff_bytes(GString *diffs, const char *what, const void *a,
                       const void *b, size_t size, size_t word)
{
    for (size_t i = 0; i < size; i += word) {
        uint64_t x = ldn_he_p((const char *)a + i, word);
        uint64_t y = ldn_he_p((const char *)b + i, word);

        if (x != y) {
            g_autofree char *name = g_strdup_printf("%s[0x%zx]", what, i);

            describe(diffs, name, x, y);
        }
    }
}

/* The TSC's offset says what there is to say; the others are KVM's clocks. */
static bool msr_runs(uint32_t index)
{
    return index == MSR_IA32_TSC || index == HV_X64_MSR_VP_RUNTIME ||
           index == HV_X64_MSR_TIME_REF_COUNT;
}

static void diff_msrs(GString *diffs, const X86KVMState *a,
                      const X86KVMState *b)
{
    for (int i = 0; i < a->nmsrs; i++) {
        const struct kvm_msr_entry *x = &a->msrs[i];

        for (int j = 0; j < b->nmsrs; j++) {
            const struct kvm_msr_entry *y = &b->msrs[j];

            if (x->index == y->index && x->data != y->data &&
                !msr_runs(x->index)) {
                g_autofree char *name = g_strdup_printf("MSR 0x%x", x->index);

                describe(diffs, name, x->data, y->data);
            }
        }
    }
}

char *x86_kvm_state_diff(const X86KVMState *a, const X86KVMState *b)
{
    unsigned have = a->have & b->have;
    GString *diffs = g_string_new(NULL);

    for (int i = 0; i < ARRAY_SIZE(fields); i++) {
        if (have & fields[i].have) {
            diff_field(diffs, "", a, b, &fields[i]);
        }
    }
    if (have & X86_KVM_SREGS) {
        diff_segments(diffs, a, b);
    }
    if (have & X86_KVM_LAPIC) {
        diff_bytes(diffs, "LAPIC", a->lapic.regs, b->lapic.regs,
                   sizeof(a->lapic.regs), 4);
    }
    if (have & X86_KVM_XSAVE) {
        diff_bytes(diffs, "XSAVE", &a->xsave, &b->xsave, sizeof(a->xsave), 8);
    }
    diff_msrs(diffs, a, b);
    return g_string_free(diffs, diffs->len == 0);
}
