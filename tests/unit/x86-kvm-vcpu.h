/*
 * One vCPU of /dev/kvm, for a program that needs nothing but its ioctls
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TEST_X86_KVM_VCPU_H
#define TEST_X86_KVM_VCPU_H

#include "target/i386/switch/state/table.h"

/* How a VM's interrupt controllers are made. */
typedef enum OracleIrqchip {
    ORACLE_SPLIT_X2APIC_API,    /* as QEMU has it with -accel switch */
    ORACLE_SPLIT,               /* without KVM_CAP_X2APIC_API */
    ORACLE_IN_KERNEL,
    ORACLE_IRQCHIP__MAX,
} OracleIrqchip;

typedef struct OracleVCPU {
    int kvm, vm, fd;
    OracleIrqchip irqchip;
    unsigned parts;             /* bits of X86KVMState.have that KVM has */
    void *ram;                  /* ORACLE_RAM bytes at 0 */
    FeatureWordArray features;  /* of the guest's CPU */
} OracleVCPU;

#define ORACLE_RAM (1 << 20)

/**
 * oracle_open: @device, which should be /dev/kvm, if it can be used
 *
 * Returns a file descriptor, or -1, and *@why, constant, is one sentence.
 */
int oracle_open(const char *device, const char **why);

/**
 * oracle_make: a VM with one vCPU
 * @without_features: its CPUID lacks what the table's MSRs need
 *
 * Returns false if this KVM has no such irqchip.  Aborts on what every KVM can.
 */
bool oracle_make(OracleVCPU *v, int kvm, OracleIrqchip irqchip,
                 bool without_features);
void oracle_destroy(OracleVCPU *v);

/* What one ioctl moves.  0 or a negative errno. */
int oracle_get(OracleVCPU *v, X86KVMState *s, unsigned part);
int oracle_put(OracleVCPU *v, X86KVMState *s, unsigned part);
/* All parts; aborts if one fails. */
void oracle_get_all(OracleVCPU *v, X86KVMState *s);

/* 1 if KVM took it, 0 if it refused, a negative errno. */
int oracle_get_msr(OracleVCPU *v, uint32_t index, uint64_t *value);
int oracle_put_msr(OracleVCPU *v, uint32_t index, uint64_t value);

#endif
