/*
 * vCPU states as KVM holds them, that a processor may be in
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TESTS_UNIT_X86_SWITCH_STATES_H
#define TESTS_UNIT_X86_SWITCH_STATES_H

#include "target/i386/switch/state/state.h"

#define CR0_PE      0x1
#define CR0_MP      0x2
#define CR0_ET      0x10
#define CR0_NE      0x20
#define CR0_WP      0x10000
#define CR0_NW      0x20000000
#define CR0_CD      0x40000000
#define CR0_PG      0x80000000
#define CR4_VME     0x1
#define CR4_PAE     0x20
#define CR4_PCIDE   0x20000
#define CR4_CET     0x800000
#define EFER_LME    0x100
#define EFER_LMA    0x400
#define TF          0x100
#define IF          0x200
#define VM          0x20000

/* Places in X86KVMState.msrs */
enum {
    SYSENTER_ESP, SYSENTER_EIP, DEBUGCTL, MTRR_BASE_0, MTRR_MASK_0, MTRR_FIX64K,
    PAT, MTRR_DEF_TYPE, BNDCFGS, LSTAR, CSTAR, KERNEL_GS_BASE, NMSRS
};

static const struct kvm_msr_entry msrs[NMSRS] = {
    [SYSENTER_ESP] = { .index = 0x175 },
    [SYSENTER_EIP] = { .index = 0x176 },
    [DEBUGCTL] = { .index = 0x1d9 },
    [MTRR_BASE_0] = { .index = 0x200, .data = 0xc0000006 },
    [MTRR_MASK_0] = { .index = 0x201, .data = 0xffc0000800 },
    [MTRR_FIX64K] = { .index = 0x250, .data = 0x0606060606060606 },
    [PAT] = { .index = 0x277, .data = 0x0007040600070406 },
    [MTRR_DEF_TYPE] = { .index = 0x2ff, .data = 0xc06 },
    [BNDCFGS] = { .index = 0xd90, .data = 0x7fff00001003 },
    [LSTAR] = { .index = 0xc0000082, .data = 0xffffffff81000000 },
    [CSTAR] = { .index = 0xc0000083 },
    [KERNEL_GS_BASE] = { .index = 0xc0000102, .data = 0xffff888000000000 },
};

#define SEGMENT(seg_type, ...) \
    (struct kvm_segment) { .type = (seg_type), .present = 1, .s = 1, \
                           .limit = 0xffff, __VA_ARGS__ }
#define FLAT .limit = 0xffffffff, .g = 1

static void set_data_segments(X86KVMState *s, struct kvm_segment seg)
{
    s->sregs.ds = s->sregs.es = s->sregs.fs = s->sregs.gs = seg;
}

static void real_mode(X86KVMState *s)
{
    *s = (X86KVMState) {
        .have = X86_KVM_REGS | X86_KVM_SREGS | X86_KVM_XSAVE | X86_KVM_XCRS |
                X86_KVM_EVENTS | X86_KVM_DEBUGREGS | X86_KVM_MP_STATE,
        .regs = { .rip = 0xfff0, .rflags = 2 },
        .sregs = {
            .cs = SEGMENT(11, .selector = 0xf000, .base = 0xffff0000),
            .ss = SEGMENT(3),
            .tr = { .type = 11, .present = 1, .limit = 0xffff },
            .ldt = { .type = 2, .present = 1, .limit = 0xffff },
            .gdt.limit = 0xffff,
            .idt.limit = 0xffff,
            .cr0 = CR0_CD | CR0_NW | CR0_ET,
            .apic_base = 0xfee00900,
        },
        .xcrs = { .nr_xcrs = 1, .xcrs[0].value = 1 },
        .events.flags = KVM_VCPUEVENT_VALID_NMI_PENDING |
                        KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_SMM |
                        KVM_VCPUEVENT_VALID_PAYLOAD,
        .debugregs = { .dr6 = 0xffff0ff0, .dr7 = 0x400 },
        .xsave.region[24 / 4] = 0x1f80,
        .xsave.region[512 / 4] = 3,
        .nmsrs = NMSRS,
    };
    set_data_segments(s, SEGMENT(3));
    memcpy(s->msrs, msrs, sizeof(msrs));
}

static void real_mode_selectors(X86KVMState *s)
{
    real_mode(s);
    s->sregs.cr0 = CR0_ET;
    s->regs.rflags |= IF;
    s->regs.rip = 0x7c03;
    s->sregs.cs = SEGMENT(11, .selector = 0x07c3, .base = 0x7c30);
    s->sregs.ss = SEGMENT(3, .selector = 0x9fc7, .base = 0x9fc70);
    s->sregs.ds = SEGMENT(3, .selector = 0x0043, .base = 0x430);
}

static void unreal_mode(X86KVMState *s)
{
    real_mode_selectors(s);
    set_data_segments(s, SEGMENT(3, FLAT, .db = 1));
}

/* CR0.PE is set and no segment loaded since. */
static void protected_before_jump(X86KVMState *s)
{
    real_mode_selectors(s);
    s->sregs.cr0 |= CR0_PE;
}

/* CS of type 3, which an unrestricted guest may have. */
static void data_in_cs(X86KVMState *s)
{
    real_mode_selectors(s);
    s->sregs.cs.type = 3;
}

static void v86(X86KVMState *s)
{
    real_mode(s);
    s->regs.rip = 0x100;
    s->regs.rflags |= VM | IF;
    s->sregs.cr0 = CR0_PG | CR0_ET | CR0_PE;
    s->sregs.cr3 = 0x1000;
    s->sregs.cr4 = CR4_VME;
    s->sregs.cs = SEGMENT(3, .dpl = 3, .selector = 0x1234, .base = 0x12340);
    s->sregs.ss = SEGMENT(3, .dpl = 3, .selector = 0xffff, .base = 0xffff0);
    set_data_segments(s, SEGMENT(3, .dpl = 3));
    s->sregs.tr = (struct kvm_segment) {
        .type = 11, .present = 1, .selector = 0x28, .limit = 0x2067,
        .base = 0xc0100000,
    };
}

static void protected16(X86KVMState *s)
{
    real_mode(s);
    s->sregs.cr0 = CR0_ET | CR0_PE;
    s->sregs.cs = SEGMENT(9, .selector = 8, .base = 0x10000);
    s->sregs.ss = SEGMENT(7, .selector = 0x10, .limit = 0xfff);
    set_data_segments(s, SEGMENT(1, .selector = 0x18, .dpl = 1));
    s->sregs.tr = (struct kvm_segment) {
        .type = 3, .present = 1, .selector = 0x20, .limit = 0x2b,
    };
    s->sregs.ldt = (struct kvm_segment) {
        .type = 2, .present = 1, .selector = 0x28, .limit = 0x7, .avl = 1,
    };
}

static void protected32(X86KVMState *s)
{
    real_mode(s);
    s->sregs.cr0 = CR0_ET | CR0_PE;
    s->regs.rip = 0xfffffff0;
    s->sregs.cs = SEGMENT(11, .selector = 8, FLAT, .db = 1);
    s->sregs.ss = SEGMENT(3, .selector = 0x10, FLAT, .db = 1);
    set_data_segments(s, SEGMENT(3, .selector = 0x10, FLAT, .db = 1));
}

/* At CPL 1, with limits that are either form's smallest and greatest. */
static void protected_cpl1(X86KVMState *s)
{
    protected32(s);
    s->sregs.cs.selector = 9;
    s->sregs.cs.dpl = 1;
    s->sregs.ss = SEGMENT(3, .selector = 0x11, .limit = 0xfff, .g = 1,
                          .dpl = 1);
    s->sregs.ds.limit = 0xfffff;
    s->sregs.ds.g = 0;
    s->sregs.es.limit = 0;
    s->sregs.es.g = 0;
}

static void paging32(X86KVMState *s)
{
    protected32(s);
    s->sregs.cr0 |= CR0_PG | CR0_WP;
    s->sregs.cr3 = 0xfffff000;
    s->regs.rflags |= IF;
}

static void pae(X86KVMState *s)
{
    paging32(s);
    s->have |= X86_KVM_PDPTRS;
    s->sregs.cr4 = CR4_PAE;
    s->sregs.flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
    s->sregs.pdptrs[0] = 0x12345e19;
    s->sregs.pdptrs[1] = ~1ULL;         /* not present */
    s->sregs.pdptrs[3] = 0xfffffff001;
}

static void long_mode(X86KVMState *s)
{
    real_mode(s);
    s->regs.rip = 0xffffffff81000000;
    s->regs.rflags |= IF;
    s->sregs.cr0 = CR0_PG | CR0_WP | CR0_NE | CR0_ET | CR0_MP | CR0_PE;
    s->sregs.cr3 = 0x1234567005;
    s->sregs.cr4 = CR4_PAE | CR4_PCIDE | CR4_CET;
    s->sregs.cr8 = 15;
    s->sregs.efer = EFER_LME | EFER_LMA | 0x801;
    s->sregs.apic_base = 0xfee00d00;
    s->sregs.cs = SEGMENT(11, .selector = 0x10, FLAT, .l = 1);
    s->sregs.ss = SEGMENT(3, .selector = 0x18, FLAT, .db = 1);
    set_data_segments(s, (struct kvm_segment) { .unusable = 1 });
    s->sregs.gs.base = 0xffff888000000000;
    s->sregs.tr = (struct kvm_segment) {
        .type = 11, .present = 1, .selector = 0x40, .limit = 0x4087,
        .base = 0xfffffe0000003000,
    };
    s->sregs.ldt = (struct kvm_segment) { .unusable = 1 };
    s->sregs.gdt.base = 0xfffffe0000001000;
    s->sregs.idt.base = 0xfffffe0000000000;
    s->xcrs.xcrs[0].value = 0x600ff;
    s->xsave.region[512 / 4] = 7;
}

static void null_ss(X86KVMState *s)
{
    long_mode(s);
    s->sregs.ss = (struct kvm_segment) { .unusable = 1 };
}

/* As TCG leaves it: without the bits of a data segment, but with the CPL. */
static void null_ss_cpl1(X86KVMState *s)
{
    long_mode(s);
    s->sregs.cs.dpl = 1;
    s->sregs.ss = (struct kvm_segment) { .unusable = 1, .dpl = 1 };
}

static void long_mode_user(X86KVMState *s)
{
    long_mode(s);
    s->regs.rip = 0x7fffffffffff;
    s->sregs.cs.selector = 0x33;
    s->sregs.cs.dpl = 3;
    s->sregs.ss.selector = 0x2b;
    s->sregs.ss.dpl = 3;
    s->sregs.fs.base = 0x7fff12345678;
}

/* The address after the last one of the lower half. */
static void rip_in_hole(X86KVMState *s)
{
    long_mode_user(s);
    s->regs.rip = 0x800000000000;
}

static void compatibility_mode(X86KVMState *s)
{
    long_mode_user(s);
    s->regs.rip = 0x8048000;
    s->sregs.cs.l = 0;
    s->sregs.cs.db = 1;
    s->sregs.cs.selector = 0x23;
    set_data_segments(s, SEGMENT(3, .selector = 0x2b, FLAT, .db = 1, .dpl = 3));
    s->sregs.gs = SEGMENT(3, .selector = 0x63, FLAT, .db = 1, .dpl = 3,
                          .base = 0xf7c00000);
}

static void conforming_code(X86KVMState *s)
{
    paging32(s);
    s->sregs.cs.type = 15;
    s->sregs.cs.selector = 0xb;
    s->sregs.ss.dpl = 3;
    s->sregs.ds = SEGMENT(11, .selector = 0x13, .dpl = 3);
}

static void unusable_ldt(X86KVMState *s)
{
    paging32(s);
    s->sregs.ldt = (struct kvm_segment) {
        .unusable = 1, .selector = 4, .base = 1ULL << 63, .limit = 0x12345678,
    };
}

/* As KVM's older user interface leaves an unusable segment. */
static void not_present(X86KVMState *s)
{
    paging32(s);
    s->sregs.gs = (struct kvm_segment) { .type = 8, .limit = 0x123456 };
    s->sregs.ldt = (struct kvm_segment) { .type = 9, .s = 1 };
}

static void halted(X86KVMState *s)
{
    long_mode(s);
    s->mp_state.mp_state = KVM_MP_STATE_HALTED;
}

static void init_received(X86KVMState *s)
{
    real_mode(s);
    s->mp_state.mp_state = KVM_MP_STATE_INIT_RECEIVED;
}

static void sti_shadow(X86KVMState *s)
{
    long_mode(s);
    s->events.interrupt.shadow = KVM_X86_SHADOW_INT_STI;
}

static void mov_ss_shadow(X86KVMState *s)
{
    real_mode(s);
    s->events.interrupt.shadow = KVM_X86_SHADOW_INT_MOV_SS;
}

/* kvm-amd's, which does not tell them apart. */
static void either_shadow(X86KVMState *s)
{
    real_mode(s);
    s->events.interrupt.shadow = KVM_X86_SHADOW_INT_MOV_SS |
                                 KVM_X86_SHADOW_INT_STI;
}

/* What is not said to be valid is not put. */
static void no_shadow(X86KVMState *s)
{
    sti_shadow(s);
    s->regs.rflags = 2 | TF;
    s->events.flags &= ~KVM_VCPUEVENT_VALID_SHADOW;
}

/* BTF: no single step is due after each instruction. */
static void branch_step_in_shadow(X86KVMState *s)
{
    sti_shadow(s);
    s->regs.rflags |= TF;
    s->msrs[DEBUGCTL].data = 2;
}

static void single_step(X86KVMState *s)
{
    v86(s);
    s->regs.rflags |= TF;
}

static void page_fault(X86KVMState *s)
{
    long_mode_user(s);
    s->events.exception.injected = 1;
    s->events.exception.nr = 14;
    s->events.exception.has_error_code = 1;
    s->events.exception.error_code = 0x15;
}

static void invalid_opcode(X86KVMState *s)
{
    v86(s);
    s->events.exception.injected = 1;
    s->events.exception.nr = 6;
}

/* #CP, whose error code depends on the processor. */
static void control_protection(X86KVMState *s)
{
    long_mode(s);
    s->events.exception.injected = 1;
    s->events.exception.nr = 21;
}

/* No error code in real mode. */
static void real_mode_fault(X86KVMState *s)
{
    real_mode(s);
    s->events.exception.injected = 1;
    s->events.exception.nr = 13;
}

/* KVM looks at its error code when it begins to inject it. */
static void pending_fault(X86KVMState *s)
{
    real_mode(s);
    s->events.exception.pending = 1;
    s->events.exception.injected = 1;
    s->events.exception.nr = 13;
    s->events.exception.has_error_code = 1;
}

static void debug_while_halted(X86KVMState *s)
{
    halted(s);
    s->events.exception.injected = 1;
    s->events.exception.nr = 1;
}

static void nmi(X86KVMState *s)
{
    long_mode(s);
    s->events.nmi.injected = 1;
    s->events.nmi.pending = 1;
}

static void masked_nmi(X86KVMState *s)
{
    mov_ss_shadow(s);
    s->events.nmi.pending = 1;
    s->events.nmi.masked = 1;
}

static void interrupt(X86KVMState *s)
{
    halted(s);
    s->events.interrupt.injected = 1;
    s->events.interrupt.nr = 0xec;
}

static void software_interrupt(X86KVMState *s)
{
    real_mode(s);
    s->events.interrupt.injected = 1;
    s->events.interrupt.nr = 0x13;
    s->events.interrupt.soft = 1;
}

static void smm(X86KVMState *s)
{
    unreal_mode(s);
    s->sregs.cs.base = 0x30000;
    s->sregs.cs.selector = 0x3000;
    s->events.smi.smm = 1;
}

typedef struct X86State {
    const char *name;
    void (*make)(X86KVMState *s);
} X86State;

#define STATE(f) { #f, f }

static const X86State x86_good_states[] = {
    STATE(real_mode), STATE(real_mode_selectors), STATE(unreal_mode),
    STATE(protected_before_jump), STATE(data_in_cs), STATE(v86),
    STATE(protected16), STATE(protected32), STATE(protected_cpl1),
    STATE(paging32), STATE(pae), STATE(long_mode), STATE(null_ss),
    STATE(null_ss_cpl1), STATE(long_mode_user), STATE(rip_in_hole),
    STATE(compatibility_mode), STATE(conforming_code), STATE(unusable_ldt),
    STATE(not_present), STATE(halted), STATE(init_received), STATE(sti_shadow),
    STATE(mov_ss_shadow), STATE(either_shadow), STATE(no_shadow),
    STATE(branch_step_in_shadow), STATE(single_step), STATE(page_fault),
    STATE(invalid_opcode), STATE(control_protection), STATE(real_mode_fault),
    STATE(pending_fault), STATE(debug_while_halted), STATE(nmi),
    STATE(masked_nmi), STATE(interrupt), STATE(software_interrupt), STATE(smm),
};

#endif
