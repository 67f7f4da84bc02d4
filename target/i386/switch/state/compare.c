/*
 * Comparing two states of a vCPU, by the table
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "table.h"

/* The limit is a length; more would not help whoever reads it. */
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

/* Names are made for what differs alone: this runs at every switch to KVM. */
static char *word_name(const X86StateField *f, int i)
{
    if (f->in_array) {
        bool lapic = f->part == X86_KVM_LAPIC;
        size_t start = lapic ? offsetof(X86KVMState, lapic)
                             : offsetof(X86KVMState, xsave);

        return g_strdup_printf("%s[0x%zx]", lapic ? "LAPIC" : "XSAVE",
                               f->offset - start + i);
    }
    return g_strdup(f->name);
}

static void diff_field(GString *diffs, const X86KVMState *a,
                       const X86KVMState *b, const X86StateField *f)
{
    const char *x = (const char *)a + f->offset;
    const char *y = (const char *)b + f->offset;

    if (!memcmp(x, y, f->size)) {
        return;
    }
    for (int i = 0; i < f->size; i += f->word) {
        uint64_t v = ldn_he_p(x + i, f->word), w = ldn_he_p(y + i, f->word);

        if (v != w) {
            g_autofree char *name = word_name(f, i);

            describe(diffs, name, v, w);
        }
    }
}

static bool is_ignored(const X86StateField *f, X86StateScope scope,
                       bool x2apic)
{
    return f->ignored & scope && (x2apic || !f->exact_if_xapic);
}

static void diff_msrs(GString *diffs, const X86KVMState *a,
                      const X86KVMState *b, const uint64_t *features)
{
    for (int i = 0; i < a->nmsrs; i++) {
        const struct kvm_msr_entry *x = &a->msrs[i];

        for (int j = 0; j < b->nmsrs; j++) {
            const struct kvm_msr_entry *y = &b->msrs[j];

            if (x->index == y->index && x->data != y->data &&
                x86_state_msr_counts(x->index, features)) {
                const char *known = x86_state_msr_name(x->index);
                g_autofree char *name =
                    g_strdup_printf("MSR 0x%x%s%s%s", x->index,
                                    known ? " (" : "", known ?: "",
                                    known ? ")" : "");

                describe(diffs, name, x->data, y->data);
            }
        }
    }
}

char *x86_state_diff(const X86KVMState *a, const X86KVMState *b,
                     X86StateScope scope, const uint64_t *features)
{
    unsigned have = a->have & b->have;
    bool x2apic = a->sregs.apic_base & b->sregs.apic_base &
                  MSR_IA32_APICBASE_EXTD;
    GString *diffs = g_string_new(NULL);

    for (int i = 0; i < x86_state_field_count; i++) {
        const X86StateField *f = &x86_state_fields[i];

        if (have & f->part && !is_ignored(f, scope, x2apic)) {
            diff_field(diffs, a, b, f);
        }
    }
    diff_msrs(diffs, a, b, features);
    return g_string_free(diffs, diffs->len == 0);
}
