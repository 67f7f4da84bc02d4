/* SPDX-License-Identifier: GPL-2.0-or-later */
/* control64.S: what CPL3 runs, until it faults or ends at user_done. */
#ifndef GUEST_CONTROL64_H
#define GUEST_CONTROL64_H

void user_tsc(void);
void user_sgdt(void);
void user_smsw(void);
/* FS's base from RAX, GS's from RBX; read after a switch to RCX and RDX. */
void user_bases(void);
void user_done(void);

#endif
