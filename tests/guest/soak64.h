/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Between the two halves of the payload soak64: soak64.c at CPL0 and
 * soak64-user.c at CPL3.
 */
#ifndef GUEST_SOAK64_H
#define GUEST_SOAK64_H

/* What CPL3 may ask for with kernel_call(). */
enum {
    /* Report the Mismatch at argument. */
    CALL_MISMATCH,
    /*
     * A lap is done; argument is the digest so far.  Returns whether to go on.
     */
    CALL_LAP,
    /* Have page argument % 4 of the window show frame argument / 4. */
    CALL_MAP,
    /* Wait for an interrupt with STI; HLT. */
    CALL_HALT,
    /* Check what only CPL0 can see: MSRs, control registers, CPUID... */
    CALL_CHECK_SYSTEM,
};

#define WINDOW_PAGES    4
#define FRAMES          4

typedef struct Mismatch {
    const char *what;
    uint64_t expected;
    uint64_t got;
} Mismatch;

/* soak64-call.S */
uint64_t kernel_call(uint64_t function, uint64_t argument);

/*
 * Have the general registers (RCX and RSP included), RFLAGS, x87 and SSE hold
 * what @in says while a loop of @in->spins rounds runs, then write to @out
 * what they hold.
 */
typedef struct HeldState {
    /* RAX RBX RCX RDX RSI RDI RBP RSP R8...R15; RCX counts down to 0 */
    uint64_t gpr[16];
    uint64_t rflags;
    uint64_t unused;
    uint8_t fxsave[512] __attribute__((aligned(16)));
} HeldState;

void hold_state(const HeldState *in, HeldState *out);

/* soak64-user.c */
void user_main(void);

/* soak64.c: pages to be mapped in the window. */
extern uint8_t frames[FRAMES][4096];
extern volatile uint64_t user_tsc;
extern volatile uint64_t pit_tsc;
extern volatile uint64_t timer_tsc;

#endif
