/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * dma64: a device writes code, and entries of a page table, which were used
 * under one accelerator and are used under the other.
 *
 * The device is fw_cfg, by its DMA interface (QEMU's docs/specs/fw_cfg.rst);
 * what it writes is the machine's UUID: 8 bytes of code, then an entry for the
 * frame OTHER.
 */
#include "lib/code.h"
#include "lib/long.h"

#define FW_CFG_DMA_HIGH 0x514
#define FW_CFG_DMA_LOW  0x518
#define FW_CFG_UUID     0x0002
#define DMA_ERROR       0x01
#define DMA_READ        0x02
#define DMA_SKIP        0x04
#define DMA_SELECT      0x08

#define P_RW            3
#define FRAME           0x1000000ull
#define OTHER           0x1001000ull    /* as the UUID has it */

#define CODE            16
#define WRITTEN         0x0ddc0de5
#define FROM_DEVICE     0x11223344      /* as the UUID has it */
#define NUMBER          0xf00d0000

/* All big-endian. */
typedef struct Access {
    uint32_t control, length;
    uint64_t address;
} Access;

void trap(Frame *frame)
{
    check_value("no trap, at RIP", frame->rip, frame->vector);
    debug_exit(2);
}

static void transfer(uint32_t control, uint32_t length, uint64_t address)
{
    static volatile Access access;

    access.length = __builtin_bswap32(length);
    access.address = __builtin_bswap64(address);
    access.control = __builtin_bswap32(control);
    outl(FW_CFG_DMA_HIGH, 0);
    outl(FW_CFG_DMA_LOW, __builtin_bswap32((uintptr_t)&access));
    while (__builtin_bswap32(access.control) & ~(uint32_t)DMA_ERROR) {
        continue;
    }
    verify("DMA", 0, access.control);
}

/* 8 bytes of the UUID, from its byte @first, to the physical @address. */
static void device_writes(unsigned first, uint64_t address)
{
    transfer(FW_CFG_UUID << 16 | DMA_SELECT | DMA_SKIP, first, 0);
    transfer(DMA_READ, 8, address);
}

static void check_code(void)
{
    write_function(FRAME + CODE, WRITTEN);
    verify("code", WRITTEN, call_function(WINDOW + CODE));
    device_writes(0, FRAME + CODE);
    verify("code from the device", FROM_DEVICE, call_function(WINDOW + CODE));
    write_function(WINDOW + CODE, WRITTEN);
    verify("code, written again", WRITTEN, call_function(WINDOW + CODE));
    ask_switch();
    device_writes(0, FRAME + CODE);
    verify("code from the device after a switch", FROM_DEVICE,
           call_function(WINDOW + CODE));
    write_function(FRAME + CODE, WRITTEN);
    verify("code, written once more", WRITTEN, call_function(WINDOW + CODE));
    device_writes(0, FRAME + CODE);
    ask_switch();
    verify("code from the device before a switch", FROM_DEVICE,
           call_function(WINDOW + CODE));
    ask_switch();
}

static void check_table(void)
{
    volatile uint32_t *number = (void *)(WINDOW + 4096);

    window_table_1[1] = FRAME | P_RW;
    asm volatile("invlpg (%0)" : : "r" (number) : "memory");
    verify("frame", NUMBER, *number);
    device_writes(8, (uintptr_t)&window_table_1[1]);
    ask_switch();
    asm volatile("invlpg (%0)" : : "r" (number) : "memory");
    verify("the device's frame", NUMBER + 1, *number);
    /* What was not present needs no flush. */
    window_table_1[1] = 0;
    asm volatile("invlpg (%0)" : : "r" (number) : "memory");
    ask_switch();
    device_writes(8, (uintptr_t)&window_table_1[1]);
    verify("the device's frame again", NUMBER + 1, *number);
}

void kernel_main(void)
{
    put_string("dma64\n");
    setup_idt();
    *(volatile uint32_t *)FRAME = NUMBER;
    *(volatile uint32_t *)OTHER = NUMBER + 1;
    window_table_1[0] = FRAME | P_RW;
    for (;;) {
        check_code();
        check_table();
        lap_done();
    }
}
