/*
 * The switch accelerator, for the parts of QEMU that ask for a switch, look at
 * one, or stand in its way: the vCPU threads, the monitor, the guest's port,
 * the migration stream and the target
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef ACCEL_SWITCH_SWITCH_H
#define ACCEL_SWITCH_SWITCH_H

#include "qemu/accel.h"
#include "qemu/coroutine.h"
#include "qemu/queue.h"
#include "qapi/qapi-types-accel-switch-target.h"
#include "system/accel-ops.h"
#include "system/accel-switch.h"
#include "system/kvm_int.h"

#define TYPE_SWITCH_ACCEL ACCEL_CLASS_NAME("switch")
OBJECT_DECLARE_SIMPLE_TYPE(SwitchState, SWITCH_ACCEL)

struct SwitchState {
    AccelState parent_obj;

    KVMState *kvm;              /* children; both live as long as QEMU */
    AccelState *tcg;
    const AccelOpsClass *kvm_ops;
    const AccelOpsClass *tcg_ops;

    SwitchableAccel initial;
    OnKvmError on_kvm_error;
    AccelStreams streams;
    strList *features_lost;     /* see query-accel; constant */
    bool keep_translations;
    bool plugins;               /* may be loaded */
    bool read_back;
    bool check_rules;
    uint32_t wait;              /* seconds to retry a transient refusal */
    uint32_t max_windows_per_second;    /* by triggers; 0: any number */
#ifdef CONFIG_ACCEL_SWITCH_SELFTEST
    char *slow;                 /* a phase that takes 500 ms; or NULL */
    bool fail_ioctls;           /* have each ioctl of a switch fail in turn */
    uint64_t omit;              /* bit set of SwitchFixup */
#endif

    /* All below: BQL. */
    SwitchableAccel active;
    bool in_progress;
    int64_t give_up_at;         /* get_clock(); 0: the switch may take long */
    bool ending;                /* QEMU has left its main loop */
    bool drop_translations;     /* at the next switch to TCG */
    uint64_t switches;
    AccelSwitchInfo *last;      /* NULL before the first switch */
    uint32_t saved_active;      /* in a migration stream or snapshot */
    uint32_t saved_inverse;     /* its bits inverted, as a check */
};

/* The one instance, NULL without -accel switch. */
extern SwitchState *switch_state;

/* The operations of the accelerator that runs now. */
static inline const AccelOpsClass *switch_active_ops(void)
{
    return switch_state->active == SWITCHABLE_ACCEL_KVM
           ? switch_state->kvm_ops : switch_state->tcg_ops;
}

/* What has become of an attempt to switch, or of a step of one. */
typedef enum SwitchResult {
    SWITCH_OK,
    SWITCH_NOT_NOW,             /* transient: let the vCPUs run on */
    SWITCH_REFUSED,
} SwitchResult;

/* A switch that someone asks for */
typedef struct SwitchRequest {
    SwitchableAccel to;
    bool by_guest;              /* the guest itself caused it: fewer events */
    int64_t max_downtime_ns;    /* give it up if it takes longer; 0: never */
    const struct SwitchWindow *window;  /* to open in TCG; or NULL */
} SwitchRequest;

/**
 * accel_switch_to_co: move the guest to another accelerator, as @request says
 *
 * Waits for a guest that can't be switched just now (SWITCH_NOT_NOW; qapi's
 * switch-accel lists the states), for up to SwitchState.wait;
 * guest and main loop run on.  Coroutine; any context of the main thread, BQL
 * held.  Returns in the I/O handlers' AioContext.
 *
 * vCPUs may run or be stopped, and go on as they were.  Returns the switch's
 * figures, for the caller to free.  On failure the guest is where it was;
 * returns NULL and sets @errp.
 */
AccelSwitchInfo *coroutine_fn accel_switch_to_co(const SwitchRequest *request,
                                                 Error **errp);

/**
 * accel_switch_to_blocking: like accel_switch_to_co(), for callers outside of
 * coroutines
 *
 * Main loop, BQL held.  Blocks the main loop while the switch waits; vCPUs run
 * on.
 */
AccelSwitchInfo *accel_switch_to_blocking(const SwitchRequest *request,
                                          Error **errp);

/**
 * accel_switch_blockers: all that stands in the way of a switch now
 *
 * Main thread, BQL held.  Returns a list for the caller to free; NULL if there
 * is nothing.
 */
AccelBlockerList *accel_switch_blockers(void);

/* Something that may stand in the way of a switch. */
typedef struct SwitchBlocker {
    const char *id;             /* what QMP calls it */
    /*
     * One sentence without a full stop, to be freed; NULL while it does not
     * stand in the way.  Main thread, BQL held.
     */
    char *(*reason)(void);
    bool passes;                /* it ends while the guest runs */
    QSIMPLEQ_ENTRY(SwitchBlocker) next;
} SwitchBlocker;

/**
 * switch_add_blocker: have every switch ask @blocker, which is never freed
 *
 * While -accel switch is initialised.  The order of the calls is the order in
 * which users see the reasons.
 */
void switch_add_blocker(SwitchBlocker *blocker);

/*
 * cpus/debugger.c: a debugger's breakpoints leave the active accelerator before
 * a switch, and come to the one that is active afterwards.  Main thread, BQL
 * held, vCPUs paused; both drop the BQL for a moment.  The first sets @errp and
 * changes nothing unless the result is SWITCH_OK.
 */
SwitchResult switch_debugger_leave(Error **errp);
void switch_debugger_arrive(void);
/* Has it set any?  Any thread. */
bool switch_debugger_has_points(void);
/* So many breakpoint registers it needs under KVM.  BQL held. */
int switch_debugger_registers(void);

/* cpus/vcpu-thread.c: one thread a vCPU, for its whole life */
void switch_start_vcpu_thread(CPUState *cpu);

/*
 * The guest is about to be saved: have QEMU's copy of its vCPUs as complete as
 * a switch would.  Any thread, BQL held, dropped for a moment; guest stopped,
 * all vCPUs synchronized.
 */
void switch_before_save(void);

/*
 * Before any section of a stream is loaded, for each vCPU.  Main thread, BQL
 * held.
 */
void switch_load_starts(CPUState *cpu);

/**
 * switch_load_begin: the guest is about to be replaced by one that was saved
 * under @saved
 *
 * Switches to @saved, if need be.  Before any section is loaded whose form
 * depends on the accelerator.  Main thread, BQL held, guest stopped.  On
 * failure the guest, which the load may have reset, is where it was; sets
 * @errp.
 */
bool switch_load_begin(SwitchableAccel saved, Error **errp);

/**
 * switch_load_vcpus: guest memory was loaded, and no vCPU has KVM's state yet
 *
 * As switch_load_begin(), and after it.  0 or a negative errno.
 */
int switch_load_vcpus(void);

/**
 * switch_load_end: the load is over, or has failed
 *
 * Switches the guest to where the one was that it replaces.  If that is
 * refused, it stays under the accelerator that it was saved under, with a
 * warning and an event; if only for the moment, the switch is made soon after
 * the guest's start.  Main thread, BQL held, guest stopped, vCPUs' state in the
 * accelerator.
 */
void switch_load_end(void);

/* The accelerator of plain QEMU's streams.  False with streams=switch. */
bool switch_plain_accel(SwitchableAccel *accel);

/* migration/accel-switch.c: the stream's section, and its blocker.  At init. */
void switch_init_migration(void);
/*
 * The guest is under another accelerator now: can it be saved as streams= says?
 * Main thread, BQL held.
 */
void switch_moved_for_streams(void);

#endif
