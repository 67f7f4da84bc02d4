/*
 * The "switch" accelerator: a guest that moves live between KVM and TCG
 *
 * Two questions are told apart all over QEMU:
 *
 *  - "was QEMU started with -accel switch?", accel_switch_configured():
 *    decides what is made at start-up, and never changes afterwards;
 *  - "which accelerator runs the vCPUs now?", kvm_enabled() and
 *    tcg_enabled(): exactly one of them is true at any time, and a switch
 *    changes both.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef SYSTEM_ACCEL_SWITCH_H
#define SYSTEM_ACCEL_SWITCH_H

#include "hw/core/cpu.h"
#include "exec/memory.h"
#include "system/kvm.h"
#include "system/tcg.h"
#ifdef CONFIG_LINUX
#include <sys/ioctl.h>
#endif

#ifdef COMPILING_PER_TARGET
# if defined(CONFIG_KVM) && defined(CONFIG_TCG) && defined(TARGET_I386) && \
     !defined(CONFIG_USER_ONLY)
#  define CONFIG_ACCEL_SWITCH_IS_POSSIBLE
# endif
#else
# define CONFIG_ACCEL_SWITCH_IS_POSSIBLE
#endif

#ifdef CONFIG_ACCEL_SWITCH_IS_POSSIBLE
/* Set while the accelerator is initialised, constant afterwards. */
extern bool accel_switch_allowed;
#define accel_switch_configured() (accel_switch_allowed)
#else
#define accel_switch_configured() (false)
#endif

/*
 * The questions that QEMU's own code has to ask in place of kvm_enabled() and
 * tcg_enabled() where both accelerators have a part
 */

/* May TCG run the guest, now or after a switch?  Constant. */
static inline bool accel_may_run_tcg(void)
{
    return tcg_enabled() || accel_switch_configured();
}

/* May KVM run the guest, now or after a switch?  Constant. */
static inline bool accel_may_run_kvm(void)
{
    return kvm_enabled() || accel_switch_configured();
}

/* TCG is initialised, and KVM runs the guest.  A switch changes it. */
static inline bool accel_tcg_sleeps(void)
{
    return accel_switch_configured() && !tcg_enabled();
}

/**
 * accel_switch_tcg_dirty_mask: the dirty-memory clients that are TCG's alone
 *
 * Returns a mask of (1 << DIRTY_MEMORY_CODE) under -accel switch, else 0.  All
 * RAM has that bit in its log mask while the guest is in TCG, and KVM would
 * turn on dirty logging for all its slots (hazard F4).
 */
static inline uint8_t accel_switch_tcg_dirty_mask(void)
{
    return accel_switch_configured() ? 1 << DIRTY_MEMORY_CODE : 0;
}

#ifdef CONFIG_ACCEL_SWITCH_IS_POSSIBLE
/*
 * True while a switch moves state into or out of KVM.  The main thread writes
 * it, with the BQL held; threads that work for the switch read it meanwhile.
 */
extern bool accel_switch_watching;
int accel_switch_watched_ioctl(CPUState *cpu, int fd, unsigned long type,
                               void *arg);
#else
#define accel_switch_watching (false)
#define accel_switch_watched_ioctl(cpu, fd, type, arg) ioctl(fd, type, arg)
#endif

/**
 * accel_switch_ioctl: an ioctl on a file descriptor of KVM's
 * @cpu: the vCPU that it belongs to, NULL for the VM's
 *
 * As ioctl(); a switch that is under way learns of it.  Any thread.
 */
static inline int accel_switch_ioctl(CPUState *cpu, int fd, unsigned long type,
                                     void *arg)
{
    return unlikely(accel_switch_watching)
           ? accel_switch_watched_ioctl(cpu, fd, type, arg)
           : ioctl(fd, type, arg);
}

/**
 * accel_switch_lock_slots, accel_switch_unlock_slots: while memory slots are
 * made or deleted behind the back of KVM's memory listener
 *
 * Any thread; the BQL is taken before this lock, if both are.
 */
void accel_switch_lock_slots(void);
void accel_switch_unlock_slots(void);

/**
 * accel_switch_share_bql: have bql_locked() true in this thread for good
 *
 * The thread works only while the main thread holds the BQL and waits for it.
 * It must neither take nor drop the BQL.
 */
void accel_switch_share_bql(void);

/**
 * accel_switch_on_kvm_error: may TCG take over from an internal error of KVM?
 * @cpu: the vCPU whose KVM_RUN ended with KVM_EXIT_INTERNAL_ERROR
 *
 * Called by the vCPU's thread, without the BQL.  Returns true when the user
 * asked for on-kvm-error=tcg and the error is one that KVM's instruction
 * emulator reports with the vCPU still in front of the instruction: the
 * vCPU is then stopped, and a switch to TCG is under way on the main loop.
 */
#ifdef CONFIG_ACCEL_SWITCH_IS_POSSIBLE
bool accel_switch_on_kvm_error(CPUState *cpu);
#else
static inline bool accel_switch_on_kvm_error(CPUState *cpu)
{
    return false;
}
#endif

/**
 * accel_switch_kvm_run: the ioctl KVM_RUN, or many of them while a trace runs
 *
 * Returns what the last one has returned, with an exit that is left to the
 * caller; or -EINTR.  The vCPU's thread, without the BQL.
 */
#ifdef CONFIG_ACCEL_SWITCH_IS_POSSIBLE
extern bool accel_switch_tracing;   /* written with the BQL held; atomic */
int accel_switch_traced_run(CPUState *cpu);
#define accel_switch_kvm_run(cpu) \
    (unlikely(qatomic_read(&accel_switch_tracing)) \
     ? accel_switch_traced_run(cpu) : kvm_vcpu_ioctl(cpu, KVM_RUN, 0))
#else
#define accel_switch_kvm_run(cpu) kvm_vcpu_ioctl(cpu, KVM_RUN, 0)
#endif

/*
 * accel/switch/compare.h: TCG executes instructions that are then undone.  It
 * says before it writes to a page that is clean for migration; where an
 * instruction would reach a device, or a triple fault would reset the machine;
 * and which exception an instruction raises.  The vCPU's thread.
 *
 * The second and third do not return.
 */
#ifdef CONFIG_ACCEL_SWITCH_IS_POSSIBLE
extern bool accel_switch_rehearsing;    /* BQL; vCPUs stand still */
void accel_switch_rehearse_write(ram_addr_t ram_addr, hwaddr address);
void accel_switch_rehearse_mmio(CPUState *cpu, uintptr_t retaddr);
void accel_switch_rehearse_shutdown(CPUState *cpu);
void accel_switch_rehearse_exception(CPUState *cpu, int exception);
#define accel_switch_rehearsal(what, ...) \
    (unlikely(accel_switch_rehearsing) \
     ? accel_switch_rehearse_ ## what(__VA_ARGS__) : (void)0)
#else
#define accel_switch_rehearsal(what, ...) ((void)0)
#endif

/**
 * accel_switch_may_load_vcpus: may a vCPU's section be loaded?
 *
 * False under -accel switch, with a message, if the stream has not named the
 * accelerator under which it was saved.  Main thread, BQL held.
 */
#ifdef CONFIG_ACCEL_SWITCH_IS_POSSIBLE
bool accel_switch_may_load_vcpus(void);
#else
static inline bool accel_switch_may_load_vcpus(void)
{
    return true;
}
#endif

/*
 * A breakpoint at which a window ends, in CPUBreakpoint.flags beside BP_GDB and
 * BP_CPU
 */
#define BP_ACCEL_SWITCH 0x100

/**
 * accel_switch_at_window_end: does the window end at this breakpoint?
 * @cpu: stands at one with BP_ACCEL_SWITCH
 *
 * If so, cpu_exec() returns EXCP_DEBUG.  vCPU thread, in TCG, without the BQL.
 */
#ifdef CONFIG_ACCEL_SWITCH_IS_POSSIBLE
bool accel_switch_at_window_end(CPUState *cpu);
#else
static inline bool accel_switch_at_window_end(CPUState *cpu)
{
    return false;
}
#endif

/**
 * accel_switch_pit_waits: should this tick of the PIT be deferred?
 * @s: the channel whose timer has run out
 *
 * True under -accel switch if the channel is about to make an edge while the
 * guest has not acknowledged the last one.  The function has set the timer anew
 * then.  Main thread, BQL held.
 */
struct PITChannelState;
bool accel_switch_pit_waits(struct PITChannelState *s);

/**
 * accel_switch_pic_acknowledged: the guest has taken an interrupt from a PIC
 * @irq: 0 to 7
 *
 * A tick that waits for this comes next.  Any thread, BQL held.
 */
struct PICCommonState;
void accel_switch_pic_acknowledged(struct PICCommonState *pic, int irq);

#ifdef COMPILING_PER_TARGET
#ifdef TARGET_I386
#include "cpu.h"

struct kvm_run;

/**
 * x86_switch_may_inject: does the next KVM_RUN start between instructions?
 * @run: the vCPU's, after its last exit
 *
 * After an exit for I/O, KVM_RUN first completes the instruction.  That may
 * raise an exception (a single step's, a page fault), and KVM then forgets an
 * interrupt that was given as an event (kernel: kvm_check_and_inject_events()).
 * ready_for_interrupt_injection does not tell.  Called by the vCPU's thread.
 */
bool x86_kvm_may_inject(const struct kvm_run *run);

static inline bool x86_switch_may_inject(const struct kvm_run *run)
{
    return !accel_switch_configured() || x86_kvm_may_inject(run);
}

/**
 * x86_switch_inject_extint: give KVM the vector of an external interrupt
 * @cpu: the vCPU; kvm_run.ready_for_interrupt_injection and
 *       x86_switch_may_inject() must both be true
 * @vector: as the PIC acknowledged it
 *
 * Does what KVM_INTERRUPT does, but through KVM_SET_VCPU_EVENTS:
 * KVM_GET_VCPU_EVENTS then shows the vector until it is delivered, and a switch
 * does not lose it (hazard C6).  Called by the vCPU's thread with the BQL held.
 * Returns 0 or a negative errno.
 */
int x86_switch_inject_extint(CPUState *cpu, int vector);

/**
 * x86_switch_pre_run: have KVM stop the vCPU at triggers' breakpoints
 *
 * And at those that the guest has set meanwhile.  The vCPU's thread, before
 * each KVM_RUN, without the BQL.
 */
void x86_kvm_pre_run(CPUState *cpu);

static inline void x86_switch_pre_run(CPUState *cpu)
{
    if (accel_switch_configured()) {
        x86_kvm_pre_run(cpu);
    }
}

/**
 * x86_switch_update_guest_debug: add triggers' and the guest's breakpoints
 * @dbg: has a debugger's
 *
 * The vCPU's thread, or any while it does not run.
 */
struct kvm_guest_debug;
void x86_kvm_add_breakpoints(CPUState *cpu, struct kvm_guest_debug *dbg);

static inline void x86_switch_update_guest_debug(CPUState *cpu,
                                                 struct kvm_guest_debug *dbg)
{
    if (accel_switch_configured()) {
        x86_kvm_add_breakpoints(cpu, dbg);
    }
}

/**
 * x86_switch_handle_debug: take a debug exception of a trigger
 * @arch: KVM's exit; changed to what the guest is to see, if it is the guest's
 * @ret: what kvm_handle_debug() is to return
 *
 * Returns false if it is no trigger's.  The vCPU's thread, BQL held.
 */
struct kvm_debug_exit_arch;
bool x86_kvm_handle_debug(CPUState *cpu, struct kvm_debug_exit_arch *arch,
                          int *ret);

static inline bool x86_switch_handle_debug(CPUState *cpu,
                                           struct kvm_debug_exit_arch *arch,
                                           int *ret)
{
    return accel_switch_configured() && x86_kvm_handle_debug(cpu, arch, ret);
}

struct APICCommonState;
/*
 * hw/intc/apic_switch.c: @s was loaded, and is about to be put into KVM without
 * its timer.  Main thread, BQL held.
 */
void accel_switch_keep_lapic_timer(struct APICCommonState *s);

/**
 * x86_switch_get_tsc: the guest's TSC, in ticks, while TCG runs @env
 *
 * The host's TSC plus the offset that KVM had for this vCPU.  Any thread.
 */
uint64_t x86_switch_get_tsc(CPUX86State *env);

/**
 * x86_switch_feature_mask: the features of a word that TCG can give a guest
 * @w: the feature word
 * @tcg_features: the features of it that TCG implements
 *
 * Returns a mask for the features that KVM supports: both accelerators run the
 * guest with one CPUID, which only has features of both (hazard D1).
 */
uint64_t x86_tcg_feature_mask(FeatureWord w, uint64_t tcg_features);

static inline uint64_t x86_switch_feature_mask(FeatureWord w,
                                               uint64_t tcg_features)
{
    return accel_switch_configured() ? x86_tcg_feature_mask(w, tcg_features)
                                     : UINT64_MAX;
}

/**
 * x86_switch_cpuid: answer CPUID under TCG from the table that KVM was given
 * @leaf: EAX
 * @subleaf: ECX
 *
 * Follows KVM's lookup (kvm_cpuid() in arch/x86/kvm/cpuid.c), including the
 * bits that mirror CR4, XCR0 and the APIC base (SDM vol. 2, CPUID).  Returns
 * false, and leaves the registers alone, when there is no table.
 */
bool x86_tcg_cpuid(CPUX86State *env, uint32_t leaf, uint32_t subleaf,
                   uint32_t *eax, uint32_t *ebx,
                   uint32_t *ecx, uint32_t *edx);

static inline bool x86_switch_cpuid(CPUX86State *env, uint32_t leaf,
                                    uint32_t subleaf, uint32_t *eax,
                                    uint32_t *ebx, uint32_t *ecx,
                                    uint32_t *edx)
{
    return accel_switch_configured() &&
           x86_tcg_cpuid(env, leaf, subleaf, eax, ebx, ecx, edx);
}

/**
 * x86_switch_lapic_version, x86_switch_lapic_svr_mask: the LAPIC's version, and
 * the writable bits of its spurious-interrupt vector register
 * @qemus: the value that QEMU's LAPIC has without -accel switch
 *
 * See SDM vol. 3A, "Local APIC Version Register" and "Spurious-Interrupt Vector
 * Register".  KVM advertises that it can suppress the broadcast of EOIs, and
 * still broadcasts them to an IOAPIC in QEMU.  TCG does the same.  vCPU thread,
 * in TCG.
 */
uint32_t x86_kvm_lapic_version(CPUState *cpu);
uint32_t x86_kvm_lapic_svr_mask(CPUState *cpu);

static inline uint32_t x86_switch_lapic_version(CPUState *cpu, uint32_t qemus)
{
    return accel_switch_configured() ? x86_kvm_lapic_version(cpu) : qemus;
}

static inline uint32_t x86_switch_lapic_svr_mask(CPUState *cpu, uint32_t qemus)
{
    return accel_switch_configured() ? x86_kvm_lapic_svr_mask(cpu) : qemus;
}

/**
 * x86_switch_lapic_deadline, x86_switch_lapic_timer_fires,
 * x86_switch_lapic_lvt_timer, x86_switch_lapic_has_count: the LAPIC's timer in
 * TSC-deadline mode (SDM vol. 3A, "TSC-Deadline Mode")
 * @expiry: when it fires, by QEMU_CLOCK_VIRTUAL; -1: it does not
 * @value: what the guest writes to the LVT; returns what the register holds
 *
 * x86_switch_lapic_deadline() returns false in the other modes.
 * x86_switch_lapic_timer_fires(): it has come to its end; false if it was for
 * nothing, as the TSC is not there yet.  BQL held; in TCG, or on the way to it.
 */
struct APICCommonState;
bool x86_tcg_lapic_deadline(struct APICCommonState *s, int64_t *expiry);
bool x86_tcg_lapic_timer_fires(struct APICCommonState *s);
uint32_t x86_tcg_lapic_lvt_timer(struct APICCommonState *s, uint32_t value);
bool x86_tcg_lapic_has_count(struct APICCommonState *s);

static inline bool x86_switch_lapic_deadline(struct APICCommonState *s,
                                             int64_t *expiry)
{
    return accel_switch_configured() && x86_tcg_lapic_deadline(s, expiry);
}

static inline bool x86_switch_lapic_timer_fires(struct APICCommonState *s)
{
    return !accel_switch_configured() || x86_tcg_lapic_timer_fires(s);
}

static inline uint32_t x86_switch_lapic_lvt_timer(struct APICCommonState *s,
                                                  uint32_t value)
{
    return accel_switch_configured() ? x86_tcg_lapic_lvt_timer(s, value)
                                     : value;
}

static inline bool x86_switch_lapic_has_count(struct APICCommonState *s)
{
    return !accel_switch_configured() || x86_tcg_lapic_has_count(s);
}

/**
 * x86_switch_smm_attributes, x86_switch_smm_flags: a segment's attributes in
 * the 32-bit SMM state save area, made of SegmentCache.flags, and back
 *
 * KVM has them at a descriptor's bits (struct kvm_smm_seg_state_32), TCG 8 bits
 * lower.  SeaBIOS keeps a copy of the area, and leaves SMM by the copy much
 * later, perhaps under the other accelerator: under -accel switch both write it
 * as KVM does (hazard F7).  vCPU thread.
 */
static inline uint32_t x86_switch_smm_attributes(uint32_t flags)
{
    return (flags & 0xf0ff00) >> (accel_switch_configured() ? 0 : 8);
}

static inline uint32_t x86_switch_smm_flags(uint32_t attributes)
{
    return (attributes << (accel_switch_configured() ? 0 : 8)) & 0xf0ff00;
}

/**
 * x86_switch_has_feature_control: does KVM keep IA32_FEATURE_CONTROL?
 *
 * kvm-intel does for each vCPU, with VMX or without; kvm-amd for none.  Called
 * by the vCPU's thread, BQL held, while the vCPU is made.  Leaves the MSR 0.
 */
bool x86_kvm_has_feature_control(CPUState *cpu);

static inline bool x86_switch_has_feature_control(CPUState *cpu)
{
    return accel_switch_configured() && x86_kvm_has_feature_control(cpu);
}

/**
 * x86_switch_wrmsr, x86_switch_rdmsr: MSRs that TCG itself does not know
 *
 * Keep what controls speculation, and kvm-clock's MSRs, whose page is filled as
 * KVM would; move the TSC; keep IA32_FEATURE_CONTROL where KVM does.
 * Unknown MSRs read 0 and ignore writes, as TCG has it.  x86_switch_rdmsr()
 * returns false if a #GP is due; x86_switch_accepts_msr() has seen to that of a
 * write.  vCPU thread.
 */
void x86_tcg_wrmsr(CPUX86State *env, uint32_t msr, uint64_t value);
bool x86_tcg_rdmsr(CPUX86State *env, uint32_t msr, uint64_t *value);

static inline void x86_switch_wrmsr(CPUX86State *env, uint32_t msr,
                                    uint64_t value)
{
    if (accel_switch_configured()) {
        x86_tcg_wrmsr(env, msr, value);
    }
}

static inline bool x86_switch_rdmsr(CPUX86State *env, uint32_t msr,
                                    uint64_t *value)
{
    *value = 0;
    return !accel_switch_configured() || x86_tcg_rdmsr(env, msr, value);
}

/**
 * x86_switch_hypercall: VMCALL or VMMCALL in TCG, answered as KVM does
 *
 * Returns false without -accel switch.  vCPU thread.
 */
void x86_tcg_hypercall(CPUX86State *env);

static inline bool x86_switch_hypercall(CPUX86State *env)
{
    if (accel_switch_configured()) {
        x86_tcg_hypercall(env);
    }
    return accel_switch_configured();
}

/**
 * x86_switch_reset_vcpu, x86_switch_init_vcpu: after QEMU's reset of a vCPU,
 * and after its INIT, which is that reset and some registers of @before: MSRs
 * as KVM has them then
 *
 * BQL held; the first under KVM, too.
 */
void x86_tcg_reset_msrs(CPUX86State *env);
void x86_tcg_keep_msrs_over_init(CPUX86State *env, const CPUX86State *before);

static inline void x86_switch_reset_vcpu(CPUX86State *env)
{
    if (accel_switch_configured()) {
        x86_tcg_reset_msrs(env);
    }
}

static inline void x86_switch_init_vcpu(CPUX86State *env,
                                        const CPUX86State *before)
{
    if (accel_switch_configured()) {
        x86_tcg_keep_msrs_over_init(env, before);
    }
}

/**
 * x86_switch_accepts_cr, x86_switch_accepts_msr: does a processor take this?
 * @reg: CR0, CR3, CR4 or CR8
 * @value: what the guest writes; changed to what the register would hold
 *
 * TCG takes much that raises #GP on hardware, and that KVM would then refuse.
 * Returns false if a #GP is due.  vCPU thread, in TCG, long mode or not.
 */
bool x86_tcg_accepts_cr(CPUX86State *env, int reg, target_ulong *value);
bool x86_tcg_accepts_msr(CPUX86State *env, uint32_t msr, uint64_t *value);

static inline bool x86_switch_accepts_cr(CPUX86State *env, int reg,
                                         target_ulong *value)
{
    return !accel_switch_configured() || x86_tcg_accepts_cr(env, reg, value);
}

static inline bool x86_switch_accepts_msr(CPUX86State *env, uint32_t msr,
                                          uint64_t *value)
{
    return !accel_switch_configured() || x86_tcg_accepts_msr(env, msr, value);
}
#endif /* TARGET_I386 */
#endif /* COMPILING_PER_TARGET */

#endif /* SYSTEM_ACCEL_SWITCH_H */
