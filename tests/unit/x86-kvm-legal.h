/*
 * Legal values for the fields of a vCPU's state
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef TEST_X86_KVM_LEGAL_H
#define TEST_X86_KVM_LEGAL_H

#include "target/i386/switch/state/table.h"

typedef enum OracleMode {
    ORACLE_REAL,
    ORACLE_PROTECTED,           /* 32 bits, no paging */
    ORACLE_PAE,
    ORACLE_LONG,
    ORACLE_MODE__MAX,
} OracleMode;

/* Make @s, as KVM has it after its reset, one of a vCPU in @mode. */
void oracle_enter(X86KVMState *s, OracleMode mode, bool x2apic);

/**
 * oracle_vary: give a field of @s another legal value
 * @word: the number of the word in a field that has many
 *
 * Returns false if no other value than what it has is legal, or known to be.
 */
bool oracle_vary(X86KVMState *s, const X86StateField *f, int word,
                 OracleMode mode, bool x2apic, GRand *rand);

/* An exception, interrupt or NMI in delivery, and what goes with it. */
void oracle_vary_events(X86KVMState *s, OracleMode mode, GRand *rand);

/* A legal value of MSR @index, or false if none is known but what it has. */
bool oracle_vary_msr(uint32_t index, const uint64_t *features,
                     uint64_t *value, GRand *rand);

uint64_t oracle_random(GRand *rand);

#endif
