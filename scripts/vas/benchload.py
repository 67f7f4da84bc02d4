# SPDX-License-Identifier: GPL-2.0-or-later
"""Busy loops on the host, beside what is measured."""

import contextlib
import subprocess
import sys

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
