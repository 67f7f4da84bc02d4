/*
 * Traces of the instructions that the guest executes under KVM
 *
 * kvm-trace.c has the commands, the file and a trace's life; the target steps
 * its vCPUs and says what they have executed.
 *
 *   NONE --start--> RUNNING --the first reason to end--> ENDING --bh--> NONE
 *
 * In ENDING vCPUs record nothing more, and run at full speed.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef ACCEL_SWITCH_KVM_TRACE_H
#define ACCEL_SWITCH_KVM_TRACE_H

#include "hw/core/cpu.h"
#include "qapi/qapi-types-kvm-trace-target.h"

/*
 * The file: this header, then blocks, all little-endian.  docs/trace.rst
 * describes the records of a block.
 */
#define KVM_TRACE_MAGIC "VASTRACE"
#define KVM_TRACE_VERSION 1

typedef struct QEMU_PACKED KvmTraceHeader {
    char magic[8];
    uint16_t version;
    uint16_t header_bytes;      /* where the first block is */
    uint32_t vcpus;             /* of the machine */
    uint64_t max_instructions;
} KvmTraceHeader;

typedef struct QEMU_PACKED KvmTraceBlock {
    uint32_t bytes;             /* of the records that follow */
    uint32_t cpu_index;         /* KVM_TRACE_NO_CPU: the trace's last block */
} KvmTraceBlock;

#define KVM_TRACE_NO_CPU UINT32_MAX

/* The low bit of a record's first number is 0 for a step, else its kind */
#define KVM_TRACE_CODE  0
#define KVM_TRACE_GAP   1
#define KVM_TRACE_EVENT 2
#define KVM_TRACE_END   3

/* Why instructions between two records may be missing; numbers of the file */
typedef enum KvmTraceGap {
    KVM_TRACE_GAP_BEGIN = 0,    /* the vCPU's first record: none before */
    KVM_TRACE_GAP_HALT = 1,     /* HLT, and what woke the vCPU */
    KVM_TRACE_GAP_MOV_SS = 2,   /* one instruction, in the shadow of MOV SS */
    KVM_TRACE_GAP_GUEST_DEBUG = 3,  /* the guest debugs itself */
    KVM_TRACE_GAP_FILTER = 4,   /* what the filter does not want */
    KVM_TRACE_GAP_LOST = 5,     /* the vCPU is not where it was expected */
    KVM_TRACE_GAP_SMI = 6,      /* the vCPU has entered SMM */
} KvmTraceGap;

/* What one vCPU has recorded.  Its thread's. */
typedef struct KvmTraceBuffer {
    int cpu_index;
    GByteArray *bytes;
    uint64_t last_pc;           /* of this block's last step */
    bool filtered;              /* the last instruction was not recorded */
} KvmTraceBuffer;

/* A trace's settings; they do not change while it runs. */
typedef struct KvmTraceOptions {
    bool has_cr3, has_cpl;
    uint64_t cr3;
    uint8_t cpl;
    int interrupts_every;       /* steps from one look for them to the next */
} KvmTraceOptions;

/*
 * All below but the last five: the vCPU's thread, BQL held or not.  Once the
 * trace is to end, nothing is recorded.
 */

/* False once the trace is to end */
bool switch_trace_is_on(void);
const KvmTraceOptions *switch_trace_options(void);

/*
 * An instruction was executed, or has begun and raised an exception.  @pc:
 * linear.  @code: NULL if the file has this for @pc already; @mode: 2, 4 or 8
 * bytes of an address in that code segment.  The trace may end by this.
 */
void switch_trace_step(KvmTraceBuffer *b, uint64_t pc, const uint8_t *code,
                       int code_bytes, int mode);
/* The same, but the filter does not want it: it counts for the limit only. */
void switch_trace_filtered(KvmTraceBuffer *b);
/* @detail: depends on @why; see docs/trace.rst */
void switch_trace_gap(KvmTraceBuffer *b, KvmTraceGap why, uint64_t detail);
/* Interrupt or exception @vector was delivered. */
void switch_trace_event(KvmTraceBuffer *b, uint8_t vector);
/* Have the trace end; only the first reason counts. */
void switch_trace_end(KvmTraceEndReason reason);
void switch_trace_flush(KvmTraceBuffer *b);

/* Main thread, BQL held: once, at init; and does a trace run? */
void switch_init_kvm_trace(void);
bool switch_trace_runs(void);
/* If one runs it has ended after this.  Drops the BQL for a moment. */
void switch_trace_end_now(KvmTraceEndReason reason);
/*
 * Step @cpu, and write no file: the target notes where it comes to.  No trace
 * must run, and the guest be stopped.  Both drop the BQL for a moment.
 */
void switch_trace_begin_steps(CPUState *cpu);
void switch_trace_end_steps(CPUState *cpu);

#endif
