# SPDX-License-Identifier: GPL-2.0-or-later
"""A real kvm-amd on any machine: our QEMU emulates a host with AMD-V.

"./vas rig -- COMMAND" runs a command in it.  A Rig is booted once and used many
times; RigHost lets a Machine (machine.py) start its QEMU in there.
"""

import argparse
import os
import re
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

from pathlib import Path

from vas import debs, paths
from vas.host import Host, HostError, Listener, _die_with_parent
from vas.patience import patiently
from vas.qmp import QMPClient, QMPError, QMPLost
from vas.rigtree import FIRMWARE, RigError, Tree, initramfs, kernel

FRAME_END = 0xffffffff
# The environment of this process that one in the rig has, too.
SANITIZERS = ["ASAN_OPTIONS", "UBSAN_OPTIONS"]
# quiet and friends: what the outer kernel prints or tests costs whole seconds.  Its TSC is good,
# but on a busy machine it finds so, or not, by chance, and has another clock and another KVM then.
CMDLINE = ("console=ttyS0 quiet loglevel=4 mitigations=off nokaslr panic=-1 tsc=reliable "
           "random.trust_cpu=on apparmor=0 audit=0 lsm= ipv6.disable=1 "
           "8250.nr_uarts=1 cryptomgr.notests no_timer_check")


def outer_qemu():
    """The QEMU that plays the host: one with our fixes to TCG's SVM."""
    folder = os.environ.get("VAS_RIG_QEMU")
    binary = os.path.join(folder, "qemu-system-x86_64") if folder else paths.qemu("x86_64")
    if not os.access(binary, os.X_OK):
        raise RigError(f"{binary} is not there: ./vas build makes it")
    return binary


DEADLINE = "the rig was ended at its deadline"


def end_in_order():
    """Have SIGTERM, which meson sends at a timeout, leave no folder behind."""
    signal.signal(signal.SIGTERM, lambda *unused: sys.exit(143))


class Process:
    """A program in the rig, as much like subprocess.Popen as Machine needs."""

    def __init__(self, rig, command, log):
        self._rig = rig
        self._socket = rig.request(f"spawn {command}")
        self._frames = frames(self._socket)
        self.pid = int(next(self._frames))
        self.returncode = None
        self._ended = threading.Event()
        self._log = log
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        status = None
        try:
            with open(self._log, "ab", buffering=0) as log:
                for item in self._frames:
                    if isinstance(item, int):
                        status = item
                    else:
                        log.write(item)
        except (OSError, RigError):
            pass
        # The way a shell tells a signal, as Popen has it.
        if status is not None and status > 128:
            status = 128 - status
        self.returncode = -signal.SIGKILL if status is None else status
        self._ended.set()

    def poll(self):
        return self.returncode

    def wait(self, timeout=None):
        if not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired("a program in the rig", timeout)
        return self.returncode

    def _signal(self, name):
        if self.returncode is None:
            try:
                self._rig.run(f"kill -{name} {self.pid}", timeout=20)
            except RigError:
                pass

    def terminate(self):
        self._signal("TERM")

    def kill(self):
        self._signal("KILL")
        # The agent kills what is left of it when the connection goes.
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def receive(sock, size):
    data = b""
    while len(data) < size:
        part = sock.recv(size - len(data))
        if not part:
            raise RigError("the rig closed the connection")
        data += part
    return data


def frames(sock):
    """Yield each piece of output as bytes, and the exit status as int at last."""
    while True:
        size, = struct.unpack(">I", receive(sock, 4))
        if size == FRAME_END:
            yield struct.unpack(">I", receive(sock, 4))[0]
            return
        yield receive(sock, size)


class Rig:
    """The outer machine.  A context manager: leaving it ends QEMU.

    @smp: with two CPUs, the rig hangs now and then (docs/testing.rst).
    @files: files (programs with their libraries) that are there under their own
    path; our QEMU's binaries always are.  @disks: images that appear read-only
    as /dev/vda, /dev/vdb..., for what is too big to copy.  @deadline: seconds
    after which all ends, whatever happens.
    """

    def __init__(self, smp=1, mem=2048, files=(), disks=(), deadline=900,
                 cmdline="", extra=()):
        self.disks = [os.path.abspath(d) for d in disks]
        self.boot_seconds = None
        self.timed_out = False
        self._qmp = None
        self._process = None
        self.directory = Path(tempfile.mkdtemp(prefix="vas-rig-"))
        os.makedirs(paths.LOGS, exist_ok=True)
        self.console = Path(paths.LOGS) / f"rig-{os.getpid()}-{time.time_ns() // 1000000}.log"
        try:
            self._prepare(files)
            self._launch(smp, mem, deadline, cmdline, extra)
            self._wait_ready()
        except BaseException:
            self.close()
            raise

    def _prepare(self, files):
        self._vmlinuz, root, release = kernel()
        (self.directory / "initrd").write_bytes(initramfs(root, release))
        tree = Tree(self.directory / "tree")
        for target in ("i386", "x86_64"):
            if os.path.exists(paths.qemu(target)):
                tree.add(paths.qemu(target))
        for file in files:
            tree.add(file)
        tree.make_disk(self.directory / "files.raw")
        shutil.rmtree(self.directory / "tree")

    def _launch(self, smp, mem, deadline, cmdline, extra):
        qmp = self.directory / "qmp"
        argv = [outer_qemu(), "-accel", "tcg,thread=multi,tb-size=512",
                "-M", "q35,vmport=off", "-cpu", "EPYC,+svm,+npt,+umip,+pku",
                "-smp", str(smp), "-m", str(mem), "-nodefaults", "-no-user-config",
                "-display", "none", "-no-reboot",
                "-kernel", str(self._vmlinuz), "-initrd", str(self.directory / "initrd"),
                *[o for f in FIRMWARE for o in ("-L", f)],
                "-append", f"{CMDLINE} {cmdline}".strip(),
                "-chardev", f"file,id=console,path={self.console}",
                "-serial", "chardev:console",
                "-qmp", f"unix:{qmp},server=on,wait=off",
                "-netdev", "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:0-:1",
                "-device", "virtio-net-pci,netdev=net,romfile="]
        drives = [f"file={d},format={'qcow2' if d.endswith('qcow2') else 'raw'},snapshot=on"
                  for d in self.disks]
        drives.append(f"file={self.directory}/files.raw,format=raw,cache=unsafe")
        for number, drive in enumerate(drives):
            argv += ["-drive", f"{drive},if=none,id=disk{number}",
                     "-device", f"virtio-blk-pci,drive=disk{number},addr={16 + number:#x}"]
        self._started = time.monotonic()
        self._output = self.console.with_suffix(".qemu")
        with open(self._output, "ab") as output:
            self._process = subprocess.Popen(argv + list(extra), stdin=subprocess.DEVNULL,
                                             stdout=output, stderr=subprocess.STDOUT,
                                             preexec_fn=_die_with_parent)
        self._timer = threading.Timer(patiently(deadline), self._expire)
        self._timer.daemon = True
        self._timer.start()
        self._connect_qmp(qmp)

    def _connect_qmp(self, path):
        listener = Listener("", socket.AF_UNIX, str(path))
        try:
            self._qmp = QMPClient(listener.connect(30, self.running),
                                  open(self.directory / "qmp.log", "ab"), 30)
            usernet = self._qmp.execute("human-monitor-command",
                                        {"command-line": "info usernet"}, 30)
        except (HostError, QMPLost, QMPError) as error:
            raise RigError(f"the rig's QEMU did not start: {self._last_words(error)}") from error
        line = next((l for l in usernet.splitlines() if "HOST_FORWARD" in l), "")
        if not line:
            raise RigError("the rig's QEMU forwards no port")
        self._port = int(line.split()[3])

    def _last_words(self, error):
        lines = self._output.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else str(error)

    def _expire(self):
        self.timed_out = True
        self._examine()
        self._process.kill()

    def _examine(self):
        """What the outer machine does, when what ran in it did not do as it should."""
        status = self._process.poll()
        if status is not None:
            print(f"rig: QEMU ended with status {status}: {self._last_words('no message')}",
                  file=sys.stderr)
            return
        try:
            text = self._qmp.execute("human-monitor-command",
                                     {"command-line": "info registers -a"}, 10)
        except (QMPLost, QMPError) as error:
            text = str(error)
        self.console.with_suffix(".state").write_text(text)
        for found in re.finditer(r"^CPU#\d+|\bRIP=.*", text, re.M):
            print(f"rig: {found.group().strip()}", file=sys.stderr)

    def running(self):
        return self._process is not None and self._process.poll() is None

    def _wait_ready(self, timeout=240):
        give_up = time.monotonic() + timeout
        while b"rig-agent: ready" not in self._console_bytes():
            if not self.running():
                raise RigError(f"the rig's QEMU ended: {self._last_words('no message')} "
                               f"(its console is {self.console})")
            if time.monotonic() > give_up:
                raise RigError(f"the rig did not boot within {timeout} s "
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
                           f"the rig's QEMU ended: {self._last_words('no message')}")
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
            self._timer.cancel()
        if self._qmp is not None:
            self._qmp.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, *unused):
        if kind is not None:
            self._examine()
        self.close()


class RigListener(Listener):
    """A unix socket inside, reached through the agent."""

    def __init__(self, rig, path):
        super().__init__(f"path={path},server=on,wait=off", None, path)
        self._rig = rig

    def connect(self, timeout=30.0, alive=lambda: True):
        deadline = time.monotonic() + timeout
        while True:
            answer = b""
            try:
                sock = self._rig.request(f"connect {self.address}")
                sock.settimeout(max(1.0, deadline - time.monotonic()))
                while not answer.endswith(b"\n"):
                    answer += receive(sock, 1)
            except (OSError, RigError) as error:
                answer = str(error).encode()
            if answer == b"ok\n":
                sock.settimeout(None)
                return sock
            if not alive():
                raise HostError("QEMU ended before it opened its sockets")
            if time.monotonic() > deadline:
                raise HostError(f"no connection into the rig within {timeout:.0f} s: "
                                f"{answer.decode().strip()}")
            time.sleep(0.2)


class RigHost(Host):
    """Runs a Machine's QEMU in a Rig, which stays up when the host is closed."""

    name = "rig"

    def __init__(self, rig):
        self._rig = rig
        self._there = {}
        self._count = 0

    def spawn(self, argv, log):
        return self._try(self._rig.spawn, argv, log)

    def put(self, path):
        path = os.path.abspath(path)
        if path in self._rig.disks:
            return "/dev/vd" + "abcdefgh"[self._rig.disks.index(path)]
        # A file that was not changed since needs no second trip.
        stamp = os.stat(path).st_mtime_ns
        if self._there.get(path) != stamp:
            self._try(self._rig.put, path)
            self._there[path] = stamp
        return path

    def scratch(self, name):
        return f"/run/vas/{name}{os.getpid()}-{id(self)}"

    def read_bytes(self, path):
        status, data = self._try(self._rig.run, ["cat", path])
        if status:
            raise HostError(f"{path} can't be read in the rig")
        return data

    def listener(self, name):
        self._count += 1
        return RigListener(self._rig, f"{self.scratch(name)}-{self._count}")

    def close(self):
        pass

    @staticmethod
    def _try(function, *arguments):
        try:
            return function(*arguments)
        except RigError as error:
            raise HostError(str(error)) from error


def main():
    parser = argparse.ArgumentParser(
        prog="vas rig", description="Run COMMAND where /dev/kvm is a real kvm-amd, on a host "
        "with AMD-V that our QEMU emulates.  Its output and exit status are handed back.  Our "
        "QEMU's binaries are there under the path that they have here, and busybox.",
        epilog="About 35 seconds to boot.  Times measured inside say nothing about hardware.")
    parser.add_argument("--smp", type=paths.positive, default=1, metavar="N",
                        help="CPUs (1; two hang now and then)")
    parser.add_argument("--mem", type=paths.positive, default=2048, metavar="M", help="MiB (2048)")
    parser.add_argument("--put", action="append", default=[], metavar="FILE",
                        help="a file that COMMAND needs; programs come with their libraries")
    parser.add_argument("--get", action="append", default=[], metavar="FILE",
                        help="a file that COMMAND leaves, to be copied here")
    parser.add_argument("--disk", action="append", default=[], metavar="IMAGE",
                        help="an image to be seen as /dev/vda, /dev/vdb…; never written to")
    parser.add_argument("--timeout", type=paths.positive, default=900, metavar="S",
                        help="seconds until all ends (900)")
    parser.add_argument("--append", default="", metavar="TEXT",
                        help="more for the outer kernel's command line, such as tsc=unstable")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    args = parser.parse_args()
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        parser.error("there is no COMMAND")
    end_in_order()
    files = list(args.put)
    if "/" in command[0] and os.path.isfile(command[0]):
        files.append(command[0])
    try:
        for file in [*files, *args.disk]:
            if not os.path.exists(file):
                raise RigError(f"{file} is not there")
        with Rig(args.smp, args.mem, files, args.disk, args.timeout, args.append) as rig:
            print(f"rig: up after {rig.boot_seconds:.0f} s", file=sys.stderr)
            here = shlex.quote(os.getcwd())
            status, _ = rig.run(f"mkdir -p {here}; cd {here} && exec {shlex.join(command)}",
                                output=write_out)
            for file in args.get:
                try:
                    rig.get(os.path.abspath(file), file)
                except RigError as error:
                    # What COMMAND says of itself comes first.
                    print(f"vas rig: {error}", file=sys.stderr)
                    status = status or 1
    except (RigError, debs.DebError) as error:
        sys.exit(f"vas rig: {error}")
    except KeyboardInterrupt:
        sys.exit("vas rig: interrupted")
    sys.exit(status)


def write_out(data):
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
