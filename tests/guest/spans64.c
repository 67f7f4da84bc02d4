/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * spans64: code of which a part changes: the first or the second page of an
 * instruction that spans two, the end of a direct jump, one function of many
 * in a page; changed under one accelerator, executed under both.
 */
#include "lib/code.h"
#include "lib/long.h"

#define PAGE            0x1000000ull
#define NEXT_PAGE       (PAGE + 0x1000)
#define JMP_REL8        0xeb

#define FUNCTIONS       32
#define FUNCTION_SIZE   64

/* When a switch is asked for. */
enum { BEFORE_CHANGE = 1, AFTER_CHANGE = 2, AFTER_CALL = 4, ALL = 8 };

static uint64_t state = 16;

void trap(Frame *frame)
{
    check_value("no trap, at RIP", frame->rip, frame->vector);
    debug_exit(2);
}

static void asked(uint32_t when, uint32_t point)
{
    if (when & point) {
        ask_switch();
    }
}

/* Often enough that TCG chains what it can. */
static void expect_call(const char *what, uint32_t value, uint64_t function)
{
    for (int i = 0; i < 3; i++) {
        verify(what, value, call_function(function));
    }
}

/*
 * MOV to EAX with @behind bytes of the instruction in the second page, of which
 * bytes @from to @to of the immediate change.
 */
static void change_spanning(uint32_t when, int behind, int from, int to)
{
    uint64_t function = NEXT_PAGE - (5 - behind);
    volatile uint8_t *immediate = (uint8_t *)function + 1;
    uint32_t value = next_pattern(&state);

    write_function(function, value);
    expect_call("an instruction in two pages", value, function);
    asked(when, BEFORE_CHANGE);
    for (int i = from; i < to; i++) {
        immediate[i] = ~immediate[i];
        value ^= 0xffu << 8 * i;
    }
    asked(when, AFTER_CHANGE);
    expect_call("of which a part has changed", value, function);
    asked(when, AFTER_CALL);
    expect_call("likewise, later", value, function);
}

/* A jump stays, and what it leads to in its page changes. */
static void change_jump_target(uint32_t when)
{
    volatile uint8_t *jump = (uint8_t *)PAGE;
    uint32_t value = next_pattern(&state);

    jump[0] = JMP_REL8;
    jump[1] = 0x40 - 2;
    write_function(PAGE + 0x40, value);
    expect_call("behind a jump", value, PAGE);
    asked(when, BEFORE_CHANGE);
    write_function(PAGE + 0x40, ~value);
    asked(when, AFTER_CHANGE);
    expect_call("behind a jump, changed", ~value, PAGE);
    asked(when, AFTER_CALL);
    expect_call("likewise, later", ~value, PAGE);
}

/* One of many functions changes, and the page is entered at another. */
static void change_one_of_many(uint32_t when)
{
    uint32_t value = next_pattern(&state);
    uint32_t changed = value % FUNCTIONS;

    for (uint32_t i = 0; i < FUNCTIONS; i++) {
        write_function(PAGE + i * FUNCTION_SIZE, value + i);
        expect_call("one of many", value + i, PAGE + i * FUNCTION_SIZE);
    }
    asked(when, BEFORE_CHANGE);
    write_function(PAGE + changed * FUNCTION_SIZE, ~value);
    asked(when, AFTER_CHANGE);
    for (uint32_t i = 0; i < FUNCTIONS; i++) {
        expect_call("one of many, one changed",
                    i == changed ? ~value : value + i,
                    PAGE + i * FUNCTION_SIZE);
    }
    asked(when, AFTER_CALL);
}

void kernel_main(void)
{
    put_string("spans64\n");
    setup_idt();
    for (;;) {
        for (uint32_t when = 0; when < ALL; when++) {
            for (int behind = 1; behind < 5; behind++) {
                /* Of the second page alone, of the first, of both. */
                change_spanning(when, behind, 4 - behind, 4);
                change_spanning(when, behind, 0, 4 - behind);
                change_spanning(when, behind, 0, 4);
            }
            change_jump_target(when);
            change_one_of_many(when);
        }
        lap_done();
    }
}
