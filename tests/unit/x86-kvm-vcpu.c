/*
 * One vCPU of /dev/kvm, for a program that needs nothing but its ioctls
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include <sys/ioctl.h>
#include <sys/mman.h>
#include "standard-headers/asm-x86/kvm_para.h"
#include "x86-kvm-vcpu.h"

#define MAX_CPUID 256

int oracle_open(const char *device, const char **why)
{
    int fd = open(device, O_RDWR | O_CLOEXEC);

    if (fd < 0) {
        *why = errno == ENOENT
            ? "there is no /dev/kvm: turn virtualization on in the firmware,"
              " and load kvm_intel or kvm_amd" :
            errno == EACCES || errno == EPERM
            ? "this user may not open /dev/kvm: have it join the group kvm"
            : "/dev/kvm has no hardware to use: where this is a virtual"
              " machine, turn nested virtualization on in its host";
        return -1;
    }
    if (ioctl(fd, KVM_GET_API_VERSION, 0) != KVM_API_VERSION) {
        *why = "/dev/kvm is no KVM with an interface that this program knows";
    } else if (ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_SPLIT_IRQCHIP) <= 0) {
        *why = "this KVM is too old: it has no split irqchip (Linux 4.5)";
    } else {
        return fd;
    }
    close(fd);
    return -1;
}

static void set_feature(FeatureWordArray features,
                        const struct kvm_cpuid_entry2 *e)
{
    static const struct {
        uint32_t leaf, index;
        FeatureWord word;
        size_t reg;
    } words[] = {
#define REG(r) offsetof(struct kvm_cpuid_entry2, r)
        { 1, 0, FEAT_1_ECX, REG(ecx) },
        { 1, 0, FEAT_1_EDX, REG(edx) },
        { 7, 0, FEAT_7_0_EBX, REG(ebx) },
        { 7, 0, FEAT_7_0_ECX, REG(ecx) },
        { 7, 0, FEAT_7_0_EDX, REG(edx) },
        { 0xd, 1, FEAT_XSAVE, REG(eax) },
        { 0x80000001, 0, FEAT_8000_0001_ECX, REG(ecx) },
        { 0x80000001, 0, FEAT_8000_0001_EDX, REG(edx) },
        { 0x80000008, 0, FEAT_8000_0008_EBX, REG(ebx) },
        { KVM_CPUID_FEATURES, 0, FEAT_KVM, REG(eax) },
#undef REG
    };

    for (int i = 0; i < ARRAY_SIZE(words); i++) {
        if (e->function == words[i].leaf && e->index == words[i].index) {
            features[words[i].word] = ldl_he_p((const char *)e + words[i].reg);
        }
    }
}

/* Take away what some MSR of the table needs, and nested guests. */
static void remove_features(struct kvm_cpuid_entry2 *e)
{
    switch (e->function) {
    case 1:
        e->ecx &= ~(CPUID_EXT_PDCM | CPUID_EXT_TSC_DEADLINE_TIMER |
                    CPUID_EXT_VMX);
        break;
    case 7:
        if (e->index == 0) {
            e->ebx &= ~(CPUID_7_0_EBX_TSC_ADJUST | CPUID_7_0_EBX_MPX);
            e->ecx &= ~(CPUID_7_0_ECX_WAITPKG | CPUID_7_0_ECX_PKS);
            e->edx = 0;
        }
        break;
    case 0xd:
        if (e->index == 1) {
            e->eax &= ~(CPUID_XSAVE_XSAVES | CPUID_D_1_EAX_XFD);
        }
        break;
    case 0x80000001:
        e->ecx &= ~CPUID_EXT3_SVM;
        break;
    case 0x80000008:
        e->ebx = 0;
        break;
    case KVM_CPUID_FEATURES:
        e->eax = 0;
        break;
    }
}

static void set_cpuid(OracleVCPU *v, bool without_features)
{
    g_autofree struct kvm_cpuid2 *table =
        g_malloc0(sizeof(*table) + MAX_CPUID * sizeof(table->entries[0]));

    table->nent = MAX_CPUID;
    g_assert(ioctl(v->kvm, KVM_GET_SUPPORTED_CPUID, table) == 0);
    for (int i = 0; i < table->nent; i++) {
        struct kvm_cpuid_entry2 *e = &table->entries[i];

        if (e->function == 1) {
            e->ecx |= CPUID_EXT_X2APIC;
        }
        if (without_features) {
            remove_features(e);
        }
        set_feature(v->features, e);
    }
    g_assert(ioctl(v->fd, KVM_SET_CPUID2, table) == 0);
}

static bool make_irqchip(OracleVCPU *v)
{
    struct kvm_enable_cap split = {
        .cap = KVM_CAP_SPLIT_IRQCHIP, .args[0] = 24,
    };
    struct kvm_enable_cap x2apic = {
        .cap = KVM_CAP_X2APIC_API,
        .args[0] = KVM_X2APIC_API_USE_32BIT_IDS |
                   KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK,
    };

    if (v->irqchip == ORACLE_IN_KERNEL) {
        return ioctl(v->vm, KVM_CREATE_IRQCHIP, 0) == 0;
    }
    return ioctl(v->vm, KVM_ENABLE_CAP, &split) == 0 &&
           (v->irqchip == ORACLE_SPLIT ||
            ioctl(v->vm, KVM_ENABLE_CAP, &x2apic) == 0);
}

static void switch_pmu_off(OracleVCPU *v)
{
    struct kvm_enable_cap pmu = {
        .cap = KVM_CAP_PMU_CAPABILITY, .args[0] = KVM_PMU_CAP_DISABLE,
    };

    ioctl(v->vm, KVM_ENABLE_CAP, &pmu);
}

bool oracle_make(OracleVCPU *v, int kvm, OracleIrqchip irqchip,
                 bool without_features)
{
    uint64_t identity_map = 0xfeffc000;
    struct kvm_userspace_memory_region ram = { .memory_size = ORACLE_RAM };

    *v = (OracleVCPU) { .kvm = kvm, .irqchip = irqchip, .fd = -1 };
    v->vm = ioctl(kvm, KVM_CREATE_VM, 0);
    g_assert(v->vm >= 0);
    /* For VMX without unrestricted guest */
    ioctl(v->vm, KVM_SET_IDENTITY_MAP_ADDR, &identity_map);
    ioctl(v->vm, KVM_SET_TSS_ADDR, identity_map + 0x1000);
    switch_pmu_off(v);
    v->ram = mmap(NULL, ORACLE_RAM, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    g_assert(v->ram != MAP_FAILED);
    if (!make_irqchip(v)) {
        oracle_destroy(v);
        return false;
    }
    ram.userspace_addr = (uintptr_t)v->ram;
    g_assert(ioctl(v->vm, KVM_SET_USER_MEMORY_REGION, &ram) == 0);
    v->fd = ioctl(v->vm, KVM_CREATE_VCPU, 0);
    g_assert(v->fd >= 0);
    set_cpuid(v, without_features);
    for (int i = 0; i < x86_state_part_count; i++) {
        X86KVMState s = {};

        if (oracle_get(v, &s, x86_state_parts[i].part) == 0) {
            v->parts |= x86_state_parts[i].part;
        }
    }
    return true;
}

void oracle_destroy(OracleVCPU *v)
{
    if (v->fd >= 0) {
        close(v->fd);
    }
    close(v->vm);
    munmap(v->ram, ORACLE_RAM);
}

static int call(OracleVCPU *v, unsigned long request, void *argument)
{
    return ioctl(v->fd, request, argument) < 0 ? -errno : 0;
}

static int tsc_offset(OracleVCPU *v, X86KVMState *s, unsigned long request)
{
    struct kvm_device_attr attr = {
        .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET,
        .addr = (uintptr_t)&s->tsc_offset,
    };

    return call(v, request, &attr);
}

int oracle_get(OracleVCPU *v, X86KVMState *s, unsigned part)
{
    const X86StatePart *p = x86_state_part(part);
    int ret = part == X86_KVM_TSC_OFFSET
              ? tsc_offset(v, s, p->get)
              : call(v, p->get, (char *)s + p->offset);

    s->have |= ret == 0 ? part : 0;
    return ret;
}

int oracle_put(OracleVCPU *v, X86KVMState *s, unsigned part)
{
    const X86StatePart *p = x86_state_part(part);

    if (part == X86_KVM_TSC_OFFSET) {
        return tsc_offset(v, s, p->set);
    }
    return call(v, p->set, (char *)s + p->offset);
}

void oracle_get_all(OracleVCPU *v, X86KVMState *s)
{
    memset(s, 0, sizeof(*s));
    for (int i = 0; i < x86_state_part_count; i++) {
        if (v->parts & x86_state_parts[i].part) {
            g_assert(oracle_get(v, s, x86_state_parts[i].part) == 0);
        }
    }
}

static int msr_call(OracleVCPU *v, unsigned long request, uint32_t index,
                    uint64_t *value)
{
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry entry;
    } msrs = {
        .head.nmsrs = 1, .entry = { .index = index, .data = *value },
    };
    int ret = ioctl(v->fd, request, &msrs);

    *value = msrs.entry.data;
    return ret < 0 ? -errno : ret;
}

int oracle_get_msr(OracleVCPU *v, uint32_t index, uint64_t *value)
{
    *value = 0;
    return msr_call(v, KVM_GET_MSRS, index, value);
}

int oracle_put_msr(OracleVCPU *v, uint32_t index, uint64_t value)
{
    return msr_call(v, KVM_SET_MSRS, index, &value);
}
