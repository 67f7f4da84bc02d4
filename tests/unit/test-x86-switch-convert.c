/*
 * What a switch makes of a vCPU's registers, against tables: target/i386/
 * switch/convert.c without KVM, TCG or a machine around it
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "exec/breakpoint.h"
#include "fpu/softfloat-helpers.h"
#include "hw/intc/i8259.h"
#include "system/runstate.h"
#include "target/i386/switch/x86-switch.h"

/* What convert.c calls, as far as its results show in the registers */

bool tcg_allowed = true;
SwitchState *switch_state = &(SwitchState) {};
CPUTailQ cpus_queue = QTAILQ_HEAD_INITIALIZER(cpus_queue);
PICCommonState *isa_pic = (PICCommonState *)&isa_pic;

static bool pic_output, lapic_accepts_pic, machine_reset;

int pic_get_output(PICCommonState *pic)
{
    return pic_output;
}

int apic_accept_pic_intr(DeviceState *dev)
{
    return lapic_accepts_pic;
}

void qemu_system_reset_request(ShutdownCause reason)
{
    machine_reset = true;
}

uint32_t cpu_cc_compute_all(CPUX86State *env)
{
    return env->cc_src;
}

void cpu_x86_update_cr4(CPUX86State *env, uint32_t cr4)
{
    env->cr[4] = cr4;
}

void cpu_x86_update_dr7(CPUX86State *env, uint32_t dr7)
{
    /* Only breakpoints that were off before are set up by the real one. */
    g_assert_false(env->dr[7] & (DR7_GLOBAL_BP_MASK | DR7_LOCAL_BP_MASK));
    env->dr[7] = dr7;
}

uint64_t x86_switch_get_tsc(CPUX86State *env)
{
    return 0x123456789abc;
}

void cpu_load_efer(CPUX86State *env, uint64_t efer)
{
}

void cpu_init_fp_statuses(CPUX86State *env)
{
}

void update_fp_status(CPUX86State *env)
{
}

void update_mxcsr_status(CPUX86State *env)
{
}

void update_mxcsr_from_sse_status(CPUX86State *env)
{
}

void cpu_breakpoint_remove_all(CPUState *cpu, int mask)
{
}

void cpu_watchpoint_remove_all(CPUState *cpu, int mask)
{
}

void x86_kvm_lapic_to_tcg(X86CPU *cpu, X86SwitchCPU *sc)
{
}

/* A vCPU, as a reset leaves it where that matters here */

static const TypeInfo lapic_type = {
    .name = TYPE_APIC_COMMON,
    .parent = TYPE_OBJECT,
    .instance_size = sizeof(APICCommonState),
};

typedef struct VCPU {
    X86CPU *cpu;
    CPUState *cs;
    CPUX86State *env;
    APICCommonState *lapic;
    X86SwitchCPU sc;
} VCPU;

static VCPU *vcpu_new(void)
{
    VCPU *v = g_new0(VCPU, 1);

    v->cpu = g_new0(X86CPU, 1);
    v->cs = CPU(v->cpu);
    v->env = &v->cpu->env;
    v->lapic = APIC_COMMON(object_new(TYPE_APIC_COMMON));
    v->cpu->apic_state = (DeviceState *)v->lapic;
    v->cpu->phys_bits = 40;
    v->cs->exception_index = -1;
    v->env->exception_nr = -1;
    v->env->interrupt_injected = -1;
    v->env->eflags = 2;
    v->env->df = 1;
    v->env->cc_op = CC_OP_EFLAGS;
    v->env->tr.flags = DESC_P_MASK | (9 << DESC_TYPE_SHIFT);
    pic_output = lapic_accepts_pic = machine_reset = false;
    return v;
}

static void vcpu_free(VCPU *v)
{
    object_unref(v->lapic);
    g_free(v->cpu);
    g_free(v);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VCPU, vcpu_free)

static void to_tcg(VCPU *v)
{
    x86_switch_convert_to_tcg(v->cpu, &v->sc);
}

static void to_kvm(VCPU *v)
{
    x86_switch_convert_to_kvm(v->cpu, &v->sc);
}

/* The tables */

static void test_x87(void)
{
    for (int top = 0; top < 8; top++) {
        g_autoptr(VCPU) v = vcpu_new();

        v->env->fpstt = top;
        v->env->fpus = 0x4700 | top << 11;
        for (int st = 0; st < 8; st++) {
            v->env->fpregs[st].d.low = st;
        }
        to_tcg(v);
        for (int st = 0; st < 8; st++) {
            g_assert_cmpuint(v->env->fpregs[(top + st) & 7].d.low, ==, st);
        }
        g_assert_cmphex(v->env->fpus, ==, 0x4700);
        to_kvm(v);
        for (int st = 0; st < 8; st++) {
            g_assert_cmpuint(v->env->fpregs[st].d.low, ==, st);
        }
    }
}

static void test_xstate_bv(void)
{
    g_autoptr(VCPU) v = vcpu_new();
    uint64_t all = XSTATE_FP_MASK | XSTATE_SSE_MASK | XSTATE_YMM_MASK |
                   XSTATE_PKRU_MASK;

    /* Whatever XCR0 turns off: it may be in use, or on again later. */
    v->env->features[FEAT_XSAVE_XCR0_LO] = all;
    v->env->xcr0 = XSTATE_FP_MASK;
    to_kvm(v);
    g_assert_cmphex(v->env->xstate_bv, ==, all);

    /* A host with PKRU may have put it into the stream of another guest. */
    v->env->features[FEAT_XSAVE_XCR0_LO] = 0;
    to_kvm(v);
    g_assert_cmphex(v->env->xstate_bv, ==, XSTATE_FP_MASK | XSTATE_SSE_MASK);
}

/* Stale under KVM: a dump would set them in the guest's MXCSR. */
static void test_sse_flags(void)
{
    g_autoptr(VCPU) v = vcpu_new();

    set_float_exception_flags(float_flag_divbyzero, &v->env->sse_status);
    to_kvm(v);
    g_assert_cmphex(get_float_exception_flags(&v->env->sse_status), ==, 0);
}

static void test_flags(void)
{
    static const struct {
        uint32_t eflags, cc, df;
    } table[] = {
        { 0x00000002, 0, 1 },
        { 0x00000402, 0, -1 },
        { 0x00000ad7, CC_O | CC_S | CC_Z | CC_A | CC_P | CC_C, 1 },
        { 0x00033246, CC_Z | CC_P, 1 },
    };

    for (int i = 0; i < ARRAY_SIZE(table); i++) {
        g_autoptr(VCPU) v = vcpu_new();

        v->env->eflags = table[i].eflags;
        to_tcg(v);
        g_assert_cmphex(v->env->cc_op, ==, CC_OP_EFLAGS);
        g_assert_cmphex(v->env->cc_src, ==, table[i].cc);
        g_assert_cmpint(v->env->df, ==, (int32_t)table[i].df);
        /* Outside of cpu_exec() all are in there, for a debugger to write. */
        g_assert_cmphex(v->env->eflags, ==, table[i].eflags);
        v->env->eflags ^= CC_Z | DF_MASK;
        to_kvm(v);
        g_assert_cmphex(v->env->eflags, ==, table[i].eflags ^ (CC_Z | DF_MASK));
    }
}

/*
 * TCG takes TF, VM and IOPL from EFLAGS: old copies in hflags would stick
 * (hazard C3).  It has the interrupt shadow in hflags, and QEMU's KVM code
 * leaves the shadow out: STI; HLT would lose its wakeup (hazard C7).
 */
static void test_hflags(void)
{
    for (int shadow = 0; shadow < 2; shadow++) {
        g_autoptr(VCPU) v = vcpu_new();

        v->sc.interrupt_shadow = shadow;
        v->env->hflags = HF_TF_MASK | HF_VM_MASK | HF_IOPL_MASK |
                         HF_INHIBIT_IRQ_MASK | HF_PE_MASK | 3;
        to_tcg(v);
        g_assert_cmphex(v->env->hflags, ==,
                        HF_PE_MASK | 3 | (shadow ? HF_INHIBIT_IRQ_MASK : 0));
        v->sc.interrupt_shadow = !shadow;
        to_kvm(v);
        g_assert_cmpint(v->sc.interrupt_shadow, ==, shadow);
        g_assert_cmphex(v->env->hflags, ==, HF_PE_MASK | 3);
    }
}

#define CODE    (DESC_P_MASK | DESC_S_MASK | DESC_CS_MASK | DESC_R_MASK)
#define DATA    (DESC_P_MASK | DESC_S_MASK | DESC_W_MASK)
#define DPL(n)  ((n) << DESC_DPL_SHIFT)

static void test_segments(void)
{
    static const struct {
        int seg;
        uint32_t cr0, eflags, cpl, flags, kvm_flags;
    } table[] = {
        { R_CS, CR0_PE_MASK, 0, 0, CODE, CODE | DESC_A_MASK },
        { R_CS, CR0_PE_MASK, 0, 3, CODE | DPL(3), CODE | DPL(3) | DESC_A_MASK },
        { R_DS, CR0_PE_MASK, 0, 3, DATA | DPL(3), DATA | DPL(3) | DESC_A_MASK },
        /* null: unusable in protected mode, not in real mode */
        { R_FS, CR0_PE_MASK, 0, 0, 0, 0 },
        { R_FS, 0, 0, 0, 0, DATA | DESC_A_MASK },
        /* SS.DPL is the CPL */
        { R_SS, CR0_PE_MASK, 0, 3, DATA | DPL(0), DATA | DPL(3) | DESC_A_MASK },
        { R_SS, CR0_PE_MASK, 0, 0, DATA | DPL(3), DATA | DPL(0) | DESC_A_MASK },
        { R_SS, CR0_PE_MASK, VM_MASK, 3, DATA | DPL(3),
          DATA | DPL(3) | DESC_A_MASK },
        { R_SS, 0, 0, 0, DATA | DPL(3), DATA | DPL(0) | DESC_A_MASK },
    };

    for (int i = 0; i < ARRAY_SIZE(table); i++) {
        g_autoptr(VCPU) v = vcpu_new();

        v->env->cr[0] = table[i].cr0;
        v->env->eflags |= table[i].eflags;
        v->env->hflags = table[i].cpl;
        v->env->segs[table[i].seg].flags = table[i].flags;
        to_kvm(v);
        g_assert_cmphex(v->env->segs[table[i].seg].flags, ==,
                        table[i].kvm_flags);
    }
}

static void test_system_segments(void)
{
    static const struct {
        uint32_t tr, kvm_tr, tcg_tr;
    } table[] = {
        { 9, 11, 9 }, { 11, 11, 9 }, { 1, 3, 1 }, { 3, 3, 1 },
    };
    g_autoptr(VCPU) never = vcpu_new();
    g_autoptr(VCPU) in_long_mode = vcpu_new();

    for (int i = 0; i < ARRAY_SIZE(table); i++) {
        g_autoptr(VCPU) v = vcpu_new();

        v->env->tr.flags = DESC_P_MASK | table[i].tr << DESC_TYPE_SHIFT;
        to_kvm(v);
        g_assert_cmphex(v->env->tr.flags, ==,
                        DESC_P_MASK | table[i].kvm_tr << DESC_TYPE_SHIFT);
        to_tcg(v);
        g_assert_cmphex(v->env->tr.flags, ==,
                        DESC_P_MASK | table[i].tcg_tr << DESC_TYPE_SHIFT);
    }
    in_long_mode->env->hflags |= HF_LMA_MASK;
    in_long_mode->env->tr.flags = DESC_P_MASK | 3 << DESC_TYPE_SHIFT;
    to_kvm(in_long_mode);
    g_assert_cmphex(in_long_mode->env->tr.flags, ==,
                    DESC_P_MASK | 11 << DESC_TYPE_SHIFT);
    never->env->tr.flags = 0;
    never->env->ldt.flags = DESC_P_MASK | 2 << DESC_TYPE_SHIFT;
    to_kvm(never);
    g_assert_cmphex(never->env->tr.flags, ==,
                    DESC_P_MASK | 11 << DESC_TYPE_SHIFT);
    g_assert_cmphex(never->env->ldt.flags, ==, 0);
}

/* TCG's first act is to deliver KVM's exception, or it is lost (hazard C6). */
static void test_exceptions_to_tcg(void)
{
    static const struct {
        int nr;
        bool pending, has_payload;
        uint64_t payload;
        int index;
        uint64_t cr2, dr6;
        bool gd, first_of_two;
    } table[] = {
        { EXCP0D_GPF, false, false, 0, EXCP0D_GPF, 0, 0, true, true },
        { EXCP0E_PAGE, true, true, 0x1234, EXCP0E_PAGE, 0x1234, 0, true, true },
        { EXCP0E_PAGE, false, false, 0, EXCP0E_PAGE, 0, 0, true, true },
        { EXCP08_DBLE, false, false, 0, EXCP08_DBLE, 0, 0, true, true },
        { EXCP00_DIVZ, false, false, 0, EXCP00_DIVZ, 0, 0, true, true },
        { EXCP11_ALGN, false, false, 0, EXCP11_ALGN, 0, 0, true, false },
        { EXCP01_DB, true, true, 0x4001, EXCP01_DB, 0,
          DR6_FIXED_1 | 0x4001, false, false },
        { EXCP01_DB, false, false, 0, EXCP01_DB, 0, 0, true, false },
        /* come again by themselves */
        { EXCP03_INT3, false, false, 0, -1, 0, 0, true, false },
        { EXCP04_INTO, false, false, 0, -1, 0, 0, true, false },
        { EXCP06_ILLOP, true, false, 0, -1, 0, 0, true, false },
    };

    for (int i = 0; i < ARRAY_SIZE(table); i++) {
        g_autoptr(VCPU) v = vcpu_new();

        v->env->dr[7] = DR7_GD;
        v->env->exception_nr = table[i].nr;
        v->env->exception_pending = table[i].pending;
        v->env->exception_injected = !table[i].pending;
        v->env->exception_has_payload = table[i].has_payload;
        v->env->exception_payload = table[i].payload;
        v->env->mp_state = KVM_MP_STATE_HALTED;
        to_tcg(v);
        g_assert_cmpint(v->cs->exception_index, ==, table[i].index);
        g_assert_cmpint(v->env->old_exception, ==,
                        table[i].first_of_two ? table[i].nr : -1);
        g_assert_cmpint(v->cs->halted, ==, table[i].index < 0);
        g_assert_cmphex(v->env->cr[2], ==, table[i].cr2);
        g_assert_cmphex(v->env->dr[6], ==, table[i].dr6);
        g_assert_cmphex(v->env->dr[7] & DR7_GD, ==, table[i].gd ? DR7_GD : 0);
        g_assert_cmpint(v->env->exception_nr, ==, -1);
        g_assert_false(v->env->exception_injected);
        g_assert_false(v->env->exception_pending);
    }
}

static void test_exceptions_to_kvm(void)
{
    static const struct {
        int index;
        bool is_int, protected;
        int nr;
        bool error_code;
    } table[] = {
        { -1, false, true, -1, false },
        { EXCP00_DIVZ, false, true, EXCP00_DIVZ, false },
        { EXCP0D_GPF, false, true, EXCP0D_GPF, true },
        { EXCP0D_GPF, false, false, EXCP0D_GPF, false },
        { EXCP0E_PAGE, false, true, EXCP0E_PAGE, true },
        { EXCP11_ALGN, false, true, EXCP11_ALGN, true },
        { EXCP10_COPR, false, true, EXCP10_COPR, false },
        /* its instruction is executed anew */
        { EXCP03_INT3, true, true, -1, false },
        { EXCP_DEBUG, false, true, -1, false },
    };

    for (int i = 0; i < ARRAY_SIZE(table); i++) {
        g_autoptr(VCPU) v = vcpu_new();

        v->env->cr[0] = table[i].protected ? CR0_PE_MASK : 0;
        v->cs->exception_index = table[i].index;
        v->env->exception_is_int = table[i].is_int;
        to_kvm(v);
        g_assert_cmpint(v->env->exception_nr, ==, table[i].nr);
        g_assert_cmpint(v->env->exception_injected, ==, table[i].nr >= 0);
        g_assert_cmpint(v->env->has_error_code, ==, table[i].error_code);
        g_assert_cmpint(v->cs->exception_index, ==, -1);
    }
}

static void test_interrupts(void)
{
    static const struct {
        int injected;
        bool soft, nmi_injected, nmi_pending, halted;
        uint32_t request;       /* in TCG, but for POLL */
    } table[] = {
        { -1, false, false, false, true, 0 },
        { 0x31, false, false, false, false, CPU_INTERRUPT_INJECTED },
        { 0x80, true, false, false, true, 0 },
        { -1, false, true, false, false, CPU_INTERRUPT_INJECTED },
        { -1, false, false, true, true, CPU_INTERRUPT_NMI },
        { -1, false, true, true, false,
          CPU_INTERRUPT_INJECTED | CPU_INTERRUPT_NMI },
    };

    for (int i = 0; i < ARRAY_SIZE(table); i++) {
        g_autoptr(VCPU) v = vcpu_new();
        bool soft = table[i].soft;

        v->env->mp_state = KVM_MP_STATE_HALTED;
        v->env->interrupt_injected = table[i].injected;
        v->env->soft_interrupt = soft;
        v->env->nmi_injected = table[i].nmi_injected;
        v->env->nmi_pending = table[i].nmi_pending;
        to_tcg(v);
        g_assert_cmphex(v->cs->interrupt_request, ==,
                        table[i].request | CPU_INTERRUPT_POLL);
        g_assert_cmpint(v->cs->halted, ==, table[i].halted);
        /* Not delivered before the next switch: all as it was. */
        to_kvm(v);
        g_assert_cmphex(v->cs->interrupt_request, ==, 0);
        g_assert_cmpint(v->env->interrupt_injected, ==,
                        soft ? -1 : table[i].injected);
        g_assert_cmpint(v->env->nmi_injected, ==, table[i].nmi_injected);
        g_assert_cmpint(v->env->nmi_pending, ==, table[i].nmi_pending);
        g_assert_cmpuint(v->env->mp_state, ==,
                         table[i].halted ? KVM_MP_STATE_HALTED
                                         : KVM_MP_STATE_RUNNABLE);
    }
}

static void test_triple_fault(void)
{
    g_autoptr(VCPU) v = vcpu_new();

    v->env->triple_fault_pending = true;
    to_tcg(v);
    g_assert_true(machine_reset);
    g_assert_false(v->env->triple_fault_pending);
}

static void test_mp_state(void)
{
    static const struct {
        uint32_t kvm;
        bool halted, wait_for_sipi;
        uint32_t request, back;
    } table[] = {
        { KVM_MP_STATE_RUNNABLE, false, false, 0, KVM_MP_STATE_RUNNABLE },
        { KVM_MP_STATE_HALTED, true, false, 0, KVM_MP_STATE_HALTED },
        { KVM_MP_STATE_UNINITIALIZED, true, true, 0,
          KVM_MP_STATE_INIT_RECEIVED },
        { KVM_MP_STATE_INIT_RECEIVED, true, true, 0,
          KVM_MP_STATE_INIT_RECEIVED },
        { KVM_MP_STATE_SIPI_RECEIVED, true, true, CPU_INTERRUPT_SIPI,
          KVM_MP_STATE_INIT_RECEIVED },
    };

    for (int i = 0; i < ARRAY_SIZE(table); i++) {
        g_autoptr(VCPU) v = vcpu_new();

        v->env->mp_state = table[i].kvm;
        v->env->sipi_vector = 0x9a;
        to_tcg(v);
        g_assert_cmpint(v->cs->halted, ==, table[i].halted);
        g_assert_cmpint(v->lapic->wait_for_sipi, ==, table[i].wait_for_sipi);
        g_assert_cmphex(v->cs->interrupt_request, ==,
                        table[i].request | CPU_INTERRUPT_POLL);
        if (table[i].request) {
            g_assert_cmphex(v->lapic->sipi_vector, ==, 0x9a);
        }
        to_kvm(v);
        g_assert_cmpuint(v->env->mp_state, ==, table[i].back);
    }
}

/*
 * Under KVM HARD stands for the PIC alone, on the first vCPU: with an old one
 * QEMU would read a spurious vector from the PIC (hazards C16, E12).
 */
static void test_lines(void)
{
    for (int i = 0; i < 8; i++) {
        g_autoptr(VCPU) v = vcpu_new();
        bool first = i & 1, accepts = i & 2, output = i & 4;
        uint32_t stale = CPU_INTERRUPT_HARD | CPU_INTERRUPT_POLL |
                         CPU_INTERRUPT_VIRQ | CPU_INTERRUPT_TPR |
                         CPU_INTERRUPT_EXITTB;

        if (first) {
            QTAILQ_INSERT_TAIL(&cpus_queue, v->cs, node);
        }
        pic_output = output;
        lapic_accepts_pic = accepts;
        v->cs->interrupt_request = stale;
        to_kvm(v);
        g_assert_cmphex(v->cs->interrupt_request, ==,
                        output && first ? CPU_INTERRUPT_HARD : 0);
        v->cs->interrupt_request = stale;
        to_tcg(v);
        g_assert_cmphex(v->cs->interrupt_request, ==, CPU_INTERRUPT_POLL |
                        (output && accepts ? CPU_INTERRUPT_HARD : 0));
        if (first) {
            QTAILQ_REMOVE(&cpus_queue, v->cs, node);
        }
    }
}

static void test_debug(void)
{
    g_autoptr(VCPU) v = vcpu_new();

    v->env->dr[7] = 0x00030401;
    to_tcg(v);
    g_assert_cmphex(v->env->dr[7], ==, 0x00030401);
}

static void test_mtrrs(void)
{
    g_autoptr(VCPU) v = vcpu_new();

    v->env->mtrr_var[0].mask = 0xffffff0000000800 | 0xff80000000;
    v->env->mtrr_var[7].mask = UINT64_MAX;
    to_tcg(v);
    g_assert_cmphex(v->env->mtrr_var[0].mask, ==, 0xff80000800);
    g_assert_cmphex(v->env->mtrr_var[7].mask, ==, 0xffffffffff);
}

/* What KVM has of its own kind: read anew from memory, or from the host. */
static void test_rest_to_kvm(void)
{
    g_autoptr(VCPU) v = vcpu_new();

    v->env->pdptrs_valid = true;
    to_kvm(v);
    g_assert_false(v->env->pdptrs_valid);
    g_assert_true(v->env->tsc_valid);
    g_assert_cmphex(v->env->tsc, ==, 0x123456789abc);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    module_call_init(MODULE_INIT_QOM);
    type_register_static(&lapic_type);
    g_test_add_func("/x86-switch-convert/x87", test_x87);
    g_test_add_func("/x86-switch-convert/xstate-bv", test_xstate_bv);
    g_test_add_func("/x86-switch-convert/sse-flags", test_sse_flags);
    g_test_add_func("/x86-switch-convert/flags", test_flags);
    g_test_add_func("/x86-switch-convert/hflags", test_hflags);
    g_test_add_func("/x86-switch-convert/segments", test_segments);
    g_test_add_func("/x86-switch-convert/system-segments",
                    test_system_segments);
    g_test_add_func("/x86-switch-convert/exceptions-to-tcg",
                    test_exceptions_to_tcg);
    g_test_add_func("/x86-switch-convert/exceptions-to-kvm",
                    test_exceptions_to_kvm);
    g_test_add_func("/x86-switch-convert/interrupts", test_interrupts);
    g_test_add_func("/x86-switch-convert/triple-fault", test_triple_fault);
    g_test_add_func("/x86-switch-convert/mp-state", test_mp_state);
    g_test_add_func("/x86-switch-convert/lines", test_lines);
    g_test_add_func("/x86-switch-convert/debug", test_debug);
    g_test_add_func("/x86-switch-convert/mtrrs", test_mtrrs);
    g_test_add_func("/x86-switch-convert/rest-to-kvm", test_rest_to_kvm);
    return g_test_run();
}
