/* SPDX-License-Identifier: GPL-2.0-or-later */
/* kvm-clock (Linux, Documentation/virt/kvm/x86/msr.rst) */
#ifndef GUEST_KVMCLOCK_H
#define GUEST_KVMCLOCK_H

#include "lib/long.h"

#define MSR_KVM_SYSTEM_TIME_NEW 0x4b564d01
#define KVM_CPUID_SIGNATURE     0x40000000
#define KVM_CPUID_FEATURES      0x40000001
#define KVM_FEATURE_CLOCK2      (1 << 3)
/* Of the page's flags: no vCPU's clock is behind another's. */
#define KVMCLOCK_STABLE         1

/* Of one vCPU. */
typedef volatile struct KVMClock {
    uint32_t version;
    uint32_t pad0;
    uint64_t tsc_timestamp;
    uint64_t system_time;
    uint32_t tsc_to_system_mul;
    int8_t tsc_shift;
    uint8_t flags;
    uint8_t pad[2];
} __attribute__((aligned(32))) KVMClock;

static inline bool kvmclock_is_there(void)
{
    uint32_t eax, ebx, ecx, edx;

    asm volatile("cpuid" : "=a" (eax), "=b" (ebx), "=c" (ecx), "=d" (edx)
                 : "a" (KVM_CPUID_SIGNATURE), "c" (0));
    if (ebx != 0x4b4d564b || ecx != 0x564b4d56 || edx != 0x4d) {
        return false;           /* not "KVMKVMKVM" */
    }
    asm volatile("cpuid" : "=a" (eax), "=b" (ebx), "=c" (ecx), "=d" (edx)
                 : "a" (KVM_CPUID_FEATURES), "c" (0));
    return eax & KVM_FEATURE_CLOCK2;
}

/* Have @clock be that of the vCPU that calls. */
static inline void kvmclock_register(KVMClock *clock)
{
    wrmsr(MSR_KVM_SYSTEM_TIME_NEW, (uintptr_t)clock | 1);
}

static inline uint64_t kvmclock_ns(const KVMClock *clock)
{
    uint64_t ticks, ns;
    uint32_t version;

    do {
        version = clock->version;
        asm volatile("" : : : "memory");
        ticks = rdtsc() - clock->tsc_timestamp;
        if (clock->tsc_shift < 0) {
            ticks >>= -clock->tsc_shift;
        } else {
            ticks <<= clock->tsc_shift;
        }
        ns = (unsigned __int128)ticks * clock->tsc_to_system_mul >> 32;
        ns += clock->system_time;
        asm volatile("" : : : "memory");
    } while (version & 1 || version != clock->version);
    return ns;
}

#endif
