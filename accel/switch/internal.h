/*
 * The switch accelerator, for the files of accel/switch/ alone
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef ACCEL_SWITCH_INTERNAL_H
#define ACCEL_SWITCH_INTERNAL_H

#include "accel/switch/arch.h"
#include "accel/switch/selftest/selftest.h"
#include "accel/switch/switch.h"

/* request.c */

/*
 * As accel_switch_to_co(), but at once or not at all: @info is set if the
 * result is SWITCH_OK, else @errp.  Main loop, BQL held.
 */
SwitchResult accel_switch_to(const SwitchRequest *request,
                             AccelSwitchInfo **info, Error **errp);

/* How long a switch waits for a guest, in ns */
int64_t switch_wait_ns(void);

/*
 * After an attempt with that @result: may the guest be switched later, and is
 * there time left until @deadline (get_clock())?
 */
bool switch_may_wait(SwitchResult result, int64_t deadline);

/* The guest was switched: count it, keep a copy, send the event. */
void switch_announce(AccelSwitchInfo *info, bool by_guest);

/* transaction.c */

/*
 * One attempt, which asks no blocker and sends no event.  @request must not be
 * for the active accelerator.  Threads, locks and results are those of
 * accel_switch_to().
 */
SwitchResult switch_transact(const SwitchRequest *request,
                             AccelSwitchInfo **done, Error **errp);

/*
 * May the switch that is under way take longer?  Before its point of no return.
 * Any thread that works for the switch.
 */
bool switch_is_in_time(void);

/* Figures of a switch to @to, all times 0; for the caller to free. */
AccelSwitchInfo *switch_new_info(SwitchableAccel to);

/*
 * The switch itself: vCPUs are paused, @to is not the active accelerator.
 * Main thread, BQL held.  Sets @errp unless the result is SWITCH_OK.
 */
SwitchResult switch_move(SwitchableAccel to, AccelSwitchPhases *phases,
                         Error **errp);

/* load.c */

/* Once, at init */
void switch_init_load(void);
/* Somebody has said where the guest is to run: it need not go elsewhere. */
void switch_load_overruled(void);

/* ioctl.c */

/* Once, at init */
void switch_init_ioctl(void);

/*
 * Between these two calls ioctl.c sees all KVM ioctls that are issued with the
 * BQL held.  If one failed, switch_ioctl_unwatch() returns false, and @errp
 * names the ioctl.
 */
void switch_ioctl_watch(SwitchableAccel to);
bool switch_ioctl_unwatch(Error **errp);

/* blockers.c */
void switch_init_blockers(void);
/* Set @errp and return false if accel_switch_blockers() has something. */
bool switch_check(Error **errp);
/* Is there a blocker that may end while the guest runs (migration, gdb)? */
bool switch_is_blocked_for_now(void);

/* hrtimers.c: once, at init */
void switch_init_hrtimers(void);

/* parallel.c: once, when the vCPUs were made; none is added later */
void switch_init_parallel(void);

/* devices.c: devices that no switch can carry */
void switch_init_devices(void);
/* At start-up: refuse a machine that has one. */
bool switch_check_devices(Error **errp);

#endif
