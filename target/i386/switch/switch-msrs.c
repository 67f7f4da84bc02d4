/*
 * MSRs that KVM keeps and QEMU takes no notice of
 *
 * They stay in KVM while the guest is in TCG, which has none of them: one that
 * is as KVM began with it is not missed.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "kvm/hyperv-proto.h"
#include "system/kvm.h"
#include "standard-headers/asm-x86/kvm_para.h"
#include "x86-switch.h"

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

/* Those that KVM lists, and that say nothing of the guest. */
static bool is_no_guests(uint32_t index)
{
    return
        /* QEMU takes them by their older numbers. */
        index == MSR_KVM_WALL_CLOCK_NEW || index == MSR_KVM_SYSTEM_TIME_NEW ||
        /* Hyper-V's, which no guest has (hv-* is refused). */
        (index & ~0x1ff) == HV_X64_MSR_GUEST_OS_ID;
}

bool x86_switch_has_feature_control(CPUState *cs)
{
    uint64_t value;
    bool has = x86_kvm_get_msr(cs, MSR_IA32_FEATURE_CONTROL, &value) == 0;

    x86_switch_cpu(cs)->has_feature_control = has;
    return has;
}

static void drop_msr(X86KVMState *s, int i)
{
    s->msrs[i] = s->msrs[--s->nmsrs];
}

bool x86_switch_init_msrs(CPUState *cs, X86SwitchCPU *sc, Error **errp)
{
    int ret;

    sc->other_msrs = g_new0(X86KVMState, 1);
    ret = x86_kvm_add_listed_msrs(cs, sc->other_msrs);
    if (ret < 0) {
        error_setg_errno(errp, -ret, "KVM_GET_MSR_INDEX_LIST");
        return false;
    }
    for (int i = sc->other_msrs->nmsrs - 1; i >= 0; i--) {
        if (is_no_guests(sc->other_msrs->msrs[i].index)) {
            drop_msr(sc->other_msrs, i);
        }
    }
    return true;
}

void x86_switch_took_msrs(X86SwitchCPU *sc, const struct kvm_msrs *taken)
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

bool x86_switch_takes_msr(const X86SwitchCPU *sc, uint32_t index)
{
    for (int i = 0; i < sc->other_msrs->nmsrs; i++) {
        if (sc->other_msrs->msrs[i].index == index) {
            return false;
        }
    }
    return !is_no_guests(index);
}

bool x86_switch_check_msrs(CPUState *cs, X86SwitchCPU *sc, Error **errp)
{
    g_autofree X86KVMState *now = g_new(X86KVMState, 1);
    g_autofree char *diff = NULL;
    int ret = x86_kvm_state_get(cs, now, sc->other_msrs);

    if (ret < 0) {
        error_setg_errno(errp, -ret, "vCPU %d", cs->cpu_index);
        return false;
    }
    diff = x86_kvm_state_diff(now, sc->other_msrs);
    if (diff) {
        error_setg(errp, "vCPU %d: the guest has set what TCG does not have:"
                   " %s", cs->cpu_index, diff);
        return false;
    }
    return true;
}
