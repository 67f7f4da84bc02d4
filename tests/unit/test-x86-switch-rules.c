/*
 * The rules of a vCPU's state: no good state breaks one, and each is broken by
 * at least one change to a good state, which breaks no other
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "qemu/bswap.h"
#include "target/i386/switch/state/rules.h"
#include "x86-switch-states.h"

#define NON_CANONICAL 0x800000000000

static const X86StateLimits limits = {
    .phys_bits = 40,
    .linear_bits = 48,
    .cr4_reserved = ~0xffffffULL,
    .efer_reserved = ~0x4d01ULL,
    .xcr0_reserved = ~0x600ffULL,
    .mxcsr_reserved = ~0xffff,
};

/* Bad states: changes to a good one */

typedef struct Change {
    size_t offset, size;        /* of a field of X86KVMState; 0: the end */
    enum { SET, FLIP } how;
    uint64_t value;
} Change;

typedef struct BadState {
    const char *rule;
    void (*make)(X86KVMState *s);
    Change changes[4];
} BadState;

#define CHANGE(f, how, v) \
    { offsetof(X86KVMState, f), sizeof_field(X86KVMState, f), how, v }
#define SET(f, v) CHANGE(f, SET, v)
#define FLIP(f, v) CHANGE(f, FLIP, v)
#define MSR(place, v) SET(msrs[place].data, v)

static const BadState bad_states[] = {
    { "cr0-upper-half", long_mode, { FLIP(sregs.cr0, 1ULL << 32) } },
    { "cr0-pg-needs-pe", paging32, { FLIP(sregs.cr0, CR0_PE) } },
    { "cr0-nw-needs-cd", real_mode, { FLIP(sregs.cr0, CR0_CD) } },
    { "cr3-width", paging32, { FLIP(sregs.cr3, 1ULL << 40) } },
    { "cr3-width", long_mode, { FLIP(sregs.cr3, 1ULL << 62) } },
    { "cr3-width", long_mode, { FLIP(sregs.cr3, 1ULL << 63) } },
    { "cr4-reserved", real_mode, { FLIP(sregs.cr4, 1 << 24) } },
    { "cr4-pcide-needs-long-mode", pae, { FLIP(sregs.cr4, CR4_PCIDE) } },
    { "cr4-cet-needs-wp", long_mode, { FLIP(sregs.cr0, CR0_WP) } },
    { "cr8-reserved", long_mode, { SET(sregs.cr8, 16) } },
    { "efer-reserved", real_mode, { FLIP(sregs.efer, 1 << 12) } },
    { "efer-lma", paging32, { FLIP(sregs.efer, EFER_LME) } },
    { "efer-lma", real_mode,
      { FLIP(sregs.efer, EFER_LMA), FLIP(sregs.cr4, CR4_PAE) } },
    { "efer-lma", long_mode, { FLIP(sregs.efer, EFER_LME) } },
    { "efer-lma", compatibility_mode, { FLIP(sregs.cr0, CR0_PG) } },
    { "long-mode-needs-pae", long_mode, { FLIP(sregs.cr4, CR4_PAE) } },
    { "apic-base", long_mode, { FLIP(sregs.apic_base, 0x800) } },
    { "apic-base", real_mode, { FLIP(sregs.apic_base, 0x200) } },
    { "apic-base", real_mode, { FLIP(sregs.apic_base, 1) } },
    { "apic-base", real_mode, { FLIP(sregs.apic_base, 1ULL << 40) } },
    { "sregs-flags", real_mode, { SET(sregs.flags, 2) } },
    { "pdptes-need-pae-paging", pae, { FLIP(sregs.cr4, CR4_PAE) } },
    { "pdpte-reserved", pae, { FLIP(sregs.pdptrs[0], 0x2) } },
    { "pdpte-reserved", pae, { FLIP(sregs.pdptrs[0], 0x20) } },
    { "pdpte-reserved", pae, { FLIP(sregs.pdptrs[3], 0x100) } },
    { "pdpte-reserved", pae, { FLIP(sregs.pdptrs[3], 1ULL << 40) } },
    { "pdpte-reserved", pae, { FLIP(sregs.pdptrs[1], 1) } },
    { "dr6-upper-half", real_mode, { FLIP(debugregs.dr6, 1ULL << 32) } },
    { "dr7-upper-half", real_mode, { FLIP(debugregs.dr7, 1ULL << 63) } },
    { "debugregs-flags", real_mode, { SET(debugregs.flags, 1) } },

    { "segment-fields", real_mode, { SET(sregs.cs.type, 27) } },
    { "segment-fields", real_mode, { SET(sregs.ldt.dpl, 4) } },
    { "segment-fields", protected32, { SET(sregs.gs.g, 0x80) } },
    { "segment-base-upper-half", real_mode,
      { FLIP(sregs.cs.base, 1ULL << 32) } },
    { "segment-base-upper-half", long_mode, { SET(sregs.ss.base, -1ULL) } },
    { "segment-base-upper-half", paging32,
      { FLIP(sregs.ds.base, 1ULL << 32) } },
    { "segment-base-upper-half", paging32,
      { FLIP(sregs.es.base, 1ULL << 63) } },
    { "segment-base-canonical", long_mode,
      { SET(sregs.fs.base, NON_CANONICAL) } },
    { "segment-base-canonical", long_mode,
      { FLIP(sregs.gs.base, 1ULL << 63) } },
    { "segment-base-canonical", long_mode,
      { SET(sregs.tr.base, NON_CANONICAL) } },
    { "segment-base-canonical", real_mode,
      { SET(sregs.ldt.base, NON_CANONICAL) } },
    { "segment-granularity", protected32, { SET(sregs.cs.g, 0) } },
    { "segment-granularity", protected32, { SET(sregs.ss.limit, 0x1ffffe) } },
    { "segment-granularity", protected_cpl1, { SET(sregs.es.g, 1) } },
    { "segment-granularity", real_mode, { SET(sregs.tr.limit, 0x100000) } },
    { "segment-granularity", real_mode,
      { SET(sregs.ldt.limit, 0), SET(sregs.ldt.g, 1) } },

    { "v86-base", v86, { SET(sregs.cs.base, 0x12345) } },
    { "v86-base", v86, { SET(sregs.gs.selector, 1) } },
    { "v86-limit", v86, { SET(sregs.ds.limit, 0xfffff) } },
    { "v86-rights", v86, { SET(sregs.cs.type, 11) } },
    { "v86-rights", v86, { SET(sregs.ss.dpl, 0) } },
    { "v86-rights", v86, { SET(sregs.ds.unusable, 1) } },
    { "v86-rights", v86, { SET(sregs.ds.s, 0) } },
    { "v86-rights", v86, { SET(sregs.ds.avl, 1) } },
    { "v86-rights", v86, { SET(sregs.es.l, 1) } },
    { "v86-rights", v86, { SET(sregs.es.db, 1) } },
    { "v86-rights", v86, { SET(sregs.fs.g, 1) } },

    { "cs-present", real_mode, { SET(sregs.cs.present, 0) } },
    { "cs-present", long_mode, { SET(sregs.cs.unusable, 1) } },
    { "segment-is-not-system", real_mode, { SET(sregs.cs.s, 0) } },
    { "segment-is-not-system", long_mode, { SET(sregs.ss.s, 0) } },
    { "segment-is-not-system", paging32, { SET(sregs.fs.s, 0) } },
    { "segment-accessed", real_mode, { SET(sregs.cs.type, 10) } },
    { "segment-accessed", real_mode, { SET(sregs.ss.type, 2) } },
    { "segment-accessed", paging32, { SET(sregs.ds.type, 0) } },
    { "cs-type", protected16, { SET(sregs.cs.type, 1) } },
    { "cs-type", protected16, { SET(sregs.cs.type, 7) } },
    { "ss-type", protected16, { SET(sregs.ss.type, 1) } },
    { "ss-type", protected16, { SET(sregs.ss.type, 5) } },
    { "ss-type", real_mode, { SET(sregs.ss.type, 11) } },
    { "data-segment-type", paging32, { SET(sregs.es.type, 9) } },
    { "data-segment-type", paging32, { SET(sregs.gs.type, 13) } },
    { "cs-dpl", paging32, { SET(sregs.cs.dpl, 3) } },
    { "cs-dpl", paging32, { SET(sregs.ss.dpl, 3) } },
    { "cs-dpl", null_ss_cpl1, { SET(sregs.ss.dpl, 0) } },
    { "cs-dpl", conforming_code,
      { SET(sregs.cs.dpl, 3), SET(sregs.ss.dpl, 2) } },
    { "cs-dpl", data_in_cs, { SET(sregs.cs.dpl, 3) } },
    { "ss-dpl", real_mode, { SET(sregs.ss.dpl, 3), SET(sregs.cs.dpl, 3) } },
    { "ss-dpl", data_in_cs,
      { FLIP(sregs.cr0, CR0_PE), SET(sregs.ss.dpl, 3) } },
    { "cs-l-needs-long-mode", paging32, { SET(sregs.cs.l, 1) } },
    { "cs-l-without-db", long_mode, { SET(sregs.cs.db, 1) } },
    { "tr-usable", real_mode, { SET(sregs.tr.present, 0) } },
    { "tr-usable", real_mode, { SET(sregs.tr.unusable, 1) } },
    { "tr-system", real_mode, { SET(sregs.tr.s, 1) } },
    { "tr-type", real_mode, { SET(sregs.tr.type, 9) } },
    { "tr-type", protected16, { SET(sregs.tr.type, 1) } },
    { "tr-type", long_mode, { SET(sregs.tr.type, 3) } },
    { "tr-in-gdt", long_mode, { FLIP(sregs.tr.selector, 4) } },
    { "ldtr-system", real_mode, { SET(sregs.ldt.s, 1) } },
    { "ldtr-type", real_mode, { SET(sregs.ldt.type, 3) } },
    { "ldtr-in-gdt", protected16, { FLIP(sregs.ldt.selector, 4) } },
    { "gdtr-base", long_mode, { SET(sregs.gdt.base, NON_CANONICAL) } },
    { "idtr-base", long_mode, { FLIP(sregs.idt.base, 1ULL << 48) } },

    { "rflags-fixed", real_mode, { FLIP(regs.rflags, 2) } },
    { "rflags-reserved", long_mode, { FLIP(regs.rflags, 0x8) } },
    { "rflags-reserved", long_mode, { FLIP(regs.rflags, 0x20) } },
    { "rflags-reserved", real_mode, { FLIP(regs.rflags, 0x8000) } },
    { "rflags-reserved", long_mode, { FLIP(regs.rflags, 1 << 22) } },
    { "rflags-reserved", long_mode, { FLIP(regs.rflags, 1ULL << 63) } },
    { "rflags-vm", v86, { SET(sregs.cr0, CR0_ET) } },
    { "rflags-vm", v86,
      { SET(sregs.efer, EFER_LME | EFER_LMA), FLIP(sregs.cr4, CR4_PAE) } },
    { "rip-upper-half", real_mode, { FLIP(regs.rip, 1ULL << 32) } },
    { "rip-upper-half", compatibility_mode, { SET(regs.rip, -1ULL) } },
    { "rip-width", long_mode, { FLIP(regs.rip, 1ULL << 48) } },
    { "rip-width", long_mode_user, { FLIP(regs.rip, 1ULL << 63) } },

    { "mp-state", real_mode, { SET(mp_state.mp_state, 5) } },
    { "halted-needs-cpl0", long_mode_user,
      { SET(mp_state.mp_state, KVM_MP_STATE_HALTED) } },
    { "inactive-in-shadow", sti_shadow,
      { SET(mp_state.mp_state, KVM_MP_STATE_HALTED) } },
    { "inactive-in-shadow", mov_ss_shadow,
      { SET(mp_state.mp_state, KVM_MP_STATE_INIT_RECEIVED) } },
    { "shadow-reserved", real_mode, { SET(events.interrupt.shadow, 4) } },
    { "sti-shadow-needs-if", sti_shadow, { FLIP(regs.rflags, IF) } },
    { "single-step-in-shadow", sti_shadow, { FLIP(regs.rflags, TF) } },
    { "single-step-in-shadow", mov_ss_shadow, { FLIP(regs.rflags, TF) } },
    { "single-step-in-shadow", branch_step_in_shadow, { MSR(DEBUGCTL, 0) } },

    { "events-flags", real_mode, { FLIP(events.flags, 0x80000000) } },
    { "exception-vector", invalid_opcode, { SET(events.exception.nr, 2) } },
    { "exception-vector", invalid_opcode, { SET(events.exception.nr, 32) } },
    { "exception-vector", pending_fault, { SET(events.exception.nr, 32) } },
    { "exception-error-code", page_fault,
      { SET(events.exception.has_error_code, 0) } },
    { "exception-error-code", invalid_opcode,
      { SET(events.exception.has_error_code, 1) } },
    { "exception-error-code", real_mode_fault,
      { SET(events.exception.has_error_code, 1) } },
    { "exception-error-code", pending_fault,
      { SET(events.exception.pending, 0) } },
    { "error-code-upper-half", page_fault,
      { SET(events.exception.error_code, 0x10000) } },
    { "interrupt-needs-if", interrupt, { FLIP(regs.rflags, IF) } },
    { "interrupt-in-shadow", sti_shadow,
      { SET(events.interrupt.injected, 1) } },
    { "nmi-in-shadow", mov_ss_shadow, { SET(events.nmi.injected, 1) } },
    { "nmi-in-shadow", nmi, { SET(events.interrupt.shadow, 1) } },
    { "nmi-while-masked", nmi, { SET(events.nmi.masked, 1) } },
    { "event-while-halted", halted,
      { SET(events.exception.injected, 1), SET(events.exception.nr, 6) } },
    { "event-while-halted", software_interrupt,
      { SET(mp_state.mp_state, KVM_MP_STATE_HALTED) } },
    { "event-before-sipi", init_received, { SET(events.nmi.injected, 1) } },
    { "event-before-sipi", real_mode_fault,
      { SET(mp_state.mp_state, KVM_MP_STATE_UNINITIALIZED) } },
    { "smm-before-sipi", init_received, { SET(events.smi.smm, 1) } },
    { "smm-before-sipi", init_received, { SET(events.smi.pending, 1) } },

    { "sysenter-canonical", real_mode, { MSR(SYSENTER_ESP, NON_CANONICAL) } },
    { "sysenter-canonical", real_mode, { MSR(SYSENTER_EIP, 1ULL << 63) } },
    { "msr-canonical", long_mode, { MSR(LSTAR, NON_CANONICAL) } },
    { "msr-canonical", long_mode, { MSR(CSTAR, 1ULL << 48) } },
    { "msr-canonical", long_mode, { MSR(KERNEL_GS_BASE, 1ULL << 63) } },
    { "debugctl-reserved", real_mode, { MSR(DEBUGCTL, 0x10) } },
    { "debugctl-reserved", real_mode, { MSR(DEBUGCTL, 0x10000) } },
    { "pat", real_mode, { MSR(PAT, 0x02) } },
    { "pat", real_mode, { MSR(PAT, 0x0800000000000000) } },
    { "bndcfgs", real_mode, { MSR(BNDCFGS, 0x800) } },
    { "bndcfgs", real_mode, { MSR(BNDCFGS, NON_CANONICAL) } },
    { "mtrr", real_mode, { MSR(MTRR_BASE_0, 0xc0000007) } },
    { "mtrr", real_mode, { MSR(MTRR_BASE_0, 1ULL << 40) } },
    { "mtrr", real_mode, { MSR(MTRR_MASK_0, 0xc0000400) } },
    { "mtrr", real_mode, { MSR(MTRR_MASK_0, 1ULL << 40) } },
    { "mtrr", real_mode, { MSR(MTRR_FIX64K, 0x0200000000000000) } },
    { "mtrr", real_mode, { MSR(MTRR_DEF_TYPE, 0x1006) } },
    { "mtrr", real_mode, { MSR(MTRR_DEF_TYPE, 0xc03) } },
    { "xcr0-x87", real_mode, { SET(xcrs.xcrs[0].value, 2) } },
    { "xcr0-reserved", real_mode, { SET(xcrs.xcrs[0].value, 0x101) } },
    { "xcr0-groups", real_mode, { SET(xcrs.xcrs[0].value, 0x5) } },
    { "xcr0-groups", real_mode, { SET(xcrs.xcrs[0].value, 0xb) } },
    { "xcr0-groups", long_mode, { FLIP(xcrs.xcrs[0].value, 0x4) } },
    { "xcr0-groups", long_mode, { FLIP(xcrs.xcrs[0].value, 0x40) } },
    { "xcr0-groups", long_mode, { FLIP(xcrs.xcrs[0].value, 0x20000) } },
    { "mxcsr-reserved", real_mode,
      { FLIP(xsave.region[24 / 4], 0x10000) } },
    { "xstate-bv-reserved", real_mode,
      { FLIP(xsave.region[512 / 4], 0x100) } },
    { "xstate-bv-reserved", real_mode,
      { FLIP(xsave.region[512 / 4 + 1], 0x80000000) } },
    { "xsave-header", real_mode,
      { FLIP(xsave.region[520 / 4 + 1], 0x80000000) } },
    { "xsave-header", real_mode, { SET(xsave.region[572 / 4], 1) } },
};

static void make_bad(X86KVMState *s, const BadState *bad)
{
    bad->make(s);
    for (const Change *c = bad->changes; c->size; c++) {
        void *field = (char *)s + c->offset;
        uint64_t old = c->how == FLIP ? ldn_he_p(field, c->size) : 0;

        stn_he_p(field, c->size, old ^ c->value);
    }
}

/* Asserts that @s breaks the rule called @name, or none if it is NULL. */
static void assert_broken(const X86KVMState *s, const X86StateLimits *l,
                          const char *name)
{
    const X86StateRule *first = x86_state_broken_rule(s, l);
    const X86StateRule *rule;

    for (size_t i = 0; (rule = x86_state_rule(i)); i++) {
        bool is_it = g_strcmp0(rule->name, name) == 0;

        if (x86_state_rule_is_broken(rule, s, l) != is_it) {
            g_test_message("%s is %sbroken", rule->name, is_it ? "not " : "");
            g_test_fail();
        }
    }
    g_assert(g_strcmp0(first ? first->name : NULL, name) == 0);
}

static void test_good_state(gconstpointer data)
{
    const X86State *state = data;
    X86KVMState s;

    state->make(&s);
    assert_broken(&s, &limits, NULL);
}

static void test_bad_state(gconstpointer data)
{
    const BadState *bad = data;
    X86KVMState s;

    make_bad(&s, bad);
    assert_broken(&s, &limits, bad->rule);
}

static void test_every_rule(void)
{
    const X86StateRule *rule;

    for (size_t i = 0; (rule = x86_state_rule(i)); i++) {
        int count = 0;

        for (int j = 0; j < ARRAY_SIZE(bad_states); j++) {
            count += g_str_equal(bad_states[j].rule, rule->name);
        }
        if (!count) {
            g_test_message("no bad state for %s", rule->name);
            g_test_fail();
        }
        for (size_t j = 0; j < i; j++) {
            g_assert(!g_str_equal(x86_state_rule(j)->name, rule->name));
        }
        g_assert(rule->manual);
    }
}

/* A rule is not checked if the state lacks any of what it needs. */
static void test_needs(void)
{
    static X86KVMState s;
    const X86StateRule *rule;

    for (int i = 0; i < ARRAY_SIZE(bad_states); i++) {
        for (size_t j = 0; (rule = x86_state_rule(j)); j++) {
            for (int bit = 0; bit < 32; bit++) {
                make_bad(&s, &bad_states[i]);
                s.have &= ~BIT(bit);
                if (rule->needs & BIT(bit)) {
                    g_assert(!x86_state_rule_is_broken(rule, &s, &limits));
                }
            }
        }
    }
    memset(&s, 0xff, sizeof(s));
    s.have = 0;
    s.nmsrs = 0;
    assert_broken(&s, &limits, NULL);
}

static void test_limits(void)
{
    X86StateLimits l = limits;
    X86KVMState s;

    long_mode(&s);
    s.sregs.cr3 |= 3ULL << 61;
    l.lam = true;
    assert_broken(&s, &l, NULL);

    s.sregs.cr3 |= 1ULL << 51;
    assert_broken(&s, &l, "cr3-width");
    l.phys_bits = 52;
    assert_broken(&s, &l, NULL);

    s.sregs.gs.base = 0xff00000000000000;
    assert_broken(&s, &l, "segment-base-canonical");
    l.linear_bits = 57;
    assert_broken(&s, &l, NULL);
    s.regs.rip = 0x00ffffffffffffff;
    assert_broken(&s, &l, NULL);
    s.regs.rip = 0x0100000000000000;    /* the first that isn't canonical */
    assert_broken(&s, &l, NULL);
    s.regs.rip = 0x0200000000000000;
    assert_broken(&s, &l, "rip-width");

    nmi(&s);
    s.events.nmi.masked = 1;
    l.nmi_stays_masked = true;
    assert_broken(&s, &l, NULL);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (int i = 0; i < ARRAY_SIZE(x86_good_states); i++) {
        g_autofree char *path = g_strdup_printf("/x86-switch-rules/good/%s",
                                                x86_good_states[i].name);

        g_test_add_data_func(path, &x86_good_states[i], test_good_state);
    }
    for (int i = 0; i < ARRAY_SIZE(bad_states); i++) {
        g_autofree char *path = g_strdup_printf("/x86-switch-rules/bad/%s/%d",
                                                bad_states[i].rule, i);

        g_test_add_data_func(path, &bad_states[i], test_bad_state);
    }
    g_test_add_func("/x86-switch-rules/every-rule", test_every_rule);
    g_test_add_func("/x86-switch-rules/needs", test_needs);
    g_test_add_func("/x86-switch-rules/limits", test_limits);
    return g_test_run();
}
