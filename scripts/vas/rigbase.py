# SPDX-License-Identifier: GPL-2.0-or-later
"""
What all rigs have in common: an emulated host that is booted once and used many times.  How it is
emulated is for a subclass (rigamd.py, rigbochs.py) to say.
"""

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

from pathlib import Path

from vas import debs, paths
from vas.host import _die_with_parent
from vas.patience import expect_slowness, patiently, stretched
from vas.rigagent import Process, frames
from vas.rigtree import RigError, Tree, initramfs, kernel

# The environment of this process that one in the rig has, too.
SANITIZERS = ["ASAN_OPTIONS", "UBSAN_OPTIONS"]
# quiet and friends: what the outer kernel prints or tests costs whole seconds.  Its TSC is good,
# but on a busy machine it finds so, or not, by chance, and has another clock and another KVM then.
CMDLINE = ("quiet loglevel=4 mitigations=off nokaslr panic=-1 tsc=reliable "
           "random.trust_cpu=on apparmor=0 audit=0 lsm= ipv6.disable=1 "
           "8250.nr_uarts=1 cryptomgr.notests no_timer_check")
DEADLINE = "the rig was ended at its deadline"


def end_in_order():
    """Have SIGTERM, which meson sends at a timeout, leave no folder behind."""
    signal.signal(signal.SIGTERM, lambda *unused: sys.exit(143))


class Rig:
    """
    The emulated host.  A context manager: leaving it ends the emulator.

    @smp: its CPUs.  @mem: its memory in MiB, or None for the usual.  @files: files (programs with
    their libraries) that are there under their own path; our QEMU's binaries always are.  @disks:
    images that the host sees as disks, for what is too big to copy; they are never written to.
    @deadline: seconds after which all ends, whatever happens.  @cmdline: more for its kernel's
    command line.  @suite: the Debian release that its kernel is from.  @kvm: parameters of
    kvm-intel or kvm-amd, such as ["ept=0"].  @model: its processor, by the emulator's name, or None
    for the usual.
    """

    #: its name for --cpu
    cpu = None
    #: "amd" or "intel", whose KVM it has
    vendor = None
    #: its processor, by the emulator's name
    usual_model = None
    #: what emulates it, for messages
    emulator = None
    #: Debian's package of its kernel, and the modules to load, in this order, each after what it
    #: depends on: KVM first, for vas.kvm=early.  Names of modules, their options follow.
    kernel_package = None
    modules = ()
    memory = 2048
    boot_timeout = 240
    #: the names of its disks, but for a letter
    disk_prefix = None
    #: how much longer things take in it than in the AMD rig, for which all tests are made: their
    #: timeouts are so many times as long, and a payload does so many times fewer laps
    slowness = 1
    laps_divisor = 1

    def __init__(self, smp=1, mem=None, files=(), disks=(), deadline=900, cmdline="",
                 suite=debs.SUITE, kvm=(), model=None):
        self.disks = [os.path.abspath(d) for d in disks]
        self.model = model or self.usual_model
        self.boot_seconds = None
        self.timed_out = False
        self._process = None
        self._timer = None
        self._port = None
        self.directory = Path(tempfile.mkdtemp(prefix="vas-rig-"))
        os.makedirs(paths.LOGS, exist_ok=True)
        self.console = Path(paths.LOGS) / f"rig-{os.getpid()}-{time.time_ns() // 1000000}.log"
        self._output = self.console.with_suffix(".output")
        cmdline = " ".join([CMDLINE, f"vas.root={self.disk(len(self.disks))}",
                            *(f"kvm_{self.vendor}.{option}" for option in kvm), cmdline]).strip()
        expect_slowness(self.slowness)
        try:
            self._prepare(files, suite)
            self._deadline(deadline)
            self._launch(smp, mem or self.memory, cmdline)
            self._wait_ready()
        except BaseException:
            self.close()
            raise

    def disk(self, number):
        """The name of its disk of that @number, such as vda."""
        return self.disk_prefix + "abcdefgh"[number]

    def _prepare(self, files, suite):
        """The kernel, an initramfs, and a disk of files in self.directory."""
        self._vmlinuz, modules, _ = kernel(self.kernel_package, suite)
        (self.directory / "initrd").write_bytes(initramfs(self.modules, modules))
        tree = Tree(self.directory / "tree")
        for target in ("i386", "x86_64"):
            if os.path.exists(paths.qemu(target)):
                tree.add(paths.qemu(target))
        for file in files:
            tree.add(file)
        tree.make_disk(self.directory / "files.raw")
        shutil.rmtree(self.directory / "tree")

    def _launch(self, smp, mem, cmdline):
        """Start the emulator with _start(), find out the agent's port here: self._port."""
        raise NotImplementedError

    def _start(self, argv):
        """Start the emulator: the command @argv."""
        self._started = time.monotonic()
        with open(self._output, "ab") as output:
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output,
                                             stderr=subprocess.STDOUT,
                                             preexec_fn=_die_with_parent)

    def _last_words(self, otherwise="no message"):
        lines = self._output.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else str(otherwise)

    def _deadline(self, seconds):
        self._timer = threading.Timer(stretched(seconds), self._expire)
        self._timer.daemon = True
        self._timer.start()

    def _expire(self):
        self.timed_out = True
        self._examine()
        if self._process is not None:
            self._process.kill()

    def _examine(self):
        """What the emulator does, when what ran in it did not do as it should."""
        status = None if self._process is None else self._process.poll()
        if status is not None:
            print(f"rig: {self.emulator} ended with status {status}: {self._last_words()}",
                  file=sys.stderr)

    def running(self):
        return self._process is not None and self._process.poll() is None

    def _wait_ready(self):
        give_up = time.monotonic() + stretched(self.boot_timeout)
        while b"rig-agent: ready" not in self._console_bytes():
            if not self.running():
                raise RigError(DEADLINE if self.timed_out else
                               f"the rig's {self.emulator} ended: {self._last_words()} "
                               f"(its console is {self.console})")
            if time.monotonic() > give_up:
                raise RigError(f"the rig did not boot within {self.boot_timeout} s "
                               f"(its console is {self.console})")
            time.sleep(0.1)
        self.boot_seconds = time.monotonic() - self._started

    def _console_bytes(self):
        try:
            return self.console.read_bytes()
        except OSError:
            return b""

    def request(self, line, timeout=60):
        """A connection to the agent on which the request @line was sent."""
        if "\n" in line:
            raise RigError("a command for the rig must be one line")
        if not self.running():
            raise RigError(DEADLINE if self.timed_out else
                           f"the rig's {self.emulator} ended: {self._last_words()}")
        try:
            sock = socket.create_connection(("127.0.0.1", self._port), timeout)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(None)
            sock.sendall(line.encode() + b"\n")
        except OSError as error:
            raise RigError(f"the rig does not answer: {error}") from error
        except RigError as error:
            raise RigError(DEADLINE) if self.timed_out else error
        return sock

    def run(self, command, data=b"", timeout=None, output=None):
        """Run a shell command (or an argv list) with @data as its input.

        Returns (exit status, output); pieces of output go to @output as they
        come, if it is given.
        """
        if not isinstance(command, str):
            command = shlex.join(command)
        sock = self.request(f"run {command}")
        timer = threading.Timer(patiently(timeout), sock.shutdown,
                                [socket.SHUT_RDWR]) if timeout else None
        if timer:
            timer.daemon = True
            timer.start()
        sender = threading.Thread(target=self._send, args=(sock, data), daemon=True)
        sender.start()
        text = b""
        try:
            stream = frames(sock)
            next(stream)
            for item in stream:
                if isinstance(item, int):
                    return item, text
                if output:
                    output(item)
                else:
                    text += item
            raise RigError("the rig sent no exit status")
        except OSError as error:
            raise RigError(f"the rig does not answer: {error}") from error
        except RigError as error:
            raise RigError(DEADLINE) if self.timed_out else error
        finally:
            if timer:
                timer.cancel()
            sock.close()

    @staticmethod
    def _send(sock, data):
        try:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def spawn(self, argv, log):
        """Start @argv; its output is appended to the file @log here."""
        options = [f"{name}={os.environ[name]}" for name in SANITIZERS if name in os.environ]
        return Process(self, "exec " + shlex.join(["env", *options, *argv]), log)

    def put(self, path):
        """Copy the file @path to the same path inside, mode included."""
        path = os.path.abspath(path)
        quoted = shlex.quote(path)
        mode = os.stat(path).st_mode & 0o777
        status, text = self.run(
            f"mkdir -p {shlex.quote(os.path.dirname(path))} && cat > {quoted} && "
            f"chmod {mode:o} {quoted}", Path(path).read_bytes())
        if status:
            raise RigError(f"{path} could not be put into the rig: {text.decode().strip()}")
        return path

    def get(self, path, target):
        """Copy the file @path from inside to @target here."""
        status, text = self.run(["cat", path])
        if status:
            raise RigError(f"{path} could not be got from the rig: {text.decode().strip()}")
        Path(target).write_bytes(text)

    def close(self):
        if self.running():
            self._process.kill()
        if self._process is not None:
            self._process.wait(20)
        if self._timer is not None:
            self._timer.cancel()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, *unused):
        if kind is not None:
            self._examine()
        self.close()
