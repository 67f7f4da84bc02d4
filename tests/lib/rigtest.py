# SPDX-License-Identifier: GPL-2.0-or-later
"""What the rig tests share: where they run, and how a guest is switched and watched.

Each test is a script that ends by vas.testing.run_test().  --local takes this
machine's KVM in place of the rig, where it can run a 32-bit guest.
"""

import argparse
import contextlib
import itertools
import os
import re
import threading
import time

from vas import image, kvmprobe
from vas.check import LONG_TIMES
from vas.debian import Guest, pace_of
from vas.host import LocalHost
from vas.machine import Console, Machine, MachineError, QMPError, QMPLost
from vas.rig import RigHost, boot_rig
from vas.testing import LONG, Failure, Skip, run_test

START = time.monotonic()
# How much before the rig a machine in it ends, so that it can be looked into.
LAST_SECONDS = 60


def say(text):
    print(f"{time.monotonic() - START:6.1f} s  {text}", flush=True)


def seconds(text):
    """A deadline of the command line, as meson stretches its own."""
    return int(text) * (LONG_TIMES if LONG else 1)


def arguments(description, accel="switch,initial=kvm"):
    """The options of every test here."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--local", action="store_true", help="this machine's KVM, not the rig")
    parser.add_argument("--smp", type=int, default=1)
    parser.add_argument("--accel", default=accel, help="QEMU's -accel; with plain kvm nothing "
                        "is switched, which tells the rig's own faults from the switch's")
    parser.add_argument("--machine", default="pc")
    parser.add_argument("--cpu", help="QEMU's -cpu, if not its default")
    parser.add_argument("--roundtrip", action="store_true",
                        help="also make a round trip (x-accel-roundtrip) every 200 ms")
    parser.add_argument("--disk", default="virtio", help="QEMU's if= of the image")
    return parser


def machine_arguments(args):
    """QEMU's arguments for the options above, but for the disk."""
    command = ["-accel", args.accel, "-M", args.machine, "-smp", str(args.smp), "-m", "256",
               "-nic", "none"]
    return command + (["-cpu", args.cpu] if args.cpu else [])


@contextlib.contextmanager
def a_host(local, deadline, disks=(), files=(), cmdline="", smp=1):
    """A Host with a KVM for 32-bit guests."""
    if local:
        usable, why = kvmprobe.probe()
        if not usable:
            raise Skip(why)
        with LocalHost() as host:
            yield host
        return
    with boot_rig(smp=smp, disks=disks, files=files, deadline=deadline, cmdline=cmdline) as rig:
        say(f"the rig is up after {rig.boot_seconds:.1f} s, its console: {rig.console}")
        yield RigHost(rig)


def mistaken_tsc(ppm, deadline):
    """
    For the rig's kernel's command line: have it believe its TSC to be by @ppm faster than it is (of
    which the kernel allows 10000).  What it "Detected" first can itself be wrong by about as much
    on a busy machine, so it is what it has then measured for a second.
    """
    with boot_rig(deadline=deadline) as rig:
        _, text = rig.run("dmesg")
    refined = re.search(rb"tsc: Refined TSC .*: ([0-9.]+) MHz", text)
    if not refined:
        raise Failure("the rig's kernel has not measured its TSC")
    return f"tsc_early_khz={1000 * float(refined.group(1)) * (1 + ppm / 1e6):.0f}"


class BiosConsole:
    """SeaBIOS's messages, which it writes to port 0x402 and not to the serial console."""

    def __init__(self, host):
        self._listener = host.listener("bios")
        self.arguments = ["-chardev", f"socket,id=bios,{self._listener.options}",
                          "-device", "isa-debugcon,iobase=0x402,chardev=bios"]
        self._console = None

    def connect(self, machine):
        """Call before the guest's first instruction."""
        log = open(os.path.join(machine.logs, "bios.log"), "ab")
        self._console = Console("bios", self._listener.connect(30, machine.running), log,
                                machine.running)

    def expect(self, pattern, timeout):
        return self._console.expect(pattern, timeout)

    def check_boots(self, expected):
        """A guest that was lost and reset boots once more, and may get to its end all the same."""
        boots = self._console.text().count("Booting from Hard Disk")
        if boots != expected:
            raise Failure(f"the guest has booted {boots} times, not {expected}")


class Switcher:
    """
    Switches of one machine.  Inside the rig TCG is TCG inside TCG: windows are
    kept short there.
    """

    def __init__(self, machine, enabled=True, window=1.0):
        self.machine = machine
        self.enabled = enabled
        self.window = window

    def to(self, accel, why):
        """Switch, and check what the monitor says about it."""
        if not self.enabled:
            say(f"{why}: (no switch)")
            return
        result = self.machine.switch(accel, timeout=180)
        active = self.machine.accel()
        say(f"{why}: {result['from']} -> {result['to']}, "
            f"{result['downtime-ns'] / 1e6:.3f} ms")
        if result["to"] != accel or active != accel:
            raise Failure(f"{why}: expected to run in {accel}, query-accel says {active}")

    def there_and_back(self, why):
        """A window in TCG."""
        self.to("tcg", why)
        time.sleep(self.window)
        self.to("kvm", why)


class RoundTrips:
    """
    Round trips of @machine in the background, one every 200 ms, and one after each trace event of a
    list in turn, while the context lasts; in TCG one a window, as it has to translate all anew
    after each.  Each must change nothing.
    """

    PAUSE = 0.2
    # How many there must be: in all, one for each so many seconds in KVM, and after trace events.
    LEAST, LEAST_EVERY, LEAST_TRACED = 10, 5, 3
    EVENTS = ("memory_region_ops_read", "memory_region_ops_write", "pic_set_irq", "pic_interrupt",
              "pic_ioport_write", "ioapic_set_irq", "ioapic_mem_write", "ide_dma_cb",
              "pci_cfg_write", "cpu_reset")
    # A vCPU in SMM or with A20 masked, or a switch that waits for one.
    NOT_NOW = r"must run on until|already in progress|has shut down|QEMU is ending"

    def __init__(self, machine, enabled):
        self._machine = machine
        self._enabled = enabled
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.done = 0
        self.refused = 0
        self.traced = dict.fromkeys(self.EVENTS, 0)
        self.changes = []
        # Without the time between two looks at it that both found it in the same window in TCG.
        self.seconds_in_kvm = 0
        self._looked, self._active = time.monotonic(), "kvm"

    def _run(self):
        window = None
        self._looked = time.monotonic()
        for event in itertools.cycle([e for name in self.EVENTS for e in (None, name)]):
            if self._end.wait(self.PAUSE) or len(self.changes) >= 5:
                break
            try:
                if event and not self._machine.wait_trace(event, 0.5):
                    continue
                info = self._machine.qmp("query-accel")
                last, self._looked = self._looked, time.monotonic()
                self._active = info["active"]
                if info["active"] == "tcg":
                    if window == info["switches"]:
                        continue
                    window = info["switches"]
                self.seconds_in_kvm += self._looked - last
                self._machine.qmp("x-accel-roundtrip", timeout=120)
                self.done += 1
                if event:
                    self.traced[event] += 1
            except QMPError as error:
                if re.search(self.NOT_NOW, str(error)):
                    self.refused += 1
                else:
                    self.changes.append(str(error))
            except (MachineError, QMPLost):
                # QEMU has ended, or is about to: whether it should, the test itself sees.
                return

    def __enter__(self):
        if self._enabled:
            self._thread.start()
        return self

    def __exit__(self, kind, *unused):
        if not self._enabled:
            return
        self._end.set()
        self._thread.join(120)
        if self._active == "kvm":
            self.seconds_in_kvm += time.monotonic() - self._looked
        say(f"{self.done} round trips, {self.refused} refused; after trace events: "
            + ", ".join(f"{name} {count}" for name, count in self.traced.items() if count))
        if self.changes:
            raise Failure("round trips: " + " | ".join(self.changes))
        least = max(self.LEAST, int(self.seconds_in_kvm / self.LEAST_EVERY))
        traced = sum(self.traced.values())
        if kind is None and (self.done < least or traced < self.LEAST_TRACED):
            raise Failure(f"{self.done} round trips were made in {self.seconds_in_kvm:.0f} s in KVM, "
                          f"{traced} of them after trace events, not {least} and {self.LEAST_TRACED}")


def check_log(guest):
    """The guest's kernel must have seen nothing wrong."""
    trouble = guest.trouble()
    if trouble:
        raise Failure("the guest's kernel log: " + " | ".join(trouble[:5]))


def check_resets(machine):
    """There must have been none: a guest that is lost may be reset, and boot again."""
    if machine.events("RESET"):
        raise Failure("the guest was reset")


def check_verdict(verdict, checks, failures):
    say(f"the load says: {verdict}, {checks} checks")
    if verdict != "pass" or failures or not checks:
        raise Failure("the guest's load failed: " + " | ".join(failures[:5]))


__all__ = ["BiosConsole", "Failure", "Guest", "LAST_SECONDS", "Machine", "RoundTrips", "Skip",
           "Switcher", "a_host", "arguments", "check_log", "check_resets", "check_verdict",
           "image", "machine_arguments", "pace_of", "run_test", "say", "seconds"]
