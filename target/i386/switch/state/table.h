/*
 * What a vCPU's state consists of: one table, which all that reads, compares,
 * overwrites or describes the state goes by
 *
 * The files of this folder are pure: no ioctl, and no state of QEMU's beyond
 * the layout of the XSAVE area (x86_ext_save_areas).  Any thread may call them.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TARGET_I386_SWITCH_STATE_TABLE_H
#define TARGET_I386_SWITCH_STATE_TABLE_H

#include "cpu.h"
#include "state.h"

/* Who compares two states, and so which differences count. */
typedef enum X86StateScope {
    /* What KVM holds against what it was given: the same, by KVM's ioctls */
    X86_READ_BACK       = 1 << 0,
    /* After KVM -> TCG -> KVM against before: what TCG can keep, is the same */
    X86_ROUND_TRIP      = 1 << 1,
} X86StateScope;

#define X86_BOTH_SCOPES (X86_READ_BACK | X86_ROUND_TRIP)

/* What the self-test puts into a field of KVM's copy, to see it overwritten. */
typedef enum X86StatePoison {
    X86_POISON_KEEP,            /* nothing: no other value is legal there */
    X86_POISON_VALUE,           /* X86StateField.poison, in each word */
} X86StatePoison;

/*
 * One row of the table: @size bytes at @offset of X86KVMState, which are
 * compared in words of @word bytes.  Rows of one part cover each byte of its
 * structure once.
 */
typedef struct X86StateField {
    const char *name;           /* as in KVM's structure, or by the manual */
    unsigned part;              /* one bit of X86KVMState.have */
    uint32_t offset, size;      /* in bytes */
    uint8_t word;               /* in bytes: 1, 2, 4 or 8 */
    uint8_t ignored;            /* scopes in which it does not count */
    bool exact_if_xapic;        /* @ignored holds in x2APIC mode alone */
    bool in_array;              /* its words are named PART[offset] */
    X86StatePoison poisoned;
    uint64_t poison;
    /*
     * Bits that a canonical form may change in both of two states, so that
     * they need not be noticed; each scope has its own.
     */
    uint64_t loose_read_back, loose_round_trip;
    const char *reason;         /* why it is ignored or loose; else NULL */
} X86StateField;

extern const X86StateField x86_state_fields[];
extern const int x86_state_field_count;

/* One structure of KVM's, and the ioctls that move it. */
typedef struct X86StatePart {
    const char *name;
    unsigned part;
    uint32_t offset, size;
    unsigned long get, set;
    const char *ioctls;         /* for people */
} X86StatePart;

extern const X86StatePart x86_state_parts[];
extern const int x86_state_part_count;

/* The row of @part, one bit of X86KVMState.have; NULL for X86_KVM_PDPTRS. */
const X86StatePart *x86_state_part(unsigned part);

/* How an MSR crosses a switch. */
typedef enum X86MSRHandling {
    X86_MSR_CARRIED,    /* QEMU takes it out of KVM and puts it back */
    X86_MSR_IN_SREGS,   /* the same, as a field of the system registers */
    X86_MSR_CONSTANT,   /* KVM was given it when the vCPU was made */
    X86_MSR_CLOCK,      /* it runs; something else says what it must be */
    X86_MSR_IGNORED,    /* it says nothing of the guest */
    X86_MSR_REFUSED,    /* stays in KVM: a guest that has set it, too */
} X86MSRHandling;

/*
 * A row of the MSRs' table: @count MSRs from @first on.  MSR @first + i has the
 * name @format[i % @each], which takes i / @each.  The first row that has an
 * MSR counts.
 */
typedef struct X86StateMSR {
    uint32_t first, count, each;
    const char *format[4];
    X86MSRHandling how;
    /*
     * The guest's CPU must have one of these features, if any is named.
     * Without it the guest can't write the MSR, and KVM may drop what is put.
     */
    struct {
        FeatureWord word;
        uint64_t features;
    } needs[2];
    const char *needs_text;     /* the same, for people */
    const char *reason;
} X86StateMSR;

extern const X86StateMSR x86_state_msrs[];
extern const int x86_state_msr_count;

/* The row of MSR @index, or NULL: it is refused if KVM lists it. */
const X86StateMSR *x86_state_msr(uint32_t index);

/* What the manuals call MSR @index, or NULL.  Valid until the next call. */
const char *x86_state_msr_name(uint32_t index);

/**
 * x86_state_msr_counts: is a difference in MSR @index one of the guest's?
 * @features: of the guest's CPU (CPUX86State.features); NULL for all
 *
 * False for a clock, for what is ignored, and for what the CPU does not have.
 */
bool x86_state_msr_counts(uint32_t index, const uint64_t *features);

/*
 * A rule that makes equivalent states equal.  @apply changes a state in place;
 * it is applied to both of two before they are compared.
 */
typedef struct X86CanonicalForm {
    const char *fields;
    unsigned scopes;
    void (*apply)(X86KVMState *s);
    const char *reason;
} X86CanonicalForm;

extern const X86CanonicalForm x86_canonical_forms[];
extern const int x86_canonical_form_count;

/**
 * x86_state_canonicalise: apply all forms of @scope to @s
 *
 * To be called for both of two states before x86_state_diff().
 */
void x86_state_canonicalise(X86KVMState *s, X86StateScope scope);

/*
 * The same for a copy of a vCPU in TCG, of which the description of QEMU's
 * migration stream (vmstate_x86_cpu, vmstate_cpu_common) says what there is to
 * compare.
 */
typedef struct X86TCGForm {
    const char *fields;
    void (*apply)(X86CPU *cpu);
    const char *reason;
} X86TCGForm;

extern const X86TCGForm x86_state_tcg_forms[];
extern const int x86_state_tcg_form_count;

/**
 * x86_state_canonicalise_tcg: apply all forms to the copy @cpu
 *
 * The forms do not cover the LAPIC, nor state that depends on the host or on
 * time.
 */
void x86_state_canonicalise_tcg(X86CPU *cpu);

/**
 * x86_state_diff: what both have and differs, in canonical forms of @scope
 * @features: of the guest's CPU: MSRs that it lacks do not count; NULL for all
 *
 * Returns "FIELD is A, not B, …", for the caller to free, or NULL.
 */
char *x86_state_diff(const X86KVMState *a, const X86KVMState *b,
                     X86StateScope scope, const uint64_t *features);

/* LAPIC registers, by their offset in the page (SDM vol. 3A, table 11-1) */
#define X86_LAPIC_ID            0x020
#define X86_LAPIC_VERSION       0x030
#define X86_LAPIC_PPR           0x0a0
#define X86_LAPIC_LDR           0x0d0
#define X86_LAPIC_DFR           0x0e0
#define X86_LAPIC_TMR           0x180
#define X86_LAPIC_IRR           0x200
#define X86_LAPIC_ICR           0x300
#define X86_LAPIC_LVTT          0x320
#define X86_LAPIC_TMICT         0x380
#define X86_LAPIC_TMCCT         0x390

static inline uint32_t *x86_lapic_register(X86KVMState *s, int offset)
{
    return (uint32_t *)(s->lapic.regs + offset);
}

#endif
