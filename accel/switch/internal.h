/*
 * The switch accelerator, for its own files only
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef ACCEL_SWITCH_INTERNAL_H
#define ACCEL_SWITCH_INTERNAL_H

#include "qemu/accel.h"
#include "qemu/coroutine.h"
#include "qapi/qapi-types-accel-switch-target.h"
#include "system/accel-ops.h"
#include "system/accel-switch.h"
#include "system/kvm_int.h"

#define TYPE_SWITCH_ACCEL ACCEL_CLASS_NAME("switch")
OBJECT_DECLARE_SIMPLE_TYPE(SwitchState, SWITCH_ACCEL)

/*
 * Fix-ups that a test may leave out (x-omit=NAME[:NAME…]), to see that the
 * test which guards them fails without them.
 */
typedef enum SwitchFixup {
    SWITCH_FIXUP_TB_FLUSH,          /* F3: translated code */
    SWITCH_FIXUP_SHADOW_FLUSH,      /* F1, F2: hardware TLB, shadow pages */
    SWITCH_FIXUP_REINJECT,          /* C6: events in delivery */
    SWITCH_FIXUP_EXTINT,            /* C6: PIC vector given to KVM */
    SWITCH_FIXUP_LAPIC_EXPIRED,     /* E2: expired LAPIC timer */
    SWITCH_FIXUP_LAPIC_COUNT,       /* E2: LAPIC timer's current count */
    SWITCH_FIXUP_TSC_OFFSET,        /* C13: TSC goes on */
    SWITCH_FIXUP_TSC_ORDER,         /* C13: RDTSC waits for loads before it */
    SWITCH_FIXUP_XSTATE_BV,         /* C10: XSTATE_BV */
    SWITCH_FIXUP_X87_ORDER,         /* C1: x87 stack order */
    SWITCH_FIXUP_INTERRUPT_SHADOW,  /* C7: STI and MOV SS */
    SWITCH_FIXUP_DESCRIPTORS,       /* C4, C12: TR busy, Accessed bits */
    SWITCH_FIXUP_GUEST_VALUES,      /* C20: what TCG lets a guest write */
    SWITCH_FIXUP_COALESCED_MMIO,    /* E9: writes that KVM has kept */
    SWITCH_FIXUP_INTERRUPT_READY,   /* C6: what KVM_RUN said before a load */
    SWITCH_FIXUP_KVM_CLOCK,         /* E14: its MSRs, set in TCG */
    SWITCH_FIXUP_CPUID,             /* D2: KVM's table in TCG */
    SWITCH_FIXUP__MAX,
} SwitchFixup;

struct SwitchState {
    AccelState parent_obj;

    KVMState *kvm;              /* children; both live as long as QEMU */
    AccelState *tcg;
    const AccelOpsClass *kvm_ops;
    const AccelOpsClass *tcg_ops;

    SwitchableAccel initial;
    OnKvmError on_kvm_error;
    bool read_back;
    bool check_rules;
    bool fail_ioctls;           /* for tests */
    uint32_t wait;              /* for a guest that leaves SMM…; seconds */
    uint64_t omit;              /* bit set of SwitchFixup */

    /* All below: BQL. */
    SwitchableAccel active;
    bool in_progress;
    bool retryable;             /* the last refusal is transient */
    bool ending;                /* QEMU has left its main loop */
    int breakpoints;            /* a debugger's, of any kind */
    uint64_t switches;
    AccelSwitchInfo *last;      /* NULL before the first switch */
    uint32_t saved_active;      /* in a migration stream or snapshot */
};

/* The one instance, NULL without -accel switch. */
extern SwitchState *switch_state;

static inline bool switch_omits(SwitchFixup f)
{
    return switch_state->omit & (1ull << f);
}

/* The operations of the accelerator that runs now. */
static inline const AccelOpsClass *switch_active_ops(void)
{
    return switch_state->active == SWITCHABLE_ACCEL_KVM
           ? switch_state->kvm_ops : switch_state->tcg_ops;
}

/* AccelOpsClass.create_vcpu_thread: one thread a vCPU, for its whole life. */
void switch_start_vcpu_thread(CPUState *cpu);

/**
 * accel_switch_to: move the guest to accelerator @to
 *
 * Main loop, BQL held; vCPUs may run or be stopped, and go on as they were.
 * @by_guest: the guest itself caused it, and its events are limited.
 * On failure the guest is where it was, and @errp says why.  Returns a copy
 * of the switch's figures, for the caller to free, or NULL.
 */
AccelSwitchInfo *accel_switch_to(SwitchableAccel to, bool by_guest,
                                 Error **errp);

/**
 * accel_switch_to_co: the same, but wait for a guest that can't be switched
 * just now (SMM, A20, PDPTEs not loaded, RIP where no code can be), for up to
 * SwitchState.wait; guest and main loop run on.  Comes back in the I/O
 * handlers' context.
 */
AccelSwitchInfo *coroutine_fn accel_switch_to_co(SwitchableAccel to,
                                                 bool by_guest, Error **errp);

/**
 * accel_switch_to_blocking: like accel_switch_to_co(), for callers that are no
 * coroutine
 *
 * Blocks the main loop while the switch waits; vCPUs run on.
 */
AccelSwitchInfo *accel_switch_to_blocking(SwitchableAccel to, Error **errp);

/*
 * The same without asking switch_blockers(), for a guest that never ran; @to
 * is not where it is.  Nobody is told.
 */
AccelSwitchInfo *switch_transact(SwitchableAccel to, Error **errp);

/* A switch from where the guest is to @to that takes no time; to be freed. */
AccelSwitchInfo *switch_new_info(SwitchableAccel to);

/* The guest was switched: count it, keep a copy, send the event. */
void switch_announce(AccelSwitchInfo *info, bool by_guest);

/* Set @errp and return false if switch_blockers() has something. */
bool switch_check(Error **errp);

/* The switch itself: vCPUs are paused, and @to is not where the guest is. */
bool switch_move(SwitchableAccel to, AccelSwitchPhases *phases, Error **errp);

/*
 * Between the two, all of KVM's ioctls that are issued with the BQL held are
 * seen by ioctl.c.  If one failed, unwatch sets @errp, which names it,
 * and returns false.
 */
void switch_ioctl_watch(SwitchableAccel to);
bool switch_ioctl_unwatch(Error **errp);

/**
 * switch_blockers: what stands in the way of a switch now
 *
 * Returns a list of sentences, NULL when there is nothing.  BQL held.
 */
strList *switch_blockers(void);

/* Is there one that ends while the guest runs: a migration, a debugger's? */
bool switch_is_blocked_for_now(void);

/* Is there a device or setting that no switch can carry?  At start-up. */
bool switch_check_machine(MachineState *ms, Error **errp);

/*
 * Returns when all of the host kernel's timers that are due by now have fired,
 * on the host CPUs where thread @thread_id may run (some 0.1 ms for each).
 * False if that is not certain.  Any thread.
 */
bool switch_fire_hrtimers(int thread_id);

/*
 * The target's part.  Each is called on the main loop with the BQL held and
 * all vCPUs paused; a vCPU's registers are in CPUX86State in between.
 *
 *   to TCG: export, then convert, then [swap], then commit
 *   to KVM: save, convert, [globals], import; then commit, or restore
 */

/* Called during a switch after an ioctl of a vCPU, which may have failed. */
void switch_arch_saw_ioctl(CPUState *cpu, unsigned long type, const void *arg);
/* What KVM may have disliked: to be freed, or NULL for nothing known. */
char *switch_arch_explain_refusal(int cpu_index);

/* What the manuals call MSR @index; NULL if QEMU never puts it. */
const char *switch_arch_msr_name(uint32_t index);

/* Can these vCPUs be switched as they stand? */
typedef enum SwitchVerdict {
    SWITCH_POSSIBLE,
    SWITCH_NOT_NOW,             /* when they have run on (SMM, A20…) */
    SWITCH_REFUSED,
} SwitchVerdict;

/*
 * Ask that of all vCPUs.  They are paused; BQL held.  Sets @errp unless the
 * switch is possible.
 */
SwitchVerdict switch_arch_check(Error **errp);

/*
 * Called by a vCPU's thread, BQL held, when the vCPU has left KVM and is going
 * to pause: have KVM finish what it began.  Lets the BQL go.  Returns an EXCP_
 * code.
 */
int switch_arch_pausing_kvm(CPUState *cpu);
/*
 * Called by a vCPU's thread when KVM could not execute an instruction: have
 * the vCPU execute it once more when it next runs.  0 or a negative errno.
 */
int switch_arch_retry_instruction(CPUState *cpu);
/* Take every vCPU's registers, events, LAPIC and TSC out of KVM. */
bool switch_arch_export_kvm(Error **errp);
/* Take back an export that is not going to be used. */
void switch_arch_abandon_export(void);
/* Make TCG's form of the state out of KVM's.  Cannot fail. */
void switch_arch_convert_to_tcg(void);
/* After the swap: lines, timers, translated code.  Cannot fail. */
void switch_arch_commit_tcg(void);
/* Keep a copy of TCG's state, then make KVM's form out of it. */
void switch_arch_convert_to_kvm(void);
/* Put all into KVM; on failure switch_arch_restore_tcg() must follow. */
bool switch_arch_import_kvm(Error **errp);
void switch_arch_restore_tcg(void);
/* After the swap: timers, routes.  Cannot fail. */
void switch_arch_commit_kvm(void);

/* All that can be seen of the vCPUs, under the accelerator that runs. */
typedef struct SwitchSnapshot SwitchSnapshot;
SwitchSnapshot *switch_arch_take_snapshot(Error **errp);
void switch_arch_free_snapshot(SwitchSnapshot *snapshot);
/*
 * Overwrite KVM's copy of the vCPUs, while TCG has the guest.  False and @errp
 * set on failure: the copy is to be put anew in any case.
 */
bool switch_arch_poison_kvm(const SwitchSnapshot *before, Error **errp);
/*
 * False, and @errp names the field, if two of one accelerator differ.  What
 * may differ is taken out of both.
 */
bool switch_arch_compare_snapshots(SwitchSnapshot *before,
                                   SwitchSnapshot *after, Error **errp);

/*
 * The guest, in TCG, is about to be saved; it was loaded, its vCPUs' sections
 * still to come.  Any thread, BQL held, guest stopped.  0 or a negative errno.
 */
void switch_arch_pre_save_tcg(void);
void switch_arch_post_load_tcg(void);
int switch_arch_post_load_kvm(void);
/* A vCPU's registers were put into KVM at a reset or load: the rest of it. */
void switch_arch_put_kvm(CPUState *cpu);
/* Then, of each vCPU: KVM has been given what was loaded. */
void switch_arch_loaded_kvm(CPUState *cpu);

/* Called by a vCPU's thread once, after kvm_init_vcpu(), BQL held. */
bool switch_arch_init_vcpu(CPUState *cpu, Error **errp);
/* Called once, after both accelerators are initialised. */
bool switch_arch_init(MachineState *ms, Error **errp);

#endif
