/*
 * Traces of the guest under KVM: the commands, the file, and the trace's life
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-accel-window-target.h"
#include "qapi/qapi-commands-kvm-trace-target.h"
#include "qapi/qapi-events-kvm-trace-target.h"
#include "qemu/bswap.h"
#include "qemu/stats64.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "qemu/units.h"
#include "block/aio.h"
#include "hw/boards.h"
#include "system/cpus.h"
#include "system/kvm.h"
#include "system/runstate.h"
#include "system/runstate-action.h"
#include "internal.h"
#include "kvm-trace.h"
#include "window.h"

#define DEFAULT_INSTRUCTIONS 1000000
#define DEFAULT_INTERRUPTS_EVERY 256
#define MOST_INSTRUCTIONS    1000000000
#define BLOCK_BYTES          (64 * KiB)
/*
 * A vCPU that is not where it is expected, as after an exception that the trace
 * does not stop at, is looked for so often.
 */
#define KICK_MS              100

/* Written with the BQL held unless a comment says otherwise. */
static struct {
    enum { TRACE_NONE, TRACE_RUNNING, TRACE_ENDING } state; /* atomic */
    KvmTraceEndReason reason;   /* by whoever has set TRACE_ENDING */
    KvmTraceOptions options;
    char *file;
    int fd;                     /* -1: none, steps only */
    QemuMutex lock;             /* of writes to @fd */
    int error;                  /* errno of the first that failed; @lock */
    uint64_t max;
    bool stop;                  /* the guest, when it comes to @max */
    int cpu_index;              /* -1: all */
    /* Any vCPU's thread: */
    Stat64 instructions;        /* recorded */
    Stat64 stepped;             /* and those that the filter left out */
    Stat64 gaps;
    QEMUBH *end_bh;
    QEMUTimer *kick;
} trace;

bool switch_trace_is_on(void)
{
    return qatomic_read(&trace.state) == TRACE_RUNNING;
}

const KvmTraceOptions *switch_trace_options(void)
{
    return &trace.options;
}

bool switch_trace_runs(void)
{
    return qatomic_read(&trace.state) != TRACE_NONE;
}

void switch_trace_end(KvmTraceEndReason reason)
{
    if (qatomic_cmpxchg(&trace.state, TRACE_RUNNING, TRACE_ENDING) ==
        TRACE_RUNNING) {
        trace.reason = reason;
        qemu_bh_schedule(trace.end_bh);
    }
}

/* Records */

static bool is_recorded(void)
{
    return switch_trace_is_on() && trace.fd >= 0;
}

static void put_number(GByteArray *bytes, uint64_t n)
{
    uint8_t part[10];
    int count = 0;

    do {
        part[count++] = (n & 0x7f) | (n > 0x7f ? 0x80 : 0);
        n >>= 7;
    } while (n);
    g_byte_array_append(bytes, part, count);
}

static void put_kind(KvmTraceBuffer *b, int kind)
{
    put_number(b->bytes, kind << 1 | 1);
}

/* @fd is a file that others may read meanwhile: whole blocks only. */
static void write_block(uint32_t cpu_index, const GByteArray *bytes)
{
    const KvmTraceBlock head = {
        .bytes = cpu_to_le32(bytes->len), .cpu_index = cpu_to_le32(cpu_index),
    };

    QEMU_LOCK_GUARD(&trace.lock);
    if (!trace.error &&
        (qemu_write_full(trace.fd, &head, sizeof(head)) != sizeof(head) ||
         qemu_write_full(trace.fd, bytes->data, bytes->len) != bytes->len)) {
        trace.error = errno ?: EIO;
    }
}

void switch_trace_flush(KvmTraceBuffer *b)
{
    if (b->bytes->len) {
        write_block(b->cpu_index, b->bytes);
        g_byte_array_set_size(b->bytes, 0);
        b->last_pc = 0;
    }
    if (trace.error) {
        switch_trace_end(KVM_TRACE_END_REASON_FILE);
    }
}

static void count_step(void)
{
    stat64_add(&trace.stepped, 1);
    if (stat64_get(&trace.stepped) >= trace.max) {
        if (trace.stop && switch_trace_is_on()) {
            /* As vm_stop() in a vCPU's thread */
            qemu_system_vmstop_request_prepare();
            qemu_system_vmstop_request(RUN_STATE_PAUSED);
            cpu_stop_current();
        }
        switch_trace_end(KVM_TRACE_END_REASON_MAX_INSTRUCTIONS);
    }
}

void switch_trace_step(KvmTraceBuffer *b, uint64_t pc, const uint8_t *code,
                       int code_bytes, int mode)
{
    int64_t delta = pc - b->last_pc;

    if (!is_recorded()) {
        return;
    }
    if (code) {
        put_kind(b, KVM_TRACE_CODE);
        put_number(b->bytes, mode);
        put_number(b->bytes, code_bytes);
        g_byte_array_append(b->bytes, code, code_bytes);
    }
    /* Linear addresses have 57 bits at most: no bit of this is lost. */
    put_number(b->bytes, ((uint64_t)delta << 1 ^ delta >> 63) << 1);
    b->last_pc = pc;
    b->filtered = false;
    stat64_add(&trace.instructions, 1);
    count_step();
    if (b->bytes->len >= BLOCK_BYTES) {
        switch_trace_flush(b);
    }
}

void switch_trace_filtered(KvmTraceBuffer *b)
{
    if (!b->filtered) {
        switch_trace_gap(b, KVM_TRACE_GAP_FILTER, 0);
        b->filtered = true;
    }
    count_step();
}

void switch_trace_gap(KvmTraceBuffer *b, KvmTraceGap why, uint64_t detail)
{
    if (!is_recorded()) {
        return;
    }
    put_kind(b, KVM_TRACE_GAP);
    put_number(b->bytes, why);
    put_number(b->bytes, detail);
    if (why != KVM_TRACE_GAP_BEGIN) {
        stat64_add(&trace.gaps, 1);
    }
}

void switch_trace_event(KvmTraceBuffer *b, uint8_t vector)
{
    if (is_recorded()) {
        put_kind(b, KVM_TRACE_EVENT);
        put_number(b->bytes, vector);
    }
}

/* The trace's life */

static bool trace_is_of(CPUState *cpu)
{
    return trace.cpu_index < 0 || trace.cpu_index == cpu->cpu_index;
}

static void trace_kick(void *opaque)
{
    CPUState *cpu;

    CPU_FOREACH(cpu) {
        if (trace_is_of(cpu)) {
            qemu_cpu_kick(cpu);
        }
    }
    timer_mod(trace.kick, qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + KICK_MS);
}

/* Main thread, BQL held; vCPUs may run.  Drops the BQL for a moment. */
static void trace_finish(void *opaque)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    KvmTraceBuffer last = { .bytes = bytes };
    KvmTraceEndReason reason;
    CPUState *cpu;

    if (qatomic_read(&trace.state) != TRACE_ENDING) {
        return;                 /* kvm-trace-stop was faster */
    }
    CPU_FOREACH(cpu) {
        if (trace_is_of(cpu)) {
            switch_arch_trace(cpu, false);
        }
    }
    if (qatomic_read(&trace.state) != TRACE_ENDING) {
        return;
    }
    reason = trace.reason;
    timer_del(trace.kick);
    put_kind(&last, KVM_TRACE_END);
    put_number(bytes, reason);
    put_number(bytes, stat64_get(&trace.instructions));
    put_number(bytes, stat64_get(&trace.gaps));
    write_block(KVM_TRACE_NO_CPU, bytes);
    if (qemu_close(trace.fd) < 0 && !trace.error) {
        trace.error = errno;
    }
    if (trace.error) {
        reason = KVM_TRACE_END_REASON_FILE;
    }
    qatomic_set(&trace.state, TRACE_NONE);
    qapi_event_send_kvm_trace_end(reason, trace.file,
                                  stat64_get(&trace.instructions),
                                  stat64_get(&trace.gaps),
                                  trace.error ? strerror(trace.error) : NULL);
}

static bool a_vcpu_is_stepped(void)
{
    CPUState *cpu;

    CPU_FOREACH(cpu) {
        if (cpu->singlestep_enabled) {
            return true;
        }
    }
    return false;
}

static bool trace_check(bool has_cpu_index, uint32_t cpu_index,
                        const KvmTraceFilter *filter, uint64_t max,
                        Error **errp)
{
    if (!accel_switch_configured()) {
        error_setg(errp, "QEMU was started without -accel switch");
    } else if (switch_trace_runs()) {
        error_setg(errp, "a trace runs already, into %s", trace.file);
    } else if (!kvm_enabled()) {
        error_setg(errp, "the guest is in TCG; a trace is of KVM");
    } else if (switch_state->in_progress) {
        error_setg(errp, "a switch is in progress");
    } else if (switch_debugger_has_points()) {
        error_setg(errp, "a debugger has breakpoints set");
    } else if (a_vcpu_is_stepped()) {
        error_setg(errp, "a debugger steps the guest");
    } else if (switch_triggers_armed()) {
        error_setg(errp, "a trigger is armed; delete it first"
                   " (accel-trigger-del)");
    } else if (has_cpu_index && !qemu_get_cpu(cpu_index)) {
        error_setg(errp, "there is no vCPU %" PRIu32, cpu_index);
    } else if (filter && filter->has_cpl && filter->cpl > 3) {
        error_setg(errp, "cpl must be from 0 to 3");
    } else if (!max || max > MOST_INSTRUCTIONS) {
        error_setg(errp, "max-instructions must be from 1 to %d",
                   MOST_INSTRUCTIONS);
    } else {
        return switch_arch_can_trace(errp);
    }
    return false;
}

void qmp_kvm_trace_start(const char *file, bool has_cpu_index,
                         uint32_t cpu_index, KvmTraceFilter *filter,
                         bool has_max_instructions, uint64_t max_instructions,
                         bool has_interrupts_every, uint16_t interrupts_every,
                         bool has_stop, bool stop, Error **errp)
{
    uint64_t max = has_max_instructions ? max_instructions
                                        : DEFAULT_INSTRUCTIONS;
    KvmTraceHeader header = {
        .magic = KVM_TRACE_MAGIC, .version = cpu_to_le16(KVM_TRACE_VERSION),
        .header_bytes = cpu_to_le16(sizeof(header)),
        .max_instructions = cpu_to_le64(max),
    };
    CPUState *cpu;
    int fd;

    if (!trace_check(has_cpu_index, cpu_index, filter, max, errp)) {
        return;
    }
    if (has_interrupts_every && !interrupts_every) {
        error_setg(errp, "interrupts-every must be 1 at least");
        return;
    }
    fd = qemu_create(file, O_WRONLY | O_TRUNC | O_BINARY, 0644, errp);
    if (fd < 0) {
        return;
    }
    header.vcpus = cpu_to_le32(current_machine->smp.cpus);
    if (qemu_write_full(fd, &header, sizeof(header)) != sizeof(header)) {
        error_setg_errno(errp, errno, "can't write '%s'", file);
        qemu_close(fd);
        return;
    }
    g_free(trace.file);
    trace.file = g_strdup(file);
    trace.fd = fd;
    trace.error = 0;
    trace.max = max;
    trace.stop = has_stop && stop;
    trace.cpu_index = has_cpu_index ? cpu_index : -1;
    trace.options = (KvmTraceOptions) {
        .has_cr3 = filter && filter->has_cr3, .cr3 = filter ? filter->cr3 : 0,
        .has_cpl = filter && filter->has_cpl, .cpl = filter ? filter->cpl : 0,
        .interrupts_every = has_interrupts_every ? interrupts_every
                                                 : DEFAULT_INTERRUPTS_EVERY,
    };
    stat64_init(&trace.instructions, 0);
    stat64_init(&trace.stepped, 0);
    stat64_init(&trace.gaps, 0);
    qatomic_set(&trace.state, TRACE_RUNNING);
    CPU_FOREACH(cpu) {
        if (trace_is_of(cpu)) {
            switch_arch_trace(cpu, true);
        }
    }
    trace_kick(NULL);
}

void switch_trace_begin_steps(CPUState *cpu)
{
    trace.fd = -1;
    trace.options = (KvmTraceOptions) { .interrupts_every = INT_MAX };
    qatomic_set(&trace.state, TRACE_RUNNING);
    switch_arch_trace(cpu, true);
}

void switch_trace_end_steps(CPUState *cpu)
{
    qatomic_set(&trace.state, TRACE_ENDING);
    switch_arch_trace(cpu, false);
    qatomic_set(&trace.state, TRACE_NONE);
}

void switch_trace_end_now(KvmTraceEndReason reason)
{
    if (switch_trace_runs()) {
        switch_trace_end(reason);
        trace_finish(NULL);
    }
}

void qmp_kvm_trace_stop(Error **errp)
{
    if (!switch_trace_runs()) {
        error_setg(errp, "no trace runs");
        return;
    }
    switch_trace_end(KVM_TRACE_END_REASON_COMMAND);
    trace_finish(NULL);
    if (trace.error) {
        error_setg_errno(errp, trace.error, "'%s' is not complete", trace.file);
    }
}

KvmTraceInfo *qmp_query_kvm_trace(Error **errp)
{
    KvmTraceInfo *info = g_new0(KvmTraceInfo, 1);

    info->running = switch_trace_runs();
    info->file = g_strdup(trace.file);
    info->instructions = stat64_get(&trace.instructions);
    info->stepped = stat64_get(&trace.stepped);
    info->gaps = stat64_get(&trace.gaps);
    return info;
}

static char *trace_reason(void)
{
    return switch_trace_runs()
           ? g_strdup("a trace runs (kvm-trace-stop ends it)") : NULL;
}

static void trace_shutdown(Notifier *notifier, void *data)
{
    if (shutdown_action != SHUTDOWN_ACTION_PAUSE) {
        switch_trace_end_now(KVM_TRACE_END_REASON_SHUTDOWN);
    }
}

void switch_init_kvm_trace(void)
{
    static SwitchBlocker blocker = { .id = "trace", .reason = trace_reason };
    static Notifier notifier = { .notify = trace_shutdown };

    qemu_mutex_init(&trace.lock);
    trace.kick = timer_new_ms(QEMU_CLOCK_REALTIME, trace_kick, NULL);
    trace.end_bh = aio_bh_new(iohandler_get_aio_context(), trace_finish, NULL);
    switch_add_blocker(&blocker);
    qemu_register_shutdown_notifier(&notifier);
}
