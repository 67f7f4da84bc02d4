/*
 * Snapshots of the vCPUs' state, compared before and after a round trip
 *
 * A snapshot in KVM has what every KVM_GET_* shows, with every MSR that this
 * KVM lists or QEMU puts; one in TCG has what CPUX86State's VMState description
 * and the LAPIC's registers hold.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "migration/vmstate.h"
#include "system/kvm.h"
#include "host-cpu.h"
#include "tcg/helper-tcg.h"
#include "switch/kvm/kvm.h"
#include "switch/selftest/selftest.h"
#include "switch/x86-switch.h"

/* ES, of x87's status word (SDM vol. 1, 8.1.3) */
#define X87_ES 0x80

typedef struct X86Snapshot {
    X86Clocks clocks;
    X86KVMState kvm;
    X86CPU *cpu;                /* a copy, in TCG */
    APICCommonState *apic;      /* likewise */
} X86Snapshot;

struct SwitchSnapshot {
    int count;
    X86Snapshot vcpu[];
};

/* Names all parts of a vCPU's state, and all MSRs that can be read. */
static const X86KVMState *everything(CPUState *cs, Error **errp)
{
    static X86KVMState *all;

    if (all) {
        return all;
    }
    all = g_new0(X86KVMState, 1);
    for (int i = 0; i < x86_state_part_count; i++) {
        if (x86_selftest_has_part(cs, &x86_state_parts[i])) {
            all->have |= x86_state_parts[i].part;
        }
    }
    /* KVM's list leaves some out, as MTRRs and machine-check banks. */
    for (int i = 0; i < x86_state_msr_count; i++) {
        const X86StateMSR *row = &x86_state_msrs[i];

        for (int j = 0; row->how == X86_MSR_CARRIED && j < row->count; j++) {
            x86_kvm_add_msr(cs, all, row->first + j);
        }
    }
    if (x86_kvm_add_listed_msrs(cs, all) < 0) {
        error_setg(errp, "KVM_GET_MSR_INDEX_LIST failed");
        g_clear_pointer(&all, g_free);
    }
    return all;
}

static bool take_kvm(CPUState *cs, X86Snapshot *s, Error **errp)
{
    const X86KVMState *all = everything(cs, errp);
    X86SwitchCPU *sc = x86_switch_cpu(cs);
    int ret;

    if (!all) {
        return false;
    }
    x86_selftest_clocks_begin(&s->clocks);
    sc->tsc_moves = false;
    ret = x86_kvm_begin_lapic_timer(cs, sc);
    if (ret == 0 && x86_kvm_settle(errp) != SWITCH_OK) {
        return false;
    }
    ret = ret ?: x86_kvm_state_get(cs, &s->kvm, all);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "vCPU %d: reading KVM's state",
                         cs->cpu_index);
        return false;
    }
    /* As of when it was settled: the timer may have run out since. */
    x86_kvm_fill_lapic_timer(sc, &sc->settled_lapic);
    s->kvm.lapic = sc->settled_lapic;
    x86_selftest_clocks_take_kvm(&s->clocks, &sc->settled_lapic);
    if (x86_kvm_tsc_offset_moves(cs)) {
        s->kvm.have &= ~X86_KVM_TSC_OFFSET;
    }
    return true;
}

static bool take_tcg(CPUState *cs, X86Snapshot *s, Error **errp)
{
    X86CPU *cpu = X86_CPU(cs);

    x86_selftest_clocks_begin(&s->clocks);
    x86_selftest_clocks_take_tcg(&s->clocks, cs);
    /* Compute the fields of the description that follow from others. */
    update_mxcsr_from_sse_status(&cpu->env);
    vmstate_x86_cpu.pre_save(cpu);
    s->cpu = g_memdup2(cpu, sizeof(*cpu));
    s->apic = g_memdup2(x86_switch_lapic(cpu), sizeof(*s->apic));
    return true;
}

void switch_arch_free_snapshot(SwitchSnapshot *snapshot)
{
    for (int i = 0; snapshot && i < snapshot->count; i++) {
        g_free(snapshot->vcpu[i].cpu);
        g_free(snapshot->vcpu[i].apic);
    }
    g_free(snapshot);
}

SwitchSnapshot *switch_arch_take_snapshot(Error **errp)
{
    SwitchSnapshot *snapshot;
    CPUState *cs;
    int count = 0;

    CPU_FOREACH(cs) {
        count++;
    }
    if (!kvm_enabled()) {
        /* As a switch to KVM does. */
        x86_kvm_settle_tcg();
    }
    snapshot = g_malloc0(sizeof(*snapshot) + count * sizeof(X86Snapshot));
    CPU_FOREACH(cs) {
        X86Snapshot *s = &snapshot->vcpu[snapshot->count++];

        if (!(kvm_enabled() ? take_kvm : take_tcg)(cs, s, errp)) {
            switch_arch_free_snapshot(snapshot);
            return NULL;
        }
    }
    return snapshot;
}

bool switch_arch_poison_kvm(const SwitchSnapshot *before, Error **errp)
{
    CPUState *cs;
    int i = 0;

    CPU_FOREACH(cs) {
        if (!x86_selftest_poison_kvm(cs, &before->vcpu[i++].kvm, errp)) {
            return false;
        }
    }
    return true;
}

static bool lapic_timer_is_over(X86KVMState *s)
{
    return !(*x86_lapic_register(s, X86_LAPIC_LVTT) &
             APIC_LVT_TIMER_PERIODIC) &&
           *x86_lapic_register(s, X86_LAPIC_TMCCT) == 0;
}

static uint32_t *lapic_timer_irr(X86KVMState *s)
{
    uint8_t vector = *x86_lapic_register(s, X86_LAPIC_LVTT);

    return x86_lapic_register(s, X86_LAPIC_IRR + vector / 32 * 16);
}

/*
 * The LAPIC timer runs on during a round trip.  If it has expired, IRR shows
 * the tick: set it in @before, too.  Returns NULL, or what is wrong.
 */
static char *allow_lapic_timer(X86KVMState *before, X86KVMState *after)
{
    uint32_t lvtt = *x86_lapic_register(before, X86_LAPIC_LVTT);
    uint32_t bit = 1u << lvtt % 32;

    if (lvtt & APIC_LVT_MASKED || lapic_timer_is_over(before) ||
        !*x86_lapic_register(before, X86_LAPIC_TMICT)) {
        return NULL;
    }
    if (*lapic_timer_irr(after) & bit) {
        *lapic_timer_irr(before) |= bit;
    } else if (lapic_timer_is_over(after)) {
        return g_strdup("the LAPIC timer has expired, and IRR does not show"
                        " it");
    }
    return NULL;
}

static uint64_t *msr_value(X86KVMState *s, uint32_t index)
{
    for (int i = 0; i < s->nmsrs; i++) {
        if (s->msrs[i].index == index) {
            return &s->msrs[i].data;
        }
    }
    return NULL;
}

/*
 * Likewise in TSC-deadline mode.  One that expires in TCG, or on the way to
 * KVM, is over, and unmasked it leaves a tick.
 */
static bool deadline_has_passed(uint64_t before, uint64_t after, uint64_t tsc,
                                uint32_t lvtt, bool tick)
{
    return lvtt & APIC_LVT_TIMER_TSCDEADLINE && before && !after &&
           tsc >= before && (tick || lvtt & APIC_LVT_MASKED);
}

static void allow_deadline(X86KVMState *before, X86KVMState *after)
{
    uint32_t lvtt = *x86_lapic_register(before, X86_LAPIC_LVTT);
    uint32_t tick = *lapic_timer_irr(after) & 1u << lvtt % 32;
    uint64_t *was = msr_value(before, MSR_IA32_TSCDEADLINE);
    uint64_t *is = msr_value(after, MSR_IA32_TSCDEADLINE);
    uint64_t *tsc = msr_value(after, MSR_IA32_TSC);

    if (was && is && tsc &&
        deadline_has_passed(*was, *is, *tsc, lvtt, tick)) {
        *was = 0;
        *lapic_timer_irr(before) |= tick;
    }
}

/*
 * Allow what may differ after KVM -> TCG -> KVM: the table's canonical forms,
 * and the initial count of a timer that has fired.
 */
static void allow_in_kvm(X86KVMState *s, bool timer_is_over)
{
    x86_state_canonicalise(s, X86_ROUND_TRIP);
    /*
     * A switch puts a one-shot that has fired without its initial count: with
     * it KVM would fire it once more (hazard E2).
     */
    if (timer_is_over) {
        *x86_lapic_register(s, X86_LAPIC_TMICT) = 0;
    }
}

/*
 * The same for TCG -> KVM -> TCG.  The LAPIC's timer runs on: if it has
 * expired, that is in IRR.
 */
static void allow_lapic_in_tcg(CPUState *cs, X86Snapshot *before,
                               X86Snapshot *after)
{
    APICCommonState *a = before->apic, *b = after->apic;
    int vector = a->lvt[APIC_LVT_TIMER] & 0xff;

    if (deadline_has_passed(before->cpu->env.tsc_deadline,
                            after->cpu->env.tsc_deadline,
                            x86_switch_get_tsc(cpu_env(cs)),
                            a->lvt[APIC_LVT_TIMER],
                            apic_get_bit(b->irr, vector))) {
        before->cpu->env.tsc_deadline = 0;
    }
    if (!(a->lvt[APIC_LVT_TIMER] & APIC_LVT_MASKED) &&
        a->timer_expiry != -1 && apic_get_bit(b->irr, vector)) {
        apic_set_bit(a->irr, vector);
    }
    if (a->apicbase & MSR_IA32_APICBASE_EXTD) {
        /* In x2APIC mode the logical ID follows from the ID. */
        a->log_dest = b->log_dest = 0;
    }
    if (b->timer_expiry == -1) {
        /* Likewise: with its count KVM would fire it once more (hazard E2). */
        a->initial_count = b->initial_count = 0;
    }
}

/*
 * Settling the LAPIC's timer loads the vCPU's registers into the processor.
 * AMD's then keeps x87's pointers only while an exception is pending (APM
 * vol. 5, FXRSTOR).
 */
static void allow_x87_pointers(CPUX86State *before, const CPUX86State *after)
{
    char vendor[CPUID_VENDOR_SZ + 1];

    host_cpu_vendor_fms(vendor, NULL, NULL, NULL);
    if (!strcmp(vendor, CPUID_VENDOR_AMD) && !(before->fpus & X87_ES) &&
        !after->fpop && !after->fpip && !after->fpdp) {
        before->fpop = 0;
        before->fpip = before->fpdp = 0;
    }
}

/* Says @name and both values; of a longer field, the first byte that differs */
static char *describe_change(const char *name, const char *before,
                             const char *after, size_t size)
{
    if (size <= 8 && is_power_of_2(size)) {
        return g_strdup_printf("%s was 0x%" PRIx64 ", is 0x%" PRIx64, name,
                               ldn_he_p(before, size), ldn_he_p(after, size));
    }
    for (size_t i = 0; i < size; i++) {
        if (before[i] != after[i]) {
            return g_strdup_printf("%s was 0x%02x, is 0x%02x in byte %zu",
                                   name, (uint8_t)before[i], (uint8_t)after[i],
                                   i);
        }
    }
    return NULL;
}

/* Fields of a VMState description; @before and @after are copies of @live. */
static char *diff_vmsd(const VMStateDescription *vmsd, void *live,
                       const void *before, const void *after);

static char *diff_field(const VMStateField *f, void *live, const void *before,
                        const void *after)
{
    int n = f->flags & VMS_ARRAY ? f->num : 1;

    for (int i = 0; i < n; i++) {
        size_t offset = f->offset + f->size * i;
        const char *a = (const char *)before + offset;
        const char *b = (const char *)after + offset;

        if (f->flags & VMS_STRUCT) {
            g_autofree char *inner = diff_vmsd(f->vmsd, (char *)live + offset,
                                               a, b);

            if (inner) {
                return g_strdup_printf("%s[%d].%s", f->name, i, inner);
            }
        } else if (memcmp(a, b, f->size)) {
            g_autofree char *name = g_strdup_printf("%s[%d]", f->name, i);

            return describe_change(name, a, b, f->size);
        }
    }
    return NULL;
}

static char *diff_vmsd(const VMStateDescription *vmsd, void *live,
                       const void *before, const void *after)
{
    const VMStateDescription * const *sub = vmsd->subsections;

    for (const VMStateField *f = vmsd->fields; f->name; f++) {
        char *diff;

        /* Nested guests and buffers of a variable size: neither is switched. */
        if (f->flags & (VMS_POINTER | VMS_VBUFFER | VMS_MULTIPLY_ELEMENTS) ||
            (f->field_exists && !f->field_exists(live, vmsd->version_id))) {
            continue;
        }
        diff = diff_field(f, live, before, after);
        if (diff) {
            return diff;
        }
    }
    for (; sub && *sub; sub++) {
        bool (*needed)(void *opaque) = (*sub)->needed;
        char *diff = NULL;

        /* A subsection that was needed before and is not now has been lost. */
        if (!needed || needed(live) || needed((void *)before)) {
            diff = diff_vmsd(*sub, live, before, after);
        }
        if (diff) {
            return diff;
        }
    }
    return NULL;
}

#define LAPIC_FIELD(name) { \
    #name, offsetof(APICCommonState, name), \
    sizeof_field(APICCommonState, name) \
}

/* The fields of the LAPIC's VMState description, which is a static in QEMU. */
static const struct {
    const char *name;
    size_t offset;
    size_t size;
} lapic_fields[] = {
    LAPIC_FIELD(apicbase),
    LAPIC_FIELD(id),
    LAPIC_FIELD(arb_id),
    LAPIC_FIELD(tpr),
    LAPIC_FIELD(spurious_vec),
    LAPIC_FIELD(log_dest),
    LAPIC_FIELD(dest_mode),
    LAPIC_FIELD(isr),
    LAPIC_FIELD(tmr),
    LAPIC_FIELD(irr),
    LAPIC_FIELD(lvt),
    LAPIC_FIELD(esr),
    LAPIC_FIELD(icr),
    LAPIC_FIELD(divide_conf),
    LAPIC_FIELD(count_shift),
    LAPIC_FIELD(initial_count),
    LAPIC_FIELD(sipi_vector),
    LAPIC_FIELD(wait_for_sipi),
};

static char *diff_lapic(const APICCommonState *before,
                        const APICCommonState *after)
{
    for (int i = 0; i < ARRAY_SIZE(lapic_fields); i++) {
        const char *a = (const char *)before + lapic_fields[i].offset;
        const char *b = (const char *)after + lapic_fields[i].offset;

        if (memcmp(a, b, lapic_fields[i].size)) {
            g_autofree char *name = g_strconcat("the LAPIC's ",
                                                lapic_fields[i].name, NULL);

            return describe_change(name, a, b, lapic_fields[i].size);
        }
    }
    return NULL;
}

bool switch_arch_compare_snapshots(SwitchSnapshot *before,
                                   SwitchSnapshot *after, Error **errp)
{
    CPUState *cs;
    int i = 0;

    CPU_FOREACH(cs) {
        X86Snapshot *a = &before->vcpu[i], *b = &after->vcpu[i];
        g_autofree char *diff = NULL;

        if (a->cpu) {
            allow_lapic_in_tcg(cs, a, b);
            allow_x87_pointers(&a->cpu->env, &b->cpu->env);
            x86_state_canonicalise_tcg(a->cpu);
            x86_state_canonicalise_tcg(b->cpu);
            diff = diff_vmsd(&vmstate_cpu_common, cs, a->cpu, b->cpu);
            diff = diff ?: diff_vmsd(&vmstate_x86_cpu, cs, a->cpu, b->cpu);
            diff = diff ?: diff_lapic(a->apic, b->apic);
        } else {
            bool timer_is_over = lapic_timer_is_over(&b->kvm);

            diff = allow_lapic_timer(&a->kvm, &b->kvm);
            allow_deadline(&a->kvm, &b->kvm);
            allow_in_kvm(&a->kvm, timer_is_over);
            allow_in_kvm(&b->kvm, timer_is_over);
            diff = diff ?: x86_state_diff(&b->kvm, &a->kvm, X86_ROUND_TRIP,
                                          NULL);
        }
        diff = diff ?: x86_selftest_clocks_diff(&a->clocks, &b->clocks);
        if (diff) {
            error_setg(errp, "vCPU %d after a round trip: %s", cs->cpu_index,
                       diff);
            return false;
        }
        i++;
    }
    return true;
}
