/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between the two halves of the payload told16: told16.c and told16.S. */
#ifndef GUEST_TOLD16_H
#define GUEST_TOLD16_H

/* Called in System Management Mode; RSM follows its return. */
void smm_main(void);

/* To protected mode for a null selector, and back; then FS is at 0x20000. */
void null_fs_in_protected_mode(void);

/* What is to be copied to SMBASE + 0x8000. */
extern const char smi_entry[], smi_entry_end[];

#endif
