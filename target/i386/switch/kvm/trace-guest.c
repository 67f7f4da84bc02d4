/*
 * Traces: what is read of a guest between two steps
 *
 * QEMU's own copy of the vCPU is not used: to bring it up to date, and to put
 * it back, would take longer than the step.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qemu/bitops.h"
#include "qemu/bswap.h"
#include "exec/address-spaces.h"
#include "exec/cpu-common.h"
#include "system/kvm.h"
#include "switch/kvm/trace.h"

#define NO_PAGE ((hwaddr)-1)

bool x86_trace_look(CPUState *cs, X86Trace *t)
{
    t->handlers_known = 0;
    t->epoch++;
    return kvm_vcpu_ioctl(cs, KVM_GET_REGS, &t->regs) == 0 &&
           kvm_vcpu_ioctl(cs, KVM_GET_SREGS, &t->sregs) == 0 &&
           kvm_vcpu_ioctl(cs, KVM_GET_DEBUGREGS, &t->debugregs) == 0 &&
           kvm_vcpu_ioctl(cs, KVM_GET_VCPU_EVENTS, &t->events) == 0;
}

int x86_trace_mode(const X86Trace *t)
{
    return t->sregs.cs.l && t->sregs.efer & MSR_EFER_LMA ? 8
           : t->sregs.cs.db ? 4 : 2;
}

uint64_t x86_trace_pc(const X86Trace *t)
{
    return x86_trace_mode(t) == 8 ? t->regs.rip
                                  : (uint32_t)(t->sregs.cs.base + t->regs.rip);
}

/* The guest's memory */

static AddressSpace *address_space(CPUState *cs, const X86Trace *t)
{
    return cpu_get_address_space(cs, t->in_smm && cs->num_ases > X86ASIdx_SMM
                                     ? X86ASIdx_SMM : X86ASIdx_MEM);
}

/*
 * The page at a linear address; SDM vol. 3A, "Paging".  KVM_TRANSLATE is not
 * used, as it fails for a program's pages under SMAP.
 */
static hwaddr find_page(CPUState *cs, const X86Trace *t, uint64_t address)
{
    bool is_long = t->sregs.efer & MSR_EFER_LMA;
    bool is_pae = is_long || t->sregs.cr4 & CR4_PAE_MASK;
    int bits = is_pae ? 9 : 10, size = is_pae ? 8 : 4;
    int levels = !is_pae ? 2 : !is_long ? 3
                 : t->sregs.cr4 & CR4_LA57_MASK ? 5 : 4;
    hwaddr table = t->sregs.cr3 & PG_ADDRESS_MASK;

    if (!(t->sregs.cr0 & CR0_PG_MASK)) {
        return (uint32_t)address & TARGET_PAGE_MASK;
    }
    if (is_long && sextract64(address, 0, 12 + 9 * levels) != address) {
        return NO_PAGE;
    }
    if (!is_long) {
        table = t->sregs.cr3 & (is_pae ? 0xffffffe0 : 0xfffff000);
    }
    for (int level = levels - 1; ; level--) {
        int shift = 12 + bits * level;
        int index = extract64(address, shift, MIN(bits, 64 - shift));
        uint64_t entry, mask = (1ull << shift) - 1;
        uint8_t bytes[8];

        if (levels == 3 && level == 2) {
            index &= 3;
        }
        if (address_space_read(address_space(cs, t), table + index * size,
                               MEMTXATTRS_UNSPECIFIED, bytes, size) !=
            MEMTX_OK) {
            return NO_PAGE;
        }
        entry = ldn_le_p(bytes, size);
        if (!(entry & PG_PRESENT_MASK)) {
            return NO_PAGE;
        }
        if (level && entry & PG_PSE_MASK && !(levels == 3 && level == 2) &&
            (is_pae || t->sregs.cr4 & CR4_PSE_MASK)) {
            hwaddr page = entry & PG_ADDRESS_MASK & ~mask;

            if (!is_pae) {
                page |= extract64(entry, 13, 8) << 32;
            }
            return page | (address & mask & TARGET_PAGE_MASK);
        }
        table = entry & PG_ADDRESS_MASK;
        if (!level) {
            return table;
        }
    }
}

/* Access @size bytes at a linear address, of no more than two pages. */
static int access_linear(CPUState *cs, const X86Trace *t, uint64_t address,
                         const hwaddr page[2], void *bytes, int size,
                         bool is_write)
{
    int first = MIN(size, TARGET_PAGE_SIZE - (address & ~TARGET_PAGE_MASK));
    const hwaddr at[2] = {
        page[0] == NO_PAGE ? NO_PAGE : page[0] + (address & ~TARGET_PAGE_MASK),
        page[1],
    };
    const int length[2] = { first, size - first };
    int done = 0;

    for (int i = 0; i < 2 && length[i]; i++) {
        if (at[i] == NO_PAGE ||
            address_space_rw(address_space(cs, t), at[i],
                             MEMTXATTRS_UNSPECIFIED, (uint8_t *)bytes + done,
                             length[i], is_write) != MEMTX_OK) {
            break;
        }
        done += length[i];
    }
    return done;
}

static bool rw_linear(CPUState *cs, const X86Trace *t, uint64_t address,
                      void *bytes, int size, bool is_write)
{
    hwaddr page[2] = { find_page(cs, t, address), NO_PAGE };

    if ((address ^ (address + size - 1)) & TARGET_PAGE_MASK) {
        page[1] = find_page(cs, t, address + size - 1);
    }
    return access_linear(cs, t, address, page, bytes, size, is_write) == size;
}

static bool read_number(CPUState *cs, const X86Trace *t, uint64_t address,
                        int size, uint64_t *value)
{
    uint8_t bytes[8];

    if (!rw_linear(cs, t, address, bytes, size, false)) {
        return false;
    }
    *value = ldn_le_p(bytes, size);
    return true;
}

/* Code */

static void find_code(CPUState *cs, X86Trace *t, X86TraceCode *c)
{
    c->epoch = t->epoch;
    c->page[0] = find_page(cs, t, c->pc);
    c->page[1] = (c->pc ^ (c->pc + X86_TRACE_CODE_BYTES - 1)) &
                 TARGET_PAGE_MASK
                 ? find_page(cs, t, c->pc + X86_TRACE_CODE_BYTES - 1) : NO_PAGE;
}

X86TraceCode *x86_trace_code(CPUState *cs, X86Trace *t, uint64_t pc)
{
    X86TraceCode *c = g_hash_table_lookup(t->codes, &pc);
    uint8_t code[X86_TRACE_CODE_BYTES];
    int bytes, mode = x86_trace_mode(t);

    if (!c) {
        c = g_new0(X86TraceCode, 1);
        c->pc = pc;
        c->bytes = -1;
        g_hash_table_insert(t->codes, &c->pc, c);
    }
    /* A page that becomes present needs no INVLPG. */
    if (c->epoch != t->epoch || c->bytes < X86_TRACE_CODE_BYTES) {
        find_code(cs, t, c);
    }
    bytes = access_linear(cs, t, pc, c->page, code, sizeof(code), false);
    if (bytes != c->bytes || mode != c->mode ||
        memcmp(code, c->code, bytes)) {
        /* It is new, or the guest has other code there now. */
        memcpy(c->code, code, bytes);
        c->bytes = bytes;
        c->mode = mode;
        c->insn = x86_trace_decode(code, bytes, mode);
        c->in_file = false;
    }
    return c;
}

/* Handlers; SDM vol. 3A, "IDT Descriptors" */

typedef struct Gate {
    uint64_t entry;             /* linear; 0: none */
    int slot_bytes;             /* of what is pushed: 2, 4 or 8 */
} Gate;

static Gate find_gate(CPUState *cs, X86Trace *t, uint8_t vector)
{
    bool is_protected = t->sregs.cr0 & CR0_PE_MASK;
    bool is_long = t->sregs.efer & MSR_EFER_LMA;
    int size = !is_protected ? 4 : is_long ? 16 : 8;
    uint64_t at = t->sregs.idt.base + vector * size;
    uint64_t low, high = 0;
    int type;

    if (vector * size + size - 1 > t->sregs.idt.limit ||
        !read_number(cs, t, at, MIN(size, 8), &low) ||
        (is_long && !read_number(cs, t, at + 8, 8, &high))) {
        return (Gate) {};
    }
    if (!is_protected) {
        return (Gate) { (low >> 16 << 4 & 0xffff0) + (low & 0xffff), 2 };
    }
    type = low >> 40 & 0xf;
    if (!(low >> 32 & DESC_P_MASK) || type == 5) {
        return (Gate) {};       /* 5: a task gate */
    }
    low = (low & 0xffff) | (type & 8 ? low >> 32 & 0xffff0000 : 0);
    return (Gate) {
        /* The segments of a kernel that has a flat memory begin at 0. */
        .entry = low | high << 32, .slot_bytes = is_long ? 8 : type & 8 ? 4 : 2,
    };
}

uint64_t x86_trace_handler(CPUState *cs, X86Trace *t, uint8_t vector)
{
    if (vector >= X86_TRACE_VECTORS) {
        return find_gate(cs, t, vector).entry;
    }
    if (!(t->handlers_known & 1u << vector)) {
        t->handler[vector] = find_gate(cs, t, vector).entry;
        t->handlers_known |= 1u << vector;
    }
    return t->handler[vector];
}

/* SDM vol. 3A, "Task Management" */
uint64_t x86_trace_task_entry(CPUState *cs, const X86Trace *t,
                              uint16_t selector)
{
    uint64_t descriptor, base, link = selector, entry = 0;
    int type;

    if (!selector &&
        (!(t->regs.rflags & NT_MASK) ||
         !read_number(cs, t, t->sregs.tr.base, 2, &link))) {
        return 0;
    }
    for (int i = 0; i < 2; i++) {
        if (!(link & ~7) || link & 4 || (link | 7) > t->sregs.gdt.limit ||
            !read_number(cs, t, t->sregs.gdt.base + (link & ~7), 8,
                         &descriptor)) {
            return 0;
        }
        type = descriptor >> 40 & 0x1f;
        if (type != 5) {
            break;
        }
        link = descriptor >> 16 & 0xffff;   /* a task gate */
    }
    if ((type & 0x15) != 1 || t->sregs.efer & MSR_EFER_LMA) {
        return 0;               /* not a TSS */
    }
    base = (descriptor >> 16 & 0xffffff) | (descriptor >> 32 & 0xff000000);
    read_number(cs, t, base + (type & 8 ? 0x20 : 0xe), type & 8 ? 4 : 2,
                &entry);
    return entry;
}

uint64_t x86_trace_syscall_entry(CPUState *cs, const X86Trace *t)
{
    uint64_t value;
    bool is_long = t->sregs.efer & MSR_EFER_LMA;
    uint32_t msr = !is_long ? MSR_STAR
                   : x86_trace_mode(t) == 8 ? MSR_LSTAR : MSR_CSTAR;

    if (x86_kvm_get_msr(cs, msr, &value) < 0) {
        return 0;
    }
    return is_long ? value : (uint32_t)value;
}

/* The stack */

static uint64_t stack_pointer(const X86Trace *t)
{
    if (x86_trace_mode(t) == 8) {
        return t->regs.rsp;
    }
    return (uint32_t)(t->sregs.ss.base +
                      (t->sregs.ss.db ? (uint32_t)t->regs.rsp
                                      : (uint16_t)t->regs.rsp));
}

uint64_t x86_trace_flags_to_load(CPUState *cs, const X86Trace *t,
                                 const X86TraceInsn *insn, uint64_t *target)
{
    uint64_t flags = 0, sp = stack_pointer(t);
    int size = insn->operand_bytes;

    *target = 0;
    switch (insn->kind) {
    case X86_TRACE_SYSRET:
        *target = size == 8 ? t->regs.rcx : (uint32_t)t->regs.rcx;
        return t->regs.r11;
    case X86_TRACE_IRET:
        if (!(t->regs.rflags & NT_MASK) &&
            read_number(cs, t, sp, size, target)) {
            read_number(cs, t, sp + 2 * size, size, &flags);
        }
        return flags;
    default:
        read_number(cs, t, sp, size, &flags);
        return flags;
    }
}

/* SDM vol. 3A, "Error Code" */
static bool has_error_code(uint8_t vector)
{
    return vector == EXCP08_DBLE || vector == EXCP11_ALGN ||
           (vector >= EXCP0A_TSS && vector <= EXCP0E_PAGE);
}

void x86_trace_clear_pushed_tf(CPUState *cs, X86Trace *t, uint8_t vector)
{
    Gate gate = find_gate(cs, t, vector);
    bool with_code = has_error_code(vector) && t->sregs.cr0 & CR0_PE_MASK;
    /* What was pushed, from the top: error code, RIP, CS, flags */
    uint64_t at = stack_pointer(t) + gate.slot_bytes * (2 + with_code);
    uint64_t flags;
    uint8_t bytes[8];

    if (gate.slot_bytes && read_number(cs, t, at, gate.slot_bytes, &flags) &&
        flags & TF_MASK) {
        stn_le_p(bytes, gate.slot_bytes, flags & ~(uint64_t)TF_MASK);
        rw_linear(cs, t, at, bytes, gate.slot_bytes, true);
    }
}
