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

/*
 * The LAPIC's timer on its way out of KVM, which does not show all of it
 *
 *   timer     count, settled and then read again   IRR or ISR    so it
 *   one-shot  not 0, not 0                         -             runs on
 *   one-shot  not 0, 0                             -             is due
 *   one-shot  0                                    has its tick  has fired
 *   one-shot  0, and that is certain               has not       was served
 *   one-shot  0, in doubt                          has not       is due
 *   periodic  not 0, and no higher, in less time   -             runs on
 *             than the first
 *   periodic  else                                 -             is due
 *
 * TCG fires a timer that is due.
 */
typedef struct X86LapicTimer {
    uint32_t count;             /* the current count, as it was read last */
    int64_t settled_at;         /* after it was read first; get_clock() */
    /* After it was read last; QEMU_CLOCK_VIRTUAL, as if it had never stopped */
    int64_t read_at;
    bool unsettled;             /* KVM may have a tick that IRR lacks */
    bool in_doubt;              /* it may not have fired though it is at 0 */
    bool due;                   /* a tick of it is missing in IRR */
} X86LapicTimer;

/* kvm/guest-debug.c: whose the registers are that KVM stops a vCPU by */
typedef struct X86GuestDebug {
    vaddr wanted[SWITCH_BREAKPOINTS];   /* of triggers */
    int count;
    bool changed;               /* KVM has to be told */
    bool lacks;                 /* registers */
    struct {
        enum { X86_DEBUG_FREE, X86_DEBUG_TRIGGER, X86_DEBUG_GUEST } owner;
        int guests;             /* which of the guest's it stands for */
    } slot[SWITCH_BREAKPOINTS];
    /* The guest's own, when KVM was told last */
    uint64_t dr[SWITCH_BREAKPOINTS];
    uint64_t dr7;
} X86GuestDebug;

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

    /* CPUID in TCG: KVM's table, masked by the CPU model's; constant. */
    struct kvm_cpuid2 *cpuid;
    uint32_t lapic_version;     /* KVM's register; constant */
    bool has_feature_control;   /* KVM has the MSR; constant */

    /* Reset values of the MSRs that QEMU does not take at an export. */
    X86KVMState *other_msrs;
    bool taking_msrs;

    /* What the export's ioctls showed last, and QEMU has no place for */
    struct {
        uint8_t interrupt_shadow;
        uint32_t lapic_count;   /* the LAPIC timer's current count, */
        int64_t lapic_read_at;  /* after which it was this late */
    } taken;
    struct kvm_lapic_state settled_lapic;
    bool tsc_moves;             /* KVM moves the TSC's offset */
    int settled;                /* 0 or a negative errno */

    /* Between export and convert. */
    bool interrupt_shadow;
    X86LapicTimer lapic_timer;

    /*
     * The machine is stopped, and KVM has the LAPIC with its timer off: when
     * it was started and fires next, by QEMU_CLOCK_VIRTUAL.  -1: it does not.
     */
    struct {
        bool kept;
        uint32_t initial_count;
        int64_t load_time, expiry;
    } stopped_timer;

    X86GuestDebug debug;        /* its thread's */

    bool putting;               /* QEMU puts the registers of an import */
    /* What KVM was given since x86_kvm_forget_puts(). */
    X86KVMState put;

    /* Between convert and commit or restore, to KVM. */
    struct {
        CPUX86State env;
        uint32_t interrupt_request;
        int32_t exception_index;
        bool halted;
    } saved;
} X86SwitchCPU;

/* Of vCPU @cs; never NULL under -accel switch.  Any thread. */
X86SwitchCPU *x86_switch_cpu(CPUState *cs);

static inline APICCommonState *x86_switch_lapic(X86CPU *cpu)
{
    return APIC_COMMON(cpu->apic_state);
}

/* convert.c: one vCPU's registers */
void x86_switch_convert_to_tcg(X86CPU *cpu, X86SwitchCPU *sc);
void x86_switch_convert_to_kvm(X86CPU *cpu, X86SwitchCPU *sc);

/*
 * The bits of CR3 that are the page table's address.  With PAE paging it is one
 * of 32 bytes, so that a page can have those of many processes (SDM vol. 3A,
 * "Use of CR3 with PAE Paging").
 */
static inline uint64_t x86_cr3_address(uint64_t cr4, uint64_t efer)
{
    return cr4 & CR4_PAE_MASK && !(efer & MSR_EFER_LMA) ? ~0x1full : ~0xfffull;
}

/* kvm/tsc.c: the rate of the host's TSC, in kHz; constant.  Any thread */
uint32_t x86_switch_tsc_khz(void);
/*
 * kvm/tsc.c: in TCG, by the vCPU's thread, or while it is paused: WRMSR to the
 * TSC, and to IA32_TSC_ADJUST; in ticks.  Returns by how much the TSC moved.
 */
int64_t x86_switch_write_tsc(CPUX86State *env, uint64_t value);
void x86_switch_move_tsc(CPUX86State *env, int64_t by);

/* kvmclock.c */
void x86_switch_init_kvmclock(void);
/* In TCG: give every vCPU the VM's wall-clock MSR. */
void x86_switch_share_wall_clock(void);
/* Put what the guest has written to kvm-clock's MSRs.  0 or a negative errno */
int x86_switch_import_kvmclock(CPUState *cs);
/* The guest has come to TCG: take the clock's reference anew. */
void x86_switch_kvmclock_to_tcg(void);
/* Called by the vCPU's thread, in TCG.  False: not an MSR of kvm-clock's. */
bool x86_switch_kvmclock_wrmsr(CPUX86State *env, uint32_t msr, uint64_t value);
bool x86_switch_kvmclock_rdmsr(CPUX86State *env, uint32_t msr, uint64_t *value);
/* Likewise: the guest has moved its TSC, by which its page counts. */
void x86_switch_kvmclock_follow_tsc(CPUX86State *env);

/* paravirtual.c: KVM's features for its guests, but for the clock */
/* The guest is in TCG, or stays there, and no step that can fail is left. */
void x86_switch_paravirtual_to_tcg(void);
/* By the vCPU's thread: it has turned steal time on. */
void x86_switch_clear_preempted(CPUX86State *env);
/* May KVM write to guest memory at this address?  Any thread */
bool x86_switch_is_ram(hwaddr address);

#endif
