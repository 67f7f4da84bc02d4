/*
 * Rules: segment and descriptor-table registers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "rules-internal.h"

/* Sets of segment registers. */
enum {
    CS = 1 << 0,
    SS = 1 << 1,
    DS = 1 << 2,
    ES = 1 << 3,
    FS = 1 << 4,
    GS = 1 << 5,
    TR = 1 << 6,
    LDTR = 1 << 7,
    DATA = DS | ES | FS | GS,
    CODE_DATA = CS | SS | DATA,
    ALL = CODE_DATA | TR | LDTR,
};

/*
 * KVM writes a segment that is not present as unusable (kernel:
 * vmx_segment_access_rights()).
 */
static bool is_usable(const struct kvm_segment *seg)
{
    return seg->present && !seg->unusable;
}

static bool is_v86(const X86KVMState *s)
{
    return s->regs.rflags & RFLAGS_VM;
}

/* A kind of segment, whether accessed or not. */
static unsigned type_of(const struct kvm_segment *seg)
{
    return seg->type | 1;
}

typedef bool SegmentTest(const struct kvm_segment *seg,
                         const X86StateLimits *l);

/* Of the registers @which, one that @usable_only does not spare fails @test */
static bool any_segment(const X86KVMState *s, const X86StateLimits *l,
                        unsigned which, unsigned usable_only,
                        SegmentTest *test)
{
    const struct kvm_segment *segs[] = {
        &s->sregs.cs, &s->sregs.ss, &s->sregs.ds, &s->sregs.es,
        &s->sregs.fs, &s->sregs.gs, &s->sregs.tr, &s->sregs.ldt,
    };

    for (int i = 0; i < ARRAY_SIZE(segs); i++) {
        if (which & BIT(i) && (!(usable_only & BIT(i)) || is_usable(segs[i])) &&
            test(segs[i], l)) {
            return true;
        }
    }
    return false;
}

/* KVM takes as many bits as the field has. */
static bool has_wide_field(const struct kvm_segment *seg,
                           const X86StateLimits *l)
{
    return seg->type > 15 || seg->dpl > 3 || seg->present > 1 || seg->db > 1 ||
           seg->s > 1 || seg->l > 1 || seg->g > 1 || seg->avl > 1 ||
           seg->unusable > 1;
}

static bool segment_fields(const X86KVMState *s, const X86StateLimits *l)
{
    return any_segment(s, l, ALL, 0, has_wide_field);
}

static bool has_wide_base(const struct kvm_segment *seg,
                          const X86StateLimits *l)
{
    return seg->base & UPPER_HALF;
}

static bool segment_base_upper_half(const X86KVMState *s,
                                    const X86StateLimits *l)
{
    return any_segment(s, l, CS | SS | DS | ES, SS | DS | ES, has_wide_base);
}

static bool has_non_canonical_base(const struct kvm_segment *seg,
                                   const X86StateLimits *l)
{
    return !is_canonical(seg->base, l);
}

static bool segment_base_canonical(const X86KVMState *s,
                                   const X86StateLimits *l)
{
    return any_segment(s, l, FS | GS | TR | LDTR, LDTR, has_non_canonical_base);
}

/* The limit is in bytes here, with the low bits of a page all ones. */
static bool has_wrong_granularity(const struct kvm_segment *seg,
                                  const X86StateLimits *l)
{
    return seg->g ? ~seg->limit & 0xfff : seg->limit > 0xfffff;
}

static bool segment_granularity(const X86KVMState *s, const X86StateLimits *l)
{
    return any_segment(s, l, ALL, ALL & ~CS, has_wrong_granularity);
}

/* Virtual-8086 mode; QEMU's kvm_put_sregs() makes it so. */

static bool has_no_v86_base(const struct kvm_segment *seg,
                            const X86StateLimits *l)
{
    return seg->base != (uint32_t)seg->selector << 4;
}

static bool v86_base(const X86KVMState *s, const X86StateLimits *l)
{
    return is_v86(s) && any_segment(s, l, CODE_DATA, 0, has_no_v86_base);
}

static bool has_no_v86_limit(const struct kvm_segment *seg,
                             const X86StateLimits *l)
{
    return seg->limit != 0xffff;
}

static bool v86_limit(const X86KVMState *s, const X86StateLimits *l)
{
    return is_v86(s) && any_segment(s, l, CODE_DATA, 0, has_no_v86_limit);
}

/* 0xf3 in the VMCS */
static bool has_no_v86_rights(const struct kvm_segment *seg,
                              const X86StateLimits *l)
{
    return !is_usable(seg) || seg->type != 3 || seg->dpl != 3 || !seg->s ||
           seg->avl || seg->l || seg->db || seg->g;
}

static bool v86_rights(const X86KVMState *s, const X86StateLimits *l)
{
    return is_v86(s) && any_segment(s, l, CODE_DATA, 0, has_no_v86_rights);
}

/* All other modes */

static bool cs_present(const X86KVMState *s, const X86StateLimits *l)
{
    return !is_v86(s) && !is_usable(&s->sregs.cs);
}

static bool is_system(const struct kvm_segment *seg, const X86StateLimits *l)
{
    return !seg->s;
}

static bool segment_is_not_system(const X86KVMState *s,
                                  const X86StateLimits *l)
{
    return !is_v86(s) && any_segment(s, l, CODE_DATA, SS | DATA, is_system);
}

static bool is_not_accessed(const struct kvm_segment *seg,
                            const X86StateLimits *l)
{
    return seg->s && !(seg->type & 1);
}

/*
 * kvm-intel sets the bit (kernel: __vmx_set_segment()); kvm-amd shows CS as
 * the processor has it, and TCG's SVM, in the rig, without.  So it is a rule
 * for what a switch puts, which must have it, not for what KVM shows.
 */
static bool segment_accessed(const X86KVMState *s, const X86StateLimits *l)
{
    return !is_v86(s) &&
           any_segment(s, l, CODE_DATA, SS | DATA, is_not_accessed);
}

/* Writable data is for an unrestricted guest only, as after LOADALL or RSM. */
static bool cs_type(const X86KVMState *s, const X86StateLimits *l)
{
    const struct kvm_segment *cs = &s->sregs.cs;

    return !is_v86(s) && type_of(cs) != 3 && !(cs->type & 8);
}

static bool ss_type(const X86KVMState *s, const X86StateLimits *l)
{
    const struct kvm_segment *ss = &s->sregs.ss;

    return !is_v86(s) && is_usable(ss) && type_of(ss) != 3 && type_of(ss) != 7;
}

static bool is_unreadable(const struct kvm_segment *seg,
                          const X86StateLimits *l)
{
    return seg->type & 8 && !(seg->type & 2);
}

static bool data_segment_type(const X86KVMState *s, const X86StateLimits *l)
{
    return !is_v86(s) && any_segment(s, l, DATA, DATA, is_unreadable);
}

/* SS.DPL is the CPL, whether SS is usable or not. */
static bool cs_dpl(const X86KVMState *s, const X86StateLimits *l)
{
    const struct kvm_segment *cs = &s->sregs.cs;
    uint8_t cpl = s->sregs.ss.dpl;

    if (is_v86(s)) {
        return false;
    }
    switch (type_of(cs)) {
    case 3:
        return cs->dpl != 0;
    case 9:
    case 11:
        return cs->dpl != cpl;
    case 13:
    case 15:
        return cs->dpl > cpl;
    default:
        return false;
    }
}

static bool ss_dpl(const X86KVMState *s, const X86StateLimits *l)
{
    return !is_v86(s) && s->sregs.ss.dpl != 0 &&
           (!(s->sregs.cr0 & CR0_PE) || type_of(&s->sregs.cs) == 3);
}

static bool cs_l_needs_long_mode(const X86KVMState *s, const X86StateLimits *l)
{
    return s->sregs.cs.l && !is_long_mode(s);
}

static bool cs_l_without_db(const X86KVMState *s, const X86StateLimits *l)
{
    return is_64bit_code(s) && s->sregs.cs.db;
}

static bool tr_usable(const X86KVMState *s, const X86StateLimits *l)
{
    return !is_usable(&s->sregs.tr);
}

static bool tr_system(const X86KVMState *s, const X86StateLimits *l)
{
    return s->sregs.tr.s;
}

/*
 * Busy.  kvm-intel sets the bit for "accessed", which is not the one for
 * "busy"; and it corrects a 16-bit TSS only at the guest's own entry to long
 * mode (kernel: enter_lmode()).
 */
static bool tr_type(const X86KVMState *s, const X86StateLimits *l)
{
    uint8_t type = s->sregs.tr.type;

    return type != 11 && (type != 3 || is_long_mode(s));
}

static bool tr_in_gdt(const X86KVMState *s, const X86StateLimits *l)
{
    return s->sregs.tr.selector & 4;
}

static bool ldtr_system(const X86KVMState *s, const X86StateLimits *l)
{
    return is_usable(&s->sregs.ldt) && s->sregs.ldt.s;
}

static bool ldtr_type(const X86KVMState *s, const X86StateLimits *l)
{
    return is_usable(&s->sregs.ldt) && s->sregs.ldt.type != 2;
}

static bool ldtr_in_gdt(const X86KVMState *s, const X86StateLimits *l)
{
    return is_usable(&s->sregs.ldt) && s->sregs.ldt.selector & 4;
}

/* The limits have 16 bits in struct kvm_dtable, as they must. */
static bool gdtr_base(const X86KVMState *s, const X86StateLimits *l)
{
    return !is_canonical(s->sregs.gdt.base, l);
}

static bool idtr_base(const X86KVMState *s, const X86StateLimits *l)
{
    return !is_canonical(s->sregs.idt.base, l);
}

#define VM_ENTRY "SDM vol. 3C, Checks on Guest Segment Registers"
#define TABLES "SDM vol. 3C, Checks on Guest Descriptor-Table Registers"
/* Whether the guest is in virtual-8086 mode is in RFLAGS. */
#define SEGMENTS (X86_KVM_REGS | X86_KVM_SREGS)

const X86StateRule x86_state_segment_rules[] = {
    { "segment-fields", VM_ENTRY, segment_fields, X86_KVM_SREGS },
    { "segment-base-upper-half", VM_ENTRY, segment_base_upper_half,
      X86_KVM_SREGS },
    { "segment-base-canonical", VM_ENTRY, segment_base_canonical,
      X86_KVM_SREGS },
    { "segment-granularity", VM_ENTRY, segment_granularity, X86_KVM_SREGS },
    { "v86-base", VM_ENTRY, v86_base, SEGMENTS },
    { "v86-limit", VM_ENTRY, v86_limit, SEGMENTS },
    { "v86-rights", VM_ENTRY, v86_rights, SEGMENTS },
    { "cs-present", VM_ENTRY, cs_present, SEGMENTS },
    { "segment-is-not-system", VM_ENTRY, segment_is_not_system, SEGMENTS },
    { "segment-accessed", VM_ENTRY, segment_accessed, SEGMENTS },
    { "cs-type", VM_ENTRY, cs_type, SEGMENTS },
    { "ss-type", VM_ENTRY, ss_type, SEGMENTS },
    { "data-segment-type", VM_ENTRY, data_segment_type, SEGMENTS },
    { "cs-dpl", VM_ENTRY, cs_dpl, SEGMENTS },
    { "ss-dpl", VM_ENTRY, ss_dpl, SEGMENTS },
    { "cs-l-needs-long-mode", "kernel: KVM_SET_SREGS2", cs_l_needs_long_mode,
      X86_KVM_SREGS },
    { "cs-l-without-db", VM_ENTRY, cs_l_without_db, X86_KVM_SREGS },
    { "tr-usable", VM_ENTRY, tr_usable, X86_KVM_SREGS },
    { "tr-system", VM_ENTRY, tr_system, X86_KVM_SREGS },
    { "tr-type", VM_ENTRY, tr_type, X86_KVM_SREGS },
    { "tr-in-gdt", VM_ENTRY, tr_in_gdt, X86_KVM_SREGS },
    { "ldtr-system", VM_ENTRY, ldtr_system, X86_KVM_SREGS },
    { "ldtr-type", VM_ENTRY, ldtr_type, X86_KVM_SREGS },
    { "ldtr-in-gdt", VM_ENTRY, ldtr_in_gdt, X86_KVM_SREGS },
    { "gdtr-base", TABLES, gdtr_base, X86_KVM_SREGS },
    { "idtr-base", TABLES, idtr_base, X86_KVM_SREGS },
    { }
};
