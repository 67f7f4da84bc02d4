/*
 * Reading what KVM holds of a vCPU, and noting what it is given
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "system/kvm.h"
#include "cpu.h"
#include "switch/kvm/vcpu.h"

static void saw_msr(X86KVMState *s, const struct kvm_msr_entry *entry)
{
    for (int i = 0; i < s->nmsrs; i++) {
        if (s->msrs[i].index == entry->index) {
            s->msrs[i].data = entry->data;
            return;
        }
    }
    if (s->nmsrs < X86_KVM_MSRS_MAX) {
        s->msrs[s->nmsrs++] = *entry;
    }
}

/* The older form has the interrupt bitmap where the newer has its flags. */
static void saw_sregs(X86KVMState *s, const struct kvm_sregs *sregs)
{
    QEMU_BUILD_BUG_ON(offsetof(struct kvm_sregs, interrupt_bitmap) !=
                      offsetof(struct kvm_sregs2, flags));
    memset(&s->sregs, 0, sizeof(s->sregs));
    memcpy(&s->sregs, sregs, offsetof(struct kvm_sregs, interrupt_bitmap));
}

void x86_kvm_state_saw(X86KVMState *s, unsigned long type, const void *arg)
{
    const struct kvm_device_attr *attr = arg;
    const struct kvm_msrs *msrs = arg;

    switch (type) {
    case KVM_SET_REGS:
        s->regs = *(const struct kvm_regs *)arg;
        s->have |= X86_KVM_REGS;
        break;
    case KVM_SET_SREGS:
        saw_sregs(s, arg);
        s->have |= X86_KVM_SREGS;
        s->have &= ~X86_KVM_PDPTRS;
        break;
    case KVM_SET_SREGS2:
        s->sregs = *(const struct kvm_sregs2 *)arg;
        s->have |= X86_KVM_SREGS;
        s->have &= ~X86_KVM_PDPTRS;
        if (s->sregs.flags & KVM_SREGS2_FLAGS_PDPTRS_VALID) {
            s->have |= X86_KVM_PDPTRS;
        }
        break;
    case KVM_SET_XSAVE:
        s->xsave = *(const struct kvm_xsave *)arg;
        s->have |= X86_KVM_XSAVE;
        break;
    case KVM_SET_XCRS:
        s->xcrs = *(const struct kvm_xcrs *)arg;
        s->have |= X86_KVM_XCRS;
        break;
    case KVM_SET_VCPU_EVENTS:
        s->events = *(const struct kvm_vcpu_events *)arg;
        s->have |= X86_KVM_EVENTS;
        break;
    case KVM_SET_DEBUGREGS:
        s->debugregs = *(const struct kvm_debugregs *)arg;
        s->have |= X86_KVM_DEBUGREGS;
        break;
    case KVM_SET_MP_STATE:
        s->mp_state = *(const struct kvm_mp_state *)arg;
        s->have |= X86_KVM_MP_STATE;
        break;
    case KVM_SET_LAPIC:
        s->lapic = *(const struct kvm_lapic_state *)arg;
        s->have |= X86_KVM_LAPIC;
        break;
    case KVM_SET_DEVICE_ATTR:
        if (attr->group == KVM_VCPU_TSC_CTRL) {
            s->tsc_offset = *(const int64_t *)(uintptr_t)attr->addr;
            s->have |= X86_KVM_TSC_OFFSET;
        }
        break;
    case KVM_SET_MSRS:
        for (int i = 0; i < msrs->nmsrs; i++) {
            saw_msr(s, &msrs->entries[i]);
        }
        break;
    }
}

static int get_sregs(CPUState *cs, X86KVMState *s)
{
    struct kvm_sregs sregs;
    int ret;

    if (kvm_check_extension(kvm_state, KVM_CAP_SREGS2)) {
        ret = kvm_vcpu_ioctl(cs, KVM_GET_SREGS2, &s->sregs);
        if (s->sregs.flags & KVM_SREGS2_FLAGS_PDPTRS_VALID) {
            s->have |= X86_KVM_PDPTRS;
        }
        return ret;
    }
    ret = kvm_vcpu_ioctl(cs, KVM_GET_SREGS, &sregs);
    if (ret == 0) {
        saw_sregs(s, &sregs);
    }
    return ret;
}

/* Its interrupt bitmap is empty: events have the interrupt. */
static int put_sregs(CPUState *cs, const X86KVMState *s)
{
    struct kvm_sregs sregs = {};

    memcpy(&sregs, &s->sregs, offsetof(struct kvm_sregs2, flags));
    return kvm_vcpu_ioctl(cs, KVM_SET_SREGS, &sregs);
}

static int get_msrs(CPUState *cs, X86KVMState *s, const X86KVMState *like)
{
    g_autofree struct kvm_msrs *msrs =
        g_malloc0(sizeof(*msrs) + sizeof(like->msrs));
    int ret;

    msrs->nmsrs = like->nmsrs;
    memcpy(msrs->entries, like->msrs, sizeof(like->msrs));
    ret = kvm_vcpu_ioctl(cs, KVM_GET_MSRS, msrs);
    if (ret < 0) {
        return ret;
    }
    if (ret < msrs->nmsrs) {
        return -EINVAL;
    }
    s->nmsrs = msrs->nmsrs;
    memcpy(s->msrs, msrs->entries, sizeof(s->msrs));
    return 0;
}

static int msr_ioctl(CPUState *cs, unsigned long type, uint32_t index,
                     uint64_t *value)
{
    struct {
        struct kvm_msrs info;
        struct kvm_msr_entry entry;
    } msr = {
        .info.nmsrs = 1,
        .entry = { .index = index, .data = *value },
    };
    int ret = kvm_vcpu_ioctl(cs, type, &msr);

    if (ret != 1) {
        return ret < 0 ? ret : -EINVAL;
    }
    *value = msr.entry.data;
    return 0;
}

int x86_kvm_get_msr(CPUState *cs, uint32_t index, uint64_t *value)
{
    *value = 0;
    return msr_ioctl(cs, KVM_GET_MSRS, index, value);
}

int x86_kvm_put_msr(CPUState *cs, uint32_t index, uint64_t value)
{
    return msr_ioctl(cs, KVM_SET_MSRS, index, &value);
}

static int tsc_offset_ioctl(CPUState *cs, X86KVMState *s, unsigned long type)
{
    struct kvm_device_attr tsc = {
        .group = KVM_VCPU_TSC_CTRL,
        .attr = KVM_VCPU_TSC_OFFSET,
        .addr = (uintptr_t)&s->tsc_offset,
    };

    return kvm_vcpu_ioctl(cs, type, &tsc);
}

int x86_kvm_state_get_part(CPUState *cs, X86KVMState *s, unsigned part)
{
    const X86StatePart *p = x86_state_part(part);

    switch (part) {
    case X86_KVM_SREGS:
        return get_sregs(cs, s);
    case X86_KVM_TSC_OFFSET:
        return tsc_offset_ioctl(cs, s, p->get);
    default:
        return kvm_vcpu_ioctl(cs, p->get, (char *)s + p->offset);
    }
}

int x86_kvm_state_put_part(CPUState *cs, X86KVMState *s, unsigned part)
{
    const X86StatePart *p = x86_state_part(part);

    switch (part) {
    case X86_KVM_SREGS:
        return put_sregs(cs, s);
    case X86_KVM_TSC_OFFSET:
        return tsc_offset_ioctl(cs, s, p->set);
    default:
        return kvm_vcpu_ioctl(cs, p->set, (char *)s + p->offset);
    }
}

int x86_kvm_state_get(CPUState *cs, X86KVMState *s, const X86KVMState *like)
{
    memset(s, 0, sizeof(*s));
    s->have = like->have & ~X86_KVM_PDPTRS;
    for (int i = 0; i < x86_state_part_count; i++) {
        int ret = like->have & x86_state_parts[i].part
                  ? x86_kvm_state_get_part(cs, s, x86_state_parts[i].part) : 0;

        if (ret < 0) {
            return ret;
        }
    }
    return like->nmsrs ? get_msrs(cs, s, like) : 0;
}
