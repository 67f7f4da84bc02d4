# SPDX-License-Identifier: GPL-2.0-or-later
"""
The guests of ./vas bench, and how the host counts their work.

Each counts its units of work in its memory (tests/guest/lib/work.h), which is a memfd that the host
maps, too.  So the host reads the count at any moment, and the guest does not leave KVM to tell.
"""

import contextlib
import ctypes
import mmap
import os
import time

from vas.host import HostError
from vas.machine import Machine, MachineError, QMPError, QMPLost
from vas.patience import patiently
from vas.testing import PLAIN_KVM, Failure, Payload

# Of tests/guest/lib/work.h
WORK_PAGE, WORK_STRIDE, WORK_VCPUS = 0x600, 64, 8
VCPUS_WANTED = 0x508

MEMORY = 256
# The payloads, with what each does and what a unit of its work is.
GUESTS = {
    "compute": ("compute64", "computes at CPL3, in 512 different functions", "16 function calls"),
    "syscalls": ("syscall64", "makes system calls (SYSCALL, IRETQ)", "one system call"),
    "page-tables": ("remap64", "changes its page tables at CPL0 (INVLPG, CR3)",
                    "one page mapped and read"),
}
SWITCH = "switch"
# What means that a measurement, or one part of it, does not work here.
ERRORS = (Failure, MachineError, QMPError, QMPLost, HostError)


class WorkGuest(Payload):
    """
    The guest @guest of GUESTS under the accelerator @accel.

    @smp: vCPUs; each works if the guest is "compute", others wait for their SIPI.
    @cpu: -cpu's argument.  More keywords are Machine's.
    """

    def __init__(self, guest, accel, smp=1, memory=MEMORY, cpu=None, arguments=(), **keywords):
        more = ["-object", f"memory-backend-memfd,id=ram,size={memory}M,share=on",
                "-machine", "memory-backend=ram", "-smp", str(smp),
                "-device", f"loader,addr={VCPUS_WANTED:#x},data={smp},data-len=4"]
        if cpu:
            more += ["-cpu", cpu]
        self.vcpus = smp if guest == "compute" else 1
        self._memory = None
        super().__init__(GUESTS[guest][0], accel, memory=memory, arguments=[*more, *arguments],
                         **{"name": "bench", **keywords})
        try:
            self._map(memory << 20)
        except BaseException:
            self.machine.close()
            raise

    def _map(self, size):
        folder = f"/proc/{self.machine.pid}/fd"
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            with contextlib.suppress(OSError):
                if os.readlink(path).startswith("/memfd:memory-backend-memfd"):
                    with open(path, "r+b") as file:
                        self._memory = mmap.mmap(file.fileno(), size)
                    break
        if self._memory is None:
            raise Failure("QEMU's memory for the guest was not found among its files")
        # An aligned word of ctypes is read in one piece.
        self._counts = [ctypes.c_uint64.from_buffer(self._memory, WORK_PAGE + WORK_STRIDE * n)
                        for n in range(self.vcpus)]

    def work(self):
        """Units of work since the guest's start, of all its vCPUs."""
        return sum(count.value for count in self._counts)

    def expect_work(self, timeout=60):
        """Wait until each vCPU has done work from now on."""
        before = [count.value for count in self._counts]
        give_up = time.monotonic() + patiently(timeout)
        while any(count.value == old for count, old in zip(self._counts, before)):
            if time.monotonic() > give_up:
                raise Failure(f"the guest has done no work for {timeout:.0f} s")
            time.sleep(0.0002)
        self._check(self.machine.debugcon.unread())


def speed(guest, seconds):
    """Units of work per second of the host's time, for @seconds from now on."""
    before, start = guest.work(), time.monotonic()
    time.sleep(seconds)
    work, took = guest.work() - before, time.monotonic() - start
    if not work:
        raise Failure(f"the guest has done no work for {took:.1f} s")
    return work / took


def _features(machine):
    model = machine.qmp("query-cpu-model-expansion",
                        {"type": "full", "model": {"name": "qemu64"}})["model"]
    return {name for name, value in model["props"].items() if value is True}


class Abilities:
    """
    What this QEMU can do here.

    @cpu: -cpu's argument that gives a guest the same CPU under KVM, TCG and -accel switch
    @keeps: whether -accel switch has the property keep-translations
    """

    def __init__(self):
        features = {}
        for accel in (PLAIN_KVM, "tcg", SWITCH):
            with Machine(["-accel", accel, "-nodefaults"], name="bench-abilities",
                         start=False) as machine:
                features[accel] = _features(machine)
                if accel == SWITCH:
                    names = {row["name"] for row in machine.qmp("qom-list-properties",
                                                                typename="switch-accel")}
        extra = (features[PLAIN_KVM] | features["tcg"]) - features[SWITCH]
        self.cpu = ",".join(["qemu64", *(f"-{name}" for name in sorted(extra))])
        self.keeps = "keep-translations" in names

    def keeping(self):
        """What to measure of -accel switch: (label, accelerator) with translations kept or not."""
        if not self.keeps:
            return [("flushed", SWITCH)]
        return [("kept", f"{SWITCH},keep-translations=on"),
                ("flushed", f"{SWITCH},keep-translations=off")]


def translations(machine):
    """
    query-accel's counters of translations, or None where this QEMU has none: "made", "kept",
    "dropped", "pages-compared" and "flushes", since QEMU's start.
    """
    return machine.qmp("query-accel").get("translations")


def since(before, after):
    """What was counted between two answers of translations(); None if there are none."""
    if before is None or after is None:
        return None
    return {name: after[name] - before[name] for name in after if name in before}
