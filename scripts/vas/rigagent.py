# SPDX-License-Identifier: GPL-2.0-or-later
"""
The rig seen from here, through its agent (scripts/rig/agent.c): programs in it, their sockets, and RigHost,
which lets a Machine (machine.py) start its QEMU in there.
"""

import os
import signal
import socket
import struct
import subprocess
import threading
import time

from vas.host import Host, HostError, Listener
from vas.rigtree import RigError

FRAME_END = 0xffffffff


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
        self.laps_divisor = rig.laps_divisor
        self._there = {}
        self._count = 0

    def spawn(self, argv, log):
        return self._try(self._rig.spawn, argv, log)

    def put(self, path):
        path = os.path.abspath(path)
        if path in self._rig.disks:
            return "/dev/" + self._rig.disk(self._rig.disks.index(path))
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
