/*
 * A debugger's breakpoints, watchpoints and steps go along with a switch
 *
 * KVM has breakpoints as INT3s in the guest's memory, and as debug registers;
 * TCG has them in lists.  A switch takes them out of the one and puts them into
 * the other while all vCPUs are paused.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/queue.h"
#include "exec/gdbstub.h"
#include "gdbstub/enums.h"
#include "hw/core/cpu.h"
#include "system/hw_accel.h"
#include "system/runstate.h"
#include "accel/switch/arch.h"
#include "accel/switch/window.h"
#include "debugger.h"

typedef struct Point {
    int type;                   /* GDB_BREAKPOINT_… or GDB_WATCHPOINT_… */
    vaddr addr, len;
    /* Of a breakpoint in software: the page that it was set in, or -1 */
    hwaddr page;
    QTAILQ_ENTRY(Point) next;
} Point;

/* BQL; in the order in which they were set */
static QTAILQ_HEAD(, Point) points = QTAILQ_HEAD_INITIALIZER(points);
static int count;               /* of them; atomic, written with the BQL held */
/* KVM may have steps of vCPUs that are no longer stepped.  BQL. */
static bool kvm_has_steps;

static hwaddr page_of(CPUState *cpu, vaddr addr)
{
    cpu_synchronize_state(cpu);
    return cpu_get_phys_page_debug(cpu, addr & TARGET_PAGE_MASK);
}

void switch_debugger_inserted(CPUState *cpu, int type, vaddr addr, vaddr len)
{
    Point *p = g_new0(Point, 1);

    *p = (Point) {
        .type = type, .addr = addr, .len = len,
        .page = type == GDB_BREAKPOINT_SW ? page_of(cpu, addr) : -1,
    };
    QTAILQ_INSERT_TAIL(&points, p, next);
    qatomic_inc(&count);
}

static void remove_point(Point *p)
{
    QTAILQ_REMOVE(&points, p, next);
    g_free(p);
    qatomic_dec(&count);
}

void switch_debugger_removed(int type, vaddr addr, vaddr len)
{
    Point *p;

    QTAILQ_FOREACH(p, &points, next) {
        if (p->type == type && p->addr == addr && p->len == len) {
            remove_point(p);
            return;
        }
    }
}

void switch_debugger_removed_all(void)
{
    Point *p, *next;

    QTAILQ_FOREACH_SAFE(p, &points, next, next) {
        remove_point(p);
    }
}

bool switch_debugger_has_points(void)
{
    return qatomic_read(&count);
}

int switch_debugger_registers(void)
{
    int registers = 0;
    Point *p;

    QTAILQ_FOREACH(p, &points, next) {
        registers += p->type != GDB_BREAKPOINT_SW;
    }
    return registers;
}

/*
 * An INT3 is written and taken back by a vCPU's page tables.  A vCPU that has
 * @p's page at @p's address, or any page if it had none when @p was set; NULL
 * if there is no such vCPU.
 */
static CPUState *vcpu_with_page(const Point *p)
{
    CPUState *cpu;

    CPU_FOREACH(cpu) {
        hwaddr page = page_of(cpu, p->addr);

        if (page != -1 && (page == p->page || p->page == -1)) {
            return cpu;
        }
    }
    return NULL;
}

static SwitchResult no_page(const Point *p, Error **errp)
{
    error_setg(errp, "no vCPU has the page of the debugger's breakpoint at 0x%"
               VADDR_PRIx " in its page tables now", p->addr);
    return SWITCH_NOT_NOW;
}

/* Can KVM have them all? */
static SwitchResult check_for_kvm(Error **errp)
{
    vaddr triggers[SWITCH_BREAKPOINTS];
    int registers = switch_debugger_registers();
    Point *p;

    QTAILQ_FOREACH(p, &points, next) {
        switch (p->type) {
        case GDB_BREAKPOINT_SW:
            if (!vcpu_with_page(p)) {
                return no_page(p, errp);
            }
            break;
        case GDB_WATCHPOINT_READ:
            error_setg(errp, "KVM can't watch for reads alone, as the debugger"
                       " does at 0x%" VADDR_PRIx, p->addr);
            return SWITCH_REFUSED;
        case GDB_WATCHPOINT_WRITE:
        case GDB_WATCHPOINT_ACCESS:
            if (p->len > 8 || !is_power_of_2(p->len) || p->addr % p->len) {
                error_setg(errp, "the debugger watches %" VADDR_PRIu " bytes at"
                           " 0x%" VADDR_PRIx "; KVM can watch 1, 2, 4 or 8 that"
                           " are aligned", p->len, p->addr);
                return SWITCH_REFUSED;
            }
        }
    }
    if (registers) {
        registers += switch_trigger_addresses(triggers);
    }
    if (registers > SWITCH_BREAKPOINTS) {
        error_setg(errp, "the debugger and triggers need %d breakpoint"
                   " registers, and there are %d", registers,
                   SWITCH_BREAKPOINTS);
        return SWITCH_REFUSED;
    }
    return SWITCH_OK;
}

/* Put all back that are in front of @end (NULL: all). */
static void insert_points(const Point *end)
{
    const AccelOpsClass *ops = switch_active_ops();
    bool kvm = switch_state->active == SWITCHABLE_ACCEL_KVM;
    Point *p;

    for (p = QTAILQ_FIRST(&points); p != end; p = QTAILQ_NEXT(p, next)) {
        CPUState *cpu = first_cpu;
        int ret = -ENOENT;

        if (kvm && p->type == GDB_BREAKPOINT_SW) {
            cpu = vcpu_with_page(p);
        }
        if (cpu) {
            if (kvm && p->page == -1) {
                p->page = page_of(cpu, p->addr);
            }
            ret = ops->insert_breakpoint(cpu, p->type, p->addr, p->len);
        }
        if (ret < 0) {
            error_report("the debugger's breakpoint at 0x%" VADDR_PRIx " did"
                         " not go along with a switch: %s", p->addr,
                         strerror(-ret));
        }
    }
}

/* The vCPU has stopped, but the main loop has not yet told the debugger. */
static bool is_being_told(void)
{
    CPUState *cpu;
    bool held = false;

    CPU_FOREACH(cpu) {
        held |= switch_is_held(cpu, SWITCH_HOLD_DEBUGGER);
    }
    return held && runstate_is_running();
}

SwitchResult switch_debugger_leave(Error **errp)
{
    bool from_kvm = switch_state->active == SWITCHABLE_ACCEL_KVM;
    SwitchResult result;
    CPUState *cpu;
    Point *p;

    if (is_being_told()) {
        error_setg(errp, "a debugger is about to hear of a breakpoint");
        return SWITCH_NOT_NOW;
    }
    result = from_kvm ? SWITCH_OK : check_for_kvm(errp);
    if (result != SWITCH_OK) {
        return result;
    }
    QTAILQ_FOREACH(p, &points, next) {
        cpu = from_kvm && p->type == GDB_BREAKPOINT_SW
              ? vcpu_with_page(p) : first_cpu;
        if (!cpu) {
            insert_points(p);
            return no_page(p, errp);
        }
        switch_active_ops()->remove_breakpoint(cpu, p->type, p->addr, p->len);
    }
    CPU_FOREACH(cpu) {
        kvm_has_steps |= from_kvm && cpu->singlestep_enabled;
        /* It points to a watchpoint that is gone. */
        cpu->watchpoint_hit = NULL;
    }
    return SWITCH_OK;
}

void switch_debugger_arrive(void)
{
    const AccelOpsClass *ops = switch_active_ops();
    CPUState *cpu;

    insert_points(NULL);
    if (switch_state->active != SWITCHABLE_ACCEL_KVM) {
        return;
    }
    CPU_FOREACH(cpu) {
        kvm_has_steps |= cpu->singlestep_enabled;
    }
    if (!kvm_has_steps) {
        return;
    }
    kvm_has_steps = false;
    CPU_FOREACH(cpu) {
        kvm_has_steps |= cpu->singlestep_enabled;
        ops->update_guest_debug(cpu);
    }
}
