/*
 * A switch as users ask for it: at once, or as soon as the guest can be
 * switched
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/clone-visitor.h"
#include "qapi/error.h"
#include "qapi/qapi-events-accel-switch-target.h"
#include "qapi/qapi-visit-accel-switch-target.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "block/aio.h"
#include "system/runstate.h"
#include "internal.h"

/* How long accel_switch_to_co() waits between two attempts. */
#define SWITCH_FIRST_PAUSE_NS   SCALE_MS
#define SWITCH_LAST_PAUSE_NS    (50 * SCALE_MS)

int64_t switch_wait_ns(void)
{
    return switch_state ? switch_state->wait * NANOSECONDS_PER_SECOND : 0;
}

void switch_announce(AccelSwitchInfo *info, bool by_guest)
{
    AccelSwitched event = { .has_by_guest = by_guest, .by_guest = by_guest };

    switch_state->switches++;
    qapi_free_AccelSwitchInfo(switch_state->last);
    switch_state->last = QAPI_CLONE(AccelSwitchInfo, info);
    *qapi_AccelSwitched_base(&event) = *info;
    qapi_event_send_accel_switched(&event);
}

SwitchResult accel_switch_to(const SwitchRequest *request,
                             AccelSwitchInfo **info, Error **errp)
{
    SwitchResult result;

    if (accel_switch_configured() && !switch_state->in_progress &&
        switch_state->active == request->to) {
        if (request->window) {
            error_setg(errp, "can't open a window: the guest is in TCG"
                       " already");
            return SWITCH_REFUSED;
        }
        *info = switch_new_info(request->to);
        switch_load_overruled();
        return SWITCH_OK;
    }
    if (!switch_check(errp)) {
        return SWITCH_REFUSED;
    }
    result = switch_transact(request, info, errp);
    if (result == SWITCH_OK) {
        switch_load_overruled();
        switch_announce(*info, request->by_guest);
    }
    return result;
}

bool switch_may_wait(SwitchResult result, int64_t deadline)
{
    return result == SWITCH_NOT_NOW && runstate_is_running() &&
           get_clock() < deadline;
}

static void coroutine_fn switch_sleep_co(int64_t ns)
{
    qemu_co_sleep_ns(QEMU_CLOCK_REALTIME, ns);
}

static void switch_sleep_blocking(int64_t ns)
{
    bql_unlock();
    g_usleep(ns / SCALE_US);
    bql_lock();
}

/*
 * Neither accelerator tells when a vCPU leaves SMM or unmasks A20, so this
 * retries.  While @sleep sleeps, anything but another switch may happen to the
 * guest: each attempt checks everything again.
 */
static AccelSwitchInfo *switch_when_possible(const SwitchRequest *request,
                                             void (*sleep)(int64_t ns),
                                             Error **errp)
{
    int64_t deadline = get_clock() + switch_wait_ns();
    int64_t pause = SWITCH_FIRST_PAUSE_NS;

    for (;;) {
        g_autoptr(Error) err = NULL;
        AccelSwitchInfo *info = NULL;
        SwitchResult result = accel_switch_to(request, &info, &err);

        if (result == SWITCH_OK) {
            return info;
        }
        if (!switch_may_wait(result, deadline)) {
            error_propagate(errp, g_steal_pointer(&err));
            return NULL;
        }
        switch_state->in_progress = true;
        sleep(pause);
        switch_state->in_progress = false;
        pause = MIN(2 * pause, SWITCH_LAST_PAUSE_NS);
    }
}

AccelSwitchInfo *coroutine_fn accel_switch_to_co(const SwitchRequest *request,
                                                 Error **errp)
{
    /*
     * A device that waits for its requests polls QEMU's main context, and runs
     * coroutines of it: in a vCPU's thread, or in the middle of a reset.  The
     * I/O handlers' context is polled by the main loop alone (hazard B7).
     */
    aio_co_schedule(iohandler_get_aio_context(), qemu_coroutine_self());
    qemu_coroutine_yield();
    return switch_when_possible(request, switch_sleep_co, errp);
}

AccelSwitchInfo *accel_switch_to_blocking(const SwitchRequest *request,
                                          Error **errp)
{
    return switch_when_possible(request, switch_sleep_blocking, errp);
}
