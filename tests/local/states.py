# SPDX-License-Identifier: GPL-2.0-or-later
"""
Switches in every state that a machine can be in, and what is refused: an error then, and nothing
changed.
"""

import array
import contextlib
import itertools
import os
import re
import socket
import tempfile
import threading
import time

from vas import paths
from vas.host import LocalHost
from vas.machine import Machine, MachineError, QMPError
from vas.screen import screen
from vas.testing import (PLAIN_KVM, Failure, Payload, Skip, at_monitor, expect_equal, expect_error,
                         gdb_command, main, make_qcow2, need_kvm, payload_arguments,
                         switch_must_wait)

SWITCH = "switch,initial=kvm"


def status(machine):
    return machine.qmp("query-status")["status"]


def switchable(accel=SWITCH, **keywords):
    need_kvm()
    return Payload("soak64", accel, name="states", **keywords)


def expect_untouched(machine, accel="kvm", switches=0):
    info = machine.qmp("query-accel")
    expect_equal("active accelerator", accel, info["active"])
    expect_equal("switches", switches, info["switches"])


def surface():
    """What query-accel, switch-accel, ACCEL_SWITCHED and the HMP commands say."""
    with switchable() as guest:
        machine = guest.machine
        guest.expect_laps(3)
        info = machine.qmp("query-accel")
        expect_equal("active", "kvm", info["active"])
        expect_equal("available", ["kvm", "tcg"], sorted(info["available"]))
        expect_equal("switches", 0, info["switches"])
        expect_equal("blockers", [], info["blockers"])
        expect_equal("last", False, "last" in info)
        machine.qmp("trace-event-set-state", name="accel_switch_*", enable=True)
        result = machine.switch("tcg")
        machine.qmp("trace-event-set-state", name="accel_switch_*", enable=False)
        for phase in ("begin", "quiesced", "exported", "converted", "imported", "resumed"):
            expect_equal(f"trace event {phase}", 1,
                         machine.output().count(f"accel_switch_{phase} "))
        expect_equal("keys", ["downtime-ns", "from", "phases", "to"], sorted(result))
        expect_equal("phases", ["convert-ns", "export-ns", "import-ns", "quiesce-ns", "resume-ns"],
                     sorted(result["phases"]))
        expect_equal("from, to", ("kvm", "tcg"), (result["from"], result["to"]))
        if not 0 < result["downtime-ns"] < 10e9:
            raise Failure(f"downtime of {result['downtime-ns']} ns")
        expect_equal("event", result, machine.wait_event("ACCEL_SWITCHED", 10)["data"])
        info = machine.qmp("query-accel")
        expect_equal("last", result, info["last"])
        expect_untouched(machine, "tcg", 1)
        guest.expect_laps(3)
        machine.hmp("switch_accel")
        expect_untouched(machine, "kvm", 2)
        machine.hmp("switch_accel tcg")
        expect_untouched(machine, "tcg", 3)
        if "tcg" not in machine.hmp("info accel"):
            raise Failure("info accel does not name tcg: " + machine.hmp("info accel"))
        guest.expect_laps(3)


def same():
    """To the accelerator that runs already: a success that changes nothing."""
    with switchable() as guest:
        machine = guest.machine
        guest.expect_laps(3)
        result = machine.switch("kvm")
        expect_equal("from, to", ("kvm", "kvm"), (result["from"], result["to"]))
        expect_untouched(machine)
        expect_equal("events", [], machine.events("ACCEL_SWITCHED"))
        guest.expect_laps(3)


def unknown():
    with switchable() as guest:
        machine = guest.machine
        expect_error("'xen'", machine.qmp, "switch-accel", {"accel": "xen"})
        expect_error("accel", machine.qmp, "switch-accel")
        expect_untouched(machine)
        if not machine.hmp("switch_accel xen").strip():
            raise Failure("switch_accel xen says nothing")
        expect_untouched(machine)
        guest.expect_laps(3)


def plain():
    """Without -accel switch."""
    need_kvm()
    for accel, name in ((PLAIN_KVM, "kvm"), ("tcg", "tcg")):
        with Payload("soak64", accel, name="states") as guest:
            machine = guest.machine
            for target in ("kvm", "tcg"):
                expect_error("-accel switch", machine.qmp, "switch-accel", {"accel": target})
            expect_equal("active", name, machine.qmp("query-accel")["active"])
            guest.expect_laps(3)


def debugger():
    """A debugger's breakpoints are one accelerator's: a switch must wait for their end."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "gdb")
        with switchable(arguments=["-gdb", f"unix:{path},server=on,wait=off"]) as guest, \
                socket.socket(socket.AF_UNIX) as connection:
            machine = guest.machine
            guest.expect_laps(3)
            connection.connect(path)
            gdb_command(connection, b"?")
            for accel, other in (("kvm", "tcg"), ("tcg", "kvm")):
                for kind in (b"0", b"1"):
                    expect_equal("insert", b"OK", gdb_command(connection, b"Z%s,fff0,1" % kind))
                    expect_error("debugger", machine.qmp, "switch-accel", {"accel": other})
                    expect_equal("active", accel, machine.qmp("query-accel")["active"])
                    expect_equal("remove", b"OK", gdb_command(connection, b"z%s,fff0,1" % kind))
                machine.switch(other)
            connection.close()
            machine.cont()
            guest.expect_laps(3)


def before_start():
    """Before cont of -S, under either accelerator."""
    for initial, other in (("kvm", "tcg"), ("tcg", "kvm")):
        with switchable(f"switch,initial={initial}", start=False) as guest:
            machine = guest.machine
            machine.switch(other)
            expect_equal("status", "prelaunch", status(machine))
            machine.switch(initial)
            machine.switch(other)
            machine.cont()
            guest.expect_laps(3)
            machine.switch(initial)
            guest.expect_laps(3)


def stopped():
    """A stopped guest stays stopped, and there and back its registers are what they were."""
    with switchable() as guest:
        machine = guest.machine
        for _ in range(50):
            guest.expect_laps(3)
            machine.stop()
            before = machine.hmp("info registers")
            machine.switch("tcg")
            expect_equal("status", "paused", status(machine))
            machine.switch("kvm")
            expect_equal("status", "paused", status(machine))
            expect_equal("registers", before, machine.hmp("info registers"))
            text = machine.debugcon.text()
            machine.switch("tcg")
            expect_equal("output while stopped", text, machine.debugcon.text())
            machine.cont()
            guest.expect_laps(3)
            machine.switch("kvm")


def dumped():
    """A dump of the registers under KVM changes none, whatever TCG has left in CPUX86State."""
    with switchable() as guest:
        machine = guest.machine
        for _ in range(50):
            machine.switch("tcg")
            guest.expect_laps(2)
            machine.switch("kvm")
            guest.expect_laps(1)
            machine.stop()
            machine.hmp("info registers")
            machine.qmp("x-accel-roundtrip")
            machine.cont()


@contextlib.contextmanager
def watched_guest(*arguments):
    """The payload told16, and HMP as a person has it, by which it can be seen during a command."""
    need_kvm()
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as person:
        path = os.path.join(folder, "hmp")
        # Long enough for a busy machine.
        with Payload("told16", SWITCH + ",x-wait=60", name="states",
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


def plugin():
    """A plugin sees what runs in TCG, and nothing of what runs in KVM."""
    library = os.path.join(paths.QEMU, "contrib/plugins/libhotblocks.so")
    if not os.path.exists(library):
        raise Skip("this QEMU was built without plugins")
    for windows in (0, 10):
        with switchable(arguments=["-smp", "2", "-plugin", library, "-d", "plugin"]) as guest:
            machine = guest.machine
            guest.expect_laps(3)
            # Without an instruction in between
            machine.qmp("x-accel-roundtrip")
            for _ in range(windows):
                for accel in ("tcg", "kvm"):
                    machine.switch(accel)
                    guest.expect_laps(3)
            machine.qmp("quit")
            machine.wait(20)
            blocks = int(re.search(r"collected (\d+) entries", machine.output()).group(1))
            print(f"{windows} windows: {blocks} blocks")
            if (blocks > 0) != (windows > 0):
                raise Failure(f"the plugin has seen {blocks} blocks in {windows} windows")


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


def incoming():
    need_kvm()
    with Machine([*payload_arguments("soak64", SWITCH), "-incoming", "defer"], start=False,
                 name="states") as machine:
        why = "the guest is still to come in by migration (-incoming)"
        expect_error(why, machine.qmp, "switch-accel", {"accel": "tcg"})
        expect_equal("blockers", [why], machine.qmp("query-accel")["blockers"])
        expect_untouched(machine)


def migrating():
    with switchable() as guest:
        machine = guest.machine
        guest.expect_laps(3)
        machine.qmp("migrate-set-parameters", {"max-bandwidth": 4096})
        machine.qmp("migrate", {"uri": "file:" + os.path.join(machine.logs, "stream")})
        expect_error("a migration is running", machine.qmp, "switch-accel", {"accel": "tcg"})
        # where the guest is already
        expect_equal("from", "kvm", machine.switch("kvm")["from"])
        expect_untouched(machine)
        guest.expect_laps(3)
        machine.qmp("migrate_cancel")
        for _ in range(100):
            if machine.qmp("query-migrate").get("status") == "cancelled":
                break
            guest.expect_laps(3)
        machine.switch("tcg")
        guest.expect_laps(3)


def migrating_tcg():
    """
    KVM's dirty logs, which a migration reads, say nothing of TCG's code: the payload modifies its
    own, and would run what it was.
    """
    for accel in (SWITCH, "switch,initial=tcg"):
        with switchable(accel) as guest:
            machine = guest.machine
            guest.expect_laps(3)
            machine.switch("tcg")
            guest.expect_laps(20)
            machine.qmp("migrate-set-parameters", {"max-bandwidth": 4096})
            for number in range(3):
                stream = os.path.join(machine.logs, f"stream{number}")
                machine.qmp("migrate", {"uri": "file:" + stream})
                guest.expect_laps(200)
                machine.qmp("migrate_cancel")
                while machine.qmp("query-migrate").get("status") != "cancelled":
                    guest.expect_laps(3)
                guest.expect_laps(20)


def dirty_rate():
    """A measurement of the dirty rate goes on while the guest is switched, and harms no code."""
    with switchable() as guest:
        machine = guest.machine
        for mode in ("page-sampling", "dirty-bitmap"):
            for number in range(4):
                machine.switch("kvm" if number % 2 else "tcg")
                machine.qmp("calc-dirty-rate", {"calc-time": 1, "mode": mode})
                switches = 0
                while machine.qmp("query-dirty-rate")["status"] != "measured":
                    guest.expect_laps(3)
                    machine.switch("tcg" if switches % 2 else "kvm")
                    switches += 1
                guest.expect_laps(20)
                if not switches:
                    raise Failure("no switch came within the measurement")


def balloon():
    """Whether the balloon can be used does not change with the accelerator."""
    with switchable(arguments=["-device", "virtio-balloon-pci"]) as guest:
        machine = guest.machine
        for accel in ("tcg", "kvm"):
            machine.switch(accel)
            machine.qmp("balloon", value=32 << 20)
            expect_equal("balloon", 64 << 20, machine.qmp("query-balloon")["actual"])
            expect_error("dirty-ring-size", machine.qmp, "set-vcpu-dirty-limit",
                         {"dirty-rate": 1})
            guest.expect_laps(3)


def migration_end(machine):
    """Wait for the end of a migration; returns its status."""
    while True:
        state = machine.qmp("query-migrate").get("status")
        if state in ("completed", "failed"):
            return state
        time.sleep(0.05)


def switch_after_load(guest, accel):
    """
    The TSC goes on from where it was saved, for which KVM must keep an offset to the host's.  Not
    every KVM does (a paravirtual one runs RDTSC as it is): then the guest must stay where it is.
    """
    try:
        guest.machine.switch(accel)
    except QMPError as error:
        if "tsc_offset is 0x0" not in str(error):
            raise
        print(error)
        expect_untouched(guest.machine, "tcg")
    guest.expect_laps(3)


def streams():
    """A stream is loaded under the accelerator that it was saved under, and under no other."""
    for accel, other in (("kvm", "tcg"), ("tcg", "kvm")):
        with switchable() as guest:
            machine = guest.machine
            guest.expect_laps(3)
            machine.switch("tcg")
            guest.expect_laps(3)
            machine.switch(accel)
            guest.expect_laps(3)
            stream = os.path.join(machine.logs, "stream")
            machine.qmp("migrate", {"uri": "file:" + stream})
            expect_equal("migration", "completed", migration_end(machine))
            expect_error("migrated away", machine.qmp, "switch-accel", {"accel": other})
            for initial, end in ((accel, "completed"), (other, "failed")):
                with switchable(f"switch,initial={initial}", start=False,
                                arguments=["-incoming", "defer"]) as copy:
                    copy.machine.qmp("migrate-incoming", {"uri": "file:" + stream,
                                                          "exit-on-error": False})
                    expect_equal(f"{accel}'s stream under {initial}", end,
                                 migration_end(copy.machine))
                    if end == "completed":
                        copy.machine.cont()
                        copy.expect_laps(3)
                        switch_after_load(copy, other)


def render_memory(machine):
    """Have QEMU render the memory's layout anew, by a PAM register of the 440FX for 0xc0000."""
    for value in (0x33, 0):
        for write in ("/w 0xcf8 0x80000058", f"/b 0xcfe {value:#x}"):
            expect_equal("HMP's answer", "", machine.hmp("o " + write))


def logging():
    """
    KVM logs the pages that a guest makes dirty while it is migrated, though the memory's layout was
    rendered in TCG, for which all of it is logged.
    """
    with tempfile.TemporaryDirectory() as folder:
        disk = os.path.join(folder, "disk")
        make_qcow2(disk)
        drive = ["-drive", f"file={disk},if=none,id=disk", "-device",
                 "virtio-blk-pci,drive=disk,romfile="]
        with switchable("switch,initial=tcg", arguments=drive) as guest:
            machine = guest.machine
            stream = os.path.join(machine.logs, "stream")
            for accel in ("tcg", "kvm"):
                machine.switch("tcg")
                render_memory(machine)
                machine.switch(accel)
                expect_equal("savevm", "", machine.hmp("savevm one"))
                guest.expect_laps(3)
            # Not all of it at once: the guest goes on writing.
            machine.qmp("migrate-set-parameters", {"max-bandwidth": 1 << 20})
            machine.qmp("migrate", {"uri": "file:" + stream})
            guest.expect_laps(20)
            machine.qmp("migrate-set-parameters", {"max-bandwidth": 1 << 30})
            expect_equal("migration", "completed", migration_end(machine))
        with switchable(start=False, arguments=[*drive, "-incoming", "file:" + stream]) as copy:
            copy.machine.cont()
            copy.expect_laps(10)


def a20():
    """The A20 line, which KVM doesn't know: a switch waits until it is unmasked."""
    need_kvm()
    for binary in ("x86_64", "i386"):
        with Payload("told16", SWITCH, name="states", binary=binary) as guest:
            guest.expect_laps(3)
            for accel in ("tcg", "kvm"):
                switch_must_wait(guest, accel, "m", "u", "A20")


def wait_until(condition, otherwise, seconds=30):
    give_up = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up:
            raise Failure(otherwise)
        time.sleep(0.05)


PORT_KVM, PORT_WAITS, PORT_REFUSED = 0x01, 0x40, 0x80


def port_status(machine):
    """What isa-accel-switch's port reads."""
    return int(re.search(r"= (\w+)", machine.hmp("i /b 0x5ac")).group(1), 16)


def port():
    """
    By isa-accel-switch's port the guest asks for a switch, which has been made by the next
    instruction; when it's refused, QEMU says why, and the guest goes on where it was.
    """
    need_kvm()
    with Payload("told16", SWITCH, name="states", arguments=["-device", "isa-accel-switch"]) \
            as guest:
        machine = guest.machine
        guest.expect_laps(3)
        for accel in ("tcg", "kvm") * 10:
            guest.tell("p")
            expect_equal("accelerator", accel, machine.accel())
            guest.expect_laps(3)
        guest.tell("m")
        machine.serial.send("p")
        guest.expect_laps(3)
        expect_equal("the port, while a switch waits", PORT_KVM | PORT_WAITS, port_status(machine))
        guest.tell("u")
        # The switch was waiting for A20, and looks for it every 50 ms.
        wait_until(lambda: machine.accel() == "tcg", "the switch was not made")
        expect_equal("the port, when it was made", 0, port_status(machine))
        guest.tell("m")
        machine.serial.send("p")
        machine.debugcon.expect("^done: p", 30)
        guest.expect_laps(3)
        wait_until(lambda: "isa-accel-switch: can't switch: vCPU 0 has its A20" in machine.output(),
                   "the refusal was not reported")
        expect_equal("accelerator", "tcg", machine.accel())
        expect_equal("the port, when it was refused", PORT_REFUSED, port_status(machine))
        guest.tell("u")
        guest.tell("p")
        expect_equal("accelerator", "kvm", machine.accel())
    with Payload("told16", "tcg", name="states", arguments=["-device", "isa-accel-switch"]) \
            as guest:
        guest.tell("p")
        guest.expect_laps(3)
        expect_equal("accelerator", "tcg", guest.machine.accel())


def null_segment():
    """
    A segment that was null in protected mode is used in real mode, where TCG looks at its base
    alone, and hardware at all of it.
    """
    need_kvm()
    with Payload("told16", "switch,initial=tcg", name="states") as guest:
        guest.expect_laps(3)
        guest.tell("n")
        for accel in ("kvm", "tcg") * 5:
            guest.machine.switch(accel)
            guest.expect_laps(3)


def ferr():
    """
    An x87 error reaches the PIC in TCG, on a board that was made while KVM ran; and again, wherever
    it was answered (IGNNE#) and cleared.
    """
    need_kvm()
    for board in ("pc", "q35"):
        with Payload("told16", SWITCH, name="states", arguments=["-M", board]) as guest:
            guest.expect_laps(3)
            for answered, cleared in itertools.product(("tcg", "kvm"), repeat=2):
                guest.machine.switch("kvm")
                guest.machine.switch("tcg")
                guest.tell("f")
                guest.machine.switch(answered)
                guest.tell("i")
                guest.machine.switch(cleared)
                guest.tell("c")
                guest.expect_laps(3)
            guest.machine.switch("tcg")
            guest.tell("f")


def coalesced(omit="", count=100):
    """What KVM has kept of a guest's writes to a VGA is written before TCG reads there."""
    need_kvm()
    with Payload("told16", SWITCH + omit, name="states",
                 arguments=["-device", "VGA,romfile="]) as guest:
        guest.expect_laps(3)
        guest.tell("v")
        for _ in range(count):
            guest.expect_laps(3)
            guest.machine.switch("tcg")
            guest.expect_laps(3)
            guest.machine.switch("kvm")


def coalesced_control():
    try:
        coalesced(",x-omit=coalesced-mmio", 400)
    except Failure as error:
        print(error)
        if "VGA" not in str(error):
            raise
        return
    raise Failure("coalesced-mmio was left out, and no write was missed")


def screen_shown():
    """What one accelerator draws is shown under the other."""
    need_kvm()
    with LocalHost() as host:
        screen(host, laps=10)


def foreign_features():
    """
    A KVM that doesn't hide what the guest's CPU model lacks: a guest that uses it can't be switched,
    as QEMU wouldn't carry its registers over.
    """
    need_kvm()
    with Payload("xsave64", SWITCH, name="states", arguments=["-no-reboot"]) as guest:
        try:
            guest.expect_laps(3)
        except Failure as error:
            raise Skip("this machine's KVM has no XSAVE for a CPU model without it") from error
        expect_error("CR4", guest.machine.switch, "tcg")
        expect_untouched(guest.machine)
        guest.expect_laps(3)


def unplug():
    """No vCPU can be taken away."""
    with switchable(arguments=["-smp", "2"]) as guest:
        for accel in ("tcg", "kvm"):
            guest.machine.switch(accel)
            for cpu in guest.machine.qmp("query-hotpluggable-cpus"):
                expect_error("hot-unplug", guest.machine.qmp, "device_del", id=cpu["qom-path"])
            guest.expect_laps(3)


def shut_down():
    """After the guest's end, as -no-shutdown keeps it."""
    need_kvm()
    with Machine(["-accel", SWITCH, "-m", "64", "-nodefaults", "-no-reboot", "-no-shutdown"],
                 name="states") as machine:
        machine.qmp("system_reset")
        machine.wait_event("SHUTDOWN", 20)
        expect_error("shut down", machine.qmp, "switch-accel", {"accel": "tcg"})
        expect_untouched(machine)


def panicked():
    """A guest that has panicked, as -action panic=pause keeps it."""
    with switchable(arguments=["-device", "pvpanic", "-action", "panic=pause"]) as guest:
        machine = guest.machine
        guest.expect_laps(3)
        expect_equal("HMP's answer", "", machine.hmp("o /b 0x505 1"))
        machine.wait_event("GUEST_PANICKED", 20)
        expect_error("the guest has panicked", machine.qmp, "switch-accel", {"accel": "tcg"})
        expect_untouched(machine)
        machine.qmp("system_reset")
        machine.cont()
        machine.switch("tcg")
        guest.expect_laps(3)


def suspended():
    """A guest in ACPI's S3 is switched, sleeps on, and wakes up."""
    with switchable() as guest:
        machine = guest.machine
        for switches, accel in enumerate(("tcg", "kvm"), 1):
            guest.expect_laps(3)
            # The PIIX4's power management at 0xb000, as firmware has it, and SLP_EN with S3.
            for write in ("/w 0xcf8 0x80000b40", "/w 0xcfc 0xb001", "/w 0xcf8 0x80000b80",
                          "/b 0xcfc 1", "/h 0xb004 0x2400"):
                expect_equal("HMP's answer", "", machine.hmp("o " + write))
            machine.wait_event("SUSPEND", 20)
            machine.switch(accel)
            expect_equal("status", "suspended", status(machine))
            expect_untouched(machine, accel, switches)
            machine.qmp("system_wakeup")
            machine.debugcon.expect("soak64\n", 20)


def properties():
    """The options of both accelerators can be given, and reach them."""
    with switchable(SWITCH + ",kernel-irqchip=split,tb-size=24,kvm-shadow-mem=1048576") as guest:
        machine = guest.machine
        machine.switch("tcg")
        guest.expect_laps(3)
        size = re.search(r"gen code size +\d+/(\d+)", machine.hmp("info jit"))
        # What is not for code is a guard page or so.
        expect_equal("tb-size in MiB", 24, round(int(size.group(1)) / 2 ** 20))
        machine.switch("kvm")
        guest.expect_laps(3)
    said = refusal([], SWITCH + ",tb-size=few")
    if "tb-size" not in (said or ""):
        raise Failure(f"tb-size=few: {said}")


def reset():
    """A reset in each accelerator: the payload begins again and finds nothing wrong."""
    with switchable() as guest:
        machine = guest.machine
        for accel in ("kvm", "tcg", "kvm", "tcg"):
            machine.switch(accel)
            guest.expect_laps(3)
            machine.qmp("system_reset")
            machine.debugcon.expect("soak64\n", 20)
            guest.expect_laps(3)


# What no switch can carry, and the end of the sentence that says so.  Those that need no KVM to be
# refused are tests/qtest/accel-switch-options-test.c's.
Q35 = ["-M", "q35"]
LACKS = "KVM and TCG do not both have the CPU feature "
REFUSED = [
    ([*Q35, "-device", "intel-iommu"], "does not work with device 'intel-iommu'"),
    ([*Q35, "-device", "amd-iommu"], "does not work with device 'amd-iommu'"),
    ([*Q35, "-device", "virtio-iommu-pci"], "does not work with device 'virtio-iommu-device'"),
    (["-cpu", "qemu64,tsc-frequency=1000000000"],
     "does not work with TSC scaling (tsc-frequency=)"),
    (["-cpu", "qemu64,hv-relaxed=on"], "does not work with Hyper-V enlightenments (hv-*)"),
    (["-cpu", "qemu64,hv-passthrough=on"],
     "does not work with Hyper-V enlightenments (hv-*)"),
    (["-cpu", "qemu64,pmu=on"], "does not work with a PMU (pmu=on)"),
    (["-global", "apic-common.vapic=on"], "does not work with kvmvapic (apic-common.vapic=on)"),
    (["-cpu", "486"], "does not work with a CPU without 'apic'"),
    (["-cpu", "qemu64,+pcid"], LACKS + "'pcid'"),
    (["-cpu", "qemu64,+svm"], LACKS + "'svm'"),
    (["-cpu", "qemu64,+vmx"], LACKS + "'vmx'"),
    (["-cpu", "max,+avx512f"], LACKS + "'avx512f'"),
    (["-cpu", "qemu64,kvm-pv-eoi=on"], LACKS + "'kvm-pv-eoi'"),
]


def ivshmem_server(path):
    """What serves one ivshmem-doorbell at @path (QEMU's docs/specs/ivshmem-spec.rst)."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen(1)

    def serve():
        with server, server.accept()[0] as client, tempfile.TemporaryFile() as memory:
            memory.truncate(1 << 20)
            for number in (0, 1):           # the version, the device's ID
                client.sendall(number.to_bytes(8, "little"))
            client.sendmsg([b"\xff" * 8], [(socket.SOL_SOCKET, socket.SCM_RIGHTS,
                                            array.array("i", [memory.fileno()]))])
            client.recv(1)                  # until QEMU ends

    threading.Thread(target=serve, daemon=True).start()


def refusal(arguments, accel=SWITCH):
    """What QEMU says when it ends at the start, or None."""
    try:
        with Machine(["-m", "64", "-nodefaults", "-accel", accel, *arguments], name="states",
                     start=False) as machine:
            print(f"{' '.join(arguments)}: accepted ({status(machine)})")
    except MachineError as error:
        return str(error)
    return None


def options():
    """What can't work is refused at the start, by a sentence that names the option."""
    need_kvm()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "ivshmem")
        ivshmem_server(path)
        doorbell = (["-chardev", f"socket,id=doorbell,path={path}", "-device",
                     "ivshmem-doorbell,chardev=doorbell,vectors=1"],
                    "does not work with device 'ivshmem-doorbell'")
        wrong = []
        for arguments, sentence in (*REFUSED, doorbell):
            said = refusal(arguments) or "accepted"
            print(f"{' '.join(arguments)}: {said.splitlines()[-1]}")
            if sentence not in said:
                wrong.append(f"{' '.join(arguments)}: {said}")
    if wrong:
        raise Failure("not refused as it should be:\n  " + "\n  ".join(wrong))


def widest():
    """Of all that the host has, a guest sees what both accelerators have; and no AVX-512 nor AMX."""
    with switchable(arguments=["-cpu", "max"]) as guest:
        cpu, = guest.machine.qmp("query-cpus-fast")
        for feature in ("avx512f", "amx-tile", "mpx", "pcid", "vme", "vmx", "svm", "invtsc"):
            expect_equal(feature, False, guest.machine.qmp("qom-get", path=cpu["qom-path"],
                                                           property=feature))
        for accel in ("tcg", "kvm") * 10:
            guest.machine.switch(accel)
            guest.expect_laps(3)


CASES = {"surface": surface, "same": same, "unknown": unknown, "plain": plain,
         "before-start": before_start, "stopped": stopped, "dumped": dumped, "pipelined": pipelined,
         "in-progress": in_progress, "ended": ended, "in-device": in_device,
         "person-waits": person_waits, "plugin": plugin, "widest": widest,
         "incoming": incoming, "migrating": migrating, "migrating-tcg": migrating_tcg,
         "dirty-rate": dirty_rate, "balloon": balloon, "logging": logging, "a20": a20,
         "port": port, "null-segment": null_segment, "ferr": ferr, "coalesced": coalesced,
         "coalesced-control": coalesced_control, "screen": screen_shown,
         "foreign-features": foreign_features, "unplug": unplug, "shut-down": shut_down,
         "panicked": panicked, "suspended": suspended, "properties": properties,
         "reset": reset, "options": options, "streams": streams, "debugger": debugger}

main(CASES)
