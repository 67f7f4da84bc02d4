/*
 * A debugger's breakpoints, watchpoints and steps, for cpus/ alone
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef CPUS_DEBUGGER_H
#define CPUS_DEBUGGER_H

#include "hw/core/cpu.h"

/* The active accelerator has taken one, by @cpu, or lost it.  BQL held. */
void switch_debugger_inserted(CPUState *cpu, int type, vaddr addr, vaddr len);
void switch_debugger_removed(int type, vaddr addr, vaddr len);
void switch_debugger_removed_all(void);

#endif
