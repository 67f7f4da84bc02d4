/*
 * Something else in KVM than the guest: between the two ways of a round trip
 *
 * KVM keeps its copy of a vCPU while the guest is in TCG.  What the way back
 * forgets to put would be found there as it was, and not missed; so it is
 * overwritten first.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "system/kvm.h"
#include "x86-switch.h"

#define POISON          0x5a
/* Canonical (SDM vol. 1, 3.3.7.1) */
#define POISON_ADDRESS  0x5a5a5a5a5000ull

static int poison_regs(CPUState *cs)
{
    struct kvm_regs regs;

    memset(&regs, POISON, sizeof(regs));
    regs.rip = POISON_ADDRESS;
    regs.rflags = 2;
    return kvm_vcpu_ioctl(cs, KVM_SET_REGS, &regs);
}

/* Real mode, as KVM may hold the registers of any other. */
static int poison_sregs(CPUState *cs)
{
    struct kvm_sregs sregs;
    struct kvm_segment *seg[] = {
        &sregs.cs, &sregs.ds, &sregs.es, &sregs.fs, &sregs.gs, &sregs.ss,
        &sregs.tr, &sregs.ldt,
    };
    int ret = kvm_vcpu_ioctl(cs, KVM_GET_SREGS, &sregs);

    if (ret < 0) {
        return ret;
    }
    for (int i = 0; i < ARRAY_SIZE(seg); i++) {
        bool system = seg[i] == &sregs.tr || seg[i] == &sregs.ldt;

        *seg[i] = (struct kvm_segment) {
            .base = POISON << 4,
            .limit = 0xffff,
            .selector = POISON,
            .type = !system ? 3 : seg[i] == &sregs.tr ? 11 : 2,
            .present = 1,
            .s = !system,
        };
    }
    sregs.gdt.base = sregs.idt.base = POISON_ADDRESS;
    sregs.gdt.limit = sregs.idt.limit = POISON;
    sregs.cr0 = CR0_ET_MASK;
    sregs.cr2 = POISON_ADDRESS;
    sregs.cr3 = POISON << 12;
    sregs.cr4 = 0;
    sregs.cr8 = POISON & 0xf;
    sregs.efer = 0;
    sregs.apic_base &= ~(uint64_t)MSR_IA32_APICBASE_EXTD;
    sregs.apic_base |= MSR_IA32_APICBASE_ENABLE;
    memset(sregs.interrupt_bitmap, 0, sizeof(sregs.interrupt_bitmap));
    return kvm_vcpu_ioctl(cs, KVM_SET_SREGS, &sregs);
}

static int poison_xsave(CPUState *cs)
{
    g_autofree struct kvm_xsave *xsave = g_new0(struct kvm_xsave, 1);
    X86LegacyXSaveArea *legacy = (X86LegacyXSaveArea *)xsave->region;
    X86XSaveHeader *header = (void *)(legacy + 1);

    memset(legacy->fpregs, POISON, sizeof(legacy->fpregs));
    memset(legacy->xmm_regs, POISON, sizeof(legacy->xmm_regs));
    legacy->fcw = 0x37f;
    legacy->mxcsr = 0x1f80;
    header->xstate_bv = XSTATE_FP_MASK | XSTATE_SSE_MASK;
    return kvm_vcpu_ioctl(cs, KVM_SET_XSAVE, xsave);
}

static int poison_xcrs(CPUState *cs)
{
    struct kvm_xcrs xcrs = {
        .nr_xcrs = 1,
        .xcrs[0].value = XSTATE_FP_MASK,
    };

    return kvm_check_extension(kvm_state, KVM_CAP_XCRS)
           ? kvm_vcpu_ioctl(cs, KVM_SET_XCRS, &xcrs) : 0;
}

static int poison_debugregs(CPUState *cs)
{
    struct kvm_debugregs debugregs = {
        .db = { POISON, POISON, POISON, POISON },
        .dr6 = DR6_FIXED_1,
        .dr7 = DR7_FIXED_1,
    };

    return kvm_vcpu_ioctl(cs, KVM_SET_DEBUGREGS, &debugregs);
}

static int poison_events(CPUState *cs)
{
    struct kvm_vcpu_events events = {
        .flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW,
        .interrupt.shadow = KVM_X86_SHADOW_INT_MOV_SS,
        .nmi.pending = 1,
        .nmi.masked = 1,
    };

    return kvm_vcpu_ioctl(cs, KVM_SET_VCPU_EVENTS, &events);
}

static int poison_mp_state(CPUState *cs)
{
    struct kvm_mp_state mp_state;
    int ret = kvm_vcpu_ioctl(cs, KVM_GET_MP_STATE, &mp_state);

    if (ret < 0) {
        return ret;
    }
    mp_state.mp_state = mp_state.mp_state == KVM_MP_STATE_RUNNABLE
                        ? KVM_MP_STATE_HALTED : KVM_MP_STATE_RUNNABLE;
    return kvm_vcpu_ioctl(cs, KVM_SET_MP_STATE, &mp_state);
}

/* As after INIT, with its timer stopped (SDM vol. 3A, "Local APIC state"). */
static int poison_lapic(CPUState *cs)
{
    static const int lvt[] = { 0x320, 0x330, 0x340, 0x350, 0x360, 0x370 };
    struct kvm_lapic_state page;
    int ret = kvm_vcpu_ioctl(cs, KVM_GET_LAPIC, &page);

    if (ret < 0) {
        return ret;
    }
    /* The ID and the version stay. */
    memset(page.regs + 0x40, 0, sizeof(page.regs) - 0x40);
    for (int i = 0; i < ARRAY_SIZE(lvt); i++) {
        stl_le_p(page.regs + lvt[i], APIC_LVT_MASKED);
    }
    stl_le_p(page.regs + 0xe0, 0xffffffff);
    return kvm_vcpu_ioctl(cs, KVM_SET_LAPIC, &page);
}

/*
 * Those that QEMU takes, and that hold what the guest has set.  KVM may refuse
 * 0 for some.
 */
static void poison_msrs(CPUState *cs, const X86KVMState *all)
{
    const X86SwitchCPU *sc = x86_switch_cpu(cs);

    for (int i = 0; i < all->nmsrs; i++) {
        uint32_t index = all->msrs[i].index;

        if (index != MSR_IA32_TSC && x86_switch_takes_msr(sc, index)) {
            x86_kvm_put_msr(cs, index, 0);
        }
    }
}

bool x86_switch_poison_kvm(CPUState *cs, const X86KVMState *all, Error **errp)
{
    static const struct {
        const char *name;
        int (*poison)(CPUState *cs);
    } parts[] = {
        { "general registers", poison_regs },
        { "system registers", poison_sregs },
        { "XSAVE area", poison_xsave },
        { "XCR0", poison_xcrs },
        { "debug registers", poison_debugregs },
        { "MP state", poison_mp_state },
        { "LAPIC", poison_lapic },
        { "events", poison_events },
        { "TSC", x86_switch_poison_tsc },
    };

    poison_msrs(cs, all);
    for (int i = 0; i < ARRAY_SIZE(parts); i++) {
        int ret = parts[i].poison(cs);

        if (ret < 0) {
            error_setg_errno(errp, -ret, "vCPU %d: overwriting KVM's %s",
                             cs->cpu_index, parts[i].name);
            return false;
        }
    }
    return true;
}
