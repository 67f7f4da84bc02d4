# SPDX-License-Identifier: GPL-2.0-or-later
"""
What becomes of TCG's translations over switches: kept and compared, or dropped, as the guest's code
and the options say.
"""

import contextlib
import mmap
import os
import re
import socket
import struct
import subprocess
import tempfile

from vas import paths
from vas.soak import soak
from vas.testing import (Failure, Payload, expect_equal, gdb_command, main, make_qcow2, need_kvm,
                         wait_until)

# Windows in TCG, each long enough for the guest's whole lap.
WINDOWS = 20


def translations(machine):
    return machine.qmp("query-accel")["translations"]


def windows(guest):
    """What each window in TCG adds to the counts, after a first one."""
    counts = []
    for _ in range(WINDOWS + 1):
        before = translations(guest.machine)
        guest.machine.switch("tcg")
        guest.expect_laps(3)
        guest.machine.switch("kvm")
        after = translations(guest.machine)
        guest.expect_laps(3)
        counts.append({name: after[name] - before[name] for name in after})
    return counts[1:]


def at_least_one(counts, name):
    if not any(window[name] for window in counts):
        raise Failure(f"in {len(counts)} windows '{name}' was always 0")


def shown(machine):
    """The monitor shows the same figures, in TCG in two places."""
    machine.switch("tcg")
    machine.stop()
    figures = translations(machine)
    text = machine.hmp("info accel")
    expect_equal("info accel",
                 [figures[name] for name in ("made", "kept", "dropped", "pages-compared", "flushes")],
                 [int(number) for number in
                  re.findall(r"\d+", re.search("translations: .*", text).group(0))])
    text = machine.hmp("info jit")
    for name, label in (("made", "TB made count"), ("kept", "TB kept count"),
                        ("dropped", "TB dropped count"), ("pages-compared", "pages compared"),
                        ("flushes", "TB flush count")):
        expect_equal(f"info jit: {label}", figures[name],
                     int(re.search(label + r" +(\d+)", text).group(1)))
    machine.cont()


def kept():
    need_kvm()
    with Payload("soak64", "switch,initial=kvm", arguments=["-smp", "2"], name="translations-kept") as guest:
        counts = windows(guest)
        print(f"a window, after the first: {counts[-1]}")
        # soak64 changes its own code, under both accelerators.
        for name in ("kept", "dropped", "pages-compared", "made"):
            at_least_one(counts, name)
        expect_equal("flushes", 0, translations(guest.machine)["flushes"])
        shown(guest.machine)
        guest.expect_laps(3)


def flush():
    need_kvm()
    with Payload("soak64", "switch,initial=kvm,keep-translations=off", name="translations-flush") as guest:
        for window in windows(guest):
            expect_equal("a window's flushes", 1, window["flushes"])
            expect_equal("kept, dropped and compared", (0, 0, 0),
                         (window["kept"], window["dropped"], window["pages-compared"]))
    soak("soak64", 200, options=",keep-translations=off")


def full():
    """A buffer so small that it is full again and again."""
    need_kvm()
    with Payload("soak64", "switch,initial=kvm,tb-size=1,one-insn-per-tb=on", name="translations-full") as guest:
        for _ in range(50):
            windows(guest)
            figures = translations(guest.machine)
            if figures["flushes"] >= 3:
                print(figures)
                return
    raise Failure(f"the translation buffer was not full: {figures}")


# foreign64's functions, and how they are written: MOV of a value to EAX, RET
FUNCTIONS = {"VALUE": 0x1000000, "SPANNING": 0x1001ffd}
# In so many laps it must have seen what was written; a few more than that, for what a load leaves open.
SEEN_IN_LAPS = 16


class Foreign:
    """The payload foreign64 with its memory in a file, a disk for snapshots and a gdbstub."""

    def __init__(self, folder, options):
        memory, disk, self.gdb = (os.path.join(folder, name) for name in ("memory", "disk", "gdb"))
        make_qcow2(disk)
        self.guest = Payload("foreign64", "switch,initial=kvm" + options, name="foreign", arguments=[
            "-object", f"memory-backend-file,id=ram,size=64M,mem-path={memory},share=on",
            "-machine", "memory-backend=ram", "-blockdev",
            f"qcow2,node-name=disk,file.driver=file,file.filename={disk}", "-device",
            "virtio-blk,drive=disk", "-gdb", f"unix:{self.gdb},server=on,wait=off"])
        self.machine = self.guest.machine
        self.said = []
        with open(memory, "r+b") as file:
            self.memory = mmap.mmap(file.fileno(), 0)
        symbols = subprocess.run(["nm", paths.guest("foreign64.elf")], capture_output=True, text=True,
                                 check=True).stdout
        self.laps_at = int(re.search(r"(?m)^([0-9a-f]+) b laps$", symbols)[1], 16)
        self.laps_lost = 0

    def laps(self):
        """
        How many the guest has done, whether or not their dots have come: many may be on their way, as TCG
        does 100,000 in a second.
        """
        return self.laps_lost + int.from_bytes(self.memory[self.laps_at:self.laps_at + 4], "little")

    def load(self):
        """Load the snapshot.  The dots go on, the guest's count does not."""
        self.machine.stop()
        before = self.laps()
        expect_equal("loadvm", "", self.machine.hmp("loadvm here"))
        self.laps_lost += before - self.laps()
        self.machine.cont()

    def expect(self, *said):
        """The guest says that, and no more, in some laps."""
        self.said += said
        enough = self.laps() + SEEN_IN_LAPS
        wait_until(lambda: self.machine.debugcon.text().count(".") >= enough,
                   f"the guest has not done {enough} laps")
        self.guest.expect_laps(1)
        expect_equal("what the guest says", self.said,
                     re.findall(r"(\w+) ([0-9a-f]{8})\n", self.machine.debugcon.text()))

    def write(self, name, value):
        address = FUNCTIONS[name]
        self.memory[address + 1:address + 5] = struct.pack("<I", value)
        return name, f"{value:08x}"

    def write_by_gdb(self, name, value):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self.gdb)
            gdb_command(connection, b"?")
            expect_equal("gdb's write", b"OK",
                         gdb_command(connection, b"M%x,4:%s" % (FUNCTIONS[name] + 1,
                                                                struct.pack("<I", value).hex().encode())))
            gdb_command(connection, b"D")
        self.machine.cont()
        return name, f"{value:08x}"


def write_all_ways(foreign):
    machine = foreign.machine
    value = 0x1000
    for name in FUNCTIONS:
        for _ in range(4):
            # By nobody that TCG knows of, under KVM
            value += 0x1111
            foreign.expect(foreign.write(name, value))
            machine.switch("tcg")
            foreign.expect()
            machine.switch("kvm")
            # and while the machine is stopped, in the middle of its stay.
            value += 0x1111
            machine.switch("tcg")
            foreign.expect()
            machine.stop()
            machine.switch("kvm")
            said = foreign.write(name, value)
            machine.switch("tcg")
            machine.cont()
            foreign.expect(said)
            # By a debugger, in TCG and under KVM
            value += 0x1111
            foreign.expect(foreign.write_by_gdb(name, value))
            machine.switch("kvm")
            value += 0x1111
            foreign.expect(foreign.write_by_gdb(name, value))
            machine.switch("tcg")
            foreign.expect()
            # By a load: the guest says nothing of what it knew as it was saved.
            expect_equal("savevm", "", machine.hmp("savevm here"))
            machine.switch("kvm")
            foreign.expect(foreign.write(name, value + 1))
            machine.switch("tcg")
            foreign.expect()
            foreign.load()
            foreign.expect()
            machine.switch("kvm")
            foreign.expect()


@contextlib.contextmanager
def foreign_guest(options=""):
    need_kvm()
    with tempfile.TemporaryDirectory() as folder:
        # Not every KVM sets the TSC of a snapshot.
        foreign = Foreign(folder, ",read-back=off" + options)
        with foreign.guest:
            foreign.expect()
            yield foreign


def foreign_writes():
    with foreign_guest() as guest:
        write_all_ways(guest)


def foreign_control():
    with foreign_guest(",x-omit=tb-validate") as guest:
        try:
            write_all_ways(guest)
        except Failure as failure:
            print(f"without tb-validate: {failure}")
            return
    raise Failure("code was not compared, and foreign64 has executed it as it was written")


main({"kept": kept, "flush": flush, "full": full, "foreign": foreign_writes,
      "foreign-control": foreign_control})
