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
    uint8_t cpl;                /* TCG's steps alone have these two: */
    int16_t vector;             /* of an exception that led here, or -1 */
} X86Step;

struct SwitchSteps {
    GArray *list;               /* of X86Step; the last is yet to execute */
    bool shutdown;              /* In KVM: the last has shut the vCPU down */
    /* In TCG: after the last, in TCG's form */
    CPUX86State *end;
    /* In TCG, in whole translation blocks: likewise */
    CPUX86State *blocks_end;
    unsigned blocks;            /* how many there were */
    bool block_differs;         /* these say where, else all is as in @list: */
    unsigned block_from;        /* the step that the block began at */
    X86Step block_to;           /* where it has led to */
};

/*
 * The vCPU has come to @step.  Iterations of a string instruction are left out.
 * Returns how many there are now.  The vCPU's thread.
 */
unsigned x86_steps_add(SwitchSteps *steps, const X86Step *step);
/* How many behind the one @at, @most at most, are all different */
unsigned x86_steps_unlike(const SwitchSteps *steps, unsigned at, unsigned most);
/* The first of them from @from to @to that is the same as @step, or 0 */
unsigned x86_steps_find(const SwitchSteps *steps, unsigned from, unsigned to,
                        const X86Step *step);

#endif
