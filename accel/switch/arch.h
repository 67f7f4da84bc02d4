/*
 * What the switch accelerator asks of the target, and gives to it
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef ACCEL_SWITCH_ARCH_H
#define ACCEL_SWITCH_ARCH_H

#include "accel/switch/switch.h"
#include "accel/switch/window.h"

/**
 * switch_fire_hrtimers: wait until the host kernel's timers that are due by now
 * have fired
 * @bring_here: makes sure that the timers in question are on the host CPU that
 *     calls it; false if it can't
 *
 * Takes some 0.1 ms.  False if they may not have fired.  Any thread.
 */
bool switch_fire_hrtimers(bool (*bring_here)(void *opaque), void *opaque);

/* A step of a switch; sets @errp unless the result is SWITCH_OK. */
typedef SwitchResult (*SwitchVCPUStep)(CPUState *cpu, Error **errp);

/**
 * switch_each_vcpu: @step for each vCPU, on as many host CPUs as there are
 *
 * Main thread, BQL held, all vCPUs paused.  @step must not drop the BQL, and
 * may be called by another thread, for which the main thread holds the BQL.
 * Returns the result, and sets @errp, of the first vCPU that is not SWITCH_OK;
 * others may then have been left out.  If the switch is too late for its limit,
 * returns SWITCH_REFUSED and leaves @errp alone.
 */
SwitchResult switch_each_vcpu(SwitchVCPUStep step, Error **errp);

/*
 * In another thread than the main thread: from now on its ioctls are the
 * switch's, without the BQL, too; or no longer
 */
void switch_ioctl_join(bool join);

/*
 * The target's part.  Unless a comment says otherwise, each is called on the
 * main loop with the BQL held and all vCPUs paused.  transaction.c calls them
 * in this order; it swaps the globals itself:
 *
 *   to TCG: export, check, convert, swap, commit; abandon_export if export or
 *           check fails
 *   to KVM: await, before vCPUs are paused; check, convert, swap, import,
 *           commit; restore if import fails
 */

/*
 * Called during a switch before an ioctl of a vCPU, by whoever issues it.  May
 * change what KVM is given, or issue another ioctl first.  0 or that one's
 * negative errno.
 */
int switch_arch_before_ioctl(CPUState *cpu, unsigned long type, void *arg);
/*
 * Called during a switch after an ioctl of a vCPU, which may have failed; by
 * whoever issues it, the vCPU's thread too.  BQL held.
 */
void switch_arch_saw_ioctl(CPUState *cpu, unsigned long type, const void *arg);
/* The rule that KVM may have refused for; to be freed.  NULL: none known. */
char *switch_arch_explain_refusal(int cpu_index);

/* What the manuals call MSR @index; NULL if the table of MSRs has no row. */
const char *switch_arch_msr_name(uint32_t index);

/*
 * Can these vCPUs be switched as they stand?  They are paused; BQL held.  Sets
 * @errp unless the result is SWITCH_OK.
 */
SwitchResult switch_arch_check(Error **errp);

/*
 * Called by a vCPU's thread, BQL held, when the vCPU has left KVM and is going
 * to pause: have KVM make an exit that it may still owe QEMU.  Drops the BQL
 * for a moment.  Returns an EXCP_ code.
 */
int switch_arch_pausing_kvm(CPUState *cpu);
/*
 * Called by a vCPU's thread when KVM could not execute an instruction: have
 * the vCPU execute it once more when it next runs.  0 or a negative errno.
 */
int switch_arch_retry_instruction(CPUState *cpu);
/* Take every vCPU's registers, events, LAPIC and TSC out of KVM. */
SwitchResult switch_arch_export_kvm(Error **errp);
/* Undo an export that is not going to be used. */
void switch_arch_abandon_export(void);
/* Make TCG's form of the state out of KVM's.  Cannot fail. */
void switch_arch_convert_to_tcg(void);
/* After the swap: the LAPIC's timer, TLBs, translated code.  Cannot fail. */
void switch_arch_commit_tcg(void);
/* vCPUs were told to run in TCG: begin what the way to KVM will need. */
void switch_arch_resumed_tcg(void);

/*
 * Wait until that is done.  vCPUs need not be paused.  Drops the BQL for a
 * moment, as pause_all_vcpus() does.
 */
void switch_arch_await_kvm(void);
/* Keep a copy of TCG's state, then make KVM's form out of it. */
void switch_arch_convert_to_kvm(void);
/* Put all into KVM; on failure switch_arch_restore_tcg() must follow. */
SwitchResult switch_arch_import_kvm(Error **errp);
void switch_arch_restore_tcg(void);
/* After a successful import: stop TCG's LAPIC timers.  Cannot fail. */
void switch_arch_commit_kvm(void);

/*
 * Saving and loading.  Any thread, BQL held, guest stopped.  A stream has the
 * switch's section first: at its load the vCPUs' sections are still to come.
 */

/*
 * Before a switch of a guest that is not to run any more: have nothing of it
 * stand in the way
 */
void switch_arch_discard(void);
/* Before the guest is saved in TCG */
void switch_arch_pre_save_tcg(void);
/*
 * Before it is saved under KVM, all vCPUs synchronized: have QEMU's copy of
 * them as complete as an export's.  If that fails sets @errp, and the copy is
 * as it was.  Drops the BQL for a moment.
 */
bool switch_arch_pre_save_kvm(Error **errp);
/* And then, if plain QEMU's TCG is to load it */
void switch_arch_pre_save_plain_tcg(void);
/* After the vCPUs were loaded that it has saved */
void switch_arch_loaded_plain_tcg(void);
/* After the switch's section was loaded, in TCG */
void switch_arch_post_load_tcg(void);
/* The same under KVM; returns 0 or a negative errno */
int switch_arch_post_load_kvm(void);
/* After QEMU put a vCPU's registers at a reset or load: put the rest. */
void switch_arch_put_kvm(CPUState *cpu);
/* After a load, for each vCPU: KVM has its state now. */
void switch_arch_loaded_kvm(CPUState *cpu);

/*
 * Windows.  A vCPU's state is read from where TCG has it, its thread calling or
 * the vCPU paused.
 */

/* The instruction pointer, not linear, and CR3 */
void switch_arch_get_pc(CPUState *cpu, uint64_t *pc, uint64_t *cr3);
/* CR3 without its other bits: an address space may have more than one PCID. */
uint64_t switch_arch_page_table(CPUState *cpu);
/* Linear */
vaddr switch_arch_stack_pointer(CPUState *cpu);
/* At a function's first instruction: false if the stack can't be read. */
bool switch_arch_find_return(CPUState *cpu, SwitchReturn *way);

/* In KVM: its thread calling, or the vCPU paused */
typedef struct SwitchPlace {
    uint64_t cr3;
    uint64_t cr3_address;       /* the bits of it that are a page table's */
    uint32_t eax;
    int cpl;
} SwitchPlace;
void switch_arch_get_place(CPUState *cpu, SwitchPlace *place);

/*
 * A vCPU that stands at a trigger's breakpoint is to execute the instruction
 * there in KVM; EFLAGS.RF says so (SDM vol. 3B, "Instruction-Breakpoint
 * Exception Condition").  The other one takes it back in TCG.
 */
void switch_arch_pass_breakpoint(CPUState *cpu);
void switch_arch_arrived_at_breakpoint(CPUState *cpu);

/*
 * Have KVM stop vCPUs at the addresses of switch_trigger_addresses().  If there
 * is no room for all, sets @errp, changes nothing and returns false; with @errp
 * NULL triggers may be dropped later.  Main thread, BQL held, vCPUs may run;
 * drops the BQL.
 */
bool switch_arch_set_breakpoints(Error **errp);

/* Has a vCPU more breakpoints, by the last look, than registers?  BQL held. */
bool switch_arch_lacks_breakpoints(void);

/*
 * The linear addresses of the handlers of system calls, or of an interrupt, as
 * the guest has set them up.  Main thread, BQL held, any accelerator.  Returns
 * how many there are, 0 and @errp if none.
 */
int switch_arch_syscall_entries(vaddr entry[2], Error **errp);
int switch_arch_interrupt_entry(uint8_t vector, vaddr entry[1], Error **errp);

/*
 * Traces (kvm-trace.h).  Main thread, BQL held; vCPUs may run.
 *
 * Can this KVM step a vCPU as a trace needs it?  Sets @errp if it can't.
 */
bool switch_arch_can_trace(Error **errp);
/* Step @cpu from now on, or no longer.  Drops the BQL for a moment. */
void switch_arch_trace(CPUState *cpu, bool on);

/* Called by a vCPU's thread once, after kvm_init_vcpu(), BQL held. */
bool switch_arch_init_vcpu(CPUState *cpu, Error **errp);
/* Called once, after both accelerators are initialised. */
bool switch_arch_init(MachineState *ms, Error **errp);

#endif
