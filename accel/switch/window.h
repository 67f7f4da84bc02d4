/*
 * Windows, and the triggers that open them
 *
 * A window is a stay in TCG that ends by itself.  There is one at most.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef ACCEL_SWITCH_WINDOW_H
#define ACCEL_SWITCH_WINDOW_H

#include "qapi/error.h"
#include "accel/switch/switch.h"
#include "qapi/qapi-types-accel-window-target.h"

/* A window that is to be opened */
typedef struct SwitchWindow {
    const char *id;             /* its trigger's; NULL: a command opens it */
    const AccelWindow *spec;    /* NULL: without an end */
    /*
     * The vCPU that has hit the trigger, or NULL.  If @at_instruction, it
     * executes the instruction that it stands at before any interrupt; if
     * @at_breakpoint, that is where the trigger has its breakpoint.
     */
    CPUState *cpu;
    bool at_instruction;
    bool at_breakpoint;
} SwitchWindow;

/* The way of a vCPU to the function that it was called from */
typedef struct SwitchReturn {
    vaddr address;              /* linear, as all of them */
    vaddr sp;                   /* before the return */
    uint64_t page_table;
} SwitchReturn;

/* Sets @errp and returns false if no window can be like @spec, or NULL. */
bool switch_window_check(const AccelWindow *spec, bool by_trigger,
                         Error **errp);

/*
 * After a switch to TCG or KVM was made and before vCPUs run.  Main thread, BQL
 * held.  @stopped: when the vCPUs had stopped in TCG, by get_clock()
 */
void switch_window_begin(const SwitchWindow *window);
void switch_window_close(int64_t stopped);

/* Is one open?  BQL held. */
bool switch_window_is_open(void);

/*
 * A vCPU's thread, BQL held, @result is an EXCP_ code: after it has left TCG.
 * True if the vCPU has reached the window's end: it stops then until the switch
 * is made, or has to wait.
 */
bool switch_window_vcpu_exit(CPUState *cpu, int result);

/*
 * hold.c.  BQL held.  Why a vCPU is held: it has hit a trigger, has reached the
 * window's end, has met what a debugger waits for, or was not to run on when a
 * debugger let others run.  The last two end when the guest is started again.
 */
typedef enum SwitchHold {
    SWITCH_HOLD_HIT = 1,
    SWITCH_HOLD_END = 2,
    SWITCH_HOLD_DEBUGGER = 4,
    SWITCH_HOLD_STOPPED = 8,
} SwitchHold;

void switch_init_holds(MachineState *ms);
/* Its own thread, in an exit from the guest or in an instruction of it */
void switch_hold_vcpu(CPUState *cpu, SwitchHold why);
/* Its own thread, before it would run */
void switch_keep_held(CPUState *cpu);
bool switch_is_held(CPUState *cpu, SwitchHold why);
/* vCPUs that were not started with the guest stay so when all are resumed. */
void switch_hold_stopped_vcpus(void);
/* A set of reasons; cpu_resume() is the caller's. */
void switch_release_vcpu(CPUState *cpu, int why);
void switch_release_vcpus(int why);

/* Of a vCPU that is reset.  BQL held. */
void switch_window_reset_vcpu(CPUState *cpu);

/*
 * The guest has written @number to its port, from SWITCH_PORT_NUMBERS on.
 * vCPU @cpu's thread, BQL held.
 */
#define SWITCH_PORT_NUMBERS 16
void switch_window_port(CPUState *cpu, uint8_t number);
void switch_trigger_port(CPUState *cpu, uint8_t number);

/*
 * The breakpoints of the triggers: fills @address, returns how many there are,
 * SWITCH_BREAKPOINTS + 1 for too many.  BQL held.
 */
#define SWITCH_BREAKPOINTS 4
int switch_trigger_addresses(vaddr address[SWITCH_BREAKPOINTS]);

/*
 * vCPU @cpu is about to execute the instruction at @address, one of those.  Its
 * thread, BQL held, in KVM.  True if it is to stop, as a window is to be
 * opened; else it is to go on beyond the breakpoint.
 */
bool switch_trigger_breakpoint(CPUState *cpu, vaddr address);

/* May a trigger open a window?  Main thread, BQL held. */
bool switch_triggers_armed(void);

/* There are more breakpoints than registers: drop a trigger.  Any thread. */
void switch_trigger_drop_last(void);

/*
 * KVM can't execute an instruction of @cpu: is a window due?  Its thread, BQL
 * held.  Then, in the main thread: fills @window, if there is still a trigger;
 * and at the end, whether the switch was made or @refused for good.
 */
bool switch_trigger_kvm_error(CPUState *cpu);
bool switch_trigger_kvm_error_window(CPUState *cpu, SwitchWindow *window);
void switch_trigger_kvm_error_done(CPUState *cpu, bool refused);

/* Trigger @id has opened a window.  Main thread, BQL held. */
void switch_trigger_opened(const char *id);

/* A trigger whose windows name this plugin; NULL if there is none. */
const char *switch_trigger_of_plugin(const char *id);

#ifdef CONFIG_PLUGIN
/*
 * plugins.c.  Main thread, BQL held.  With vCPUs paused: the plugins of a
 * window, or of none (NULL), besides those that are there for good.
 */
void switch_plugins_for_window(const AccelWindow *spec);
/* Are they there? */
bool switch_plugins_check(const AccelWindow *spec, Error **errp);
void switch_init_plugins(void);
#else
static inline void switch_plugins_for_window(const AccelWindow *spec)
{
}
static inline bool switch_plugins_check(const AccelWindow *spec, Error **errp)
{
    if (spec && spec->plugins) {
        error_setg(errp, "this QEMU was built without plugins");
        return false;
    }
    return true;
}
static inline void switch_init_plugins(void)
{
}
#endif

/* composite.c: once, at init */
void switch_init_triggers(void);

#endif
