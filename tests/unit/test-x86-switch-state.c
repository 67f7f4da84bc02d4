/*
 * The table of a vCPU's state: whether it has each byte once, and whether a
 * comparison by it sees each bit that counts
 *
 *   test-x86-switch-state --rst     prints docs/internals/state.rst
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "target/i386/switch/state/table.h"

/* As processors with AVX and protection keys have them. */
ExtSaveArea x86_ext_save_areas[XSAVE_STATE_AREA_COUNT] = {
    [XSTATE_YMM_BIT] = { .offset = 0x240, .size = 0x100 },
    [XSTATE_PKRU_BIT] = { .offset = 0xa80, .size = 8 },
};

/* All is there, and nothing is such that something else has no meaning. */
static X86KVMState full_state(bool x2apic)
{
    const struct kvm_segment segment = {
        .base = 0x1000, .limit = 0xffff, .selector = 8, .type = 3,
        .present = 1, .dpl = 3, .db = 1, .s = 1, .avl = 1,
    };
    X86KVMState s = {
        .have = X86_KVM_ALL,
        .sregs = {
            .cs = segment, .ds = segment, .es = segment, .fs = segment,
            .gs = segment, .ss = segment, .tr = segment, .ldt = segment,
            .cr0 = CR0_PE_MASK,
            .apic_base = x2apic ? MSR_IA32_APICBASE_EXTD : 0,
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

static char *diff(X86KVMState *a, X86KVMState *b, X86StateScope scope)
{
    x86_state_canonicalise(a, scope);
    x86_state_canonicalise(b, scope);
    return x86_state_diff(a, b, scope, NULL);
}

/* Two rows for one byte, or none, would be a hole in what is compared. */
static void test_tiles(void)
{
    for (int p = 0; p < x86_state_part_count; p++) {
        const X86StatePart *part = &x86_state_parts[p];
        g_autofree uint8_t *rows = g_malloc0(part->size);

        for (int i = 0; i < x86_state_field_count; i++) {
            const X86StateField *f = &x86_state_fields[i];
            bool mine = f->part == part->part ||
                        (f->part == X86_KVM_PDPTRS &&
                         part->part == X86_KVM_SREGS);

            for (int j = 0; mine && j < f->size; j++) {
                g_assert_cmpint(f->offset + j, >=, part->offset);
                g_assert_cmpint(f->offset + j, <, part->offset + part->size);
                rows[f->offset + j - part->offset]++;
            }
        }
        for (int j = 0; j < part->size; j++) {
            if (rows[j] != 1) {
                g_test_message("%s: byte 0x%x has %d rows", part->name, j,
                               rows[j]);
                g_test_fail();
            }
        }
    }
}

static void test_rows(void)
{
    for (int i = 0; i < x86_state_field_count; i++) {
        const X86StateField *f = &x86_state_fields[i];

        g_assert_cmpint(f->size % f->word, ==, 0);
        /* What does not count has a reason. */
        g_assert(f->reason || (!f->ignored && !f->loose_read_back &&
                               !f->loose_round_trip));
    }
    for (int i = 0; i < x86_state_msr_count; i++) {
        const X86StateMSR *m = &x86_state_msrs[i];

        g_assert(!!m->reason == (m->how == X86_MSR_CLOCK ||
                                 m->how == X86_MSR_IGNORED ||
                                 m->how == X86_MSR_REFUSED));
        g_assert_cmpint(m->count % m->each, ==, 0);
        /* It is not hidden by a row before it. */
        g_assert(x86_state_msr(m->first) == m);
    }
}

/* Whether the table says that a difference in this bit counts. */
static bool counts(const X86StateField *f, uint64_t bit, X86StateScope scope,
                   bool x2apic)
{
    uint64_t loose = scope == X86_READ_BACK ? f->loose_read_back
                                            : f->loose_round_trip;

    if (f->ignored & scope && (x2apic || !f->exact_if_xapic)) {
        return false;
    }
    /* A row that depends on the mode is loose in xAPIC mode alone. */
    return !(loose & bit) || (f->exact_if_xapic && x2apic);
}

static void check_field(const X86StateField *f, X86StateScope scope,
                        bool x2apic)
{
    for (int i = 0; i < f->size; i++) {
        for (int bit = 0; bit < 8; bit++) {
            X86KVMState a = full_state(x2apic), b = full_state(x2apic);
            g_autofree char *found = NULL;
            bool expected = counts(f, 1ull << (i % f->word * 8 + bit), scope,
                                   x2apic);

            ((uint8_t *)&b)[f->offset + i] ^= 1 << bit;
            found = diff(&a, &b, scope);
            if (!found == expected) {
                g_test_message("%s, byte %d, bit %d, scope %d, x2apic %d: %s",
                               f->name, i, bit, scope, x2apic,
                               found ?: "not seen");
                g_test_fail();
            }
        }
    }
}

static void test_each_bit(void)
{
    for (int i = 0; i < x86_state_field_count; i++) {
        for (int x2apic = 0; x2apic < 2; x2apic++) {
            check_field(&x86_state_fields[i], X86_READ_BACK, x2apic);
            check_field(&x86_state_fields[i], X86_ROUND_TRIP, x2apic);
        }
    }
}

static char *diff_msr(uint32_t index, const uint64_t *features)
{
    X86KVMState a = full_state(false), b = full_state(false);

    a.msrs[0].index = b.msrs[0].index = index;
    b.msrs[0].data = 1ull << 63;
    return x86_state_diff(&a, &b, X86_READ_BACK, features);
}

static void test_msr(void)
{
    FeatureWordArray none = {}, some = {};
    g_autofree char *named = diff_msr(MSR_EFER, none);
    g_autofree char *nameless = diff_msr(0xc0011029, none);
    g_autofree char *there = NULL;

    some[FEAT_7_0_EBX] = CPUID_7_0_EBX_TSC_ADJUST;
    there = diff_msr(MSR_TSC_ADJUST, some);
    g_assert_cmpstr(named, ==, "MSR 0xc0000080 (EFER) is 0x0, not"
                    " 0x8000000000000000");
    g_assert_cmpstr(nameless, ==, "MSR 0xc0011029 is 0x0, not"
                    " 0x8000000000000000");
    g_assert_nonnull(there);
    /* What the guest's CPU does not have, KVM need not keep. */
    g_assert_null(diff_msr(MSR_TSC_ADJUST, none));
    g_assert_null(diff_msr(MSR_IA32_XSS, none));
    /* Linux leaves a value in K7_PERFCTR0. */
    g_assert_null(diff_msr(0xc0010004, none));
    g_assert_null(diff_msr(MSR_IA32_TSC, none));
}

/* PKRU counts whether XCR0 has its bit or not (SDM vol. 3A, 4.6.2). */
static void test_component_off_in_xcr0(void)
{
    X86KVMState a = full_state(false), b = full_state(false);
    g_autofree char *found = NULL;

    a.xcrs.xcrs[0].value = b.xcrs.xcrs[0].value = XSTATE_FP_MASK;
    b.xsave.region[0xa80 / 4] = 4;
    found = diff(&a, &b, X86_READ_BACK);
    g_assert_cmpstr(found, ==, "XSAVE[0xa80] is 0x0, not 0x4");
}

/* What is in its initial state is that whatever the area has there. */
static void test_initial_state(void)
{
    X86KVMState a = full_state(false), b = full_state(false);
    X86XSaveHeader *header = (void *)&b.xsave.region[0x200 / 4];

    header->xstate_bv &= ~XSTATE_YMM_MASK;
    b.xsave.region[0x240 / 4] = 4;
    g_assert_null(diff(&a, &b, X86_READ_BACK));
}

/* In x2APIC mode ICR's upper half is at 0x310, and may be at 0x304, too. */
static void test_x2apic_icr(void)
{
    X86KVMState a = full_state(true), b = full_state(true);

    a.lapic.regs[0x310] = b.lapic.regs[0x310] = 1;
    b.lapic.regs[0x304] = 1;
    g_assert_null(diff(&a, &b, X86_READ_BACK));
    /* KVM leaves it there when the guest goes back to xAPIC mode. */
    a = b = full_state(false);
    b.lapic.regs[0x304] = 1;
    g_assert_null(diff(&a, &b, X86_ROUND_TRIP));
}

static const char *handling[] = {
    [X86_MSR_CARRIED] = "carried",
    [X86_MSR_IN_SREGS] = "carried, among the system registers",
    [X86_MSR_CONSTANT] = "constant",
    [X86_MSR_CLOCK] = "not compared",
    [X86_MSR_IGNORED] = "ignored",
    [X86_MSR_REFUSED] = "refused, if the guest has set it",
};

static const char *where_ignored(const X86StateField *f)
{
    switch (f->ignored) {
    case X86_BOTH_SCOPES:
        return f->exact_if_xapic ? "ignored in x2APIC mode" : "ignored";
    case X86_READ_BACK:
        return f->exact_if_xapic ? "ignored by the read-back in x2APIC mode"
                                 : "ignored by the read-back";
    default:
        return "exact";
    }
}

/* A cell of a list-table; the first of its row with @mark "* -". */
static void cell(const char *mark, const char *text)
{
    printf("   %s%s%s\n", mark, *text ? " " : "", text);
}

/* @heading, and the head of a table with the columns that follow, up to NULL */
static void G_GNUC_NULL_TERMINATED header(const char *heading, ...)
{
    const char *mark = "* -", *column;
    va_list columns;

    printf("\n%s\n", heading);
    for (int i = 0; i < strlen(heading); i++) {
        putchar('=');
    }
    printf("\n\n.. list-table::\n   :header-rows: 1\n\n");
    va_start(columns, heading);
    while ((column = va_arg(columns, const char *))) {
        cell(mark, column);
        mark = "  -";
    }
    va_end(columns);
}

static bool is_of(const X86StateField *f, const X86StatePart *part)
{
    return f->part == part->part ||
           (f->part == X86_KVM_PDPTRS && part->part == X86_KVM_SREGS);
}

static bool alike(const X86StateField *f, const X86StateField *g)
{
    return f->ignored == g->ignored && !g_strcmp0(f->reason, g->reason) &&
           f->offset + f->size == g->offset;
}

static void print_fields(const X86StatePart *part)
{
    for (int i = 0; i < x86_state_field_count; i++) {
        const X86StateField *f = &x86_state_fields[i], *last = f;
        g_autofree char *bytes = NULL, *names = NULL;

        if (!is_of(f, part)) {
            continue;
        }
        while (i + 1 < x86_state_field_count &&
               is_of(&x86_state_fields[i + 1], part) &&
               alike(last, &x86_state_fields[i + 1])) {
            last = &x86_state_fields[++i];
        }
        bytes = g_strdup_printf("0x%x to 0x%x", f->offset - part->offset,
                                last->offset + last->size - part->offset - 1);
        names = last == f ? g_strdup(f->name)
                          : g_strdup_printf("%s … %s", f->name, last->name);
        cell("* -", part->ioctls);
        cell("  -", bytes);
        cell("  -", names);
        cell("  -", where_ignored(f));
        cell("  -", f->reason ?: "");
    }
}

static void print_msr(const X86StateMSR *m)
{
    /* The names of features, without the braces and feature words around. */
    g_auto(GStrv) words = g_strsplit_set(m->needs_text ?: "", "{}|, ", -1);
    g_autoptr(GString) features = g_string_new(NULL);
    g_autofree char *first = g_strdup(x86_state_msr_name(m->first));
    g_autofree char *index = g_strdup_printf("0x%x", m->first);
    g_autofree char *name = NULL;

    for (int i = 0; words[i]; i++) {
        if (strstr(words[i], "CPUID_") || strstr(words[i], "KVM_FEATURE_")) {
            g_string_append_printf(features, "%s``%s``",
                                   features->len ? " or " : "", words[i]);
        }
    }
    if (m->count > 1) {
        char *range = g_strdup_printf("%s to 0x%x", index,
                                      m->first + m->count - 1);

        g_free(index);
        index = range;
        name = g_strdup_printf("%s to %s", first,
                               x86_state_msr_name(m->first + m->count - 1));
    }
    cell("* -", index);
    cell("  -", name ?: first);
    cell("  -", handling[m->how]);
    cell("  -", features->str);
    cell("  -", m->reason ?: "");
}

static void print_rst(void)
{
    printf(".. SPDX-License-" "Identifier: GPL-2.0-or-later\n\n"
           "==============\nA vCPU's state\n==============\n\n"
           "Made by ``build/qemu/tests/unit/test-x86-switch-state --rst`` from"
           " the table in\n``target/i386/switch/state``; the test"
           " ``state-docs`` compares the two.\n\n"
           "The *read-back* compares what KVM holds after a switch with what"
           " it was given. The\n*round trip* compares KVM's state before and"
           " after a switch to TCG and back, or\nTCG's before and after one to"
           " KVM and back.\n");
    header("Fields", "ioctl", "bytes", "fields", "compared", "reason", NULL);
    for (int p = 0; p < x86_state_part_count; p++) {
        print_fields(&x86_state_parts[p]);
    }
    header("Canonical forms, which both states get before they are compared",
           "fields", "for", "reason", NULL);
    for (int i = 0; i < x86_canonical_form_count; i++) {
        const X86CanonicalForm *c = &x86_canonical_forms[i];

        cell("* -", c->fields);
        cell("  -", c->scopes == X86_BOTH_SCOPES ? "both" :
                    c->scopes == X86_READ_BACK ? "read-back" : "round trip");
        cell("  -", c->reason);
    }
    header("Canonical forms of a vCPU in TCG, for the round trip from there",
           "fields", "reason", NULL);
    for (int i = 0; i < x86_state_tcg_form_count; i++) {
        cell("* -", x86_state_tcg_forms[i].fields);
        cell("  -", x86_state_tcg_forms[i].reason);
    }
    header("MSRs", "MSR", "name", "how it crosses",
           "needs, of the guest's CPU", "reason", NULL);
    for (int i = 0; i < x86_state_msr_count; i++) {
        print_msr(&x86_state_msrs[i]);
    }
    printf("\nAn MSR of KVM's list that has no row here is refused if the"
           " guest has set it. One that\nthe guest's CPU does not have is"
           " neither compared nor a reason to refuse.\n");
}

int main(int argc, char **argv)
{
    if (argc == 2 && !strcmp(argv[1], "--rst")) {
        print_rst();
        return 0;
    }
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/state/tiles", test_tiles);
    g_test_add_func("/state/rows", test_rows);
    g_test_add_func("/state/each-bit", test_each_bit);
    g_test_add_func("/state/msr", test_msr);
    g_test_add_func("/state/off-in-xcr0", test_component_off_in_xcr0);
    g_test_add_func("/state/initial-state", test_initial_state);
    g_test_add_func("/state/x2apic-icr", test_x2apic_icr);
    return g_test_run();
}
