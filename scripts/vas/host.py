# SPDX-License-Identifier: GPL-2.0-or-later
"""
Where a QEMU under test runs.

A Machine (machine.py) doesn't care whether its QEMU is a child of this process or runs inside the
rig, behind another QEMU. What differs is told by a Host: how a program is started, under which path
it sees a file of ours, and where it must listen so that we can connect.

LocalHost is this machine.  The rig's own Host (rigagent.py) implements the same methods.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time


class HostError(Exception):
    """One sentence that says what the host could not do."""


class Listener:
    """
    A place where QEMU listens and we connect.

    @options: the text for "-chardev socket,id=ID,@options", as the QEMU *on the host* needs it,
              such as "path=/tmp/x/qmp,server=on,wait=off" or
              "host=0.0.0.0,port=5001,server=on,wait=off".
    @address: what socket.connect() takes *here*, with its @family.
    """

    def __init__(self, options, family, address):
        self.options = options
        self.family = family
        self.address = address

    def connect(self, timeout=30.0, alive=lambda: True):
        """
        Return a connected stream socket.  Tries until @timeout seconds are over, since QEMU opens
        its sockets some time after its start; gives up at once when @alive() is false.
        """
        deadline = time.monotonic() + timeout
        while True:
            sock = socket.socket(self.family, socket.SOCK_STREAM)
            try:
                sock.connect(self.address)
                return sock
            except OSError as error:
                sock.close()
                if not alive():
                    raise HostError("QEMU ended before it opened its sockets") from error
                if time.monotonic() > deadline:
                    raise HostError(f"no connection to {self.address} within "
                                    f"{timeout:.0f} s: {error}") from error
            time.sleep(0.02)


class Host:
    """The interface.  Every method may raise HostError."""

    #: "local" or "rig", for messages and reports
    name = None
    #: by how much fewer laps than usual a payload does on it, as it is slow
    laps_divisor = 1

    def spawn(self, argv, log):
        """
        Start @argv (a list; argv[0] is a path here, which the host maps as put() does) with its
        standard output and error appended to the file @log (a path here).  Returns an object like
        subprocess.Popen: pid, poll(), wait(timeout) that raises subprocess.TimeoutExpired,
        terminate(), kill().
        """
        raise NotImplementedError

    def put(self, path):
        """Make our file @path available on the host; returns its path there."""
        raise NotImplementedError

    def scratch(self, name):
        """The path of a file that the host may have by the @name, its own until close()."""
        raise NotImplementedError

    def read_bytes(self, path):
        """The contents of the host's own file @path."""
        raise NotImplementedError

    def read(self, path):
        """Likewise, of a text file such as one of /proc."""
        return self.read_bytes(path).decode(errors="replace")

    def listener(self, name):
        """A Listener not in use yet.  @name is a word such as "qmp" or "serial"."""
        raise NotImplementedError

    def close(self):
        """Free what the methods above took.  Processes must have ended before."""
        raise NotImplementedError

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()


class LocalHost(Host):
    """This machine: children of this process, and unix sockets in a private directory."""

    name = "local"

    def __init__(self):
        # Not below the build folder: a unix socket's path has 107 characters at most.
        self._directory = tempfile.mkdtemp(prefix="vas-")
        self._count = 0

    def spawn(self, argv, log):
        with open(log, "ab") as output:
            return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output,
                                    stderr=subprocess.STDOUT, preexec_fn=_die_with_parent)

    def put(self, path):
        return os.path.abspath(path)

    def scratch(self, name):
        return os.path.join(self._directory, name)

    def read_bytes(self, path):
        try:
            with open(path, "rb") as file:
                return file.read()
        except OSError as error:
            raise HostError(str(error)) from error

    def listener(self, name):
        self._count += 1
        path = os.path.join(self._directory, f"{name}{self._count}")
        return Listener(f"path={path},server=on,wait=off", socket.AF_UNIX, path)

    def close(self):
        shutil.rmtree(self._directory, ignore_errors=True)


def _die_with_parent():
    """A QEMU must not outlive a test that was killed: the kernel ends it with its parent."""
    import ctypes
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
