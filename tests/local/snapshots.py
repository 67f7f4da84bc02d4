# SPDX-License-Identifier: GPL-2.0-or-later
"""A snapshot is loaded while the guest runs: nothing of the guest before it may be left."""

import contextlib
import os
import tempfile

from vas.testing import Payload, expect_equal, left_out, main, make_qcow2, need_kvm

SLOW, FAST = 65535, 500         # counts of the PIT, which counts at 1.193182 MHz


@contextlib.contextmanager
def saveable(options=""):
    need_kvm()
    with tempfile.TemporaryDirectory() as folder:
        disk = os.path.join(folder, "disk")
        make_qcow2(disk)
        arguments = ["-blockdev", "qcow2,node-name=disk,file.driver=file,"
                                  f"file.filename={disk}",
                     "-device", "virtio-blk-pci,drive=disk"]
        with Payload("soak64", "switch,initial=kvm" + options, arguments=arguments,
                     name="snapshots") as guest:
            guest.expect_laps(3)
            yield guest


def memory():
    """
    A snapshot's memory comes without a word to either accelerator: neither may go on with what it
    has made of the memory before, KVM with its shadow pages, TCG with its translated code.
    """
    with saveable() as guest:
        machine = guest.machine
        for accel in ("kvm", "tcg"):
            machine.switch(accel)
            for number in range(60):
                if number % 10 == 0:
                    guest.expect_laps(3)
                    expect_equal("savevm", "", machine.hmp("savevm one"))
                guest.expect_laps(3 + number % 7)
                expect_equal("loadvm", "", machine.hmp("loadvm one"))
            guest.expect_laps(20)


def set_pit(machine, count):
    for port, value in ((0x43, 0x34), (0x40, count & 0xff), (0x40, count >> 8)):
        machine.hmp(f"o/b {port} {value}")


def stop_with_nmi(machine):
    """Stopped between them: KVM has begun to deliver the NMI, and an interrupt may wait."""
    commands = ("inject-nmi", "stop")
    requests = [machine.qmp_client.send(command, {}) for command in commands]
    for command, request in zip(commands, requests):
        machine.qmp_client.answer(request, command, 30)


def events(rounds=60, options=""):
    """
    The vCPU that a snapshot is loaded into could have taken an interrupt, the one in the snapshot
    can't: it takes an NMI, in whose handler the PIC's interrupt would come with IF clear.
    """
    with saveable(options) as guest:
        machine = guest.machine
        for _ in range(rounds):
            set_pit(machine, FAST)
            guest.expect_laps(2)
            stop_with_nmi(machine)
            expect_equal("savevm", "", machine.hmp("savevm one"))
            for _ in range(4):
                set_pit(machine, SLOW)
                machine.qmp("cont")
                guest.expect_laps(3)
                machine.qmp("stop")
                expect_equal("loadvm", "", machine.hmp("loadvm one"))
                machine.qmp("cont")
                guest.expect_laps(3)
                machine.qmp("stop")
            machine.qmp("cont")


def events_control():
    with left_out("interrupt-ready", "no interrupt at CPL0"):
        events(1500, ",x-omit=interrupt-ready")


main({"memory": memory, "events": events, "events-control": events_control})
