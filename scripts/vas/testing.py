# SPDX-License-Identifier: GPL-2.0-or-later
"""
What the tests in tests/local and tests/rig have in common.

A test is a program.  It ends with 0 when it passed, with 1 when it failed, and with 77, after a line
"SKIP: reason", when this machine can't run it: "meson test" counts these apart.
"""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
import traceback

from vas import kvmprobe, paths
from vas.debs import DebError
from vas.host import HostError
from vas.image import ImageError
from vas.machine import Machine, MachineError, QMPError, QMPLost
from vas.patience import patiently
from vas.rigbase import end_in_order
from vas.rigtree import RigError

#: ./vas check --long: counts as high as somebody with time wants them
LONG = os.environ.get("VAS_LONG") == "1"


class Skip(Exception):
    """Why the test can't run here."""


class Failure(Exception):
    """What was expected and what came."""


def expect_equal(what, expected, got):
    if expected != got:
        raise Failure(f"{what}: expected {expected!r}, got {got!r}")


def expect_error(part, function, *arguments, **keywords):
    """Call @function, which must raise a QMPError whose text contains @part."""
    try:
        function(*arguments, **keywords)
    except QMPError as error:
        if part not in error.description:
            raise Failure(f"expected an error with {part!r}, got {error.description!r}") from error
        return
    raise Failure(f"expected an error with {part!r}, got success")


def wait_until(condition, otherwise, seconds=30):
    """
    Until @condition() is so; that it does not become so within @seconds means @otherwise, a text or
    what returns one.
    """
    give_up = time.monotonic() + patiently(seconds)
    while not condition():
        if time.monotonic() > give_up:
            raise Failure(otherwise() if callable(otherwise) else otherwise)
        time.sleep(0.05)


def excuse(kind, count, total, why):
    """
    Of @total things that this test wanted to judge it could not judge @count, for the reason @why.
    ./vas check adds up each @kind of a run, and fails beyond its budget (vas.check.BUDGETS).
    """
    print(f"EXCUSE: {kind} {count} of {total}: {why}", flush=True)


@contextlib.contextmanager
def left_out(omit, noticed):
    """A negative control: without the fix-up @omit the body must fail, with @noticed in the text."""
    try:
        yield
    except Failure as error:
        print(f"without {omit}: {error}")
        if noticed not in str(error):
            raise
    else:
        raise Failure(f"{omit} was left out, and nothing was noticed")


def run_test(function, *arguments):
    """Run @function as this program's test, and end the program."""
    sys.stdout.reconfigure(line_buffering=True)
    end_in_order()
    try:
        function(*arguments)
    except Skip as reason:
        print(f"SKIP: {reason}")
        sys.exit(77)
    except (Failure, MachineError, QMPError, QMPLost, HostError, RigError, DebError,
            ImageError) as error:
        print(f"FAIL: {error}")
        where = traceback.extract_tb(error.__traceback__)
        for frame in where[1:]:
            print(f"  {os.path.relpath(frame.filename, paths.TOP)}:{frame.lineno}: {frame.line}")
        sys.exit(1)
    sys.exit(0)


def main(cases):
    """Run the case that the command line names, out of the dict @cases (name: function)."""
    if len(sys.argv) != 2 or sys.argv[1] not in cases:
        sys.exit(f"usage: {sys.argv[0]} {'|'.join(cases)}")
    run_test(cases[sys.argv[1]])


def payload_arguments(name, accel, laps=None, memory=64, host=None):
    """
    QEMU's arguments for the bare-metal payload @name, to run for ever or for @laps laps, on @host
    if it isn't this machine.
    """
    rom = paths.guest(f"{name}.bin")
    if host is not None:
        rom = host.put(rom)
    arguments = ["-accel", accel, "-m", str(memory), "-nodefaults",
                 "-bios", rom, "-device", "isa-debug-exit,iobase=0xf4"]
    if laps is not None:
        arguments += ["-device", f"loader,addr=0x500,data={laps},data-len=4"]
    here = host is None or host.name == "local"
    if name == "soak64" and here and kvmprobe.shows_more():
        # Its CPUID is then not the same under both accelerators.
        arguments += ["-device", "loader,addr=0x504,data=1,data-len=4"]
    return arguments


PLAIN_KVM = "kvm,kernel-irqchip=split"


def need_kvm():
    """
    Skip the test if /dev/kvm can't run our payloads.  This is found out by running one, for a
    moment, under KVM alone.
    """
    command = [paths.qemu("x86_64"), *payload_arguments("soak64", PLAIN_KVM, laps=20),
               "-display", "none"]
    try:
        result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, timeout=patiently(60), text=True,
                                check=False)
    except subprocess.TimeoutExpired:
        raise Skip("/dev/kvm does not get a 64-bit payload through 20 laps in 60 s") from None
    # isa-debug-exit turns the payload's 0 into this.
    if result.returncode != 1 or "failed" in result.stdout:
        words = [line for line in result.stdout.splitlines() if "warning" not in line]
        raise Skip("/dev/kvm can't be used: "
                   + (words[0].split(": ", 1)[-1] if words else f"QEMU ended with status "
                      f"{result.returncode}"))


def make_qcow2(path):
    """An empty image of 16 MiB, which can hold snapshots."""
    subprocess.run([os.path.join(paths.QEMU, "qemu-img"), "create", "-q", "-f", "qcow2", path,
                    "16M"], check=True)


@contextlib.contextmanager
def snapshot_disk(host=None):
    """QEMU's arguments for an empty disk that can hold snapshots, as long as the context lasts."""
    with tempfile.TemporaryDirectory() as folder:
        disk = os.path.join(folder, "disk")
        make_qcow2(disk)
        yield ["-drive", f"file={host.put(disk) if host else disk},if=none,id=disk", "-device",
               "virtio-blk-pci,drive=disk,romfile="]


def gdb_command(connection, command):
    """Send @command to a gdbstub; returns its answer."""
    connection.sendall(b"$%s#%02x" % (command, sum(command) % 256))
    answer = b""
    while not re.search(rb"\$[^#]*#..", answer):
        answer += connection.recv(4096)
    connection.sendall(b"+")
    return re.search(rb"\$([^#]*)#", answer).group(1)


def run_command(module, *arguments, status=0, timeout=280, folder=None, errors=False):
    """
    A command, as ./vas runs it, in @folder; returns what it prints, with its @errors if they are
    asked for, and it must end with @status.
    """
    result = subprocess.run([sys.executable, "-m", f"vas.{module}", *arguments], cwd=folder,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                            stderr=subprocess.STDOUT if errors else None,
                            timeout=patiently(timeout), check=False)
    print(result.stdout)
    expect_equal(f"exit status of {module}", status, result.returncode)
    return result.stdout


def at_monitor(connection, command):
    """What the human monitor at the socket @connection says to @command, after the echo."""
    connection.sendall(command.encode() + b"\n")
    said = b""
    while not said.endswith(b"\r\n(qemu) ") or b"\x1b[K\r\n" not in said:
        part = connection.recv(4096)
        if not part:
            raise Failure(f"the monitor has ended, after {said}")
        said += part
    return said.split(b"\x1b[K\r\n")[-1].decode().removesuffix("(qemu) ")


def switch_must_wait(guest, accel, enter, leave, why):
    """
    After the command @enter the payload, told16 or told32, is where it can't be switched to @accel, for
    @why: a switch waits until it has left by @leave, or refuses when it doesn't leave.  The guest runs
    on meanwhile.
    """
    machine = guest.machine
    before = machine.accel()
    guest.tell(enter)
    number = machine.qmp_client.send("switch-accel", {"accel": accel})
    guest.expect_laps(3)
    guest.tell(leave)
    result = machine.qmp_client.answer(number, "switch-accel", 60)
    expect_equal("from, to", (before, accel), (result["from"], result["to"]))
    guest.expect_laps(3)
    machine.switch(before)
    guest.tell(enter)
    machine.stop()
    expect_error(why, machine.switch, accel)
    machine.cont()
    expect_error(why, machine.switch, accel)
    expect_equal("accelerator", before, machine.accel())
    expect_equal("status", "running", machine.qmp("query-status")["status"])
    guest.expect_laps(3)
    guest.tell(leave)
    machine.switch(accel)
    guest.expect_laps(3)


ERROR_LINE = re.compile(r"^ERROR.*$", re.MULTILINE)


class Payload:
    """
    A machine that runs the bare-metal payload called @payload, under our eyes.

    Each lap of the payload prints a '.', each thing it finds wrong an ERROR line.
    """

    def __init__(self, payload, accel, laps=None, arguments=(), memory=64, host=None,
                 **keywords):
        self.machine = Machine([*payload_arguments(payload, accel, laps, memory, host),
                                *arguments], debugcon=True, host=host, **keywords)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.machine.close()

    def expect_laps(self, count, timeout=60):
        """
        Wait until @count laps more were done, from now on.  What is on its way to us already counts
        for as many as two, so ask for three to see one.
        """
        skipped = self.machine.debugcon.skip()
        self._check(skipped)
        match = self.machine.debugcon.expect(
            [r"(?:[^.]*\.){%d}" % count, r"ERROR.*\n"], timeout)
        self._check(match.group(0))

    def tell(self, command, timeout=30):
        """Send a payload that takes commands the letter @command, and wait until it obeyed."""
        self.machine.serial.send(command)
        self.expect_obeyed(command, timeout)

    def expect_obeyed(self, command, timeout=30):
        """Wait until the payload says that it obeyed the @command that it was sent."""
        match = self.machine.debugcon.expect([r"ERROR.*\n", "^done: " + command], timeout)
        self._check(match.group(0))

    def _check(self, text):
        start = text.find("ERROR")
        if start >= 0:
            if "\n" not in text[start:]:
                text += self.machine.debugcon.expect(r".*\n", 10).group(0)
            raise Failure("the payload says: " + text[start:].splitlines()[0])

    def finish(self, timeout=120, known_errors=()):
        """
        Wait until a payload with a number of laps has ended; returns its digest.  It may have found
        the @known_errors, lines of it, and no others.
        """
        match = self.machine.debugcon.expect(r"DIGEST (\w+)\n", timeout)
        text = self.machine.debugcon.text()
        found = set(ERROR_LINE.findall(text))
        if not found <= set(known_errors):
            self._check(text if not known_errors else min(found - set(known_errors)) + "\n")
        # isa-debug-exit makes these of the payload's 0 and 1.
        expect_equal("exit status of QEMU", 3 if found else 1, self.machine.wait(20))
        return match.group(1)
