/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Accesses at CPL0 that may fault, and go on behind themselves then. */
#ifndef GUEST_FAULT_H
#define GUEST_FAULT_H

#include "lib/control.h"
#include "lib/long.h"

#define VECTOR_DF       8
#define VECTOR_GP       13
#define VECTOR_PF       14

/* Bits of a page fault's error code. */
#define FAULT_P         0x01
#define FAULT_W         0x02
#define FAULT_RESERVED  0x08
#define FAULT_FETCH     0x10

/* A macro's value, for assembly. */
#define STRING(macro)   STRING_(macro)
#define STRING_(text)   #text

typedef struct Fault {
    uint64_t rip, rsp;                  /* where it goes on; 0: no fault now */
    uint64_t count;
    uint64_t vector, error_code, address; /* of the last one */
} Fault;

static Fault fault;

/* For trap(): whether it was such an access. */
static inline bool fault_taken(Frame *frame)
{
    if (!fault.rip) {
        return false;
    }
    fault.count++;
    fault.vector = frame->vector;
    fault.error_code = frame->error_code;
    fault.address = read_cr2();
    frame->rip = fault.rip;
    frame->rsp = fault.rsp;
    return true;
}

/*
 * Instructions of which one may fault; the fault's vector, or 0.  They may use
 * RAX, RCX, RDX and R11; EDX is 0xd0.  Operands begin with %2.
 */
#define MAY_FAULT(instruction, ...) ({                                  \
    uint64_t before_ = fault.count;                                     \
    asm volatile("leaq 1f(%%rip), %%rax\n\t"                            \
                 "movq %%rax, %0\n\t"                                   \
                 "movq %%rsp, %1\n\t"                                   \
                 "movl $0xd0, %%edx\n\t"                                \
                 instruction "\n"                                       \
                 "1:"                                                   \
                 : "=m" (fault.rip), "=m" (fault.rsp)                   \
                 : __VA_ARGS__ : "rax", "rcx", "rdx", "r11", "memory"); \
    fault.rip = 0;                                                      \
    fault.count == before_ ? 0 : fault.vector;                          \
})

/* 0 after a fault. */
static inline uint32_t may_load(uint64_t address)
{
    uint32_t value = 0;

    asm volatile("leaq 1f(%%rip), %%rax\n\t"
                 "movq %%rax, %1\n\t"
                 "movq %%rsp, %2\n\t"
                 "movl (%3), %0\n"
                 "1:"
                 : "+&r" (value), "=m" (fault.rip), "=m" (fault.rsp)
                 : "r" (address) : "rax", "memory");
    fault.rip = 0;
    return value;
}

static inline void may_store(uint64_t address, uint32_t value)
{
    asm volatile("leaq 1f(%%rip), %%rax\n\t"
                 "movq %%rax, %0\n\t"
                 "movq %%rsp, %1\n\t"
                 "movl %2, (%3)\n"
                 "1:"
                 : "=m" (fault.rip), "=m" (fault.rsp)
                 : "r" (value), "r" (address) : "rax", "memory");
    fault.rip = 0;
}

/* What a function at @address returns; 0 after a fault. */
static inline uint32_t may_call(uint64_t address)
{
    uint32_t value = 0;

    asm volatile("leaq 1f(%%rip), %%rax\n\t"
                 "movq %%rax, %1\n\t"
                 "movq %%rsp, %2\n\t"
                 "xorl %%eax, %%eax\n\t"
                 "call *%3\n"
                 "1:"
                 : "+&a" (value), "=m" (fault.rip), "=m" (fault.rsp)
                 : "r" (address) : "memory");
    fault.rip = 0;
    return value;
}

#endif
