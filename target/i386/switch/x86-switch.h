/*
 * x86's part of the accelerator switch
 *
 * Unless a comment says otherwise, all functions are called on the main
 * loop with the BQL held and all vCPUs paused, so that a vCPU's state may be
 * read and written, and its KVM ioctls issued, from there.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TARGET_I386_X86_SWITCH_H
#define TARGET_I386_X86_SWITCH_H

#include "cpu.h"
#include "hw/i386/apic_internal.h"
#include "accel/switch/arch.h"
#include "accel/switch/selftest/selftest.h"
#include "accel/switch/switch.h"
#include "switch/host-tsc.h"
#include "switch/kvm/vcpu.h"

/*
 * In interrupt_request while the vCPU is in TCG: KVM had an interrupt or
 * NMI in delivery, and TCG has not delivered it yet.  The vector is in
 * env->interrupt_injected, the NMI in env->nmi_injected.
 */
#define CPU_INTERRUPT_INJECTED CPU_INTERRUPT_TGT_EXT_0

/* What a switch needs of a vCPU besides CPUX86State. */
typedef struct X86SwitchCPU {
    /*
     * Guest TSC minus host TSC, in ticks; if @tsc_by_clock, guest TSC minus
     * the host's CLOCK_MONOTONIC_RAW in ticks.
     */
    int64_t tsc_offset;
    bool tsc_by_clock;
    uint32_t tsc_khz;           /* as KVM was told; a stream's may differ */
    bool has_tsc_offset_attr;
    /* KVM was given the offset; since then only the guest has set the TSC. */
    bool tsc_offset_given;
    /* Lower bound of the TSC in TCG: the guest may have read this in KVM. */
    uint64_t tsc_least;

    /* What CPUID answers in TCG: KVM's table, less what TCG lacks; constant. */
    struct kvm_cpuid2 *cpuid;
    uint32_t lapic_version;     /* KVM's register; constant */
    bool has_feature_control;   /* KVM has the MSR; constant */

    /* Reset values of the MSRs that QEMU does not take at an export. */
    X86KVMState *other_msrs;
    bool taking_msrs;

    /* Between export and convert. */
    bool interrupt_shadow;
    uint32_t lapic_tmcct;       /* the timer's current count, read last */
    int64_t lapic_settled_at;   /* after it was read first; get_clock() */
    int64_t lapic_read_at;      /* after it was read last; QEMU_CLOCK_VIRTUAL */
    bool lapic_timer_in_doubt;  /* it may not have fired though it is at 0 */
    bool lapic_timer_due;       /* a tick of it is missing in IRR */

    /* What KVM was given since x86_switch_forget_puts(). */
    X86KVMState put;

    /* Between convert and commit or restore, to KVM. */
    struct {
        CPUX86State env;
        uint32_t interrupt_request;
        int32_t exception_index;
        bool halted;
    } saved;
} X86SwitchCPU;

/* Of vCPU @cs; never NULL under -accel switch. */
X86SwitchCPU *x86_switch_cpu(CPUState *cs);

static inline APICCommonState *x86_switch_lapic(X86CPU *cpu)
{
    return APIC_COMMON(cpu->apic_state);
}

/* convert.c: one vCPU's registers */
void x86_switch_convert_to_tcg(X86CPU *cpu, X86SwitchCPU *sc);
void x86_switch_convert_to_kvm(X86CPU *cpu, X86SwitchCPU *sc);

/*
 * kvm/export.c: whether the PDPTEs in memory at @cr3 are other ones than the
 * four that the vCPU has loaded, @held: TCG would use memory's (hazard C11)
 */
bool x86_switch_pdptes_differ(CPUState *cs, uint64_t cr3,
                              const uint64_t *held);

/* kvm/lapic.c */

/* Called by the vCPU's thread once, before the guest runs */
bool x86_switch_init_lapic(CPUState *cs, X86SwitchCPU *sc, Error **errp);
/*
 * Have IRR show all ticks of the LAPIC's timer up to the state that @page
 * returns.  Comes before anything else is read of the vCPU.  Drops the BQL for
 * a moment.  Returns 0 or a negative errno.
 */
int x86_switch_settle_lapic_timer(CPUState *cs, X86SwitchCPU *sc,
                                  struct kvm_lapic_state *page);
/*
 * Then: read the LAPIC's current count, which QEMU's own reading leaves out.
 * Returns 0 or a negative errno.
 */
int x86_switch_export_lapic(X86CPU *cpu, X86SwitchCPU *sc);
void x86_switch_lapic_to_tcg(X86CPU *cpu, X86SwitchCPU *sc);
/* Returns 0 or a negative errno. */
int x86_switch_import_lapic(X86CPU *cpu);

/* kvm/settle.c */

/*
 * Have KVM put a tick of the LAPIC's timer that it keeps into IRR; the vCPU
 * executes no instruction.  @was_runnable: something has woken the vCPU.  Drops
 * the BQL for a moment.  Returns 0 or a negative errno.
 */
int x86_switch_take_lapic_timer(CPUState *cs, bool *was_runnable);
/*
 * Where KVM has the TSC stand still while the vCPU is not in the guest: have
 * KVM set it forward as at the vCPU's next entry, and return the offset then.
 * Nothing else of the vCPU changes.  Drops the BQL for a moment.  Returns 0 or
 * a negative errno.
 */
int x86_switch_catch_up_tsc(CPUState *cs, int64_t *offset);

/* kvm/msrs.c */

/* Have @s name MSR @index, if it can be read and is not there yet. */
void x86_kvm_add_msr(CPUState *cs, X86KVMState *s, uint32_t index);
/* Have @s name all MSRs that this KVM lists.  0 or a negative errno. */
int x86_kvm_add_listed_msrs(CPUState *cs, X86KVMState *s);
/* Called by the vCPU's thread once, before the guest runs */
bool x86_switch_init_msrs(CPUState *cs, X86SwitchCPU *sc, Error **errp);
/* QEMU has read the MSRs in @taken into CPUX86State. */
void x86_switch_took_msrs(X86SwitchCPU *sc, const struct kvm_msrs *taken);
/* Whether QEMU reads MSR @index at an export, and so puts it at an import. */
bool x86_switch_takes_msr(CPUState *cs, uint32_t index);
/* Before the first vCPU: have KVM make vCPUs without a PMU, as TCG has none. */
bool x86_switch_init_pmu(Error **errp);
/* Have a machine reset restore the MSRs that QEMU does not take. */
void x86_switch_init_reset_msrs(void);
/* At an export: refuse if the guest has set an MSR that QEMU does not take. */
bool x86_switch_check_msrs(CPUState *cs, X86SwitchCPU *sc, Error **errp);

/* kvm/read-back.c */
void x86_switch_forget_puts(X86SwitchCPU *sc);
/* Refuse a KVM that doesn't hold what it was given. */
bool x86_switch_read_back(CPUState *cs, Error **errp);

/* kvm/rules-check.c: refuse what hardware would refuse to run */
SwitchResult x86_switch_check_rules(CPUState *cs, Error **errp);

/* kvm/import.c */

/*
 * In TCG: take a pending INIT or SIPI, which has no place in KVM, and give all
 * vCPUs the VM's wall-clock MSR.
 */
void x86_switch_settle_tcg(void);

/* Have a state that was loaded into KVM put right when the machine starts. */
void x86_switch_init_load_kvm(void);

/* kvm/tsc.c */

/*
 * Read the offset out of KVM, or put it in, with one reading of @host for all
 * vCPUs.  0 or a negative errno.
 */
int x86_switch_export_tsc(CPUState *cs, X86SwitchCPU *sc);
int x86_switch_import_tsc(CPUState *cs, X86SwitchCPU *sc,
                          const X86HostTSC *host);
/* The TSC in @host to which the vCPU's offset is added. */
int64_t x86_switch_tsc_base_at(const X86SwitchCPU *sc, const X86HostTSC *host);
/* Read KVM's offset as it is. */
int x86_switch_get_tsc_offset(CPUState *cs, int64_t *offset);
/*
 * Whether KVM changes the offset by itself, as it does whenever it loads a
 * vCPU on a host whose TSC is not stable (hazard C13).
 */
bool x86_switch_tsc_offset_moves(CPUState *cs);
void x86_switch_init_tsc_load(void);
/* Give KVM a wrong offset: for selftest/poison.c. */
int x86_switch_poison_tsc(CPUState *cs);
/* The TSC in KVM is about to be set by something else than a switch. */
void x86_switch_forget_tsc(void);
/* The same, and it is a load into KVM. */
void x86_switch_tsc_load_begins(void);
/* Comes before the TSC is used: a load may have brought another one. */
void x86_switch_use_loaded_tsc(void);
/* At realize: refuse a frequency that is not the host's. */
bool x86_switch_check_tsc_khz(const CPUX86State *env, Error **errp);
/* Refuse a vCPU whose TSC KVM scales. */
bool x86_switch_check_tsc(CPUState *cs, Error **errp);
/* The rate of the host's TSC, in kHz; constant. */
uint32_t x86_switch_tsc_khz(void);
bool x86_switch_init_tsc(CPUState *cs, X86SwitchCPU *sc, Error **errp);

/* selftest/clocks.c: what goes on by itself during a round trip */
typedef struct X86Clocks {
    int64_t read_from;      /* between then and then; get_clock() */
    int64_t read_to;
    int64_t timer_left;     /* the LAPIC's, as its current count says; ns */
    int64_t timer_period;   /* ns; 0: one-shot */
    int timer_step;         /* of one count; ns */
    bool has_tsc;           /* one that must stay, that is */
    int64_t tsc_offset;     /* ticks */
} X86Clocks;

/* Comes before any clock is read. */
void x86_switch_clocks_begin(X86Clocks *c);
void x86_switch_clocks_take_kvm(X86Clocks *c,
                                const struct kvm_lapic_state *page);
void x86_switch_clocks_take_tcg(X86Clocks *c, CPUState *cs);
/* What is wrong, for the caller to free, or NULL. */
char *x86_switch_clocks_diff(const X86Clocks *before, const X86Clocks *after);

/*
 * selftest/poison.c: overwrite what KVM holds of vCPU @cs, with the MSRs in
 * @all, while TCG has the guest.  False and @errp set if KVM refuses.
 */
bool x86_switch_poison_kvm(CPUState *cs, const X86KVMState *all, Error **errp);

/* kvmclock.c */
void x86_switch_init_kvmclock(void);
/* In TCG: give every vCPU the VM's wall-clock MSR. */
void x86_switch_share_wall_clock(void);
/* Put what the guest has written to kvm-clock's MSRs.  0 or a negative errno */
int x86_switch_import_kvmclock(CPUState *cs);
/* The guest has come to TCG: take the clock's reference anew. */
void x86_switch_kvmclock_to_tcg(void);
bool x86_switch_kvmclock_wrmsr(CPUX86State *env, uint32_t msr, uint64_t value);
bool x86_switch_kvmclock_rdmsr(CPUX86State *env, uint32_t msr, uint64_t *value);

/* tcg/features.c: called by the vCPU's thread once */
void x86_switch_init_cpuid(CPUState *cs, X86SwitchCPU *sc);
/* At realize: refuse features asked for by name that KVM or TCG lacks. */
bool x86_switch_check_features(X86CPU *cpu, Error **errp);
/*
 * At a switch: refuse a guest whose registers show that it uses features that
 * its CPU model lacks.  It may under a KVM that shows its host's features, and
 * TCG does not have them (hazard D2).
 */
bool x86_switch_check_used_features(CPUState *cs, Error **errp);

#endif
