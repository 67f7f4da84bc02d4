/*
 * Traces: the parts of the vCPU's side
 *
 * All functions: the vCPU's thread, without the BQL, between two KVM_RUN.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TARGET_I386_SWITCH_KVM_TRACE_H
#define TARGET_I386_SWITCH_KVM_TRACE_H

#include "accel/switch/kvm-trace.h"
#include "switch/steps.h"
#include "switch/kvm/kvm.h"

#define X86_TRACE_CODE_BYTES 15     /* of the longest instruction */
#define X86_TRACE_VECTORS 32        /* of exceptions */

#define X86_TRACE_XM 19             /* the SIMD floating-point exception */

/* trace-code.c */

/* How an instruction is to be stepped */
typedef enum X86TraceKind {
    X86_TRACE_PLAIN,
    X86_TRACE_CONTEXT,          /* may change what the vCPU is set up with */
    X86_TRACE_FAR,              /* the same, and loads CS */
    X86_TRACE_PUSHF,
    X86_TRACE_POPF,
    X86_TRACE_IRET,
    X86_TRACE_INT,              /* INT n, INT3, INTO */
    X86_TRACE_ICEBP,
    X86_TRACE_SYSCALL,
    X86_TRACE_SYSENTER,
    X86_TRACE_SYSRET,
    X86_TRACE_SYSEXIT,
    X86_TRACE_MOV_SS,
    X86_TRACE_HLT,
} X86TraceKind;

typedef struct X86TraceInsn {
    X86TraceKind kind;
    int bytes;                  /* its length; of PUSHF, INT, HLT, MOV_SS */
    int operand_bytes;          /* 2, 4 or 8 */
    uint8_t vector;             /* of INT */
    uint16_t selector;          /* of FAR, if it is in the code; else 0 */
    uint8_t may_raise[2];       /* likely exceptions besides #PF and #GP */
} X86TraceInsn;

/* @mode: 2, 4 or 8 bytes of an address */
X86TraceInsn x86_trace_decode(const uint8_t *code, int bytes, int mode);

/* trace-guest.c */

/* What is known of an instruction that the vCPU has been at */
typedef struct X86TraceCode {
    uint64_t pc;                /* linear */
    unsigned epoch;             /* of X86Trace when @page was found */
    hwaddr page[2];             /* where it is, and where the next page is */
    int mode;
    int bytes;
    uint8_t code[X86_TRACE_CODE_BYTES];
    X86TraceInsn insn;
    bool in_file;
} X86TraceCode;

/* What KVM is told before one KVM_RUN */
typedef struct X86TraceRun {
    uint32_t control;
    int count;
    struct {
        uint64_t address;
        int vector;             /* -1: where the instruction leads to */
    } stop[SWITCH_BREAKPOINTS];
} X86TraceRun;

typedef struct X86Trace {
    KvmTraceBuffer buffer;
    GHashTable *codes;          /* linear address: X86TraceCode */
    /* Page tables may have changed since what has another number. */
    unsigned epoch;

    /* What KVM says of the vCPU, as of the last x86_trace_look() */
    struct kvm_sregs sregs;
    struct kvm_regs regs;
    struct kvm_debugregs debugregs;
    struct kvm_vcpu_events events;
    uint64_t handler[X86_TRACE_VECTORS];
    uint32_t handlers_known;    /* a bit a vector */

    /*
     * trace.c.  @at is the instruction that the vCPU executes next, NULL if
     * that has to be found out.  While @awaited is not 0 the vCPU runs freely
     * until it comes there.
     */
    X86TraceCode *at;
    uint64_t awaited;
    int64_t awaited_since;      /* get_clock() */
    bool begun;
    bool single_steps;          /* KVM was told so last */
    bool paused;                /* the guest debugs itself */
    bool in_smm;
    int since_interrupts;       /* steps since they were let in */
    uint32_t last_exit;         /* of the last KVM_RUN; INTR for a signal */
    /* For a comparison: where the vCPU comes to, until there are so many */
    SwitchSteps *steps;
    unsigned until;
} X86Trace;

/* trace.c: the vCPU's, or NULL.  Its thread. */
X86Trace *x86_trace_of(CPUState *cs);

/* trace-steps.c: the vCPU has come to t->at, with these registers. */
void x86_trace_note_step(X86Trace *t, const struct kvm_regs *regs,
                         const struct kvm_sregs *sregs);

/* Read the vCPU's registers out of KVM.  False: KVM does not give them. */
bool x86_trace_look(CPUState *cs, X86Trace *t);
/* The linear address of the next instruction, and its mode */
uint64_t x86_trace_pc(const X86Trace *t);
int x86_trace_mode(const X86Trace *t);

/* What is at @pc now; the same pointer as long as the code is the same. */
X86TraceCode *x86_trace_code(CPUState *cs, X86Trace *t, uint64_t pc);

/* The linear address of the handler of @vector; 0 if there is none. */
uint64_t x86_trace_handler(CPUState *cs, X86Trace *t, uint8_t vector);
/*
 * Where a far CALL or JMP to @selector leads to if that is a task, or, with 0,
 * an IRET from a nested task; else 0
 */
uint64_t x86_trace_task_entry(CPUState *cs, const X86Trace *t,
                              uint16_t selector);
/* Where SYSCALL leads to */
uint64_t x86_trace_syscall_entry(CPUState *cs, const X86Trace *t);

/*
 * The flags that POPF, IRET or SYSRET is about to load, and where the last two
 * lead to as far as that is easily told, else 0
 */
uint64_t x86_trace_flags_to_load(CPUState *cs, const X86Trace *t,
                                 const X86TraceInsn *insn, uint64_t *target);
/* At the first instruction of @vector's handler: clear TF in what it pushed. */
void x86_trace_clear_pushed_tf(CPUState *cs, X86Trace *t, uint8_t vector);

#endif
