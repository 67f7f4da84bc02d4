/*
 * The rules that a vCPU's state must keep for a processor to enter the guest
 *
 * Intel's VM entry checks the guest's state (SDM vol. 3C, "Checks on the Guest
 * State Area"), AMD's VMRUN does (APM vol. 2, 15.5.1, "Canonicalization and
 * Consistency Checks"), and KVM refuses some more.  Here they are pure
 * functions over what KVM is given, so that what an Intel host would refuse is
 * seen on any host.
 *
 * The guest is taken to be an "unrestricted guest" with EPT.  A field is judged
 * as KVM would write it to the VMCS; where KVM makes a rule true by itself, the
 * rule's comment says so.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TARGET_I386_SWITCH_STATE_RULES_H
#define TARGET_I386_SWITCH_STATE_RULES_H

#include "state.h"

/* What the rules need to know of the host and of the guest's CPUID. */
typedef struct X86StateLimits {
    uint8_t phys_bits;          /* physical-address width of the guest */
    uint8_t linear_bits;        /* linear-address width of the CPU: 48 or 57 */
    bool lam;                   /* CR3 may have its LAM bits, 62:61 */
    /*
     * The host is AMD's: kvm-amd keeps NMIs masked while it injects one,
     * which kvm-intel never does and VM entry refuses.
     */
    bool nmi_stays_masked;
    /* Bits that must be zero. */
    uint64_t cr4_reserved;
    uint64_t efer_reserved;
    uint64_t xcr0_reserved;     /* never x87 and SSE */
    uint32_t mxcsr_reserved;
} X86StateLimits;

typedef struct X86StateRule {
    const char *name;
    const char *manual;         /* where it is written */
    /* Only for a state that has what the rule needs. */
    bool (*broken)(const X86KVMState *s, const X86StateLimits *l);
    unsigned needs;             /* bits of X86KVMState.have */
    /* In TCG a vCPU that runs on leaves a state that breaks the rule. */
    bool passes;
} X86StateRule;

/* The rule number @i, from 0; NULL after the last. */
const X86StateRule *x86_state_rule(size_t i);

/* False if @s does not have what @rule needs. */
bool x86_state_rule_is_broken(const X86StateRule *rule, const X86KVMState *s,
                              const X86StateLimits *l);

/* The first rule that @s breaks, or NULL. */
const X86StateRule *x86_state_broken_rule(const X86KVMState *s,
                                          const X86StateLimits *l);

#endif
