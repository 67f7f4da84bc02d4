/*
 * Where a vCPU is, and where the guest's handlers are
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/bswap.h"
#include "exec/cpu-common.h"
#include "system/hw_accel.h"
#include "switch/x86-switch.h"

/* SDM vol. 3A, "Interrupt 0x80" is Linux's way of a system call. */
#define LINUX_INT 0x80

void switch_arch_get_pc(CPUState *cs, uint64_t *pc, uint64_t *cr3)
{
    CPUX86State *env = cpu_env(cs);

    *pc = env->eip;
    *cr3 = env->cr[3];
}

uint64_t switch_arch_page_table(CPUState *cs)
{
    CPUX86State *env = cpu_env(cs);

    return env->cr[3] & x86_cr3_address(env->cr[4], env->efer);
}

vaddr switch_arch_stack_pointer(CPUState *cs)
{
    CPUX86State *env = cpu_env(cs);

    if (env->hflags & HF_CS64_MASK) {
        return env->regs[R_ESP];
    }
    return (uint32_t)(env->segs[R_SS].base +
                      (env->hflags & HF_SS32_MASK
                       ? (uint32_t)env->regs[R_ESP]
                       : (uint16_t)env->regs[R_ESP]));
}

/* A number of @size bytes at a linear address; false if it can't be read. */
static bool read_linear(CPUState *cs, vaddr address, int size, uint64_t *value)
{
    uint8_t bytes[8];

    if (cpu_memory_rw_debug(cs, address, bytes, size, false) < 0) {
        return false;
    }
    *value = ldn_le_p(bytes, size);
    return true;
}

bool switch_arch_find_return(CPUState *cs, SwitchReturn *way)
{
    CPUX86State *env = cpu_env(cs);
    int size = env->hflags & HF_CS64_MASK ? 8
             : env->hflags & HF_CS32_MASK ? 4 : 2;
    uint64_t address;

    way->sp = switch_arch_stack_pointer(cs);
    way->page_table = switch_arch_page_table(cs);
    if (!read_linear(cs, way->sp, size, &address)) {
        return false;
    }
    way->address = size == 8 ? address
                             : (uint32_t)(env->segs[R_CS].base + address);
    return true;
}

/* Where an interrupt leads; SDM vol. 3A, "IDT Descriptors" */
static bool interrupt_entry(CPUState *cs, uint8_t vector, vaddr *entry)
{
    CPUX86State *env = cpu_env(cs);
    bool protected = env->cr[0] & CR0_PE_MASK;
    bool longmode = env->efer & MSR_EFER_LMA;
    int size = !protected ? 4 : longmode ? 16 : 8;
    uint64_t low, high = 0;

    if (vector * size + size - 1 > env->idt.limit ||
        !read_linear(cs, env->idt.base + vector * size, MIN(size, 8), &low) ||
        (size == 16 &&
         !read_linear(cs, env->idt.base + vector * size + 8, 8, &high))) {
        return false;
    }
    if (!protected) {
        *entry = (low >> 16 << 4) + (low & 0xffff);
        return true;
    }
    if (!(low >> 32 & DESC_P_MASK)) {
        return false;
    }
    /* The segments of a kernel that has a flat memory begin at 0. */
    *entry = (low & 0xffff) | (low >> 32 & 0xffff0000) | high << 32;
    return true;
}

int switch_arch_interrupt_entry(uint8_t vector, vaddr entry[1], Error **errp)
{
    cpu_synchronize_state(first_cpu);
    if (!interrupt_entry(first_cpu, vector, entry)) {
        error_setg(errp, "the guest has no handler for interrupt %d yet",
                   vector);
        return 0;
    }
    return 1;
}

int switch_arch_syscall_entries(vaddr entry[2], Error **errp)
{
    CPUX86State *env = cpu_env(first_cpu);
    int count = 0;

    cpu_synchronize_state(first_cpu);
#ifdef TARGET_X86_64
    if (env->efer & MSR_EFER_LMA) {
        if (env->efer & MSR_EFER_SCE && env->lstar) {
            entry[count++] = env->lstar;
        }
    } else
#endif
    {
        if (env->sysenter_cs & 0xfffc) {
            entry[count++] = env->sysenter_eip;
        }
        if (env->cr[0] & CR0_PE_MASK &&
            interrupt_entry(first_cpu, LINUX_INT, &entry[count])) {
            count++;
        }
    }
    if (!count) {
        error_setg(errp, "the guest has no handler for system calls yet");
    }
    return count;
}
