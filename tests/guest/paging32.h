/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef GUEST_PAGING32_H
#define GUEST_PAGING32_H

/* At CPL3: load from, store to, and call what ESI points to. */
void user_load(void);
void user_store(void);
void user_call(void);

#endif
