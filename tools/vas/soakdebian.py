# SPDX-License-Identifier: GPL-2.0-or-later
"""
The soak of a whole guest: Debian i386 under its self-checking load, switched at random times.

With more than one vCPU the same guest runs beside it under TCG alone: QEMU's own MTTCG has faults
with code that one vCPU modifies and another runs, and what both arms show is not the switch's.
"""

import random
import threading
import time

from vas import image
from vas.debian import Guest, disk_arguments
from vas.host import HostError, LocalHost
from vas.machine import Machine, MachineError
from vas.qmp import QMPError, QMPLost

# Seconds: TCG in the rig is TCG inside TCG, and does little in that time.
LONGEST_WINDOW = {"tcg": 0.3, "kvm": 0.3}
CHECK_EVERY = 50


def arguments(host, accel, smp):
    return ["-accel", accel, "-smp", str(smp), "-m", "256", "-nic", "none",
            *disk_arguments(host)]


def boot(machine, in_rig):
    """Up to the load's first report."""
    guest = Guest(machine, pace=4 if in_rig else 1)
    guest.boot()
    guest.start_load("--light" if in_rig else "")
    guest.wait_round(120)
    return guest


def verdict(guest):
    word, checks, failures = guest.stop_load()
    trouble = guest.trouble()
    return {"verdict": "fail" if failures or trouble else word, "checks": checks,
            "complaints": failures + trouble}


class ControlArm(threading.Thread):
    """The same guest under TCG alone, on this machine, until finish()."""

    def __init__(self, smp):
        super().__init__(daemon=True)
        self._smp = smp
        self._end = threading.Event()
        self._result = {"verdict": "fail", "checks": 0, "complaints": ["it did not come up"]}

    def run(self):
        try:
            with LocalHost() as host, \
                    Machine(arguments(host, "tcg", self._smp), binary="i386", host=host,
                            name="soak-control", deadline=7200) as machine:
                guest = Guest(machine, pace=8)
                guest.boot()
                guest.start_load("--light")
                self._end.wait()
                self._result = verdict(guest)
        except (MachineError, HostError, QMPError, QMPLost) as error:
            self._result["complaints"] = [str(error)]

    def finish(self):
        self._end.set()
        self.join(600)
        return self._result


def soak_debian(host, count, smp, seed, say):
    """Returns (switches, (memory at the beginning, at the end), verdict, control's verdict)."""
    generator = random.Random(seed)
    in_rig = host.name == "rig"
    control = ControlArm(smp) if smp > 1 else None
    if control:
        control.start()
    with Machine(arguments(host, "switch,initial=kvm", smp), binary="i386", host=host,
                 name="soak-debian", deadline=count * 3 + 900) as machine:
        guest = boot(machine, in_rig)
        say(f"the load runs; now {count} switches")
        begin = None
        for number in range(1, count + 1):
            accel = "tcg" if number % 2 else "kvm"
            machine.switch(accel, timeout=180)
            time.sleep(generator.random() * LONGEST_WINDOW[accel])
            # The first switches make TCG's buffers.
            if number == max(2, count // 20):
                begin = machine.memory_kib()
            if number % (2 * CHECK_EVERY) == 0:
                rounds, checks = guest.wait_round(240)
                say(f"{number} switches, the load is in round {rounds} with {checks} checks")
        if machine.accel() == "tcg":
            machine.switch("kvm")
        end = machine.memory_kib()
        result = verdict(guest)
        guest.poweroff()
        return machine.switches, (begin or end, end), result, control and control.finish()


def disk():
    """The image, built if need be."""
    return str(image.image_path())
