/*
 * The steps of a vCPU, compared with those of another accelerator
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/util.h"
#include "switch/insn.h"
#include "switch/steps.h"

/* KVM steps by the first; the second comes and goes with exceptions. */
#define FLAGS_LEFT_OUT (TF_MASK | RF_MASK)

SwitchSteps *switch_arch_new_steps(void)
{
    SwitchSteps *steps = g_new0(SwitchSteps, 1);

    steps->list = g_array_new(false, false, sizeof(X86Step));
    return steps;
}

void switch_arch_free_steps(SwitchSteps *steps)
{
    g_array_free(steps->list, true);
    g_free(steps->end);
    g_free(steps->blocks_end);
    g_free(steps);
}

const X86Step *x86_step_at(const SwitchSteps *steps, unsigned i)
{
    return &g_array_index(steps->list, X86Step, i);
}

unsigned switch_arch_count_steps(const SwitchSteps *steps)
{
    return steps->list->len ? steps->list->len - 1 : 0;
}

unsigned x86_steps_add(SwitchSteps *steps, const X86Step *step)
{
    const X86Step *last = steps->list->len
                          ? x86_step_at(steps, steps->list->len - 1) : NULL;
    X86Insn insn;

    if (last && last->pc == step->pc) {
        insn = x86_insn_parse(last->code, last->bytes, last->mode);
        if (x86_insn_is_string(&insn)) {
            return steps->list->len;
        }
    }
    g_array_append_val(steps->list, *step);
    return steps->list->len;
}

/* Registers */

static const char *const wide[] = {
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
};

static const char *const selectors[] = { "es", "cs", "ss", "ds", "fs", "gs" };

static void add_value(AccelCompareValueList ***tail, const char *name,
                      uint64_t kvm, uint64_t tcg, const uint64_t *before)
{
    AccelCompareValue *v = g_new0(AccelCompareValue, 1);

    v->name = g_strdup(name);
    v->kvm = kvm;
    v->tcg = tcg;
    if (before) {
        v->has_before = true;
        v->before = *before;
    }
    QAPI_LIST_APPEND(*tail, v);
}

static uint64_t flags_diff(const X86Step *a, const X86Step *b)
{
    return (a->rflags ^ b->rflags) & ~(uint64_t)FLAGS_LEFT_OUT;
}

/* Outside of 64-bit mode the upper halves can't be seen. */
static uint64_t reg_diff(const X86Step *a, const X86Step *b, int n)
{
    return a->mode == 8 ? a->regs[n] ^ b->regs[n]
           : n < 8 ? (uint32_t)(a->regs[n] ^ b->regs[n]) : 0;
}

static bool is_same(const X86Step *a, const X86Step *b, uint64_t but_flags)
{
    if (a->pc != b->pc || a->mode != b->mode ||
        flags_diff(a, b) & ~but_flags ||
        memcmp(a->selectors, b->selectors, sizeof(a->selectors))) {
        return false;
    }
    for (int n = 0; n < ARRAY_SIZE(wide); n++) {
        if (reg_diff(a, b, n)) {
            return false;
        }
    }
    return true;
}

unsigned x86_steps_find(const SwitchSteps *steps, unsigned from, unsigned to,
                        const X86Step *step, uint64_t but_flags)
{
    for (unsigned i = from; i <= to; i++) {
        if (is_same(x86_step_at(steps, i), step, but_flags)) {
            return i;
        }
    }
    return 0;
}

/*
 * What differs between @k and @t and did not yet between @was_k and @was_t,
 * which are the steps before, or NULL.
 */
static AccelCompareValueList *new_values(const X86Step *k, const X86Step *t,
                                         const X86Step *was_k,
                                         const X86Step *was_t)
{
    AccelCompareValueList *list = NULL, **tail = &list;
    bool is_wide = k->mode == 8;
    uint64_t mask = is_wide ? UINT64_MAX : UINT32_MAX;

    for (int n = 0; n < ARRAY_SIZE(wide); n++) {
        g_autofree char *name = g_strdup_printf("e%s", wide[n] + 1);

        if (reg_diff(k, t, n) && !(was_k && reg_diff(was_k, was_t, n))) {
            uint64_t before = was_k ? was_k->regs[n] & mask : 0;

            add_value(&tail, is_wide ? wide[n] : name, k->regs[n] & mask,
                      t->regs[n] & mask, was_k ? &before : NULL);
        }
    }
    for (int n = 0; n < ARRAY_SIZE(selectors); n++) {
        if (k->selectors[n] != t->selectors[n] &&
            !(was_k && was_k->selectors[n] != was_t->selectors[n])) {
            uint64_t before = was_k ? was_k->selectors[n] : 0;

            add_value(&tail, selectors[n], k->selectors[n], t->selectors[n],
                      was_k ? &before : NULL);
        }
    }
    if (flags_diff(k, t) & ~(was_k ? flags_diff(was_k, was_t) : 0)) {
        add_value(&tail, is_wide ? "rflags" : "eflags",
                  k->rflags & ~(uint64_t)FLAGS_LEFT_OUT,
                  t->rflags & ~(uint64_t)FLAGS_LEFT_OUT,
                  was_k ? &was_k->rflags : NULL);
    }
    if (k->pc != t->pc) {
        add_value(&tail, "rip", k->pc, t->pc, was_k ? &was_k->pc : NULL);
    } else if (k->mode != t->mode) {
        add_value(&tail, "mode", k->mode, t->mode, NULL);
    }
    return list;
}

static void add_difference(AccelCompareDifferenceList ***tail, unsigned number,
                           const X86Step *step, AccelCompareValueList *values)
{
    AccelCompareDifference *d = g_new0(AccelCompareDifference, 1);

    d->number = number;
    d->address = step->pc;
    d->code = switch_compare_digits(step->code, step->bytes);
    d->mode = step->mode;
    d->values = values;
    QAPI_LIST_APPEND(*tail, d);
}

/*
 * KVM's steps do not stop at the handlers of these (docs/trace.rst): it comes
 * to light behind them.
 */
static bool is_not_stopped_at(int vector)
{
    return vector == EXCP01_DB || vector == EXCP08_DBLE ||
           vector == EXCP0A_TSS || vector == EXCP11_ALGN;
}

/* What remains of the vCPU */

#define SEGMENT(name, field) { name, offsetof(CPUX86State, field) }

static const struct {
    const char *name;
    size_t offset;
} segments[] = {
    SEGMENT("es", segs[R_ES]), SEGMENT("cs", segs[R_CS]),
    SEGMENT("ss", segs[R_SS]), SEGMENT("ds", segs[R_DS]),
    SEGMENT("fs", segs[R_FS]), SEGMENT("gs", segs[R_GS]),
    SEGMENT("ldtr", ldt), SEGMENT("tr", tr),
};

#define REGISTER(name, field) \
    { name, offsetof(CPUX86State, field), sizeof_field(CPUX86State, field) }

static const struct {
    const char *name;
    size_t offset;
    size_t size;                /* 1 to 8 */
} registers[] = {
    REGISTER("cr0", cr[0]), REGISTER("cr2", cr[2]), REGISTER("cr3", cr[3]),
    REGISTER("cr4", cr[4]), REGISTER("gdtr base", gdt.base),
    REGISTER("gdtr limit", gdt.limit), REGISTER("idtr base", idt.base),
    REGISTER("idtr limit", idt.limit), REGISTER("xcr0", xcr0),
    REGISTER("efer", efer),
    REGISTER("x87 control word", fpuc), REGISTER("x87 status word", fpus),
    REGISTER("x87 top of stack", fpstt),
    REGISTER("mxcsr", mxcsr), REGISTER("pkru", pkru),
    REGISTER("star", star),
    REGISTER("sysenter cs", sysenter_cs),
    REGISTER("sysenter esp", sysenter_esp),
    REGISTER("sysenter eip", sysenter_eip),
#ifdef TARGET_X86_64
    REGISTER("lstar", lstar), REGISTER("cstar", cstar),
    REGISTER("fmask", fmask), REGISTER("kernelgsbase", kernelgsbase),
#endif
};

static void compare_number(AccelCompareValueList ***tail, const char *prefix,
                           const char *name, uint64_t kvm, uint64_t tcg)
{
    g_autofree char *whole = g_strconcat(prefix, name, NULL);

    if (kvm != tcg) {
        add_value(tail, whole, kvm, tcg, NULL);
    }
}

/*
 * TCG keeps a part of the limit there, too.  It does not always set the bit
 * Accessed of what it loads; a switch does.  Real mode makes CS a data segment
 * or leaves it, by vendor, and what it has made is still there after PE was
 * set.
 */
#define ATTRIBUTES (DESC_G_MASK | DESC_B_MASK | DESC_L_MASK | DESC_AVL_MASK | \
                    (0xff00 & ~(DESC_CS_MASK | DESC_A_MASK)))

static void compare_segment(AccelCompareValueList ***tail, const char *name,
                            const SegmentCache *kvm, const SegmentCache *tcg,
                            bool has_descriptors)
{
    compare_number(tail, name, " selector", kvm->selector, tcg->selector);
    compare_number(tail, name, " base", kvm->base, tcg->base);
    /* What a null selector leaves of the rest is the processor's affair. */
    if (has_descriptors && kvm->selector & ~3) {
        compare_number(tail, name, " limit", kvm->limit, tcg->limit);
        compare_number(tail, name, " attributes", kvm->flags & ATTRIBUTES,
                       tcg->flags & ATTRIBUTES);
    }
}

/* The lowest 64 bits that differ of @count of them */
static void compare_vector(AccelCompareValueList ***tail, const char *name,
                           int number, const uint64_t *kvm, const uint64_t *tcg,
                           int count)
{
    for (int i = 0; i < count; i++) {
        if (kvm[i] != tcg[i]) {
            g_autofree char *part =
                g_strdup_printf("%s%d bits %d to %d", name, number, i * 64,
                                i * 64 + 63);

            add_value(tail, part, kvm[i], tcg[i], NULL);
            return;
        }
    }
}

static void compare_x87(AccelCompareValueList ***tail, const CPUX86State *kvm,
                        const CPUX86State *tcg)
{
    for (int i = 0; i < 8; i++) {
        int a = (kvm->fpstt + i) & 7, b = (tcg->fpstt + i) & 7;
        floatx80 x = kvm->fpregs[a].d, y = tcg->fpregs[b].d;
        g_autofree char *name = g_strdup_printf("st%d", i);

        compare_number(tail, name, " is empty", kvm->fptags[a],
                       tcg->fptags[b]);
        compare_number(tail, name, " significand", x.low, y.low);
        compare_number(tail, name, " exponent", x.high, y.high);
    }
}

static AccelCompareValueList *compare_state(const CPUX86State *kvm,
                                            const CPUX86State *tcg)
{
    AccelCompareValueList *list = NULL, **tail = &list;
    bool has_descriptors = tcg->cr[0] & CR0_PE_MASK &&
                           !(tcg->eflags & VM_MASK);
    int quarters = kvm->features[FEAT_1_ECX] & CPUID_EXT_AVX ? 4 : 2;

    for (int i = 0; i < ARRAY_SIZE(segments); i++) {
        compare_segment(&tail, segments[i].name,
                        (const void *)((const char *)kvm + segments[i].offset),
                        (const void *)((const char *)tcg + segments[i].offset),
                        has_descriptors);
    }
    for (int i = 0; i < ARRAY_SIZE(registers); i++) {
        uint64_t k = 0, t = 0;

        memcpy(&k, (const char *)kvm + registers[i].offset, registers[i].size);
        memcpy(&t, (const char *)tcg + registers[i].offset, registers[i].size);
        compare_number(&tail, "", registers[i].name, k, t);
    }
    compare_x87(&tail, kvm, tcg);
    for (int i = 0; i < CPU_NB_REGS; i++) {
        compare_vector(&tail, quarters == 4 ? "ymm" : "xmm", i,
                       kvm->xmm_regs[i]._q_ZMMReg, tcg->xmm_regs[i]._q_ZMMReg,
                       quarters);
    }
    return list;
}

/*
 * The registers that differ after the block.  It is compared with the step at
 * the same address.  If there is none, it is compared with the next step.
 */
static AccelCompareValueList *block_values(const SwitchSteps *tcg)
{
    const X86Step *block = &tcg->block_to;
    unsigned best = tcg->block_from + 1;
    AccelCompareValueList *list;

    for (unsigned i = best; i < tcg->list->len; i++) {
        if (x86_step_at(tcg, i)->pc == block->pc) {
            best = i;
            break;
        }
    }
    list = new_values(x86_step_at(tcg, best), block, NULL, NULL);
    if (tcg->block_end != ACCEL_COMPARE_END_COUNT) {
        AccelCompareValueList **tail = &list;
        g_autofree char *name =
            g_strdup_printf("stopped by %s",
                            AccelCompareEnd_str(tcg->block_end));

        while (*tail) {
            tail = &(*tail)->next;
        }
        add_value(&tail, name, 0, 1, NULL);
    }
    return list;
}

void switch_arch_compare_blocks(const SwitchSteps *tcg,
                                AccelCompareValueList *memory,
                                AccelComparison *result)
{
    AccelCompareDifferenceList *list = NULL, **tail = &list;

    result->blocks = tcg->blocks;
    if (tcg->blocks && !tcg->block_differs) {
        result->block_state = compare_state(tcg->end, tcg->blocks_end);
        result->block_memory = memory;
        return;
    }
    qapi_free_AccelCompareValueList(memory);
    if (tcg->blocks) {
        add_difference(&tail, tcg->block_from,
                       x86_step_at(tcg, tcg->block_from), block_values(tcg));
        result->block_differences = list;
    }
}

bool switch_arch_compare_steps(CPUState *cpu, const SwitchSteps *kvm,
                               const SwitchSteps *tcg, AccelCompareEnd end,
                               AccelComparison *result)
{
    AccelCompareDifferenceList **tail = &result->differences;
    unsigned count = MIN(kvm->list->len, tcg->list->len), i;
    const X86Step *was_k = NULL, *was_t = NULL, *last;
    int room = SWITCH_COMPARE_LISTED;
    bool whole;

    for (i = 0; i < count; i++) {
        const X86Step *k = x86_step_at(kvm, i), *t = x86_step_at(tcg, i);
        AccelCompareValueList *values = is_same(k, t, 0)
                                        ? NULL
                                        : new_values(k, t, was_k, was_t);

        if (k->pc != t->pc && is_not_stopped_at(t->vector)) {
            qapi_free_AccelCompareValueList(values);
            end = ACCEL_COMPARE_END_KVM;
            break;
        }
        if (values && room) {
            add_difference(&tail, i ? i - 1 : 0, was_k ?: k, values);
            room--;
        } else {
            qapi_free_AccelCompareValueList(values);
        }
        was_k = k;
        was_t = t;
        if (k->pc != t->pc) {
            break;
        }
    }
    whole = i == count && count && count == tcg->list->len;
    if (whole) {
        result->state = compare_state(cpu_env(cpu), tcg->end);
    } else if (i == count && count) {
        end = ACCEL_COMPARE_END_KVM;
        if (kvm->shutdown) {
            AccelCompareValueList *values = NULL, **value = &values;

            add_value(&value, "shutdown", 1, 0, NULL);
            add_difference(&tail, i - 1, was_k, values);
        }
    }
    result->instructions = i == count && count ? count - 1 : i;
    for (unsigned n = 0; n < result->instructions; n++) {
        result->user_instructions += x86_step_at(tcg, n)->cpl == 3;
    }
    result->end = end;
    last = kvm->list->len ? x86_step_at(kvm, kvm->list->len - 1)
                          : x86_step_at(tcg, tcg->list->len - 1);
    result->next = last->pc;
    result->next_code = switch_compare_digits(last->code, last->bytes);
    result->mode = last->mode;
    return whole;
}
