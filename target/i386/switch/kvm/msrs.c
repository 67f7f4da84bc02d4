/*
 * MSRs that KVM keeps and QEMU takes no notice of
 *
 * TCG does not implement these MSRs, and they stay in KVM while TCG runs the
 * guest.  Leaving KVM is safe only while each still has its reset value.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "system/kvm.h"
#include "system/reset.h"
#include "switch/kvm/kvm.h"
#include "switch/x86-switch.h"

void x86_kvm_add_msr(CPUState *cs, X86KVMState *s, uint32_t index)
{
    uint64_t value;

    for (int i = 0; i < s->nmsrs; i++) {
        if (s->msrs[i].index == index) {
            return;
        }
    }
    if (s->nmsrs < X86_KVM_MSRS_MAX &&
        x86_kvm_get_msr(cs, index, &value) == 0) {
        s->msrs[s->nmsrs].index = index;
        s->msrs[s->nmsrs++].data = value;
    }
}

int x86_kvm_add_listed_msrs(CPUState *cs, X86KVMState *s)
{
    struct {
        struct kvm_msr_list list;
        uint32_t indices[X86_KVM_MSRS_MAX];
    } found = { .list.nmsrs = X86_KVM_MSRS_MAX };
    int ret = kvm_ioctl(kvm_state, KVM_GET_MSR_INDEX_LIST, &found);

    for (int i = 0; ret == 0 && i < found.list.nmsrs; i++) {
        x86_kvm_add_msr(cs, s, found.list.indices[i]);
    }
    return ret;
}

/*
 * An MSR that KVM lists and does not have reads as 0, and takes 0 (kernel:
 * kvm_is_msr_to_save()): whether it is there shows when it is set.
 */
bool x86_kvm_has_feature_control(CPUState *cs)
{
    uint64_t held;
    bool has = x86_kvm_put_msr(cs, MSR_IA32_FEATURE_CONTROL,
                               FEATURE_CONTROL_LOCKED) == 0 &&
               x86_kvm_get_msr(cs, MSR_IA32_FEATURE_CONTROL, &held) == 0 &&
               /* kvm.ignore_msrs has KVM drop what it does not have */
               held == FEATURE_CONTROL_LOCKED &&
               x86_kvm_put_msr(cs, MSR_IA32_FEATURE_CONTROL, 0) == 0;

    x86_switch_cpu(cs)->has_feature_control = has;
    return has;
}

static void drop_msr(X86KVMState *s, int i)
{
    s->msrs[i] = s->msrs[--s->nmsrs];
}

bool x86_kvm_init_msrs(CPUState *cs, X86SwitchCPU *sc, Error **errp)
{
    int ret;

    sc->other_msrs = g_new0(X86KVMState, 1);
    ret = x86_kvm_add_listed_msrs(cs, sc->other_msrs);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "KVM_GET_MSR_INDEX_LIST");
        return false;
    }
    for (int i = sc->other_msrs->nmsrs - 1; i >= 0; i--) {
        if (!x86_state_msr_counts(sc->other_msrs->msrs[i].index,
                                  cpu_env(cs)->features)) {
            drop_msr(sc->other_msrs, i);
        }
    }
    return true;
}

void x86_kvm_took_msrs(X86SwitchCPU *sc, const struct kvm_msrs *taken)
{
    X86KVMState *others = sc->other_msrs;

    for (int i = 0; i < taken->nmsrs; i++) {
        for (int j = 0; j < others->nmsrs; j++) {
            if (others->msrs[j].index == taken->entries[i].index) {
                drop_msr(others, j);
                break;
            }
        }
    }
}

bool x86_kvm_takes_msr(CPUState *cs, uint32_t index)
{
    const X86KVMState *others = x86_switch_cpu(cs)->other_msrs;

    for (int i = 0; i < others->nmsrs; i++) {
        if (others->msrs[i].index == index) {
            return false;
        }
    }
    return x86_state_msr_counts(index, cpu_env(cs)->features);
}

/*
 * KVM gives AMD guests the K7 counters, without any CPUID bit, unless the VM's
 * PMU is off.  Linux 5.18 and later can do that; before, what a guest leaves
 * in them is ignored.
 */
bool x86_kvm_init_pmu(Error **errp)
{
    int ret = 0;

    if (kvm_vm_check_extension(kvm_state, KVM_CAP_PMU_CAPABILITY) &
        KVM_PMU_CAP_DISABLE) {
        ret = kvm_vm_enable_cap(kvm_state, KVM_CAP_PMU_CAPABILITY, 0,
                                KVM_PMU_CAP_DISABLE);
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, "KVM_CAP_PMU_CAPABILITY");
    }
    return ret >= 0;
}

/*
 * QEMU's reset leaves these MSRs as the guest has set them, and so does KVM's:
 * the next guest begins with what the first one began with.  A value that KVM
 * does not take back is one that it resets by itself, or a refusal to come.
 */
static void reset_msrs(void *opaque)
{
    CPUState *cs;

    CPU_FOREACH(cs) {
        const X86KVMState *others = x86_switch_cpu(cs)->other_msrs;

        for (int i = 0; others && i < others->nmsrs; i++) {
            uint32_t index = others->msrs[i].index;
            uint64_t value;

            if (x86_kvm_get_msr(cs, index, &value) == 0 &&
                value != others->msrs[i].data) {
                x86_kvm_put_msr(cs, index, others->msrs[i].data);
            }
        }
    }
}

void x86_kvm_init_reset_msrs(void)
{
    qemu_register_reset(reset_msrs, NULL);
}

bool x86_kvm_check_msrs(CPUState *cs, X86SwitchCPU *sc, Error **errp)
{
    g_autofree X86KVMState *now = g_new(X86KVMState, 1);
    g_autofree char *diff = NULL;
    int ret = x86_kvm_state_get(cs, now, sc->other_msrs);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "vCPU %d", cs->cpu_index);
        return false;
    }
    diff = x86_state_diff(now, sc->other_msrs, X86_READ_BACK,
                          cpu_env(cs)->features);
    if (diff) {
        error_setg(errp, "vCPU %d: the guest has changed an MSR that TCG"
                   " lacks: %s; a reset changes it back", cs->cpu_index, diff);
        return false;
    }
    return true;
}
