/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Accesses at CPL0 that may fault, and go on behind themselves then. */
#ifndef GUEST_FAULT_H
#define GUEST_FAULT_H

#include "lib/control.h"
#include "lib/long.h"

#define VECTOR_DF       8
#define VECTOR_PF       14

/* Bits of a page fault's error code. */
#define FAULT_P         0x01
#define FAULT_W         0x02
#define FAULT_RESERVED  0x08
#define FAULT_FETCH     0x10

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
