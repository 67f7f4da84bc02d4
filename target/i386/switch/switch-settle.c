/*
 * What KVM keeps until a vCPU runs, and no KVM_GET_* shows: an EOI for
 * QEMU's IOAPIC, without which a level stays blocked, is an exit of the next
 * KVM_RUN (kernel: KVM_REQ_IOAPIC_EOI_EXIT); a LAPIC timer that has expired
 * outside of it comes into IRR there (FINDINGS 3.2).
 *
 * So before an export each vCPU's thread enters KVM_RUN once more, with a
 * signal pending that keeps KVM from executing an instruction.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "system/kvm.h"
#include "system/kvm_int.h"
#include "accel/kvm/kvm-cpus.h"
#include "x86-switch.h"

/*
 * The signal must be one that only KVM_RUN takes; kvm_run.immediate_exit
 * would end KVM_RUN before it has done anything.  The vCPU's thread, BQL
 * held, and let go meanwhile.
 */
static void settle_vcpu(CPUState *cs, run_on_cpu_data data)
{
    int *ret = data.host_ptr;
    g_autofree struct kvm_signal_mask *mask =
        g_malloc0(sizeof(*mask) + sizeof(sigset_t));
    sigset_t ipi, usual;

    sigemptyset(&ipi);
    sigaddset(&ipi, SIG_IPI);
    pthread_sigmask(SIG_BLOCK, &ipi, &usual);
    mask->len = kvm_state->sigmask_len;
    memcpy(mask->sigset, &usual, mask->len);
    *ret = kvm_vcpu_ioctl(cs, KVM_SET_SIGNAL_MASK, mask);
    if (*ret == 0) {
        pthread_kill(pthread_self(), SIG_IPI);
        qatomic_set(&cs->exit_request, 0);
        qatomic_set(&cs->kvm_run->immediate_exit, 0);
        kvm_cpu_exec(cs);
        kvm_vcpu_ioctl(cs, KVM_SET_SIGNAL_MASK, NULL);
    }
    pthread_sigmask(SIG_SETMASK, &usual, NULL);
}

bool switch_arch_settle_kvm(Error **errp)
{
    CPUState *cs;

    CPU_FOREACH(cs) {
        int ret = 0;

        run_on_cpu(cs, settle_vcpu, RUN_ON_CPU_HOST_PTR(&ret));
        if (ret < 0) {
            error_setg_errno(errp, -ret, "vCPU %d: KVM_SET_SIGNAL_MASK",
                             cs->cpu_index);
            return false;
        }
    }
    return true;
}
