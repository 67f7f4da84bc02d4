/*
 * Rehearsals: a vCPU executes instructions in TCG that are then undone
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TARGET_I386_SWITCH_TCG_REHEARSE_H
#define TARGET_I386_SWITCH_TCG_REHEARSE_H

#include "switch/steps.h"

typedef struct Rehearsal Rehearsal;

struct Rehearsal {
    /* In the vCPU's thread, BQL held: executes them. */
    void (*run)(CPUState *cs, Rehearsal *r);
    unsigned max;
    SwitchSteps *steps;
    AccelCompareEnd end;
    bool partial;               /* it has ended inside of a step */
    bool stuck;                 /* there is no room for translations */
    CPUX86State **state;        /* gets the vCPU's, at the end */
};

/*
 * Call @r->run, and have the vCPU as it was.  False if TCG had no room for
 * translations.  Main thread, BQL held, which it drops.
 */
bool x86_rehearse(CPUState *cpu, Rehearsal *r);

/* The vCPU's thread, BQL held, for @run: */

/* Fill in @s: where the vCPU is. */
void x86_rehearse_look(CPUState *cs, X86Step *s);
/*
 * Execute one TB with @cflags, which hold the number of instructions at most.
 * It does not look at what else the vCPU is asked for: an INIT, a kick.
 * Returns why it could not be executed; ACCEL_COMPARE_END_COUNT if it was.
 */
AccelCompareEnd x86_rehearse_execute(CPUState *cs, Rehearsal *r,
                                     uint32_t cflags);

#endif
