/*
 * What the guest sees of its CPU in TCG
 *
 * Unless a comment says otherwise: main loop, BQL held, all vCPUs paused.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TARGET_I386_SWITCH_TCG_TCG_H
#define TARGET_I386_SWITCH_TCG_TCG_H

#include "switch/x86-switch.h"

/*
 * feature-mask.c: x86_tcg_feature_mask() masks nothing.  BQL; set for a moment
 */
extern bool x86_tcg_feature_mask_is_off;

/* plain-features.c */

/*
 * At realize: with streams=plain-kvm or plain-tcg, refuse a CPU to which plain
 * QEMU would give features that this one lacks.
 */
bool x86_tcg_check_plain_features(X86CPU *cpu, Error **errp);
/*
 * With these, after KVM's instance_init: the defaults of a named model are
 * plain QEMU's.  @model: @cpu as it was before.
 */
void x86_tcg_plain_cpu_defaults(X86CPU *cpu, const X86CPU *model);

/*
 * plain-features.c: what -accel switch leaves out by its defaults; then, at
 * realize, switch_state->features_lost.  Main thread
 */
void x86_tcg_note_left_out(FeatureWord w, uint64_t features);
void x86_tcg_note_not_features(bool pmu, bool lmce);
void x86_tcg_note_lost_features(X86CPU *cpu);

/*
 * The features of a word that a guest can have in TCG here, and not in plain
 * QEMU's: those of a feature- patch, of msrs.c, and some that say something of
 * the processor and ask nothing of TCG.  Any thread
 */
uint64_t x86_tcg_taught_features(FeatureWord w);

/*
 * msrs.c: may the guest write @value to this MSR?  True of one that is not in
 * its table.  vCPU thread, in TCG
 */
bool x86_tcg_has_msr_value(CPUX86State *env, uint32_t index, uint64_t value);

/* lapic-deadline.c */
void x86_tcg_init_lapic_deadline(void);
/* WRMSR and RDMSR of IA32_TSC_DEADLINE: vCPU thread, in TCG */
void x86_tcg_write_deadline(CPUX86State *env, uint64_t value);
uint64_t x86_tcg_read_deadline(CPUX86State *env);
/* The guest has moved its TSC: a deadline comes earlier or later.  Likewise */
void x86_tcg_lapic_follow_tsc(CPUX86State *env);

/* features.c: called by the vCPU's thread once */
void x86_tcg_init_cpuid(CPUState *cs, X86SwitchCPU *sc);
/* At realize: refuse features asked for by name that KVM or TCG lacks. */
bool x86_tcg_check_features(X86CPU *cpu, Error **errp);
/*
 * At a switch: refuse a guest whose registers show that it uses features that
 * its CPU model lacks.  It may under a KVM that shows its host's features, and
 * TCG does not have them (hazard D2).
 */
bool x86_tcg_check_used_features(CPUState *cs, Error **errp);

#endif
