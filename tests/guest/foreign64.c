/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * foreign64: executes code that others write: a debugger, a load, another
 * process that has the guest's memory mapped.  It prints what the code returns
 * whenever that changes.
 */
#include "lib/code.h"
#include "lib/long.h"

/* tests/local/translations.py knows these. */
#define PAGE            0x1000000ull
#define SPANNING        (PAGE + 0x1ffd)

static void say(const char *what, uint32_t value)
{
    char line[] = "00000000\n";

    for (int i = 0; i < 8; i++) {
        line[7 - i] = "0123456789abcdef"[value >> 4 * i & 0xf];
    }
    put_string(what);
    put_string(line);
}

void trap(Frame *frame)
{
    check_value("no trap, at RIP", frame->rip, frame->vector);
    debug_exit(2);
}

void kernel_main(void)
{
    uint32_t value = 0, spanning = 0;

    put_string("foreign64\n");
    setup_idt();
    write_function(PAGE, value);
    write_function(SPANNING, spanning);
    for (;;) {
        if (call_function(PAGE) != value) {
            value = call_function(PAGE);
            say("\nVALUE ", value);
        }
        if (call_function(SPANNING) != spanning) {
            spanning = call_function(SPANNING);
            say("\nSPANNING ", spanning);
        }
        lap_done();
    }
}
