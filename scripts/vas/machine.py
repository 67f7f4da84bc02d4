# SPDX-License-Identifier: GPL-2.0-or-later
"""
A QEMU under control: started on a Host, watched over QMP, read through its serial console.

    with Machine(["-accel", "switch", "-m", "256", "-kernel", path], name="soak") as machine:
        machine.serial.expect(r"login: ", 60)
        machine.switch("tcg")

Every machine has a deadline after which it's killed, whatever the test does; leaving the "with"
ends it too.  Its logs (command line, output, serial console, QMP) are in machine.logs.
"""

import os
import re
import shlex
import signal
import subprocess
import threading
import time

from vas import paths
from vas.host import HostError, LocalHost
from vas.patience import patiently
from vas.qmp import QMPClient, QMPError, QMPLost

# Signals that a fault of QEMU's own ends it by.
CRASHES = (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)

__all__ = ["Machine", "MachineError", "QMPError", "QMPLost", "HostError"]


class MachineError(Exception):
    """One sentence that says what the machine did not do."""


class Console:
    """
    What the guest writes to a serial line or to the debug console.  A thread reads it all the time
    into @log, so the guest never waits for us.
    """

    def __init__(self, name, sock, log, alive):
        self._name = name
        self._socket = sock
        self._log = log
        self._alive = alive
        self._text = ""
        self._position = 0
        self._ended = False
        self._changed = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        try:
            while True:
                data = self._socket.recv(65536)
                if not data:
                    break
                self._log.write(data)
                self._log.flush()
                with self._changed:
                    self._text += data.decode("utf-8", "replace")
                    self._changed.notify_all()
        except OSError:
            pass
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def expect(self, pattern, timeout):
        """
        Wait until the text after the last match contains the regular expression @pattern (^ and $
        match at lines) and return the match.  @pattern may be a list: the first to match wins.
        """
        patterns = [pattern] if isinstance(pattern, str) else pattern
        compiled = [re.compile(p, re.M) for p in patterns]
        deadline = time.monotonic() + patiently(timeout)
        with self._changed:
            while True:
                for regex in compiled:
                    match = regex.search(self._text, self._position)
                    if match:
                        self._position = match.end()
                        return match
                left = deadline - time.monotonic()
                if left <= 0 or self._ended:
                    why = "the machine ended" if self._ended else f"within {timeout:.0f} s"
                    raise MachineError(f"{self._name}: {' | '.join(patterns)!r} did not come "
                                       f"({why}); the last that came: {self.tail()!r}")
                # Short waits: a QEMU in the rig may die without its connection's being closed.
                self._changed.wait(min(left, 1.0))
                if not self._alive():
                    # What it has written last may still be on its way.
                    self._changed.wait_for(lambda: self._ended, 5)
                    self._ended = True

    def skip(self):
        """Have expect() see only what comes from now on; returns what is left out by that."""
        with self._changed:
            skipped = self._text[self._position:]
            self._position = len(self._text)
            return skipped

    def text(self):
        """All text since the start."""
        with self._changed:
            return self._text

    def unread(self):
        """The text after the last match of expect()."""
        with self._changed:
            return self._text[self._position:]

    def tail(self, size=200):
        return self._text[self._position:][-size:]

    def send(self, text):
        """Type @text."""
        self._socket.sendall(text.encode())

    def close(self):
        try:
            self._socket.close()
        except OSError:
            pass


class Machine:
    """
    @arguments: QEMU's, without display, monitor and serial console, which are added here.
    @binary: a path, or a target's name as paths.qemu() takes it.
    @host: where it runs; this machine if not given.  A LocalHost made here is closed here.
    @name: of the log folder.
    @deadline: seconds until the machine is killed.
    @debugcon: also have an isa-debugcon at this port, as machine.debugcon; True is port 0xe9.
    @start: False leaves the machine as QEMU's -S leaves it, until cont().
    @connect: seconds for QEMU to open its monitor.
    @hold: False is for a machine that is told by -incoming or -loadvm where its guest comes from:
           the guest runs as soon as it has come.
    """

    def __init__(self, arguments, binary="x86_64", host=None, name="machine", deadline=300,
                 debugcon=None, start=True, connect=60, hold=True):
        self.host = host or LocalHost()
        self._own_host = host is None
        self.name = name
        self.logs = os.path.join(paths.LOGS, f"{name}-{os.getpid()}-{time.time_ns() // 1000000}")
        os.makedirs(self.logs)
        self.timed_out = False
        self.switches = []
        self._files = []
        self._process = None
        self._timer = None
        self.qmp_client = None
        self.serial = None
        self.debugcon = None
        # Held by -S: what the guest writes before we're connected would be lost.
        names = ["serial"] + (["debugcon"] if debugcon else [])
        try:
            self._launch([*self._with_debugcon(arguments, debugcon), *(["-S"] if hold else [])],
                         binary, deadline, names, connect)
            if start and hold:
                self.cont()
        except BaseException:
            self.close()
            raise

    @staticmethod
    def _with_debugcon(arguments, port):
        if not port:
            return list(arguments)
        port = 0xe9 if port is True else port
        return [*arguments, "-device", f"isa-debugcon,iobase={port:#x},chardev=vas-debugcon"]

    def _launch(self, arguments, binary, deadline, consoles, connect):
        if "/" not in binary:
            binary = paths.qemu(binary)
        listeners = {name: self.host.listener(name) for name in ["qmp"] + consoles}
        argv = [binary, *arguments, "-display", "none",
                "-chardev", f"socket,id=vas-qmp,{listeners['qmp'].options}",
                "-mon", "chardev=vas-qmp,mode=control"]
        for name in consoles:
            argv += ["-chardev", f"socket,id=vas-{name},{listeners[name].options}"]
        argv += ["-serial", "chardev:vas-serial"]
        with open(os.path.join(self.logs, "command"), "w", encoding="utf-8") as file:
            file.write(shlex.join(argv) + "\n")
        self._output = os.path.join(self.logs, "output.log")
        self._process = self.host.spawn(argv, self._output)
        self._timer = threading.Timer(patiently(deadline), self._expire)
        self._timer.daemon = True
        self._timer.start()
        give_up = time.monotonic() + patiently(connect)
        while self.qmp_client is None:
            try:
                sock = listeners["qmp"].connect(give_up - time.monotonic(), self.running)
                self.qmp_client = QMPClient(sock, self._log("qmp.log"),
                                            max(1.0, give_up - time.monotonic()))
            except QMPLost as error:
                # In the rig a forwarded port can be connected to before QEMU listens.
                if time.monotonic() > give_up or not self.running():
                    raise MachineError(f"QEMU did not come up: {error}{self._last_words()}") \
                        from error
                time.sleep(0.2)
            except HostError as error:
                raise MachineError(f"QEMU did not come up: {error}{self._last_words()}") from error
        for name in consoles:
            sock = listeners[name].connect(10, self.running)
            setattr(self, name, Console(name, sock, self._log(f"{name}.log"), self.running))

    def _log(self, name):
        file = open(os.path.join(self.logs, name), "ab")
        self._files.append(file)
        return file

    def _expire(self):
        self.timed_out = True
        if self.running():
            self.examine()
            self._process.kill()

    def examine(self):
        """
        What a machine that did not do as it should looks like inside: all into state.log, where
        each vCPU is to the standard output.
        """
        if self.qmp_client is None:
            return
        try:
            with open(os.path.join(self.logs, "state.log"), "a", encoding="utf-8") as file:
                for line in ("info status", "info registers -a", "info lapic", "info pic",
                             "info irq"):
                    text = self.hmp(line, 10)
                    file.write(f"(qemu) {line}\n{text}\n")
                    for found in re.finditer(r"^(CPU#\d+|VM status.*)|\b([ER]IP=.*)", text, re.M):
                        print(f"{self.name}: {found.group().strip()}", flush=True)
        except (MachineError, QMPError) as error:
            print(f"{self.name}: {error}", flush=True)

    def _last_words(self):
        output = self.output().strip().splitlines()
        return ": " + "; ".join(output[-2:]) if output else ""

    def output(self):
        """What QEMU itself wrote to its standard output and error."""
        try:
            with open(self._output, encoding="utf-8", errors="replace") as file:
                return file.read()
        except OSError:
            return ""

    def wait_trace(self, event, timeout, cause=None):
        """
        Wait until QEMU's trace event @event happens, from now on, of itself or as the function @cause
        makes it; returns whether it did.  The machine runs on meanwhile: one is back some ms after
        the event.
        """
        seen = os.path.getsize(self._output)
        until = time.monotonic() + patiently(timeout)
        self.hmp(f"log trace:{event}")
        try:
            if cause:
                cause()
            while True:
                # The log's lines may begin with a time.
                with open(self._output, encoding="utf-8", errors="replace") as file:
                    file.seek(seen)
                    if re.search(rf"(?m)(^|:){event} ", file.read()):
                        return True
                if time.monotonic() > until:
                    return False
                time.sleep(0.002)
        finally:
            self.hmp(f"log trace:-{event}")
            self.hmp("log none")

    @property
    def pid(self):
        return self._process.pid

    def running(self):
        """Whether QEMU's process is there."""
        return self._process is not None and self._process.poll() is None

    def memory_kib(self):
        """What QEMU's process has in RAM, the guest's memory included."""
        status = self.host.read(f"/proc/{self.pid}/status")
        return int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1))

    def qmp(self, command, arguments=None, timeout=60, **keywords):
        """
        Execute @command and return its value.  Arguments come as a dict or as keywords, in which
        "_" stands for "-".
        """
        arguments = dict(arguments or {})
        arguments.update({name.replace("_", "-"): value for name, value in keywords.items()})
        try:
            return self.qmp_client.execute(command, arguments, timeout)
        except QMPLost as error:
            why = "its deadline was over" if self.timed_out else \
                "it still runs" if self.running() else "it has ended"
            raise MachineError(f"{error} ({why}{self._last_words()})") from error

    def hmp(self, line, timeout=60):
        """Execute a line of the human monitor and return what it prints."""
        return self.qmp("human-monitor-command", {"command-line": line}, timeout)

    def wait_event(self, name, timeout, match=lambda data: True):
        """See QMPClient.wait_event()."""
        try:
            return self.qmp_client.wait_event(name, timeout, match)
        except QMPLost as error:
            raise MachineError(str(error)) from error

    def events(self, name=None):
        return self.qmp_client.events(name)

    def cont(self):
        self.qmp("cont")

    def stop(self):
        self.qmp("stop")

    def switch(self, accel, timeout=60):
        """Switch to @accel ("kvm" or "tcg"); returns switch-accel's value, and keeps it."""
        result = self.qmp("switch-accel", {"accel": accel}, timeout)
        self.switches.append(result)
        return result

    def accel(self):
        """The accelerator that runs."""
        return self.qmp("query-accel")["active"]

    def wait(self, timeout):
        """Wait until QEMU ends by itself; returns its exit status."""
        try:
            status = self._process.wait(patiently(timeout))
        except subprocess.TimeoutExpired as error:
            raise MachineError(f"QEMU did not end within {timeout:.0f} s") from error
        if self.timed_out:
            raise MachineError("QEMU was killed at its deadline")
        return status

    def quit(self, timeout=20):
        """Have QEMU end in good order; returns its exit status."""
        try:
            self.qmp_client.execute("quit", {}, timeout)
        except QMPLost:
            pass
        return self.wait(timeout)

    def close(self):
        """End QEMU in whatever state it is."""
        if self.running():
            try:
                if self.qmp_client is not None:
                    self.qmp_client.execute("quit", {}, 2)
                    self._process.wait(3)
            except (QMPLost, QMPError, subprocess.TimeoutExpired):
                pass
        if self.running():
            self._process.kill()
        if self._process is not None:
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                pass
        if self._timer is not None:
            self._timer.cancel()
        for part in (self.qmp_client, self.serial, self.debugcon):
            if part is not None:
                part.close()
        if self._own_host:
            self.host.close()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, unused):
        if kind is not None and self.running():
            self.examine()
        self.close()
        # Whatever came of it, or was even expected to come: this must not have been the reason.
        if isinstance(error, Exception) and -(self._process.returncode or 0) in CRASHES:
            name = signal.Signals(-self._process.returncode).name
            raise MachineError(f"QEMU was ended by {name}: {error}") from error
