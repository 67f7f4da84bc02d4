/*
 * Canonical forms of a vCPU in TCG: states that mean the same compare equal
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "table.h"

/* The bits of a descriptor's second word that are neither base nor limit. */
#define DESC_ATTRIBUTES 0x00f0ff00

static void lapic_requests(X86CPU *cpu)
{
    env_cpu(&cpu->env)->interrupt_request &=
        ~(CPU_INTERRUPT_POLL | CPU_INTERRUPT_HARD);
}

static void stack_size_in_64_bit_mode(X86CPU *cpu)
{
    if (cpu->env.hflags & HF_CS64_MASK) {
        cpu->env.hflags |= HF_SS32_MASK;
    }
}

static void pdptes(X86CPU *cpu)
{
    memset(cpu->env.pdptrs, 0, sizeof(cpu->env.pdptrs));
    cpu->env.pdptrs_valid = false;
}

static void xstate_bv(X86CPU *cpu)
{
    cpu->env.xstate_bv = 0;
}

static void fields_of_kvm(X86CPU *cpu)
{
    cpu->env.tsc = 0;
    cpu->env.mp_state = 0;
}

static void error_code_without_an_event(X86CPU *cpu)
{
    if (env_cpu(&cpu->env)->exception_index < 0) {
        cpu->env.has_error_code = 0;
    }
}

static void aliases_of_debug_registers(X86CPU *cpu)
{
    cpu->env.dr[4] = cpu->env.dr[5] = 0;
}

static void segments(X86CPU *cpu)
{
    for (int i = 0; i < ARRAY_SIZE(cpu->env.segs); i++) {
        cpu->env.segs[i].flags &= DESC_ATTRIBUTES;
        cpu->env.segs[i].flags |= DESC_A_MASK;
    }
}

static void real_mode_segments(X86CPU *cpu)
{
    if (cpu->env.cr[0] & CR0_PE_MASK) {
        return;
    }
    for (int i = 0; i < ARRAY_SIZE(cpu->env.segs); i++) {
        SegmentCache *seg = &cpu->env.segs[i];

        seg->flags &= ~DESC_DPL_MASK;
        if (!(seg->flags & DESC_P_MASK)) {
            seg->flags = DESC_P_MASK | DESC_S_MASK | DESC_W_MASK | DESC_A_MASK;
            seg->limit = 0xffff;
        }
    }
}

static void null_ldt(X86CPU *cpu)
{
    if (!(cpu->env.ldt.selector & ~3) && !cpu->env.ldt.limit) {
        cpu->env.ldt.flags = 0;
    }
    cpu->env.ldt.flags &= DESC_ATTRIBUTES;
}

static void task_register(X86CPU *cpu)
{
    cpu->env.tr.flags &= DESC_ATTRIBUTES & ~DESC_TSS_BUSY_MASK;
    if (cpu->env.hflags & HF_LMA_MASK) {
        cpu->env.tr.flags |= 8 << DESC_TYPE_SHIFT;
    }
}

const X86TCGForm x86_state_tcg_forms[] = {
    { "CPUState.interrupt_request", lapic_requests,
      "POLL has the vCPU look at its LAPIC, from which HARD follows" },
    { "hflags", stack_size_in_64_bit_mode,
      "x86_update_hflags() sets SS32 in 64-bit mode, where it means nothing" },
    { "pdptrs, pdptrs_valid", pdptes,
      "TCG walks from memory: KVM's last copy means nothing to it (C11)" },
    { "xstate_bv", xstate_bv, "TCG keeps none (C10)" },
    { "tsc, mp_state", fields_of_kvm,
      "in TCG the offset to the host's TSC counts, and CPUState.halted" },
    { "has_error_code", error_code_without_an_event,
      "without an event it is left from the last one" },
    { "dr[4], dr[5]", aliases_of_debug_registers,
      "they are read as DR6 and DR7 are" },
    { "segs[].flags", segments,
      "the other bits repeat base and limit; TCG does not need the Accessed"
      " bit that hardware demands of the cache (C12)" },
    { "segs[] in real mode", real_mode_segments,
      "a segment that was null in protected mode is usable in real mode"
      " (C12)" },
    { "ldt", null_ldt,
      "a null selector means no LDT: what it left in the cache means nothing" },
    { "tr.flags", task_register,
      "it may be busy or not, and after INIT AMD's KVM has a 16-bit TSS in"
      " long mode (C4, C12)" },
};

const int x86_state_tcg_form_count = ARRAY_SIZE(x86_state_tcg_forms);

void x86_state_canonicalise_tcg(X86CPU *cpu)
{
    for (int i = 0; i < ARRAY_SIZE(x86_state_tcg_forms); i++) {
        x86_state_tcg_forms[i].apply(cpu);
    }
}
