/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * msi64: message-signalled interrupts of a PCI device, which are raised under
 * one accelerator and taken under the other: by each destination and delivery
 * mode, held back, in service, and with a message that changes.
 *
 * The device is QEMU's edu (docs/specs/edu.rst), whose register raises them.
 */
#include "lib/pci.h"
#include "lib/seen.h"

#define EDU             4
#define EDU_ID          0x11e81234
#define EDU_BAR         0x20000000ul
#define EDU_RAISE       0x60
#define EDU_ACKNOWLEDGE 0x64

#define PCI_COMMAND_MASTER 0x04
#define PCI_CAPABILITIES 0x34
#define PCI_CAPABILITY_MSI 0x05

/* In the first of the capability's registers of 32 bits. */
#define MSI_ENABLE      (1 << 16)
#define MSI_64BIT       (1 << 23)

/* Messages (SDM vol. 3A, "Message Signalled Interrupts"). */
#define TO_APIC(id)     (0xfee00000 | (id) << 12)
#define TO_LOGICAL(id)  (0xfee0000c | (id) << 12)
#define FIXED           0x000
#define LOWEST          0x100
#define NMI             0x400

#define APIC_LDR        0x0d0
#define APIC_DFR        0x0e0

#define VECTOR_LOW      0x41
#define VECTOR_HIGH     0x51
#define SPINS           300

static unsigned msi;

static volatile uint32_t *edu(uint32_t offset)
{
    return (volatile uint32_t *)(EDU_BAR + offset);
}

void trap(Frame *frame)
{
    uint32_t vector = frame->vector;

    if (interrupts_taken(frame)) {
        return;
    }
    if (vector < 0x20 && vector != VECTOR_NMI) {
        check_value("no exception, at RIP", frame->rip, vector);
        debug_exit(2);
    }
    saw(vector);
    if (vector != VECTOR_NMI) {
        lapic_eoi();
    }
}

static unsigned find_capability(uint8_t wanted)
{
    unsigned offset = pci_read(EDU, 0, PCI_CAPABILITIES) & 0xfc;

    while (offset && (pci_read(EDU, 0, offset) & 0xff) != wanted) {
        offset = pci_read(EDU, 0, offset) >> 8 & 0xfc;
    }
    return offset;
}

static void set_message(uint32_t address, uint32_t data)
{
    pci_write(EDU, 0, msi + 4, address);
    pci_write(EDU, 0, msi + 8, 0);
    pci_write(EDU, 0, msi + 12, data);
}

static void setup_edu(void)
{
    uint32_t control;

    check_value("edu", EDU_ID, pci_read(EDU, 0, 0));
    pci_write(EDU, 0, PCI_BAR0, EDU_BAR);
    pci_write(EDU, 0, PCI_COMMAND, PCI_COMMAND_MEM | PCI_COMMAND_MASTER);
    msi = find_capability(PCI_CAPABILITY_MSI);
    control = pci_read(EDU, 0, msi);
    check_value("64-bit messages", MSI_64BIT, control & MSI_64BIT);
    set_message(TO_APIC(0), FIXED | VECTOR_LOW);
    pci_write(EDU, 0, msi, control | MSI_ENABLE);
}

/* It sends its message for each. */
static void raise(void)
{
    *edu(EDU_RAISE) = 1;
    *edu(EDU_ACKNOWLEDGE) = 1;
}

static void check_pending(const char *what, uint32_t address, uint32_t data)
{
    uint32_t vector = data & 0xff;

    set_message(address, data);
    forget();
    raise();
    ask_switch();
    verify(what, true, lapic_bit(LAPIC_IRR, vector));
    expect(what, 0, 0, 0);
    /* A second one is the same. */
    raise();
    take_interrupts(SPINS);
    expect(what, 1, vector, 0);
    ask_switch();
    take_interrupts(SPINS);
    expect(what, 1, vector, 0);
    verify(what, false, lapic_bit(LAPIC_IRR, vector));
}

/* What the device was told under one accelerator, it sends under the other. */
static void check_message(void)
{
    forget();
    set_message(TO_APIC(0), FIXED | VECTOR_HIGH);
    ask_switch();
    raise();
    set_message(TO_APIC(0), FIXED | VECTOR_LOW);
    raise();
    ask_switch();
    raise();
    take_interrupts(SPINS);
    expect("by priority", 2, VECTOR_HIGH, VECTOR_LOW);
    /* To no APIC that there is. */
    set_message(TO_APIC(7), FIXED | VECTOR_LOW);
    ask_switch();
    raise();
    take_interrupts(SPINS);
    expect("nobody's", 2, VECTOR_HIGH, VECTOR_LOW);
}

static void check_held(void)
{
    set_message(TO_APIC(0), FIXED | VECTOR_LOW);
    forget();
    *lapic(LAPIC_TPR) = VECTOR_LOW & 0xf0;
    raise();
    ask_switch();
    take_interrupts(SPINS);
    expect("held back by TPR", 0, 0, 0);
    *lapic(LAPIC_TPR) = 0;
    ask_switch();
    take_interrupts(SPINS);
    expect("held back no more", 1, VECTOR_LOW, 0);
}

static void check_nmi(void)
{
    set_message(TO_APIC(0), NMI);
    forget();
    raise();
    ask_switch();
    take_interrupts(SPINS);
    expect("NMI", 1, VECTOR_NMI, 0);
}

/* A message that is not enabled is not sent later, either. */
static void check_disabled(void)
{
    uint32_t control = pci_read(EDU, 0, msi);

    set_message(TO_APIC(0), FIXED | VECTOR_LOW);
    forget();
    pci_write(EDU, 0, msi, control & ~MSI_ENABLE);
    ask_switch();
    raise();
    pci_write(EDU, 0, msi, control);
    ask_switch();
    take_interrupts(SPINS);
    expect("not enabled", 0, 0, 0);
    raise();
    take_interrupts(SPINS);
    expect("enabled again", 1, VECTOR_LOW, 0);
}

void kernel_main(void)
{
    put_string("msi64\n");
    setup_idt();
    setup_pic();
    setup_lapic();
    *lapic(APIC_DFR) = 0xffffffff;
    *lapic(APIC_LDR) = 1 << 24;
    setup_edu();
    for (;;) {
        check_pending("fixed", TO_APIC(0), FIXED | VECTOR_LOW);
        check_pending("logical", TO_LOGICAL(1), FIXED | VECTOR_HIGH);
        check_pending("lowest priority", TO_LOGICAL(1), LOWEST | VECTOR_LOW);
        check_pending("to all", TO_APIC(0xff), FIXED | VECTOR_HIGH);
        check_message();
        check_held();
        check_nmi();
        check_disabled();
        lap_done();
    }
}
