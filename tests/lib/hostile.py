# SPDX-License-Identifier: GPL-2.0-or-later
"""
Values that a guest in TCG writes to its registers, and that hardware or KVM refuses: either TCG
refuses them, too, or the switch to KVM does, with an error that names the register; or they move.
In no case does the guest stop, nor QEMU end.
"""

import contextlib
import os
import random

from vas.host import LocalHost
from vas.machine import QMPError
from vas.testing import (LONG, Failure, Payload, Skip, expect_equal, expect_error, gdb_command,
                         need_kvm)

STEPS = 5000 if LONG else 400
GP = 13

# Where KVM refuses registers as a whole, or would take what no hardware runs, the error names the
# rule that is broken (target/i386/switch/state/rules*.c) and where the manual has it.
RULE = "rule '"

NON_CANONICAL = 0x1234567812345670
EFER_SCE = 1 << 0
OSXSAVE = 1 << 18                    # in CR4
BEYOND = 1 << 52                     # more than any processor's physical addresses

# name in an error: (kind, index)
REGISTERS = {
    "CR0": ("c", 0), "CR3": ("c", 3), "CR4": ("c", 4), "CR8": ("c", 8),
    "DR0": ("d", 0), "DR3": ("d", 3), "DR6": ("d", 6), "DR7": ("d", 7),
    "XCR0": ("x", 0), "MXCSR": ("m", 0),
    "GDT": ("g", 0), "IDT": ("i", 0),
    "MISC_FEATURES_ENABLES": ("w", 0x140),
    "IA32_APIC_BASE": ("w", 0x1b), "IA32_FEATURE_CONTROL": ("w", 0x3a), "IA32_SYSENTER_CS": ("w", 0x174),
    "IA32_SYSENTER_ESP": ("w", 0x175), "IA32_SYSENTER_EIP": ("w", 0x176),
    "IA32_MCG_STATUS": ("w", 0x17a), "IA32_MCG_CTL": ("w", 0x17b),
    "IA32_MISC_ENABLE": ("w", 0x1a0),
    "IA32_MTRR_PHYSBASE0": ("w", 0x200), "IA32_MTRR_PHYSMASK0": ("w", 0x201),
    "IA32_MTRR_PHYSBASE7": ("w", 0x20e), "IA32_MTRR_PHYSMASK7": ("w", 0x20f),
    "IA32_MTRR_FIX64K_00000": ("w", 0x250), "IA32_MTRR_FIX16K_A0000": ("w", 0x259),
    "IA32_MTRR_FIX4K_F8000": ("w", 0x26f), "IA32_PAT": ("w", 0x277),
    "IA32_MTRR_DEF_TYPE": ("w", 0x2ff), "IA32_MC0_CTL": ("w", 0x400),
    "IA32_MC0_STATUS": ("w", 0x401), "IA32_MC0_ADDR": ("w", 0x402),
    "IA32_PKRS": ("w", 0x6e1), "IA32_BNDCFGS": ("w", 0xd90),
    "EFER": ("w", 0xc0000080), "STAR": ("w", 0xc0000081), "LSTAR": ("w", 0xc0000082),
    "CSTAR": ("w", 0xc0000083), "SYSCALL_MASK": ("w", 0xc0000084),
    "FS_BASE": ("w", 0xc0000100), "GS_BASE": ("w", 0xc0000101),
    "KERNEL_GS_BASE": ("w", 0xc0000102), "TSC_AUX": ("w", 0xc0000103),
    "VM_HSAVE_PA": ("w", 0xc0010117),
    "KVM_WALL_CLOCK": ("w", 0x11), "KVM_SYSTEM_TIME": ("w", 0x12),
}

# What hardware raises #GP for: (register, "=" to write or "^" to flip, value).  Those that are True
# at the end would have the guest lose itself if they were accepted.
HOSTILE = [
    ("CR0", "^", 1 << 32), ("CR0", "^", 1 << 63),
    ("CR0", "^", 1 << 29),              # NW without CD
    ("CR0", "^", 1 << 31, True),        # PG, in 64-bit mode
    ("CR0", "^", 1 << 0, True),         # PE, with PG set
    ("CR3", "^", BEYOND, True), ("CR3", "^", 1 << 63, True),
    ("CR4", "^", 1 << 5, True),         # PAE, in long mode
    ("CR4", "^", 1 << 13, True), ("CR4", "^", 1 << 14, True), ("CR4", "^", 1 << 15, True),
    ("CR4", "^", 1 << 31, True), ("CR4", "^", 1 << 32, True), ("CR4", "^", 1 << 63, True),
    ("CR4", "^", 1 << 17),              # PCIDE, not in CPUID
    ("CR4", "^", 1 << 22, True),        # PKE, not in CPUID
    ("CR8", "=", 0x10), ("CR8", "=", 1 << 63),
    ("DR6", "=", 1 << 32), ("DR6", "=", 1 << 63),
    ("DR7", "=", 1 << 32), ("DR7", "=", 1 << 63),
    ("MXCSR", "=", 0x11f80), ("MXCSR", "=", 0xffffffff),
    ("IA32_APIC_BASE", "^", BEYOND), ("IA32_APIC_BASE", "^", 1),
    ("IA32_MCG_CTL", "=", 0x1234),
    ("IA32_MTRR_PHYSBASE0", "=", 0x2), ("IA32_MTRR_PHYSBASE0", "=", 0x100),
    ("IA32_MTRR_PHYSBASE0", "=", BEYOND), ("IA32_MTRR_PHYSBASE7", "=", 0xff),
    ("IA32_MTRR_PHYSMASK0", "=", 0x1), ("IA32_MTRR_PHYSMASK7", "=", BEYOND),
    ("IA32_MTRR_FIX64K_00000", "=", 0x0606060606060206), ("IA32_MTRR_FIX16K_A0000", "=", 7),
    ("IA32_MTRR_FIX4K_F8000", "=", 0x0300000000000000),
    ("IA32_MTRR_DEF_TYPE", "=", 0x2), ("IA32_MTRR_DEF_TYPE", "=", 0x1000),
    ("IA32_MTRR_DEF_TYPE", "=", 1 << 63),
    ("IA32_PAT", "=", 0x0007040600070402), ("IA32_PAT", "=", 0xff07040600070406),
    ("IA32_PKRS", "=", 0xc), ("IA32_BNDCFGS", "=", 0x1000),
    ("EFER", "^", 1 << 1), ("EFER", "^", 1 << 8), ("EFER", "^", 1 << 12),
    ("EFER", "^", 1 << 63),
    ("LSTAR", "=", NON_CANONICAL), ("LSTAR", "=", 1 << 47), ("LSTAR", "=", 1 << 63),
    ("CSTAR", "=", NON_CANONICAL), ("FS_BASE", "=", NON_CANONICAL),
    ("GS_BASE", "=", 1 << 63), ("KERNEL_GS_BASE", "=", 0xffff7fffffffffff),
    ("VM_HSAVE_PA", "=", 0x123456789000),
    ("GDT", "=", NON_CANONICAL), ("IDT", "=", 1 << 63),
]

# What TCG accepts and a processor does, too, if only in part: the guest must be able to move.
BORDER = [
    ("CR0", "^", 1 << 30), ("CR0", "^", 3 << 29), ("CR0", "^", 1 << 3), ("CR0", "^", 1 << 6),
    ("CR0", "^", 1 << 28), ("CR0", "^", 1 << 18), ("CR4", "^", 1 << 2), ("CR4", "^", 1 << 3),
    ("CR4", "^", 3), ("CR4", "^", 1 << 6), ("CR4", "^", 1 << 7), ("CR4", "^", 1 << 8),
    ("CR3", "^", 0x18), ("CR3", "^", 0xfe7), ("CR8", "=", 0xf),
    ("DR0", "=", NON_CANONICAL), ("DR3", "=", 1 << 63), ("DR6", "=", 0xffffffff),
    ("DR6", "=", 0), ("DR7", "=", 0), ("DR7", "=", 0xd800),
    ("MXCSR", "=", 0xffff), ("MXCSR", "=", 0),
    ("IA32_SYSENTER_CS", "=", 0xffffffffffffffff), ("IA32_SYSENTER_ESP", "=", NON_CANONICAL),
    ("IA32_SYSENTER_EIP", "=", 1 << 63), ("IA32_MCG_STATUS", "=", 7),
    ("IA32_MISC_ENABLE", "^", 1), ("IA32_MTRR_PHYSBASE0", "=", 0x80000006),
    ("IA32_MTRR_PHYSMASK0", "=", 0xff80000800), ("IA32_MTRR_DEF_TYPE", "=", 0xc06),
    ("IA32_PAT", "=", 0x0001040506070001), ("IA32_MC0_CTL", "=", 0x1234),
    ("IA32_MC0_STATUS", "=", 1 << 63), ("IA32_MC0_ADDR", "=", 0xffffffffffffffff),
    ("STAR", "=", 0xffffffffffffffff), ("SYSCALL_MASK", "=", 0xffffffffffffffff),
    ("FS_BASE", "=", 0xffff800000000000), ("GS_BASE", "=", 0x00007fffffffffff),
    ("TSC_AUX", "=", 0xffffffffffffffff), ("EFER", "^", 1), ("EFER", "^", 1 << 11),
    ("KVM_SYSTEM_TIME", "=", 0xfffffffffffffffe), ("KVM_WALL_CLOCK", "=", 0xffffffffffffffff),
    ("KVM_SYSTEM_TIME", "=", 0xffffffffffffffff),
]


# Where what hardware refuses is dropped on the way to KVM without a word: by QEMU, as a bit beyond
# the physical addresses, or by KVM, which has not got the register.  TCG must refuse it.
DROPPED = {"IA32_MTRR_PHYSMASK0", "IA32_MTRR_PHYSMASK7", "TSC_AUX", "IA32_PKRS", "IA32_BNDCFGS",
           "VM_HSAVE_PA"}


def hostile_guest(options="", arguments=(), host=None, cpu="qemu64", initial="tcg",
                  reboot=False):
    if host is None:
        need_kvm()
    return Payload("hostile64", f"switch,initial={initial}" + options, name="hostile", host=host,
                   arguments=["-cpu", cpu, *([] if reboot else ["-no-reboot"]), *arguments],
                   deadline=2000 if LONG else 280)


def cpu_model(xsave):
    return "qemu64,+xsave" if xsave else "qemu64"


def write_and_read(guest, name, mode, value):
    """Returns the exception's vector, or None, and what the register reads then."""
    kind, index = REGISTERS[name]
    guest.machine.serial.send(f"{kind}{mode} {index:x} {value:x}\n")
    match = guest.machine.debugcon.expect(
        [r"ERROR.*\n", r"^done: (ok|trap (\w+)) \w+ (\w+)\n"], 20)
    guest._check(match.group(0))
    vector = int(match.group(2), 16) if match.group(2) else None
    return vector, int(match.group(3), 16)


def write(guest, name, mode, value):
    """Returns the exception's vector, or None."""
    return write_and_read(guest, name, mode, value)[0]


def restore(guest):
    guest.machine.serial.send("r")
    match = guest.machine.debugcon.expect([r"ERROR.*\n", r"^done: restored\n"], 20)
    guest._check(match.group(0))


def to_kvm_and_back(guest):
    """Returns KVM's refusal, or None; either way the guest is in TCG and runs."""
    machine = guest.machine
    refusal = None
    try:
        machine.switch("kvm")
    except QMPError as error:
        refusal = str(error)
    else:
        guest.expect_laps(3, 20)
        machine.qmp("x-accel-roundtrip")
        machine.switch("tcg")
    expect_equal("accelerator", "tcg", machine.accel())
    expect_equal("status", "running", machine.qmp("query-status")["status"])
    guest.expect_laps(3, 20)
    if refusal is None:
        machine.qmp("x-accel-roundtrip")
    return refusal


def feature_control(host=None):
    """
    IA32_FEATURE_CONTROL, whose lock Linux sets at boot on an Intel CPU: it crosses a switch, reads
    the same, and stays locked, under either accelerator and in both directions.
    """
    lock, name = 1, "IA32_FEATURE_CONTROL"
    for initial, other in (("kvm", "tcg"), ("tcg", "kvm")):
        with hostile_guest(host=host, initial=initial) as guest:
            machine = guest.machine
            guest.expect_laps(3)
            vector, held = write_and_read(guest, name, "=", lock)
            # kvm-amd has none: #GP there, and TCG ignores the write.
            if held != lock:
                raise Skip(f"this KVM has no {name} (exception {vector})")
            for accel in (other, initial) * 2:
                machine.switch(accel)
                # Each lap of the payload reads it.
                guest.expect_laps(3)
                machine.qmp("x-accel-roundtrip")
                expect_equal("exception when it is locked", GP, write(guest, name, "=", 0))


# A refusal that is not KVM's: its LAPIC would go there, and QEMU's would not.
MOVED_LAPIC = "has moved its local APIC"
# MSRs that KVM has among its sregs, where a rule's name says what it is about.
IN_SREGS = {"EFER", "FS_BASE", "GS_BASE", "IA32_APIC_BASE"}


def expect_named(refusal, names):
    """The error names one of the registers @names; or a rule, if one of them is no MSR."""
    if not refusal:
        return
    by_rule = RULE in refusal and any(REGISTERS.get(name, "r")[0] != "w" or name in IN_SREGS
                                      for name in names)
    if not by_rule and not any(name.lower() in refusal.lower() for name in names):
        raise Failure(f"the error names none of {', '.join(names)}: {refusal}")


def try_value(guest, name, mode, value):
    """Returns what became of it, and leaves everything as it was."""
    vector = write(guest, name, mode, value)
    refusal = to_kvm_and_back(guest)
    outcome = "accepted" if vector is None else f"exception {vector}"
    print(f"{name} {mode} {value:#x}: {outcome}, "
          + (f"refused: {refusal}" if refusal else "moved"), flush=True)
    expect_named(refusal, [name])
    restore(guest)
    if refusal:
        expect_equal("after the first values were restored", None, to_kvm_and_back(guest))
    return vector, refusal


def xcr0(guest):
    """XCR0 of a guest that has XSAVE, but not AVX."""
    expect_equal("exception for CR4.OSXSAVE", None, write(guest, "CR4", "^", OSXSAVE))
    for value, vector in ((1, None), (3, None), (0, GP), (2, GP), (6, GP), (7, GP),
                          (1 << 62 | 3, GP), (1 << 63 | 3, GP)):
        expect_equal(f"exception for XCR0 = {value:#x}", vector, write(guest, "XCR0", "=", value))
        expect_equal("KVM's refusal", None, to_kvm_and_back(guest))
    restore(guest)


def registers(host=None, xsave=False):
    """What TCG accepts, KVM does; what hardware refuses, TCG does."""
    with hostile_guest(host=host, cpu=cpu_model(xsave)) as guest:
        guest.expect_laps(3)
        for row in HOSTILE + BORDER:
            vector, refusal = try_value(guest, *row[:3])
            if row in HOSTILE:
                expect_equal(f"exception for {row[0]}", GP, vector)
            expect_equal(f"KVM's refusal of {row[0]}", None, refusal)
        if xsave:
            xcr0(guest)


def without_syscall(host=None):
    """A guest whose CPUID has no SYSCALL sets EFER.SCE, as KVM lets it: it moves to TCG and back."""
    with hostile_guest(host=host, cpu="qemu64,-syscall", initial="kvm") as guest:
        guest.expect_laps(3)
        vector, held = write_and_read(guest, "EFER", "^", EFER_SCE)
        expect_equal("exception and EFER.SCE", (None, EFER_SCE), (vector, held & EFER_SCE))
        for accel in ("tcg", "kvm") * 2:
            guest.machine.switch(accel)
            guest.expect_laps(3)
            guest.machine.qmp("x-accel-roundtrip")


def from_kvm(host=None):
    """
    What KVM has let a guest write, TCG takes and gives back.  For a KVM that runs what it says (a
    paravirtual one lost the guest by itself).
    """
    moved = 0
    with hostile_guest(host=host, initial="kvm") as guest:
        machine = guest.machine
        guest.expect_laps(3)
        for row in BORDER:
            vector = write(guest, *row)
            machine.switch("tcg")
            guest.expect_laps(3, 20)
            machine.qmp("x-accel-roundtrip")
            machine.switch("kvm")
            guest.expect_laps(3, 20)
            machine.qmp("x-accel-roundtrip")
            print(f"{row[0]} {row[1]} {row[2]:#x}: "
                  + ("moved" if vector is None else f"exception {vector}"), flush=True)
            moved += vector is None
            restore(guest)
    if moved < len(BORDER) // 2:
        raise Failure(f"KVM has taken {moved} of {len(BORDER)} values only")


def without_tcg(host=None):
    """
    An MSR that KVM has and neither QEMU nor TCG knows, a local APIC that was moved, as QEMU's can't
    be: a guest that uses them stays in KVM.
    """
    with hostile_guest(host=host, initial="kvm") as guest:
        guest.expect_laps(3)
        expect_equal("exception", None, write(guest, "IA32_APIC_BASE", "^", 0x80000))
        expect_error(f"vCPU 0 {MOVED_LAPIC} (MSR IA32_APIC_BASE 0xfee80",
                     guest.machine.qmp, "switch-accel", {"accel": "tcg"})
        restore(guest)
        guest.machine.switch("tcg")
        guest.machine.switch("kvm")
        expect_equal("exception", None, write(guest, "MISC_FEATURES_ENABLES", "=", 1))
        expect_error("the guest has changed an MSR that TCG lacks: MSR 0x140"
                     " (MISC_FEATURES_ENABLES) is 0x1, not 0x0",
                     guest.machine.qmp, "switch-accel", {"accel": "tcg"})
        expect_equal("accelerator", "kvm", guest.machine.accel())
        guest.expect_laps(3)
        restore(guest)
        guest.machine.switch("tcg")
        guest.expect_laps(3)


def reset_ends_it(host=None):
    """
    A machine reset gives an MSR that only KVM has its reset value, in KVM and in TCG: it says
    nothing of the guest that comes then, which can be switched.
    """
    with hostile_guest(host=host, initial="kvm", reboot=True) as guest:
        machine = guest.machine
        for _ in range(2):
            guest.expect_laps(3)
            expect_equal("exception", None, write(guest, "MISC_FEATURES_ENABLES", "=", 1))
            expect_error("MISC_FEATURES_ENABLES", machine.qmp, "switch-accel", {"accel": "tcg"})
            machine.qmp("system_reset")
            machine.debugcon.expect("hostile64\n", 20)
            guest.expect_laps(3)
            machine.switch("tcg")
            guest.expect_laps(3)
            machine.switch("kvm")


def refusals(host=None):
    """The same with TCG as it is: KVM refuses, and the error names the register."""
    with hostile_guest(",x-omit=guest-values", host=host) as guest:
        guest.expect_laps(3)
        refused = 0
        for row in HOSTILE + BORDER:
            if len(row) == 3 and row[0] not in DROPPED:
                refused += try_value(guest, *row)[1] is not None
        print(f"{refused} refused")
        # MTRR types and non-canonical addresses, which any KVM refuses, are more than this.
        if refused < 10:
            raise Failure(f"KVM has refused {refused} values only")


# What a debugger can write: (name, its number in QEMU's description of 64-bit registers, bytes).
FOR_DEBUGGER = [("RIP", 16, 8), ("FS_BASE", 24, 8), ("GS_BASE", 25, 8), ("KERNEL_GS_BASE", 26, 8),
                ("CR0", 27, 8), ("CR2", 28, 8), ("CR3", 29, 8), ("CR4", 30, 8), ("CR8", 31, 8),
                ("EFER", 32, 8), ("RFLAGS", 17, 4), ("MXCSR", 65, 4)]
DEBUGGER_VALUES = [0, 1, 0x100, 0x1000, 0x80000000, 0xffffffff, 1 << 32, 1 << 47, NON_CANONICAL,
                   1 << 63, (1 << 64) - 1]


def seeded():
    """A generator whose VAS_SEED is printed, and taken from the environment."""
    seed = int(os.environ.get("VAS_SEED") or random.SystemRandom().getrandbits(32))
    print(f"VAS_SEED={seed}", flush=True)
    return random.Random(seed)


def debugger(host=None):
    """
    A debugger writes what no guest could, to a stopped guest in TCG.  A switch refuses it by name,
    or takes it; with the old values the guest runs on.
    """
    generator = seeded()
    refused = 0
    if host is None:
        need_kvm()
    with contextlib.ExitStack() as stack:
        there = host or stack.enter_context(LocalHost())
        gdb = there.listener("gdb")
        with hostile_guest(arguments=["-chardev", f"socket,id=gdb,{gdb.options}",
                                      "-gdb", "chardev:gdb"], host=there) as guest:
            machine = guest.machine
            guest.expect_laps(3)
            connection = gdb.connect()
            gdb_command(connection, b"?")
            for name, number, size in FOR_DEBUGGER:
                old = gdb_command(connection, b"p%x" % number)
                values = [random_value(generator)[1] for _ in range(50 if LONG else 5)]
                for value in DEBUGGER_VALUES + values:
                    written = (value & (1 << 8 * size) - 1).to_bytes(size, "little").hex().encode()
                    expect_equal(f"the gdbstub's answer for {name}", b"OK",
                                 gdb_command(connection, b"P%x=%s" % (number, written)))
                    try:
                        machine.switch("kvm")
                        refusal = None
                    except QMPError as error:
                        refusal = str(error)
                    print(f"{name} = {value:#x}: "
                          + (f"refused: {refusal}" if refusal else "moved"), flush=True)
                    expect_named(refusal, [name])
                    expect_equal("accelerator", "tcg" if refusal else "kvm", machine.accel())
                    refused += refusal is not None
                    machine.switch("tcg")
                    gdb_command(connection, b"P%x=%s" % (number, old))
                    machine.switch("kvm")
                    machine.switch("tcg")
            connection.close()
            machine.cont()
            guest.expect_laps(3)
            expect_equal("KVM's refusal", None, to_kvm_and_back(guest))
    print(f"{refused} refused")
    if refused < 20:
        raise Failure(f"{refused} values were refused only")


def random_value(generator):
    kind = generator.randrange(6)
    if kind == 0:
        return "^", 1 << generator.randrange(64)
    if kind == 1:
        return "^", 1 << generator.randrange(64) | 1 << generator.randrange(64)
    if kind == 2:
        bit = generator.choice([7, 8, 12, 16, 31, 32, 36, 40, 46, 47, 48, 52, 63, 64])
        return "=", (1 << bit) + generator.choice([-1, 0, 1]) & (1 << 64) - 1
    if kind == 3:
        return "=", -(1 << generator.choice([47, 48, 56, 32, 12])) & (1 << 64) - 1
    if kind == 4:
        # memory types
        return "=", int.from_bytes(bytes(generator.choice([0, 1, 2, 3, 4, 5, 6, 7, 7, 0x86])
                                         for _ in range(8)), "little")
    return "=", generator.getrandbits(64)


# Where KVM writes to the guest's memory, which a guest does not survive in its own page tables.
POINTERS = {"KVM_WALL_CLOCK", "KVM_SYSTEM_TIME"}
PAYLOAD = range(0x500, 16 << 20)


def random_row(generator, names):
    name = generator.choice(names)
    mode, value = random_value(generator)
    if name in POINTERS:
        mode = "="
        while value in PAYLOAD:
            value = random_value(generator)[1]
    return name, mode, value


def fuzz_with(options, names, steps=STEPS, host=None, xsave=False):
    generator = seeded()
    counts = {"exceptions": 0, "moved": 0, "beyond a switch": 0, "refused": 0}
    if not xsave:
        names = [name for name in names if name != "XCR0"]
    with hostile_guest(options, host=host, cpu=cpu_model(xsave)) as guest:
        guest.expect_laps(3)
        for _ in range(steps):
            written = []
            if xsave:
                # Whichever it was: XCR0 can be written every second time.
                write(guest, "CR4", "^", OSXSAVE)
            for _ in range(generator.randint(1, 4)):
                row = random_row(generator, names)
                print(f"{row[0]} {row[1]} {row[2]:#x}", flush=True)
                if write(guest, *row) is None:
                    written.append(row[0])
                else:
                    counts["exceptions"] += 1
            refusal = to_kvm_and_back(guest)
            counts["moved" if not refusal else
                   "beyond a switch" if MOVED_LAPIC in refusal else "refused"] += 1
            if refusal:
                print(refusal, flush=True)
                expect_named(refusal, written)
            if refusal or generator.random() < 0.3:
                restore(guest)
                expect_equal("after the first values were restored", None,
                             to_kvm_and_back(guest))
    print(", ".join(f"{count} {what}" for what, count in counts.items()))
    return counts


# A guest without its page table, GDT or IDT is lost at once; a locked register can't be restored.
LOSING = {"CR3", "GDT", "IDT", "IA32_FEATURE_CONTROL"}


def fuzz(**keywords):
    """What TCG accepts, KVM does."""
    counts = fuzz_with("", [name for name in REGISTERS if name not in LOSING], **keywords)
    expect_equal("refused", 0, counts["refused"])


def fuzz_refusals(**keywords):
    """CR0 and CR4 would have the guest lose itself where TCG lets everything through."""
    fuzz_with(",x-omit=guest-values",
              [name for name in REGISTERS if name not in LOSING | DROPPED | {"CR0", "CR4"}],
              **keywords)
