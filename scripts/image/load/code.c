/*
 * vas-load: code that is written at run time and then written over
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <string.h>
#include <sys/mman.h>

#include "load.h"

void code_round(void)
{
    /* Kept over rounds: what one accelerator ran the other patches. */
    static uint8_t *page;
    static uint32_t last;
    uint32_t (*function)(void);
    unsigned times = load.light ? 3 : 20;

    if (!page) {
        page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (page == MAP_FAILED) {
            page = NULL;
            check_errno("code: mmap");
            return;
        }
        /* mov $imm32, %eax; ret */
        memcpy(page, "\xb8\0\0\0\0\xc3", 6);
    }
    function = (uint32_t (*)(void))page;
    check_u64("code: what the last round wrote", last, function());
    for (unsigned i = 0; i < times; i++) {
        last = last * 1664525 + 1013904223;
        memcpy(page + 1, &last, sizeof(last));
        check_u64("code: patched function", last, function());
    }
}
