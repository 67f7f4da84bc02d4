# SPDX-License-Identifier: GPL-2.0-or-later
"""Streams and snapshots of either accelerator are loaded under either."""

import contextlib
import functools
import os
import random
import re
import socket
import subprocess
import tempfile
import time

from lib import plain as plain_streams
from lib import streams
from lib.rigtest import say
from lib.ways import SEED, Way, kvm_runs
from vas import paths
from vas.debianqemu import debian_qemu
from vas.handover import lost_features, wait_completed
from vas.host import LocalHost
from vas.machine import Machine, MachineError
from vas.patience import patiently
from vas.testing import (PLAIN_KVM, Failure, Payload, expect_equal, gdb_command, main, need_kvm,
                         payload_arguments, snapshot_disk, wait_until)

# That soak64 does before it ends
LAPS = 300


def section_of(stream):
    """Where the section of the switch is in the @stream: its first byte, its number, the one after it."""
    name = b"\x0caccel-switch"
    at = stream.find(name)
    start, version = at - 5, at + len(name) + 4
    expect_equal("section's first byte, version", (4, 2),
                 (stream[start], int.from_bytes(stream[version:version + 4], "big")))
    end = version + 4 + 8
    expect_equal("section's end", b"\x7e" + stream[start + 1:start + 5], stream[end:end + 5])
    return start, version, end + 5


def damaged(stream, generator):
    """Yields (what is wrong, a stream): each byte of the section flipped, or the stream's last."""
    start, version, end = section_of(stream)
    for at in range(start, end):
        for flip in (1, 0x80, 0xff, generator.randrange(1, 256)):
            yield f"byte {at - start} ^ {flip:#x}", \
                stream[:at] + bytes([stream[at] ^ flip]) + stream[at + 1:]
        yield f"{at - start} bytes of it", stream[:at]
    for other in (0, 1, 3, 0xffffffff):
        yield f"version {other}", stream[:version] + other.to_bytes(4, "big") + stream[version + 4:]


def load(stream, path):
    """Have a QEMU load the @stream, by the file @path; returns its status, and what it says."""
    with open(path, "wb") as file:
        file.write(stream)
    command = [paths.qemu("x86_64"), *payload_arguments("soak64", "switch", laps=LAPS), "-smp", "2",
               "-display", "none", "-chardev", "null,id=out", "-device",
               "isa-debugcon,iobase=0xe9,chardev=out", "-serial", "null", "-incoming", "file:" + path]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                            stderr=subprocess.PIPE, errors="replace", timeout=patiently(60),
                            check=False)
    return result.returncode, [line for line in result.stderr.splitlines() if "warning: " not in line]


def damaged_section():
    """A stream of which a byte in the switch's section is wrong or missing ends QEMU with a sentence."""
    need_kvm()
    print(f"VAS_SEED={SEED}")
    with LocalHost() as host, streams.guest_in("kvm", host, laps=LAPS) as source:
        source.machine.debugcon.expect(r"\.", 30)
        path = host.scratch("stream")
        source.machine.qmp("migrate", uri="file:" + path)
        streams.wait_completed(source.machine)
        stream, count = host.read_bytes(path), 0
        # The payload's own end is 1, too.
        expect_equal("the stream as it was", (1, []), load(stream, path))
        for what, wrong in damaged(stream, random.Random(SEED)):
            status, said = load(wrong, path)
            if status != 1 or not said:
                raise Failure(f"{what}: QEMU ended with {status}: {said}")
            if count % 25 == 0:
                print(f"{what}: {said[0]}")
            count += 1
        print(f"{count} damaged streams, each an error")


# In real mode, at F000:0000: 1.0 / 3.0 in SSE, which is not exact; a '.'; an endless loop
DIVISION = bytes.fromhex("66b800060000 0f22e0 66b801000000 f30f2ac0 66b803000000 f30f2ac8 f30f5ec1"
                         "b02e e6e9 ebfe")
RESET_VECTOR, JUMP = 0xfff0, bytes.fromhex("ea000000f0")
INEXACT = 0x1fa0


def mxcsr():
    """A stream has the exception flags of SSE that the guest has not read yet."""
    with LocalHost() as host:
        bios, path = host.scratch("bios"), host.scratch("stream")
        with open(bios, "wb") as file:
            file.write(DIVISION.ljust(RESET_VECTOR, b"\0") + JUMP.ljust(16, b"\0"))
        arguments = ["-accel", "tcg", "-nodefaults", "-bios", bios]
        with Machine(arguments, host=host, name="streams", debugcon=True) as source:
            source.debugcon.expect(r"\.", 30)
            source.qmp("migrate", uri="file:" + path)
            streams.wait_completed(source)
        with Machine([*arguments, "-incoming", "defer"], host=host, name="streams", debugcon=True,
                     start=False) as copy:
            copy.qmp("migrate-incoming", uri="file:" + path)
            streams.wait_completed(copy)
            found = re.search(r"MXCSR=(\w+)", copy.hmp("info registers")).group(1)
            expect_equal("MXCSR", INEXACT, int(found, 16))


def plain():
    """
    Neither takes a stream of -accel switch and plain QEMU the other's: one sentence, and the guest goes on
    where it was.
    """
    need_kvm()
    for accel in (PLAIN_KVM, "tcg"):
        refuse_stream(accel, "switch", "the stream does not name the accelerator")
        initial = accel.split(",")[0]
        refuse_stream(f"switch,initial={initial}", accel, "Unknown savevm section or instance 'accel-switch'")


def plain_form(streams_form):
    """Debian's own QEMU, unmodified, under the accelerator of that name."""
    need_kvm()
    with LocalHost() as host:
        binary = debian_qemu("x86_64")
        plain_streams.saved_elsewhere(streams_form, host)
        if streams_form == "plain-kvm":
            plain_streams.takes_own(host)
        plain_streams.to_and_fro(streams_form, binary, host,
                                 [way for way in plain_streams.ways(streams_form) if kvm_runs(way) and not way.known_errors])


def plain_refusals():
    """What plain QEMU would show the guest and -accel switch can't is refused by its name, before it runs."""
    need_kvm()
    for model, form, why in (("max", "plain-tcg", "needs a named CPU model"),
                             ("qemu64,kvm=on", "plain-tcg", "does not work with KVM's own CPU features"),
                             ("qemu64", "plain-kvm", "-kvm-asyncpf"),
                             ("qemu64", "plain-tcg", "-svm"),
                             ("max", "plain-kvm", "pmu=off")):
        try:
            Machine(["-accel", f"switch,streams={form}", "-cpu", model]).close()
        except MachineError as error:
            if why not in str(error):
                raise
        else:
            raise Failure(f"streams={form} takes -cpu {model}")
    # With what the error names left out, QEMU starts.
    with LocalHost() as host:
        for model, form in (("max", "plain-kvm"), ("qemu64", "plain-kvm"), ("qemu64", "plain-tcg")):
            accel = f"switch,streams={form}"
            model += "," + lost_features(accel, model, host, "x86_64")
            expect_equal(f"-cpu {model} lacks for {form}", "", lost_features(accel, model, host, "x86_64"))


def kvmvapic():
    """A guest whose code the device kvmvapic has patched is refused."""
    need_kvm()
    with LocalHost() as host:
        way = plain_streams.with_common_cpu(Way("soak64", "x86_64", 1, ""), "plain-kvm", host)
        path = host.scratch("stream")
        with plain_streams.with_binary(way, debian_qemu("x86_64")).payload("kvm", None, host) as source:
            source.expect_laps(3)
            source.machine.qmp("migrate", uri="file:" + path)
            streams.wait_completed(source.machine)
        with open(path, "rb") as file:
            stream = bytearray(file.read())
        # Behind the section's name: instance, version, the guest's copy of the ROM's data, the mode
        at = stream.index(b"\x0bkvm-tpr-opt") + 12 + 4 + 4 + 124
        expect_equal("kvmvapic's mode in the stream", 0, int.from_bytes(stream[at:at + 4], "big"))
        for mode, why in ((0, None), (2, None), (1, "the guest's code was patched by the device kvmvapic")):
            stream[at:at + 4] = mode.to_bytes(4, "big")
            with open(path, "wb") as file:
                file.write(stream)
            with way.payload("switch,streams=plain-kvm", None, host, ["-incoming", "defer"], start=False) as copy:
                copy.machine.qmp("migrate-incoming", {"uri": "file:" + path, "exit-on-error": False})
                if why:
                    wait_until(lambda: why in copy.machine.output(), copy.machine.output)
                else:
                    streams.wait_completed(copy.machine)
                    copy.machine.cont()
                    copy.expect_laps(3)


def refuse_stream(here, there, why):
    with Payload("soak64", here, name="streams", arguments=["-cpu", "qemu64,kvm=off"]) as source, \
            Payload("soak64", there, name="streams", start=False,
                    arguments=["-cpu", "qemu64,kvm=off", "-incoming", "defer"]) as copy:
        source.expect_laps(3)
        path = "unix:" + source.machine.host.scratch("stream")
        for guest in (source, copy):
            streams.set_capabilities(guest.machine, "return-path")
        copy.machine.qmp("migrate-incoming", {"uri": path, "exit-on-error": False})
        source.machine.qmp("migrate", uri=path)
        wait_until(lambda: streams.status(copy.machine) == "failed", "the load does not fail")
        wait_until(lambda: why in copy.machine.output(), copy.machine.output)
        wait_until(lambda: streams.status(source.machine) == "failed", "the migration does not fail")
        source.expect_laps(3)


def waits():
    """
    A guest that can't be switched as it was saved, with its A20 line masked, stays there for the moment.
    It is switched when it runs and can be, unless a person says otherwise.
    """
    need_kvm()
    with LocalHost() as host:
        path = host.scratch("stream")
        with Payload("told16", "switch", host=host, name="streams") as source:
            source.tell("m")
            source.machine.qmp("migrate", uri="file:" + path)
            streams.wait_completed(source.machine)
        for overruled in (False, True):
            with Payload("told16", "switch,initial=tcg,x-wait=60", host=host, name="streams", start=False,
                         arguments=["-incoming", "defer"]) as copy:
                machine = copy.machine
                machine.qmp("migrate-incoming", uri="file:" + path)
                streams.wait_completed(machine)
                expect_equal("accelerator", "kvm", machine.accel())
                machine.wait_event("ACCEL_SWITCHED", 10, lambda data: data["to"] == "kvm")
                if "until it can be switched" not in machine.output():
                    raise Failure(machine.output())
                if overruled:
                    machine.switch("kvm")
                machine.cont()
                copy.expect_laps(3)
                expect_equal("accelerator", "kvm", machine.accel())
                copy.tell("u")
                if not overruled:
                    machine.wait_event("ACCEL_SWITCHED", 10, lambda data: data["to"] == "tcg")
                copy.expect_laps(3)
                expect_equal("accelerator", "kvm" if overruled else "tcg", machine.accel())


@contextlib.contextmanager
def with_disk(payload, *more):
    """The @payload under -accel switch, with a disk for snapshots."""
    need_kvm()
    with snapshot_disk() as drive, \
            Payload(payload, "switch,x-wait=60", name="streams", arguments=[*drive, *more]) as guest:
        yield guest, guest.machine


def in_a_row():
    """
    One load leaves the guest where it was saved, the next one brings it back: an event of each, and no other.
    """
    with with_disk("told16") as (guest, machine):
        guest.expect_laps(3)
        expect_equal("savevm", "", machine.hmp("savevm free"))
        guest.tell("m")
        expect_equal("savevm", "", machine.hmp("savevm masked"))
        guest.tell("u")
        machine.switch("tcg")
        machine.stop()
        streams.take_switches(machine)
        for _ in range(2):
            for name, accel, said in (("masked", "kvm", [("tcg", "kvm")]), ("masked", "kvm", []),
                                      ("free", "tcg", [("kvm", "tcg")]), ("free", "tcg", [])):
                machine.hmp(f"loadvm {name}")
                expect_equal(f"after {name}: accelerator, events", (accel, said),
                             (machine.accel(), streams.take_switches(machine)))
        machine.cont()
        guest.expect_laps(3)


def window():
    """A window goes on over a load of what was saved in TCG, and ends at one of what KVM has saved."""
    with with_disk("soak64") as (guest, machine):
        for accel in ("tcg", "kvm"):
            machine.switch(accel)
            guest.expect_laps(3)
            expect_equal("savevm", "", machine.hmp(f"savevm {accel}"))
        machine.qmp("switch-accel", {"accel": "tcg", "window": {}})
        guest.expect_laps(3)
        streams.take_switches(machine)
        expect_equal("loadvm", "", machine.hmp("loadvm tcg"))
        guest.expect_laps(3)
        expect_equal("accelerator, ends", ("tcg", []), (machine.accel(), machine.events("ACCEL_WINDOW_END")))
        expect_equal("loadvm", "", machine.hmp("loadvm kvm"))
        expect_equal("reason", "command", machine.wait_event("ACCEL_WINDOW_END", 10)["data"]["reason"])
        expect_equal("accelerator, events", ("kvm", [("tcg", "kvm")]), (machine.accel(), streams.take_switches(machine)))
        guest.expect_laps(3)


def debugger():
    """While a debugger has a breakpoint only what was saved under the same accelerator is loaded."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as connection:
        path = os.path.join(folder, "gdb")
        with with_disk("soak64", "-gdb", f"unix:{path},server=on,wait=off") as (guest, machine):
            guest.expect_laps(3)
            expect_equal("savevm", "", machine.hmp("savevm kvm"))
            machine.switch("tcg")
            guest.expect_laps(3)
            expect_equal("savevm", "", machine.hmp("savevm tcg"))
            connection.connect(path)
            gdb_command(connection, b"?")
            expect_equal("breakpoint", b"OK", gdb_command(connection, b"Z1,dead000,1"))
            expect_equal("loadvm", "", machine.hmp("loadvm tcg"))
            if "a debugger has breakpoints set" not in machine.hmp("loadvm kvm"):
                raise Failure("loaded in spite of the breakpoint")
            expect_equal("accelerator", "tcg", machine.accel())
            expect_equal("deleted", b"OK", gdb_command(connection, b"z1,dead000,1"))
            expect_equal("loadvm", "", machine.hmp("loadvm kvm"))
            connection.close()
            machine.cont()
            guest.expect_laps(3)


# How often a reset meets a migration: without fix-migration-reset the test failed each time.
RESETS = 40


def reset():
    """
    A reset in the middle of a migration: the guest boots anew where it lives on, and the stream has a whole
    machine, of before or after.
    """
    need_kvm()
    generator = random.Random(SEED)
    say(f"VAS_SEED={SEED}")
    with streams.guest_in("kvm", None) as source:
        machine = source.machine
        stream = "file:" + machine.host.scratch("stream")
        took = 0.05
        for n in range(RESETS):
            machine.switch(("kvm", "tcg")[n % 4 == 3])
            source.expect_laps(3)
            start = time.monotonic()
            machine.qmp("migrate", uri=stream)
            time.sleep(generator.random() * took)
            machine.qmp("system_reset")
            wait_completed(machine)
            took = time.monotonic() - start
            machine.wait_event("RESET", 10)
            machine.cont()
            machine.debugcon.expect("soak64\n", 30)
            source.expect_laps(3)
            if n % 8 == 0:
                with streams.guest_in("kvm", None, start=False, more=["-incoming", "defer"]) as copy:
                    copy.machine.qmp("migrate-incoming", uri=stream)
                    wait_completed(copy.machine)
                    copy.machine.cont()
                    copy.expect_laps(3)


def by_kind(name):
    need_kvm()
    streams.by_kind(name)


def snapshots():
    need_kvm()
    streams.snapshots()


def digests():
    need_kvm()
    with LocalHost() as host:
        # Where this KVM alone makes a payload find errors its digest says nothing.
        streams.digests([way for way in streams.digest_ways()
                         if kvm_runs(way) and not way.known_errors], host)


main({**{name: functools.partial(by_kind, name) for name in streams.KINDS},
      "snapshots": snapshots, "digests": digests, "damaged": damaged_section,
      "mxcsr": mxcsr, "plain": plain,
      "plain-kvm": functools.partial(plain_form, "plain-kvm"),
      "plain-tcg": functools.partial(plain_form, "plain-tcg"),
      "plain-refusals": plain_refusals, "kvmvapic": kvmvapic, "waits": waits,
      "in-a-row": in_a_row, "window": window, "debugger": debugger, "reset": reset})
