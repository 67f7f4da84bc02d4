# SPDX-License-Identifier: GPL-2.0-or-later
"""A snapshot is loaded while the guest runs: nothing of the guest before it may be left."""

import contextlib
import os
import re
import socket
import tempfile

from vas.testing import (Payload, expect_equal, gdb_command, left_out, main, make_qcow2,
                         need_kvm)

SLOW, FAST = 65535, 500         # counts of the PIT, which counts at 1.193182 MHz
STI_HLT_CLI = b"\xfb\xf4\xfa"


@contextlib.contextmanager
def saveable(options="", more=()):
    need_kvm()
    with tempfile.TemporaryDirectory() as folder:
        disk = os.path.join(folder, "disk")
        make_qcow2(disk)
        arguments = ["-blockdev", "qcow2,node-name=disk,file.driver=file,"
                                  f"file.filename={disk}",
                     "-device", "virtio-blk-pci,drive=disk", *more]
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


def run_into_shadow(machine, connection, folder):
    """In TCG, stopped: run on until the vCPU stands between a STI and a HLT."""
    path = os.path.join(folder, "memory")
    machine.qmp("pmemsave", val=0x100000, size=0x100000, filename=path)
    with open(path, "rb") as file:
        halts = [0x100001 + match.start() for match in re.finditer(STI_HLT_CLI, file.read())]
    for kind, *command in ((b"Z", b"c"), (b"z",)):
        for halt in halts:
            expect_equal("breakpoint", b"OK", gdb_command(connection, b"%s1,%x,1" % (kind, halt)))
        for line in command:
            expect_equal("stopped", b"T05", gdb_command(connection, line)[:3])


def interrupt_shadow():
    """A vCPU that a snapshot is loaded into, or a reset, is no longer in an interrupt shadow."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "gdb")
        # Not every KVM sets the TSC of a snapshot.
        with saveable(",read-back=off", ["-gdb", f"unix:{path},server=on,wait=off"]) as guest, \
                socket.socket(socket.AF_UNIX) as connection:
            machine = guest.machine

            def command(line):
                expect_equal(line, "", machine.hmp(line))

            def expect_shadow(there):
                expect_equal("interrupt shadow", f"II={there}",
                             re.search("II=.", machine.hmp("info registers")).group(0))

            command("savevm kvm")
            connection.connect(path)
            gdb_command(connection, b"?")
            machine.switch("tcg")
            run_into_shadow(machine, connection, folder)
            command("savevm tcg")
            connection.close()
            machine.cont()
            machine.stop()      # no longer for the debugger
            for leave in ("loadvm kvm", "system_reset"):
                command("loadvm tcg")
                expect_shadow(1)
                machine.switch("kvm")
                machine.switch("tcg")
                expect_shadow(1)
                machine.switch("kvm")
                command(leave)
                machine.switch("tcg")
                expect_shadow(0)
            machine.cont()
            guest.expect_laps(3)


main({"memory": memory, "interrupt-shadow": interrupt_shadow, "events": events, "events-control": events_control})
