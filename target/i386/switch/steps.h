/*
 * The steps of a vCPU: where it has been, with which registers
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TARGET_I386_SWITCH_STEPS_H
#define TARGET_I386_SWITCH_STEPS_H

#include "cpu.h"
#include "accel/switch/compare.h"

#define X86_STEP_CODE_BYTES 15  /* of the longest instruction */

/* A vCPU that is about to execute an instruction */
typedef struct X86Step {
    uint64_t pc;                /* linear */
    uint64_t regs[16];          /* in the order of R_EAX and so on */
    uint64_t rflags;
    uint16_t selectors[6];      /* in the order of R_ES and so on */
    uint8_t mode;               /* 2, 4 or 8 bytes of an address */
    uint8_t bytes;              /* of @code; 0 if it can't be read */
    uint8_t code[X86_STEP_CODE_BYTES];
    /* In TCG alone: */
    uint8_t cpl;
    int16_t vector;             /* of an exception that led here, or -1 */
} X86Step;

struct SwitchSteps {
    GArray *list;               /* of X86Step; the last is yet to execute */
    bool shutdown;              /* in KVM: the last has shut the vCPU down */
    CPUX86State *end;           /* in TCG: the vCPU after the last */
    /* In TCG, in whole translation blocks; if 0 the rest says nothing: */
    unsigned blocks;
    CPUX86State *blocks_end;    /* the vCPU after the last */
    bool block_differs;         /* the last block does: */
    unsigned block_from;        /* the step that it began at */
    X86Step block_to;           /* where it has led to */
    AccelCompareEnd block_end;  /* why it has ended, if not COUNT */
};

/*
 * The vCPU has come to @step.  Iterations of a string instruction are left out.
 * Returns how many there are now.  The vCPU's thread.
 */
unsigned x86_steps_add(SwitchSteps *steps, const X86Step *step);
/* Any thread. */
const X86Step *x86_step_at(const SwitchSteps *steps, unsigned n);
/*
 * The first of them from @from to @to that is the same as @step but for these
 * flags, or 0.  Any thread.
 */
unsigned x86_steps_find(const SwitchSteps *steps, unsigned from, unsigned to,
                        const X86Step *step, uint64_t but_flags);

#endif
