/*
 * Export from KVM, and the step into TCG
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "exec/cputlb.h"
#include "exec/tb-flush.h"
#include "exec/tb-validate.h"
#include "hw/i386/apic.h"
#include "system/hw_accel.h"
#include "system/kvm.h"
#include "switch/kvm/kvm.h"
#include "switch/kvm/module.h"
#include "switch/x86-switch.h"

/* The bits of a PDPTE that the processor uses (SDM vol. 3, "PAE Paging"). */
#define PDPTE_BITS (PG_PRESENT_MASK | PG_PWT_MASK | PG_PCD_MASK | \
                    PG_ADDRESS_MASK)

bool x86_kvm_pdptes_differ(CPUState *cs, uint64_t cr3, const uint64_t *held)
{
    uint64_t in_memory[4];
    hwaddr len = sizeof(in_memory), offset;
    MemoryRegion *mr;

    /* A device's registers are left alone, as this may be any thread. */
    RCU_READ_LOCK_GUARD();
    mr = address_space_translate(cs->as, cr3 & 0xffffffe0, &offset, &len, false,
                                 MEMTXATTRS_UNSPECIFIED);
    if (len < sizeof(in_memory) ||
        !memory_access_is_direct(mr, false, MEMTXATTRS_UNSPECIFIED)) {
        return false;
    }
    memcpy(in_memory, memory_region_get_ram_ptr(mr) + offset,
           sizeof(in_memory));
    for (int i = 0; i < ARRAY_SIZE(in_memory); i++) {
        if ((le64_to_cpu(in_memory[i]) ^ held[i]) &
            (held[i] & PG_PRESENT_MASK ? PDPTE_BITS : PG_PRESENT_MASK)) {
            return true;
        }
    }
    return false;
}

/*
 * The first part of an export.  It may have work for the vCPU's own thread,
 * during which the BQL is dropped: devices' threads may then raise interrupts,
 * which KVM still takes.  So it is done for all vCPUs before anything of any
 * vCPU is read.
 */
static SwitchResult begin_vcpu(CPUState *cs, Error **errp)
{
    ERRP_GUARD();
    X86SwitchCPU *sc = x86_switch_cpu(cs);
    int ret;

    /*
     * QEMU has changed registers that KVM has not seen yet.  Put them, so that
     * all is read out again together with the state that only KVM has.
     */
    if (cs->vcpu_dirty) {
        if (kvm_arch_put_registers(cs, KVM_PUT_RUNTIME_STATE, errp) < 0) {
            error_prepend(errp, "vCPU %d: ", cs->cpu_index);
            return SWITCH_REFUSED;
        }
        cs->vcpu_dirty = false;
    }
    ret = x86_kvm_begin_lapic_timer(cs, sc) ?: x86_kvm_export_tsc(cs, sc);
    if (ret < 0) {
        /* accel/switch/ioctl.c knows which ioctl failed. */
        error_setg_errno(errp, -ret, "vCPU %d", cs->cpu_index);
        return SWITCH_REFUSED;
    }
    return SWITCH_OK;
}

/* The export is for a stream, which may have what TCG does not. */
static bool saving;

static SwitchResult export_vcpu(CPUState *cs, Error **errp)
{
    ERRP_GUARD();
    X86CPU *cpu = X86_CPU(cs);
    X86SwitchCPU *sc = x86_switch_cpu(cs);
    /* Raised since the vCPU was paused: KVM has not seen it. */
    int smi = cs->interrupt_request & CPU_INTERRUPT_SMI;
    int ret;

    sc->taking_msrs = true;
    ret = kvm_arch_get_registers(cs, errp);
    sc->taking_msrs = false;
    cs->interrupt_request |= smi;
    if (ret < 0) {
        error_prepend(errp, "vCPU %d: ", cs->cpu_index);
        return SWITCH_REFUSED;
    }
    if (!saving && !x86_kvm_check_msrs(cs, sc, errp)) {
        return SWITCH_REFUSED;
    }
    sc->interrupt_shadow = sc->taken.interrupt_shadow;
    x86_kvm_export_lapic(cpu, sc);
    return SWITCH_OK;
}

SwitchResult switch_arch_export_kvm(Error **errp)
{
    SwitchResult result = switch_each_vcpu(begin_vcpu, errp);

    if (result == SWITCH_OK) {
        result = x86_kvm_settle(errp);
    }
    return result == SWITCH_OK ? switch_each_vcpu(export_vcpu, errp) : result;
}

bool switch_arch_pre_save_kvm(Error **errp)
{
    SwitchResult result;
    CPUState *cs;

    saving = true;
    result = switch_arch_export_kvm(errp);
    saving = false;
    CPU_FOREACH(cs) {
        X86SwitchCPU *sc = x86_switch_cpu(cs);

        if (result == SWITCH_OK) {
            cs->vcpu_dirty = true;      /* QEMU has a copy. */
        } else if (!cs->vcpu_dirty) {
            cpu_synchronize_state(cs);
        }
        if (result == SWITCH_OK || sc->stopped_timer.kept) {
            x86_kvm_lapic_timer_to_qemu(X86_CPU(cs), sc);
        }
    }
    return result == SWITCH_OK;
}

void switch_arch_abandon_export(void)
{
    CPUState *cs;

    /*
     * What was read is a copy; KVM's is still the original.  A vCPU that was
     * not reached may be dirty, and stays so.  Drop QEMU's copy of an INIT that
     * KVM has latched in SMM: the vCPU would take it twice after SMM.
     */
    CPU_FOREACH(cs) {
        cpu_env(cs)->tsc_valid = false;
        if (!cs->vcpu_dirty) {
            cpu_reset_interrupt(cs, CPU_INTERRUPT_INIT);
        }
    }
}

void switch_arch_convert_to_tcg(void)
{
    CPUState *cs;

    CPU_FOREACH(cs) {
        x86_switch_convert_to_tcg(X86_CPU(cs), x86_switch_cpu(cs));
        /* CPUX86State is the original now, for as long as TCG runs. */
        cs->vcpu_dirty = true;
    }
    x86_switch_kvmclock_to_tcg();
}

/*
 * While the guest was in KVM, its stores and devices' DMA changed code and did
 * not invalidate TBs (hazard F3).  Outside of an exclusive context tb_flush()
 * would leave the work to a vCPU, after others may have run stale TBs.  With
 * all vCPUs paused this is an exclusive context: say so.
 */
static void distrust_translated_code(void)
{
    if (!first_cpu || (switch_omits(SWITCH_FIXUP_TB_VALIDATE) &&
                       !switch_state->drop_translations)) {
        return;
    }
    if (switch_state->keep_translations && !switch_state->drop_translations &&
        !tb_validate_is_wasteful()) {
        tb_validate_all();
        return;
    }
    first_cpu->exclusive_context_count++;
    tb_flush(first_cpu);
    first_cpu->exclusive_context_count--;
    switch_state->drop_translations = false;
}

void switch_arch_commit_tcg(void)
{
    CPUState *cs;

    distrust_translated_code();
    CPU_FOREACH(cs) {
        APICCommonState *apic = x86_switch_lapic(X86_CPU(cs));

        tlb_flush(cs);
        /* Arms the LAPIC's timer. */
        APIC_COMMON_GET_CLASS(apic)->post_load(apic);
    }
    x86_switch_paravirtual_to_tcg();
}
