# SPDX-License-Identifier: GPL-2.0-or-later
"""A real gdb at a QEMU's gdbstub, by gdb's machine interface (GDB/MI)."""

import contextlib
import queue
import re
import socket
import subprocess
import tempfile
import threading

from vas import paths
from vas.host import LocalHost
from vas.patience import patiently
from vas.testing import Failure, expect_equal


def _pump(source, target):
    """Copy what comes from one socket to the other, until either ends."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for sock in (source, target):
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


class Stub:
    """QEMU's gdbstub on @host (None: this machine): arguments for QEMU, then a connection to it."""

    def __init__(self, host=None):
        self._own = None if host else LocalHost()
        self._listener = (host or self._own).listener("gdb")
        self.arguments = ["-chardev", f"socket,id=gdb,{self._listener.options}",
                          "-gdb", "chardev:gdb"]

    def connect(self):
        return self._listener.connect()

    def close(self):
        if self._own:
            self._own.close()


class Gdb:
    """gdb, attached through @stub to the payload called @payload, whose symbols it has."""

    def __init__(self, stub, payload):
        self._folder = tempfile.TemporaryDirectory(prefix="vas-gdb-")
        path = f"{self._folder.name}/stub"
        self._records = queue.Queue()
        #: why the guest has stopped, as GDB/MI says it
        self.reason = None
        self._process = subprocess.Popen(
            ["gdb", "-nx", "-q", "--interpreter=mi3", paths.guest(f"{payload}.elf")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        threading.Thread(target=self._read, daemon=True).start()
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
            server.listen(1)
            self("set confirm off")
            self("set pagination off")
            self._ask(f'-target-select remote {path}', "", wait=False)
            own, far = server.accept()[0], stub.connect()
        for ends in ((own, far), (far, own)):
            threading.Thread(target=_pump, args=ends, daemon=True).start()
        self._answer("connected", "-target-select", 30)

    def _read(self):
        for line in self._process.stdout:
            print("gdb:", line.rstrip()[:300], flush=True)
            self._records.put(line)
        self._records.put("")

    def _next(self, what, timeout):
        try:
            line = self._records.get(timeout=patiently(timeout))
        except queue.Empty:
            raise Failure(f"gdb: {what}: nothing came within {timeout} s") from None
        if not line:
            raise Failure(f"gdb ended in '{what}'")
        return line

    def _answer(self, wanted, what, timeout):
        """gdb's text until it answers with @wanted."""
        text = ""
        while True:
            line = self._next(what, timeout)
            if line.startswith(("^done", "^running", "^connected")):
                expect_equal(f"gdb's answer to '{what}'", "^" + wanted, re.split(r"[,\s]", line)[0])
                return text
            if line.startswith("^error"):
                raise Failure(f"gdb: {what}: {line.strip()}")
            if line[0] in "~@":
                text += line[2:line.rindex('"')].encode().decode("unicode_escape")

    def _ask(self, command, wanted, timeout=30, wait=True):
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self._answer(wanted, command, timeout) if wait else ""

    def __call__(self, command):
        """A command of gdb's command line that does not run the guest; returns its text."""
        quoted = command.replace("\\", "\\\\").replace('"', '\\"')
        return self._ask(f'-interpreter-exec console "{quoted}"', "done")

    def resume(self, command="-exec-continue"):
        self._ask(command, "running")

    def stopped(self, timeout=60):
        """Wait until the guest has stopped; returns the address."""
        while True:
            line = self._next("*stopped", timeout)
            if line.startswith("=thread-group-exited"):
                raise Failure("the guest has ended")
            if line.startswith("*stopped"):
                self.reason = (re.findall(r'reason="([^"]+)"', line) or [""])[0]
                return int(re.search(r'addr="0x([0-9a-f]+)"', line).group(1), 16)

    def go(self, timeout=60):
        """Continue, until the guest stops; returns the address."""
        self.resume()
        return self.stopped(timeout)

    def run(self, machine):
        """Continue, until the guest runs with all breakpoints."""
        for _ in machine.events("RESUME"):
            machine.wait_event("RESUME", 1)
        self.resume()
        machine.wait_event("RESUME", 30)

    def interrupted(self, machine):
        """Stop the guest while it runs."""
        machine.stop()
        return self.stopped()

    def step(self):
        """Execute one instruction; returns the address of the next."""
        self.resume("-exec-step-instruction")
        return self.stopped()

    def value(self, expression):
        """A number."""
        return int(self(f"output/d (long)({expression})"))

    def close(self):
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()
        self._folder.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()
