# SPDX-License-Identifier: GPL-2.0-or-later
"""What else keeps the host's CPUs busy while something is measured: loops of ours, and others."""

import contextlib
import os
import resource
import subprocess
import sys
import time

# A loop ends with the process that started it, also with one that is killed.
LOOP = """
import os
parent = os.getppid()
while os.getppid() == parent:
    for number in range(1000000):
        pass
"""


@contextlib.contextmanager
def busy(count):
    """@count processes, each of which keeps a CPU busy."""
    loops = []
    try:
        for _ in range(count):
            loops.append(subprocess.Popen([sys.executable, "-c", LOOP],
                                          stdin=subprocess.DEVNULL))
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def _busy_seconds():
    """CPU time that was used, or stolen, since the host's start (proc(5), /proc/stat)."""
    with open("/proc/stat", encoding="ascii") as file:
        numbers = [int(word) for word in file.readline().split()[1:9]]
    user, nice, system, _, _, irq, softirq, steal = numbers
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _own_seconds():
    """CPU time of this process, and of its children that have ended."""
    return sum(usage.ru_utime + usage.ru_stime
               for usage in map(resource.getrusage, (resource.RUSAGE_SELF,
                                                     resource.RUSAGE_CHILDREN)))


class Others:
    """How many of the host's CPUs others have kept busy since this was made."""

    def __init__(self):
        self._start, self._busy, self._own = time.monotonic(), _busy_seconds(), _own_seconds()

    def cpus(self):
        """Call it when all children have ended."""
        busy = _busy_seconds() - self._busy - (_own_seconds() - self._own)
        return round(max(0, busy) / (time.monotonic() - self._start), 2)
