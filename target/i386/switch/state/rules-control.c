/*
 * Rules: control and debug registers, EFER, PDPTEs
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "rules-internal.h"

static bool has_pae_paging(const X86KVMState *s)
{
    return s->sregs.cr0 & CR0_PG && s->sregs.cr4 & CR4_PAE && !is_long_mode(s);
}

static bool cr0_upper_half(const X86KVMState *s, const X86StateLimits *l)
{
    return s->sregs.cr0 & UPPER_HALF;
}

static bool cr0_pg_needs_pe(const X86KVMState *s, const X86StateLimits *l)
{
    return s->sregs.cr0 & CR0_PG && !(s->sregs.cr0 & CR0_PE);
}

/* VM entry lets it pass, KVM_SET_SREGS does not since Linux 6.6. */
static bool cr0_nw_needs_cd(const X86KVMState *s, const X86StateLimits *l)
{
    return s->sregs.cr0 & CR0_NW && !(s->sregs.cr0 & CR0_CD);
}

static bool cr3_width(const X86KVMState *s, const X86StateLimits *l)
{
    uint64_t allowed = MAKE_64BIT_MASK(0, l->phys_bits) |
                       (l->lam ? MAKE_64BIT_MASK(61, 2) : 0);

    return s->sregs.cr3 & ~allowed;
}

static bool cr4_reserved(const X86KVMState *s, const X86StateLimits *l)
{
    return s->sregs.cr4 & l->cr4_reserved;
}

static bool cr4_pcide_needs_long_mode(const X86KVMState *s,
                                      const X86StateLimits *l)
{
    return s->sregs.cr4 & CR4_PCIDE && !is_long_mode(s);
}

static bool cr4_cet_needs_wp(const X86KVMState *s, const X86StateLimits *l)
{
    return s->sregs.cr4 & CR4_CET && !(s->sregs.cr0 & CR0_WP);
}

/* KVM ignores a CR8 like that. */
static bool cr8_reserved(const X86KVMState *s, const X86StateLimits *l)
{
    return s->sregs.cr8 > 15;
}

static bool efer_reserved(const X86KVMState *s, const X86StateLimits *l)
{
    return s->sregs.efer & l->efer_reserved;
}

static bool efer_lma(const X86KVMState *s, const X86StateLimits *l)
{
    bool lma = s->sregs.efer & EFER_LME && s->sregs.cr0 & CR0_PG;

    return is_long_mode(s) != lma;
}

static bool long_mode_needs_pae(const X86KVMState *s, const X86StateLimits *l)
{
    return is_long_mode(s) && !(s->sregs.cr4 & CR4_PAE);
}

/* EXTD without EN, or an address too wide, or a reserved bit. */
static bool apic_base(const X86KVMState *s, const X86StateLimits *l)
{
    uint64_t reserved = ~MAKE_64BIT_MASK(0, l->phys_bits) | 0x2ff;

    return s->sregs.apic_base & reserved ||
           extract64(s->sregs.apic_base, 10, 2) == 1;
}

static bool sregs_flags(const X86KVMState *s, const X86StateLimits *l)
{
    return s->sregs.flags & ~(uint64_t)KVM_SREGS2_FLAGS_PDPTRS_VALID;
}

static bool pdptes_need_pae_paging(const X86KVMState *s,
                                   const X86StateLimits *l)
{
    return !has_pae_paging(s);
}

static bool pdpte_reserved(const X86KVMState *s, const X86StateLimits *l)
{
    uint64_t reserved = ~MAKE_64BIT_MASK(0, l->phys_bits) |
                        MAKE_64BIT_MASK(1, 2) | MAKE_64BIT_MASK(5, 4);

    for (int i = 0; i < ARRAY_SIZE(s->sregs.pdptrs); i++) {
        if (s->sregs.pdptrs[i] & 1 && s->sregs.pdptrs[i] & reserved) {
            return has_pae_paging(s);
        }
    }
    return false;
}

static bool dr6_upper_half(const X86KVMState *s, const X86StateLimits *l)
{
    return s->debugregs.dr6 & UPPER_HALF;
}

static bool dr7_upper_half(const X86KVMState *s, const X86StateLimits *l)
{
    return s->debugregs.dr7 & UPPER_HALF;
}

static bool debugregs_flags(const X86KVMState *s, const X86StateLimits *l)
{
    return s->debugregs.flags;
}

#define VM_ENTRY \
    "SDM vol. 3C, Checks on Guest Control Registers, Debug Registers, and MSRs"
#define VMRUN "APM vol. 2, 15.5.1, Canonicalization and Consistency Checks"
#define SET_SREGS "kernel: KVM_SET_SREGS2"

const X86StateRule x86_state_control_rules[] = {
    { "cr0-upper-half", VMRUN, cr0_upper_half, X86_KVM_SREGS },
    { "cr0-pg-needs-pe", VM_ENTRY, cr0_pg_needs_pe, X86_KVM_SREGS },
    { "cr0-nw-needs-cd", VMRUN, cr0_nw_needs_cd, X86_KVM_SREGS },
    { "cr3-width", VM_ENTRY, cr3_width, X86_KVM_SREGS },
    { "cr4-reserved", VM_ENTRY, cr4_reserved, X86_KVM_SREGS },
    { "cr4-pcide-needs-long-mode", VM_ENTRY, cr4_pcide_needs_long_mode,
      X86_KVM_SREGS },
    { "cr4-cet-needs-wp", VM_ENTRY, cr4_cet_needs_wp, X86_KVM_SREGS },
    { "cr8-reserved", "SDM vol. 3A, Task Priority in IA-32e Mode",
      cr8_reserved, X86_KVM_SREGS },
    { "efer-reserved", VM_ENTRY, efer_reserved, X86_KVM_SREGS },
    { "efer-lma", VM_ENTRY, efer_lma, X86_KVM_SREGS },
    { "long-mode-needs-pae", VM_ENTRY, long_mode_needs_pae, X86_KVM_SREGS },
    { "apic-base", SET_SREGS, apic_base, X86_KVM_SREGS },
    { "sregs-flags", SET_SREGS, sregs_flags, X86_KVM_SREGS },
    { "pdptes-need-pae-paging", SET_SREGS, pdptes_need_pae_paging,
      X86_KVM_SREGS | X86_KVM_PDPTRS },
    { "pdpte-reserved",
      "SDM vol. 3C, Checks on Guest Page-Directory-Pointer-Table Entries",
      pdpte_reserved, X86_KVM_SREGS | X86_KVM_PDPTRS },
    { "dr6-upper-half", VMRUN, dr6_upper_half, X86_KVM_DEBUGREGS },
    { "dr7-upper-half", VM_ENTRY, dr7_upper_half, X86_KVM_DEBUGREGS },
    { "debugregs-flags", "kernel: KVM_SET_DEBUGREGS", debugregs_flags,
      X86_KVM_DEBUGREGS },
    { }
};
