/*
 * What this machine's KVM does with a vCPU's state: is it what the table says?
 *
 * Sets each field of the table to legal, illegal and random values, in each
 * CPU mode, with xAPIC and x2APIC and with each kind of irqchip, and gets it
 * back.  A legal value must be taken, and compare equal by the table: if not,
 * the switch would refuse a guest that has it.  Of illegal ones it is counted
 * what KVM refuses, keeps or changes; a change is what the read-back is for.
 *
 *   test-x86-kvm-oracle [--exact] [--kvm DEVICE] [--tries N]
 *
 * --exact ignores nothing and has no canonical forms: a control, which fails.
 * VAS_SEED makes the values; it is printed.  The output is TAP; the lines that
 * begin with "# " say what is particular to this KVM.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include <sys/ioctl.h>
#include "x86-kvm-legal.h"
#include "x86-kvm-vcpu.h"

/* How many legal and how many other values each word gets. */
static int tries = 4;
/* Events have so many times as many, as they are looked at as a whole. */
#define EVENT_FACTOR    10

static const char *const irqchip_names[] = {
    [ORACLE_SPLIT_X2APIC_API] = "split irqchip, x2APIC API",
    [ORACLE_SPLIT] = "split irqchip",
    [ORACLE_IN_KERNEL] = "in-kernel irqchip",
};

static const char *const mode_names[] = {
    [ORACLE_REAL] = "real mode",
    [ORACLE_PROTECTED] = "protected mode",
    [ORACLE_PAE] = "PAE paging",
    [ORACLE_LONG] = "long mode",
};

typedef struct Oracle {
    OracleVCPU vcpu;
    OracleMode mode;
    bool x2apic;
    GRand *rand;
    X86KVMState base;           /* what each try begins with */
    /* Legal values */
    unsigned kept, other_form, wrong;
    /* Illegal and random ones */
    unsigned refused, taken, changed;
    GHashTable *findings;       /* sentence: NULL */
} Oracle;

static bool exact;

static void finding(Oracle *o, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void finding(Oracle *o, const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    g_hash_table_add(o->findings, g_strdup_vprintf(format, ap));
    va_end(ap);
}

/* What differs in @part by the table; with --exact, whatever differs. */
static char *diff(const X86KVMState *put, const X86KVMState *held,
                  unsigned part)
{
    X86KVMState a = *held, b = *put;

    a.have = b.have = part;
    a.nmsrs = b.nmsrs = 0;
    if (exact) {
        return x86_state_diff(&a, &b, 0, NULL);
    }
    x86_state_canonicalise(&a, X86_READ_BACK);
    x86_state_canonicalise(&b, X86_READ_BACK);
    return x86_state_diff(&a, &b, X86_READ_BACK, NULL);
}

static void restore(Oracle *o)
{
    static const unsigned order[] = {
        X86_KVM_SREGS, X86_KVM_REGS, X86_KVM_XCRS, X86_KVM_XSAVE,
        X86_KVM_DEBUGREGS, X86_KVM_LAPIC, X86_KVM_MP_STATE, X86_KVM_EVENTS,
        X86_KVM_TSC_OFFSET,
    };
    unsigned left = o->vcpu.parts;

    for (int i = 0; i < ARRAY_SIZE(order); i++) {
        left &= ~order[i];
        if (o->vcpu.parts & order[i]) {
            X86KVMState s = o->base;

            s.events.flags |= KVM_VCPUEVENT_VALID_SHADOW |
                              KVM_VCPUEVENT_VALID_NMI_PENDING;
            s.sregs.flags = 0;
            g_assert(oracle_put(&o->vcpu, &s, order[i]) == 0);
        }
    }
    /* A new part needs its place in the order. */
    g_assert(left == 0);
}

/* @what is the field, for a finding. */
static void try_legal(Oracle *o, X86KVMState *s, unsigned part,
                      const char *what)
{
    g_autofree char *differs = NULL;
    X86KVMState held = *s;
    int ret = oracle_put(&o->vcpu, s, part);
    const X86StatePart *p = x86_state_part(part);

    if (ret < 0) {
        o->wrong++;
        finding(o, "%s: a legal value is refused (%s)", what, strerror(-ret));
        return;
    }
    g_assert(oracle_get(&o->vcpu, &held, part) == 0);
    differs = diff(s, &held, part);
    if (differs) {
        o->wrong++;
        finding(o, "%s: a legal value is not kept: %s", what, differs);
    } else if (memcmp((char *)s + p->offset, (char *)&held + p->offset,
                      p->size)) {
        o->other_form++;
    } else {
        o->kept++;
    }
}

static void try_illegal(Oracle *o, const X86StateField *f, int word)
{
    g_autofree char *differs = NULL;
    X86KVMState s = o->base, held;
    char *at = (char *)&s + f->offset + word * f->word;
    uint64_t old = ldn_he_p(at, f->word);

    s.sregs.flags = 0;
    stn_he_p(at, f->word, g_rand_boolean(o->rand)
                          ? oracle_random(o->rand)
                          : old ^ 1ull << g_rand_int_range(o->rand, 0,
                                                           8 * f->word));
    held = s;
    if (oracle_put(&o->vcpu, &s, f->part) < 0) {
        o->refused++;
        return;
    }
    g_assert(oracle_get(&o->vcpu, &held, f->part) == 0);
    differs = diff(&s, &held, f->part);
    *(differs ? &o->changed : &o->taken) += 1;
}

static void try_field(Oracle *o, const X86StateField *f)
{
    int words = f->size / f->word;

    /* Of many that are alike, some */
    for (int i = 0; i < MIN(words, 40); i++) {
        int word = words <= 40 ? i : g_rand_int_range(o->rand, 0, words);

        for (int n = 0; n < tries; n++) {
            X86KVMState s = o->base;

            if (oracle_vary(&s, f, word, o->mode, o->x2apic, o->rand)) {
                try_legal(o, &s, f->part, f->name);
            }
        }
        for (int n = 0; n < tries; n++) {
            try_illegal(o, f, word);
        }
        restore(o);
    }
}

static void try_msr(Oracle *o, uint32_t index)
{
    const char *name = x86_state_msr_name(index);
    uint64_t first, value, held;

    if (oracle_get_msr(&o->vcpu, index, &first) != 1) {
        return;
    }
    for (int i = 0; i < tries; i++) {
        value = first;
        if (!oracle_vary_msr(index, o->vcpu.features, &value, o->rand)) {
            break;
        }
        if (oracle_put_msr(&o->vcpu, index, value) != 1) {
            if (index == MSR_IA32_FEATURE_CONTROL) {
                /* kvm-amd: it reads as 0, like any that KVM lists. */
                finding(o, "this KVM has no %s", name);
                break;
            }
            o->wrong++;
            finding(o, "%s: a legal value is refused", name);
            continue;
        }
        oracle_get_msr(&o->vcpu, index, &held);
        if (held == value) {
            o->kept++;
        } else if (!exact &&
                   !x86_state_msr_counts(index, o->vcpu.features)) {
            o->other_form++;
        } else {
            o->wrong++;
            finding(o, "%s: a legal value is not kept: 0x%" PRIx64 " is 0x%"
                    PRIx64, name, value, held);
        }
    }
    for (int i = 0; i < tries; i++) {
        value = oracle_random(o->rand) >> g_rand_int_range(o->rand, 0, 63);
        if (oracle_put_msr(&o->vcpu, index, value) != 1) {
            o->refused++;
        } else {
            oracle_get_msr(&o->vcpu, index, &held);
            *(held == value ? &o->taken : &o->changed) += 1;
        }
    }
    oracle_put_msr(&o->vcpu, index, first);
}

static void try_msrs(Oracle *o)
{
    for (int i = 0; i < x86_state_msr_count; i++) {
        const X86StateMSR *row = &x86_state_msrs[i];

        /* Not what would tell KVM where to write */
        for (int j = 0; row->how == X86_MSR_CARRIED && j < row->count; j++) {
            if (row->first + j < 0x4b564d00 || row->first + j > 0x4b564dff) {
                try_msr(o, row->first + j);
            }
        }
    }
}

/* A paravirtual KVM was seen to take an offset and not to keep it. */
static void check_tsc_offset(Oracle *o)
{
    X86KVMState s = o->base;

    s.tsc_offset += 1 << 20;
    if (o->vcpu.parts & X86_KVM_TSC_OFFSET &&
        oracle_put(&o->vcpu, &s, X86_KVM_TSC_OFFSET) == 0) {
        oracle_get(&o->vcpu, &s, X86_KVM_TSC_OFFSET);
        if (s.tsc_offset == o->base.tsc_offset) {
            finding(o, "this KVM takes a TSC offset and does not keep it");
            o->vcpu.parts &= ~X86_KVM_TSC_OFFSET;
        }
    }
}

/* False if this KVM does not take the mode; *@why is then a sentence. */
static bool enter(Oracle *o, const char **why)
{
    X86KVMState s, held;

    oracle_get_all(&o->vcpu, &s);
    oracle_enter(&s, o->mode, o->x2apic);
    s.sregs.flags = 0;
    if (oracle_put(&o->vcpu, &s, X86_KVM_SREGS) < 0 ||
        oracle_put(&o->vcpu, &s, X86_KVM_REGS) < 0) {
        *why = "this KVM refuses the mode";
        return false;
    }
    oracle_get_all(&o->vcpu, &held);
    if ((held.sregs.cr0 ^ s.sregs.cr0) & (CR0_PE_MASK | CR0_PG_MASK)) {
        *why = "this KVM drops CR0's paging bit without a word";
        return false;
    }
    o->base = held;
    check_tsc_offset(o);
    return true;
}

static void say(Oracle *o, int number, bool without, const char *skipped)
{
    GHashTableIter iter;
    gpointer sentence;

    printf("%s %d - %s, %s, %s%s", o->wrong ? "not ok" : "ok", number,
           irqchip_names[o->vcpu.irqchip], mode_names[o->mode],
           o->x2apic ? "x2APIC" : "xAPIC",
           without ? ", fewer CPU features" : "");
    if (skipped) {
        printf(" # SKIP %s\n", skipped);
    } else {
        printf(": legal values: %u kept, %u in another form, %u wrong; others:"
               " %u refused, %u kept, %u changed\n", o->kept, o->other_form,
               o->wrong, o->refused, o->taken, o->changed);
    }
    g_hash_table_iter_init(&iter, o->findings);
    while (g_hash_table_iter_next(&iter, &sentence, NULL)) {
        printf("# %s\n", (char *)sentence);
    }
    fflush(stdout);
}

static void try_all(Oracle *o)
{
    for (int i = 0; i < x86_state_field_count; i++) {
        const X86StateField *f = &x86_state_fields[i];

        if (o->vcpu.parts & f->part) {
            try_field(o, f);
        }
    }
    for (int i = 0; i < EVENT_FACTOR * tries; i++) {
        X86KVMState s = o->base;

        oracle_vary_events(&s, o->mode, o->rand);
        try_legal(o, &s, X86_KVM_EVENTS, "events");
        restore(o);
    }
    try_msrs(o);
}

/* Returns how many legal values went wrong. */
static unsigned try_one(int kvm, OracleIrqchip irqchip, OracleMode mode,
                        bool x2apic, bool without, GRand *rand, int number)
{
    const char *skipped = NULL;
    Oracle o = {
        .mode = mode, .x2apic = x2apic, .rand = rand,
        .findings = g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
                                          NULL),
    };

    if (!oracle_make(&o.vcpu, kvm, irqchip, without)) {
        skipped = "this KVM has no such irqchip";
    } else {
        if (!(o.vcpu.parts & X86_KVM_SREGS)) {
            skipped = "this KVM has no KVM_GET_SREGS2 (Linux 5.14)";
        } else if (enter(&o, &skipped)) {
            try_all(&o);
        }
        oracle_destroy(&o.vcpu);
    }
    say(&o, number, without, skipped);
    g_hash_table_unref(o.findings);
    return o.wrong;
}

/* Those that decide what a switch can carry, and how. */
static void say_capabilities(int kvm)
{
    static const struct {
        const char *name;
        int number;
    } capabilities[] = {
#define CAP(name) { #name, KVM_CAP_##name }
        CAP(SPLIT_IRQCHIP), CAP(X2APIC_API), CAP(SREGS2), CAP(XCRS),
        CAP(XSAVE2), CAP(VCPU_EVENTS), CAP(EXCEPTION_PAYLOAD),
        CAP(X86_TRIPLE_FAULT_EVENT), CAP(X86_SMM), CAP(DEBUGREGS),
        CAP(TSC_CONTROL), CAP(ADJUST_CLOCK), CAP(PMU_CAPABILITY),
        CAP(SET_GUEST_DEBUG), CAP(NESTED_STATE), CAP(IMMEDIATE_EXIT),
        CAP(NR_MEMSLOTS), CAP(MAX_VCPUS),
#undef CAP
    };

    for (int i = 0; i < ARRAY_SIZE(capabilities); i++) {
        printf("# capability %s: %d\n", capabilities[i].name,
               ioctl(kvm, KVM_CHECK_EXTENSION, capabilities[i].number));
    }
}

static uint32_t seed(void)
{
    const char *text = g_getenv("VAS_SEED");

    return text ? g_ascii_strtoull(text, NULL, 0) : g_random_int();
}

static void copy_xsave_layout(void)
{
    /* Where this host has its components (SDM vol. 1, 13.4.3) */
    for (int i = XSTATE_YMM_BIT; i < XSAVE_STATE_AREA_COUNT; i++) {
        uint32_t a = 0xd, b = 0, c = i, d = 0;

        asm volatile("cpuid" : "+a" (a), "+b" (b), "+c" (c), "+d" (d));
        x86_ext_save_areas[i].size = a;
        x86_ext_save_areas[i].offset = b;
    }
}

ExtSaveArea x86_ext_save_areas[XSAVE_STATE_AREA_COUNT];

int main(int argc, char **argv)
{
    g_autofree char *device = NULL;
    gboolean unused;
    const GOptionEntry options[] = {
        /* As programs of GLib's testing framework have them */
        { "tap", 0, G_OPTION_FLAG_HIDDEN, G_OPTION_ARG_NONE, &unused, NULL,
          NULL },
        { "keep-going", 'k', G_OPTION_FLAG_HIDDEN, G_OPTION_ARG_NONE, &unused,
          NULL, NULL },
        { "exact", 0, 0, G_OPTION_ARG_NONE, &exact,
          "nothing is ignored: a control, which fails", NULL },
        { "kvm", 0, 0, G_OPTION_ARG_FILENAME, &device,
          "use this one (/dev/kvm)", "DEVICE" },
        { "tries", 0, 0, G_OPTION_ARG_INT, &tries,
          "give each word so many legal and so many other values (4)", "N" },
        { NULL }
    };
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autoptr(GError) err = NULL;
    const char *why;
    unsigned wrong = 0;
    int kvm, number = 0;
    uint32_t with;
    GRand *rand;

    g_option_context_add_main_entries(context, options, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &err)) {
        fprintf(stderr, "%s\n", err->message);
        return 2;
    }
    kvm = oracle_open(device ?: "/dev/kvm", &why);
    if (kvm < 0) {
        printf("1..0 # SKIP %s\n", why);
        return 0;
    }
    copy_xsave_layout();
    say_capabilities(kvm);
    with = seed();
    printf("# VAS_SEED=%u\n", with);
    rand = g_rand_new_with_seed(with);
    for (int i = 0; i < ORACLE_IRQCHIP__MAX; i++) {
        for (int m = 0; m < ORACLE_MODE__MAX; m++) {
            for (int x = 0; x < 2; x++) {
                for (int f = 0; f < 2; f++) {
                    wrong += try_one(kvm, i, m, x, f, rand, ++number);
                }
            }
        }
    }
    printf("1..%d\n", number);
    g_rand_free(rand);
    return wrong ? 1 : 0;
}
