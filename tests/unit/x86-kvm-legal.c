/*
 * Legal values for the fields of a vCPU's state
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "hw/i386/apic_internal.h"
#include "x86-kvm-legal.h"

#define ANY         (~0ull)
#define CANONICAL   0x00007fffffffffffull
#define LOW_32      0xffffffffull

/* In these modes */
#define REAL        (1 << ORACLE_REAL)
#define PROTECTED   (1 << ORACLE_PROTECTED)
#define PAE         (1 << ORACLE_PAE)
#define LONG        (1 << ORACLE_LONG)
#define LEGACY      (REAL | PROTECTED | PAE)
#define ALL         (LEGACY | LONG)

uint64_t oracle_random(GRand *rand)
{
    return (uint64_t)g_rand_int(rand) << 32 | g_rand_int(rand);
}

static struct kvm_segment flat(uint16_t selector, uint8_t type, bool l)
{
    return (struct kvm_segment) {
        .selector = selector, .limit = 0xffffffff, .type = type,
        .present = 1, .db = !l, .s = 1, .l = l, .g = 1,
    };
}

void oracle_enter(X86KVMState *s, OracleMode mode, bool x2apic)
{
    struct kvm_sregs2 *r = &s->sregs;

    if (x2apic) {
        r->apic_base |= MSR_IA32_APICBASE_EXTD;
    }
    s->regs.rip = 0x1000;
    s->regs.rflags = 2;
    if (mode == ORACLE_REAL) {
        return;
    }
    r->cs = flat(8, 11, mode == ORACLE_LONG);
    r->ds = r->es = r->fs = r->gs = r->ss = flat(16, 3, false);
    r->tr.type = 11;
    r->tr.limit = 0xffff;
    r->cr0 |= CR0_PE_MASK | CR0_NE_MASK;
    r->cr3 = 0x2000;
    if (mode >= ORACLE_PAE) {
        r->cr4 |= CR4_PAE_MASK;
        r->cr0 |= CR0_PG_MASK;
    }
    if (mode == ORACLE_LONG) {
        r->efer |= MSR_EFER_LME | MSR_EFER_LMA;
    }
}

/* The bits that may be changed at random; no row: a field keeps its value. */
static const struct {
    const char *name;
    unsigned modes;
    uint64_t bits;
} legal[] = {
    { "regs.rip", ALL, 0xffff },
    { "regs.rflags", ALL, 0xcd5 },
    { "sregs.ds.selector", ALL, 0xffff },
    { "sregs.es.selector", ALL, 0xffff },
    { "sregs.fs.selector", ALL, 0xffff },
    { "sregs.gs.selector", ALL, 0xffff },
    { "sregs.ldt.selector", ALL, 0xfff8 },
    { "sregs.tr.selector", ALL, 0xfff8 },
    { "sregs.ds.base", LEGACY, LOW_32 },
    { "sregs.es.base", LEGACY, LOW_32 },
    { "sregs.fs.base", LEGACY, LOW_32 },
    { "sregs.gs.base", LEGACY, LOW_32 },
    { "sregs.fs.base", LONG, CANONICAL },
    { "sregs.gs.base", LONG, CANONICAL },
    { "sregs.tr.base", LEGACY, LOW_32 },
    { "sregs.tr.base", LONG, CANONICAL },
    { "sregs.ldt.base", LEGACY, LOW_32 },
    { "sregs.ldt.base", LONG, CANONICAL },
    { "sregs.gdt.base", LEGACY, LOW_32 },
    { "sregs.gdt.base", LONG, CANONICAL },
    { "sregs.idt.base", LEGACY, LOW_32 },
    { "sregs.idt.base", LONG, CANONICAL },
    { "sregs.gdt.limit", ALL, 0xffff },
    { "sregs.idt.limit", ALL, 0xffff },
    { "sregs.cr0", ALL, CR0_MP_MASK | CR0_EM_MASK | CR0_TS_MASK |
                        CR0_NE_MASK | CR0_WP_MASK | CR0_AM_MASK },
    { "sregs.cr2", LEGACY, LOW_32 },
    { "sregs.cr2", LONG, CANONICAL },
    { "sregs.cr3", ALL, 0xff000 },
    { "sregs.cr4", ALL, CR4_TSD_MASK | CR4_DE_MASK | CR4_PSE_MASK |
                        CR4_MCE_MASK | CR4_PGE_MASK | CR4_OSFXSR_MASK |
                        CR4_OSXMMEXCPT_MASK },
    { "sregs.cr8", ALL, 0xf },
    { "sregs.efer", LONG, MSR_EFER_SCE },
    { "events.interrupt.shadow", ALL, KVM_X86_SHADOW_INT_STI },
    { "events.nmi.masked", ALL, 1 },
    { "debugregs.db[0]", LEGACY, LOW_32 },
    { "debugregs.db[1]", LEGACY, LOW_32 },
    { "debugregs.db[2]", LEGACY, LOW_32 },
    { "debugregs.db[3]", LEGACY, LOW_32 },
    { "debugregs.db[0]", LONG, CANONICAL },
    { "debugregs.db[1]", LONG, CANONICAL },
    { "debugregs.db[2]", LONG, CANONICAL },
    { "debugregs.db[3]", LONG, CANONICAL },
    { "debugregs.dr6", ALL, 0xe00f },
    { "debugregs.dr7", ALL, 0xffff03ff },
    { "TPR", ALL, 0xff },
    { "ISR", ALL, LOW_32 },
    { "TMR", ALL, LOW_32 },
    { "IRR", ALL, LOW_32 },
    { "ESR", ALL, 0xe0 },
    { "SVR", ALL, 0xff },
    { "ICR", ALL, 0xccfff },
    { "LVT timer", ALL, APIC_LVT_TIMER_PERIODIC | 0xff },
    { "LVT thermal", ALL, 0xff },
    { "LVT PMC", ALL, 0xff },
    { "LVT LINT0", ALL, 0xff },
    { "LVT LINT1", ALL, 0xff },
    { "LVT error", ALL, 0xff },
    { "TMICT", ALL, LOW_32 },
    { "TDCR", ALL, 0xb },
    { "tsc_offset", ALL, 0x3fffffffffffffffull },
    { "FCW", ALL, 0xf3f },
    { "FSW", ALL, 0x7f00 },
    { "FTW", ALL, 0xff },
    { "FOP", ALL, 0x7ff },
    { "FIP", ALL, CANONICAL },
    { "FDP", ALL, CANONICAL },
    { "MXCSR", ALL, 0xffbf },
    { "XMM0 to XMM15", ALL, ANY },
};

static bool legal_bits(const X86StateField *f, int word, OracleMode mode,
                       bool x2apic, uint64_t *bits)
{
    if (f->part == X86_KVM_REGS && f->size == 8 &&
        strcmp(f->name, "regs.rip") && strcmp(f->name, "regs.rflags")) {
        *bits = ANY;
        return true;
    }
    if (g_str_equal(f->name, "ST0 to ST7")) {
        /* 80 of 128 bits */
        *bits = word & 1 ? 0xffff : ANY;
        return true;
    }
    if (f->part == X86_KVM_LAPIC && f->size > 4 && word % 4) {
        /* reserved, 12 of 16 bytes */
        return false;
    }
    if (g_str_equal(f->name, "LDR")) {
        *bits = 0xff000000;
        return !x2apic;
    }
    if (g_str_equal(f->name, "ICR2")) {
        *bits = x2apic ? LOW_32 : 0xff000000;
        return true;
    }
    for (int i = 0; i < ARRAY_SIZE(legal); i++) {
        if (g_str_equal(f->name, legal[i].name) && legal[i].modes >> mode & 1) {
            *bits = legal[i].bits;
            return true;
        }
    }
    return false;
}

/* What the field must have for its part to be looked at as a whole. */
static void set_what_goes_with_it(X86KVMState *s, const X86StateField *f)
{
    X86XSaveHeader *header = (void *)&s->xsave.region[0x200 / 4];
    bool vectors = g_str_equal(f->name, "ISR") ||
                   g_str_equal(f->name, "IRR") || g_str_equal(f->name, "TMR");

    if (f->part == X86_KVM_XSAVE) {
        header->xstate_bv |= XSTATE_FP_MASK | XSTATE_SSE_MASK;
    }
    if (vectors) {
        /* There are none below 16 (SDM vol. 3A, 11.5.2). */
        *(uint32_t *)((char *)s + f->offset) &= 0xffff0000;
    }
    if (f->part == X86_KVM_EVENTS) {
        s->events.flags |= KVM_VCPUEVENT_VALID_SHADOW;
    }
    if (f->part == X86_KVM_SREGS) {
        s->sregs.flags = 0;
    }
    if (f->part == X86_KVM_LAPIC) {
        /* A one-shot timer would go off. */
        *x86_lapic_register(s, X86_LAPIC_LVTT) |= APIC_LVT_MASKED;
    }
}

bool oracle_vary(X86KVMState *s, const X86StateField *f, int word,
                 OracleMode mode, bool x2apic, GRand *rand)
{
    char *at = (char *)s + f->offset + word * f->word;
    uint64_t bits, old = ldn_he_p(at, f->word);

    if (!legal_bits(f, word, mode, x2apic, &bits)) {
        return false;
    }
    stn_he_p(at, f->word, (old & ~bits) | (oracle_random(rand) & bits));
    set_what_goes_with_it(s, f);
    return true;
}

void oracle_vary_events(X86KVMState *s, OracleMode mode, GRand *rand)
{
    struct kvm_vcpu_events *e = &s->events;
    static const uint8_t faults[] = { 0, 6, 13, 14 };

    e->flags |= KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
    switch (g_rand_int_range(rand, 0, 4)) {
    case 0:
        e->exception.injected = 1;
        e->exception.nr = faults[g_rand_int_range(rand, 0, 4)];
        e->exception.has_error_code = e->exception.nr > 8 &&
                                      mode != ORACLE_REAL;
        e->exception.error_code = e->exception.has_error_code
                                  ? g_rand_int(rand) & 0xfff8 : 0;
        break;
    case 1:
        e->interrupt.injected = 1;
        e->interrupt.nr = g_rand_int_range(rand, 16, 256);
        break;
    case 2:
        e->nmi.injected = 1;
        e->nmi.masked = 1;
        break;
    case 3:
        e->nmi.masked = 1;
        break;
    }
}

/* Those that are compared and that a guest sets; (index, bits). */
static const struct {
    uint32_t index;
    uint64_t bits;
} legal_msrs[] = {
    { MSR_IA32_SYSENTER_CS, 0xffff },
    { MSR_IA32_SYSENTER_ESP, 0x7fffffff },
    { MSR_IA32_SYSENTER_EIP, 0x7fffffff },
    { MSR_STAR, ANY },
    { MSR_LSTAR, CANONICAL },
    { MSR_CSTAR, CANONICAL },
    { MSR_FMASK, LOW_32 },
    { MSR_KERNELGSBASE, CANONICAL },
    { MSR_TSC_AUX, LOW_32 },
    { MSR_TSC_ADJUST, ANY },
    { MSR_IA32_FEATURE_CONTROL, 1 },
    { MSR_MTRRdefType, 0xc06 },
    { MSR_MTRRphysBase(0), 0xfffff006 },
    { MSR_MTRRphysMask(7), 0xfffff800 },
    { MSR_MTRRfix64K_00000, 0x0606060606060606 },
    { MSR_MTRRfix4K_F8000, 0x0606060606060606 },
    { MSR_PAT, 0x0606060606060606 },
    { MSR_MCG_STATUS, 7 },
    { MSR_SMI_COUNT, LOW_32 },
};

bool oracle_vary_msr(uint32_t index, const uint64_t *features,
                     uint64_t *value, GRand *rand)
{
    if (index == MSR_TSC_AUX &&
        !(features[FEAT_8000_0001_EDX] & CPUID_EXT2_RDTSCP) &&
        !(features[FEAT_7_0_ECX] & CPUID_7_0_ECX_RDPID)) {
        return false;
    }
    for (int i = 0; i < ARRAY_SIZE(legal_msrs); i++) {
        if (index == legal_msrs[i].index) {
            uint64_t bits = legal_msrs[i].bits;

            *value = (*value & ~bits) | (oracle_random(rand) & bits);
            if (index == MSR_PAT || index == MSR_MTRRdefType ||
                (index >= MSR_MTRRphysBase(0) &&
                 index <= MSR_MTRRfix4K_F8000)) {
                /* Memory type 2 is reserved: make it 6. */
                *value |= (*value & 0x0202020202020202) << 1;
            }
            return true;
        }
    }
    return false;
}
