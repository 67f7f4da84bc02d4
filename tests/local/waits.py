# SPDX-License-Identifier: GPL-2.0-or-later
"""
Switches that wait: for a guest that can't be switched now, for one another, and for a port's answer.
"""

import contextlib
import os
import re
import socket
import tempfile
import time

from lib.switchable import SWITCH, switchable
from vas.testing import (Failure, Payload, at_monitor, expect_equal, main, need_kvm,
                         switch_must_wait, wait_until)


@contextlib.contextmanager
def watched_guest(*arguments):
    """The payload told16, and HMP as a person has it, by which it can be seen during a command."""
    need_kvm()
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as person:
        path = os.path.join(folder, "hmp")
        # Long enough for a busy machine.
        with Payload("told16", SWITCH + ",x-wait=60", name="waits",
                     arguments=["-device", "isa-accel-switch", "-chardev",
                                f"socket,id=hmp,path={path},server=on,wait=off",
                                "-mon", "chardev=hmp", *arguments]) as guest:
            person.settimeout(20)
            person.connect(path)
            yield guest, person


def send_switch(guest, person, accel):
    """Have a switch wait for the guest, which has masked its A20 line; returns the command's ID."""
    guest.tell("m")
    number = guest.machine.qmp_client.send("switch-accel", {"accel": accel})
    blocked = "blocked: a switch is already in progress"
    wait_until(lambda: blocked in at_monitor(person, "info accel"), "the switch does not wait")
    return number


def expect_switched(guest, number, accel):
    """The switch of the ID @number comes, and all goes on."""
    result = guest.machine.qmp_client.answer(number, "switch-accel", 30)
    expect_equal("to", accel, result["to"])
    expect_equal("accelerator", accel, guest.machine.accel())
    guest.expect_laps(3)


def in_progress():
    """
    While a switch waits for a guest, nobody else's begins: not that of a person at the monitor, nor
    one that the guest asks for.  Then the first one is made.
    """
    refused = "can't switch: a switch is already in progress"
    with watched_guest() as (guest, person):
        for accel in ("tcg", "kvm"):
            number = send_switch(guest, person, accel)
            guest.tell("p")
            expect_equal("the monitor's answer", f"Error: {refused}\r\n",
                         at_monitor(person, "switch_accel"))
            guest.tell("u")
            expect_switched(guest, number, accel)
        expect_equal("refusals of the port", 2,
                     guest.machine.output().count("isa-accel-switch: " + refused))


def person_waits():
    """A person's switch, too, waits for a guest; which runs on, and unmasks its A20 line itself."""
    with watched_guest() as (guest, person):
        guest.machine.qmp("trace-event-set-state", name="accel_switch_refused", enable=True)
        for accel, line in (("tcg", "kvm -> tcg"), ("kvm", "tcg -> kvm")):
            guest.tell("t")
            said = at_monitor(person, f"switch_accel {accel}")
            if not said.startswith(line):
                raise Failure(f"the monitor says: {said}")
            guest.expect_laps(3)
        if "accel_switch_refused" not in guest.machine.output():
            raise Failure("no switch had to wait")


def ended():
    """QEMU ends while a switch waits, which it doesn't wait for: in order, and at once."""
    for accel in ("tcg", "kvm"):
        with watched_guest() as (guest, person):
            if accel == "kvm":
                guest.machine.switch("tcg")
            send_switch(guest, person, accel)
            person.sendall(b"quit\n")
            expect_equal("QEMU's exit status", 0, guest.machine.wait(20))


def in_device():
    """
    A device waits for a request in the vCPU's thread, and has QEMU's main context run there: no
    switch comes in the middle of that instruction.
    """
    disk = "/machine/peripheral/disk/virtio-backend"
    slow = "null-co,node-name=slow,size=1048576,read-zeroes=on,latency-ns=300000000"
    device = "virtio-blk-pci,drive=slow,id=disk,addr=4,disable-modern=on"
    with watched_guest("-blockdev", slow, "-device", device) as (guest, person):
        guest.machine.qmp("trace-event-set-state", name="virtio_set_status", enable=True)
        guest.tell("d")
        once = guest.machine.output().count("virtio_set_status")
        for accel in ("tcg", "kvm") * 3:
            number = send_switch(guest, person, accel)
            at_monitor(person, f'qemu-io -d {disk} "aio_read 0 512"')
            guest.tell("d")
            expect_switched(guest, number, accel)
            # what went wrong shows soon
            for _ in range(10):
                for other in ("kvm", "tcg", accel):
                    guest.machine.switch(other)
                    guest.expect_laps(3)
        expect_equal("effects of the instruction, by seven", 7 * once,
                     guest.machine.output().count("virtio_set_status"))


def pipelined():
    """A switch that is asked for while one runs: the one after the other, or an error."""
    with switchable() as guest:
        machine = guest.machine
        guest.expect_laps(3)
        for _ in range(20):
            numbers = [machine.qmp_client.send("switch-accel", {"accel": accel})
                       for accel in ("tcg", "kvm", "kvm", "tcg", "kvm")]
            for number in numbers:
                machine.qmp_client.answer(number, "switch-accel", 30)
            expect_equal("active", "kvm", machine.accel())
            guest.expect_laps(3)


def a20():
    """The A20 line, which KVM doesn't know: a switch waits until it is unmasked."""
    need_kvm()
    for binary in ("x86_64", "i386"):
        with Payload("told16", SWITCH, name="waits", binary=binary) as guest:
            guest.expect_laps(3)
            for accel in ("tcg", "kvm"):
                switch_must_wait(guest, accel, "m", "u", "A20")


def port_status(machine):
    """What isa-accel-switch's port reads."""
    return int(re.search(r"= (\w+)", machine.hmp("i /b 0x5ac")).group(1), 16)


PORT_KVM, PORT_WAITS, PORT_REFUSED = 0x01, 0x40, 0x80


def port():
    """
    By isa-accel-switch's port the guest asks for a switch, which has been made by the next
    instruction; when it's refused, QEMU says why, and the guest goes on where it was.
    """
    need_kvm()
    with Payload("told16", SWITCH, name="waits", arguments=["-device", "isa-accel-switch"]) \
            as guest:
        machine = guest.machine
        guest.expect_laps(3)
        for accel in ("tcg", "kvm") * 10:
            guest.tell("p")
            expect_equal("accelerator", accel, machine.accel())
            guest.expect_laps(3)
        guest.tell("m")
        guest.tell("p")
        expect_equal("the port, while a switch waits", PORT_KVM | PORT_WAITS, port_status(machine))
        guest.tell("u")
        # The switch was waiting for A20, and looks for it every 50 ms.
        wait_until(lambda: machine.accel() == "tcg", "the switch was not made")
        expect_equal("the port, when it was made", 0, port_status(machine))
        guest.tell("m")
        guest.tell("p")
        guest.expect_laps(3)
        wait_until(lambda: "isa-accel-switch: can't switch: vCPU 0 has its A20" in machine.output(),
                   "the refusal was not reported")
        expect_equal("accelerator", "tcg", machine.accel())
        expect_equal("the port, when it was refused", PORT_REFUSED, port_status(machine))
        guest.tell("u")
        guest.tell("p")
        expect_equal("accelerator", "kvm", machine.accel())
    with Payload("told16", "tcg", name="waits", arguments=["-device", "isa-accel-switch"]) \
            as guest:
        guest.tell("p")
        guest.expect_laps(3)
        expect_equal("accelerator", "tcg", guest.machine.accel())


def port_limit():
    """A guest gets as many switches in a second as max-switches-per-second says; the next is refused."""
    need_kvm()
    refusal = ("isa-accel-switch: can't switch: the guest asks for more than 2 switches a second"
               " (max-switches-per-second)")
    with Payload("told16", SWITCH, name="waits", arguments=[
            "-device", "isa-accel-switch,max-switches-per-second=2"]) as guest:
        machine = guest.machine
        guest.expect_laps(3)
        start, asked = time.monotonic(), 0
        while port_status(machine) & PORT_REFUSED == 0:
            if asked > 3 + 2 * (time.monotonic() - start):
                raise Failure(f"{asked} switches in {time.monotonic() - start:.1f} s")
            guest.tell("p")
            asked += 1
        expect_equal("switches", asked - 1, machine.qmp("query-accel")["switches"])
        if refusal not in machine.output():
            raise Failure("the refusal was not reported: " + machine.output())
        guest.expect_laps(3)
        # The limit is the guest's.  It holds nobody else back, and ends with the time.
        accel = machine.accel()
        for _ in range(10):
            for other in ("tcg", "kvm"):
                machine.switch(other)
        machine.switch(accel)
        time.sleep(1)
        guest.tell("p")
        expect_equal("refused", 0, port_status(machine) & PORT_REFUSED)


def direct(events):
    """Those of switches that the guest has not asked for."""
    return [event["data"] for event in events if "by-guest" not in event["data"]]


def port_events():
    """
    The guest's own switches make one event a second, the last one's; a command's makes one each, after
    the guest's that came before it.
    """
    need_kvm()
    with Payload("told16", SWITCH, name="waits", arguments=["-device", "isa-accel-switch"]) \
            as guest:
        machine = guest.machine
        guest.expect_laps(3)
        start = time.monotonic()
        for _ in range(21):
            guest.tell("p")
        expect_equal("accelerator", "tcg", machine.accel())
        wait_until(lambda: len(machine.events("ACCEL_SWITCHED")) > 1, "the last event was not sent")
        events, passed = machine.events("ACCEL_SWITCHED"), time.monotonic() - start
        print(f"{len(events)} events in {passed:.1f} s")
        if len(events) > 2 + passed:
            raise Failure(f"{len(events)} events in {passed:.1f} s")
        expect_equal("events that are not by the guest", [], direct(events))
        expect_equal("the last event's accelerator", "tcg", events[-1]["data"]["to"])
        expect_equal("switches", 21, machine.qmp("query-accel")["switches"])
        # The second of these is held back, and comes before the command's.
        guest.tell("p")
        guest.tell("p")
        results = [machine.switch(accel) for accel in ("kvm", "tcg") * 10]
        events = machine.events("ACCEL_SWITCHED")
        expect_equal("events of commands", results, direct(events))
        accels = [event["data"]["to"] for event in events[-22:]]
        expect_equal("the order of events", ["tcg", *("kvm", "tcg") * 10], accels[1:])


main({"pipelined": pipelined, "in-progress": in_progress, "ended": ended,
      "in-device": in_device, "person-waits": person_waits, "a20": a20, "port": port,
      "port-limit": port_limit, "port-events": port_events})
