/*
 * What moves into and out of KVM
 *
 * Unless a comment says otherwise: main loop, BQL held, all vCPUs paused.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TARGET_I386_SWITCH_KVM_KVM_H
#define TARGET_I386_SWITCH_KVM_KVM_H

#include "switch/x86-switch.h"

/*
 * export.c: whether the PDPTEs in memory at @cr3 differ from the four that the
 * vCPU has loaded, @held.  TCG reads PDPTEs from memory (hazard C11).
 */
bool x86_kvm_pdptes_differ(CPUState *cs, uint64_t cr3,
                           const uint64_t *held);

/* lapic.c */

/* Called by the vCPU's thread once, before the guest runs */
bool x86_kvm_init_lapic(CPUState *cs, X86SwitchCPU *sc, Error **errp);
/*
 * Call it before anything else is read of the vCPU: sees whether the timer
 * needs the vCPU's thread.  Returns 0 or a negative errno.
 */
int x86_kvm_begin_lapic_timer(CPUState *cs, X86SwitchCPU *sc);
/*
 * The vCPU's thread: make KVM move each expired tick of the LAPIC's timer into
 * IRR.  Returns 0 or a negative errno.
 */
int x86_kvm_settle_lapic_timer(CPUState *cs, X86SwitchCPU *sc);
/* KVM has shown the LAPIC.  Keep the timer's count, which QEMU leaves out. */
void x86_kvm_took_lapic(X86SwitchCPU *sc, const struct kvm_lapic_state *page);
/* QEMU has read the LAPIC: what becomes of the timer? */
void x86_kvm_export_lapic(X86CPU *cpu, X86SwitchCPU *sc);
/* Then: give QEMU's form of the LAPIC the timer, or all that TCG needs. */
void x86_kvm_lapic_timer_to_qemu(X86CPU *cpu, const X86SwitchCPU *sc);
void x86_kvm_lapic_to_tcg(X86CPU *cpu, X86SwitchCPU *sc);
/* Returns 0 or a negative errno. */
int x86_kvm_import_lapic(X86CPU *cpu);
/*
 * KVM is given the LAPIC of a stopped machine, with its timer off: set that
 * when the machine starts.  @expiry: by QEMU_CLOCK_VIRTUAL, or -1
 */
void x86_kvm_keep_lapic_timer(const APICCommonState *s, X86SwitchCPU *sc,
                              uint32_t initial_count, int64_t expiry);
/* @page, as KVM has it, gets the timer that KVM is to get.  No other thread. */
void x86_kvm_fill_lapic_timer(const X86SwitchCPU *sc,
                              struct kvm_lapic_state *page);
void x86_kvm_init_lapic_load(void);

/* settle.c */

/*
 * After the first part of an export: what only a vCPU's own thread can do, for
 * all vCPUs that need it at once.  Drops the BQL for a moment.
 */
SwitchResult x86_kvm_settle(Error **errp);

/* The rest: the vCPU's thread.  Returns 0 or a negative errno. */

/*
 * Have the KVM_RUN in @enter find a signal pending: it does what it does on its
 * way into the guest, and goes back.  The vCPU's next KVM_RUN returns at once,
 * as the signal is still there.  Returns what @enter does, or a negative errno.
 */
int x86_kvm_enter_with_signal(CPUState *cs, int (*enter)(CPUState *cs));

/*
 * Have KVM put a tick of the LAPIC's timer that it keeps into IRR; the vCPU
 * executes no instruction.  @has_fired: unless NULL, have the host fire the
 * timer first if it is due; false if that is not certain.  @was_runnable:
 * something has woken the vCPU.
 */
int x86_kvm_take_lapic_timer(CPUState *cs, bool *has_fired,
                             bool *was_runnable);
/*
 * Where KVM has the TSC stand still while the vCPU is not in the guest: have
 * KVM set it forward as at the vCPU's next entry, and return the offset then.
 * Nothing else of the vCPU changes.
 */
int x86_kvm_catch_up_tsc(CPUState *cs, int64_t *offset);

/* msrs.c */

/* Add MSR @index to @s, unless it can't be read or is there already. */
void x86_kvm_add_msr(CPUState *cs, X86KVMState *s, uint32_t index);
/* Add all MSRs that this KVM lists to @s.  0 or a negative errno. */
int x86_kvm_add_listed_msrs(CPUState *cs, X86KVMState *s);
/* Called by the vCPU's thread once, before the guest runs */
bool x86_kvm_init_msrs(CPUState *cs, X86SwitchCPU *sc, Error **errp);
/* QEMU has read the MSRs in @taken into CPUX86State. */
void x86_kvm_took_msrs(X86SwitchCPU *sc, const struct kvm_msrs *taken);
/* Whether QEMU reads MSR @index at an export, and so puts it at an import. */
bool x86_kvm_takes_msr(CPUState *cs, uint32_t index);
/* Before the first vCPU: have KVM make vCPUs without a PMU, as TCG has none. */
bool x86_kvm_init_pmu(Error **errp);
/* Have a machine reset restore the MSRs that QEMU does not take. */
void x86_kvm_init_reset_msrs(void);
/* At an export: refuse if the guest has set an MSR that QEMU does not take. */
bool x86_kvm_check_msrs(CPUState *cs, X86SwitchCPU *sc, Error **errp);

/* read-back.c */
void x86_kvm_forget_puts(X86SwitchCPU *sc);
/* Refuse a KVM that doesn't hold what it was given. */
bool x86_kvm_read_back(CPUState *cs, Error **errp);

/* rules-check.c: refuse what hardware would refuse to run */
void x86_kvm_init_rules(void);
SwitchResult x86_kvm_check_rules(CPUState *cs, Error **errp);

/* import.c */

/*
 * In TCG: take a pending INIT or SIPI, which has no place in KVM, and give all
 * vCPUs the VM's wall-clock MSR.
 */
void x86_kvm_settle_tcg(void);

/* Have a state that was loaded into KVM put right when the machine starts. */
void x86_kvm_init_load_kvm(void);

/* shadow.c */
void x86_kvm_init_shadow(void);
/*
 * After switch_arch_await_kvm(): have KVM drop its shadow pages unless that was
 * done since the guest left KVM.  0 or a negative errno.
 */
int x86_kvm_import_shadow(void);
/*
 * Guest memory was loaded while KVM has the guest: have KVM drop its shadow
 * pages.  0 or a negative errno.
 */
int x86_kvm_load_shadow(void);

/* tsc.c */

/*
 * Read the offset out of KVM, or put it in, with one reading of @host for all
 * vCPUs.  0 or a negative errno.
 */
int x86_kvm_export_tsc(CPUState *cs, X86SwitchCPU *sc);
/* Then, where KVM moves the offset: the vCPU's thread */
int x86_kvm_settle_tsc(CPUState *cs, X86SwitchCPU *sc);
int x86_kvm_import_tsc(CPUState *cs, X86SwitchCPU *sc,
                       const X86HostTSC *host);
/* The TSC in @host to which the vCPU's offset is added. */
int64_t x86_kvm_tsc_base_at(const X86SwitchCPU *sc, const X86HostTSC *host);
/* Read KVM's offset as it is. */
int x86_kvm_get_tsc_offset(CPUState *cs, int64_t *offset);
/*
 * Whether KVM changes the offset by itself, as it does whenever it loads a
 * vCPU on a host whose TSC is not stable (hazard C13).
 */
bool x86_kvm_tsc_offset_moves(CPUState *cs);
void x86_kvm_init_tsc_load(void);
/* For selftest/poison.c: give KVM a wrong offset.  0 or a negative errno. */
int x86_kvm_poison_tsc(CPUState *cs);
/* The TSC in KVM is about to be set by something else than a switch. */
void x86_kvm_forget_tsc(void);
/* The same, and it is a load into KVM. */
void x86_kvm_tsc_load_begins(void);
/*
 * For how long QEMU_CLOCK_VIRTUAL has stood still with the machine, while
 * KVM's clocks ran on; in ns.  0: the machine runs, or has never run.
 */
int64_t x86_kvm_stopped_for(void);
/* Then, for each vCPU: put the TSC that was loaded. */
void x86_kvm_load_tsc(CPUState *cs);
/* Comes before the TSC is used: a load may have brought another one. */
void x86_kvm_use_loaded_tsc(void);
/* At realize: refuse a frequency that is not the host's. */
bool x86_kvm_check_tsc_khz(const CPUX86State *env, Error **errp);
/* Refuse a vCPU whose TSC KVM scales. */
bool x86_kvm_check_tsc(CPUState *cs, Error **errp);
/* Called by the vCPU's thread once, before the guest runs */
bool x86_kvm_init_tsc(CPUState *cs, X86SwitchCPU *sc, Error **errp);

#endif
