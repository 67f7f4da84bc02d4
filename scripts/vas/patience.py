# SPDX-License-Identifier: GPL-2.0-or-later
"""
How long a test waits for what should come: with VAS_PATIENCE=N, N times as long as usual, and
longer again where it runs in a slow rig.
"""

import os

_TIMES = float(os.environ.get("VAS_PATIENCE", "1"))
_slowness = 1


def expect_slowness(times):
    """This process waits for a host that is so many @times slower than usual."""
    global _slowness
    _slowness = times


def stretched(seconds):
    """A deadline of @seconds that whoever set it has chosen for the host."""
    return seconds * _TIMES


def patiently(seconds):
    """What usually takes no longer than @seconds."""
    return seconds * _TIMES * _slowness
