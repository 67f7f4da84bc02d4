# SPDX-License-Identifier: GPL-2.0-or-later
"""Streams and snapshots of either accelerator are loaded under either, with a KVM that keeps a TSC."""

import argparse

from lib import streams
from lib.rigtest import Guest, LAST_SECONDS, Machine, a_host, check_resets, image, say, seconds
from vas import paths
from vas.debian import verdict_lines
from vas.testing import LONG, expect_equal, run_test

ROUNDS = 50


def payloads(deadline):
    with a_host(False, deadline) as host:
        streams.in_a_rig(host, rounds=ROUNDS if LONG else 0)


# In this order each load begins where the last one ended.
CYCLE = [("kvm", "kvm"), ("kvm", "tcg"), ("tcg", "tcg"), ("tcg", "kvm")]
# Not background-snapshot: there the guest runs on where it was, with the same disk.
DEBIAN_KINDS = ("precopy", "file", "multifd", "mapped-ram", "postcopy")


class Debian:
    """Debian under load, whose disk outlives the QEMU that runs it, which is its @guest's."""

    def __init__(self, host, deadline):
        self.host, self.deadline = host, deadline
        self.disk = host.scratch("disk")
        log = paths.LOGS + "/streams-disk.log"
        command = [paths.QEMU + "/qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b",
                   host.put(str(image.image_path())), self.disk]
        expect_equal(f"qemu-img ({log})", 0, host.spawn(command, log).wait(60))
        self.guest = self.start("kvm")

    def start(self, accel, more=(), **keywords):
        machine = Machine(["-accel", f"switch,initial={accel}", "-m", "256", "-nic", "none",
                           "-drive", f"file={self.disk},format=qcow2,if=virtio", *more],
                          binary="i386", host=self.host, name="debian", deadline=self.deadline - LAST_SECONDS,
                          **keywords)
        return Guest(machine)

    def go(self, kind, saved, loaded):
        """By a stream of that @kind from the QEMU that it is @saved in to a new one, where it is @loaded."""
        source, copy = self.guest, self.start(loaded, ["-incoming", "defer"], start=False)
        machine = copy.machine
        try:
            streams.move(streams.KINDS[kind], source, copy)
        except BaseException:
            machine.close()
            raise
        source.machine.close()
        self.guest = copy
        # The next stream may be of another kind.
        streams.set_capabilities(machine, *streams.KINDS[kind].capabilities, state=False)
        expect_equal("it runs in", loaded, streams.expect_loaded(machine, saved, loaded))
        machine.cont()
        rounds, checks = self.guest.wait_round(120)
        check_resets(machine)
        say(f"{kind}: {saved} to {loaded}: round {rounds} of the load, {checks} checks")


def debian(deadline):
    with a_host(False, deadline, [str(image.image_path())], [paths.QEMU + "/qemu-img"]) as host:
        system = Debian(host, deadline)
        try:
            system.guest.boot()
            system.guest.start_load("--light")
            system.guest.wait_round(120)
            for n in range(ROUNDS if LONG else 1):
                for place, (saved, loaded) in enumerate(CYCLE):
                    system.go(DEBIAN_KINDS[(n + place) % len(DEBIAN_KINDS)], saved, loaded)
            found = system.guest.judge()
            say(verdict_lines(found)[0])
            expect_equal("complaints", [], found["complaints"])
            expect_equal("verdict", "pass", found["verdict"])
            system.guest.poweroff()
        finally:
            system.guest.machine.close()


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("guest", choices=("payloads", "debian"))
parser.add_argument("--deadline", type=seconds, default=900)
args = parser.parse_args()
run_test({"payloads": payloads, "debian": debian}[args.guest], args.deadline)
