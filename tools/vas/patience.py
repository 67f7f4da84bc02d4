# SPDX-License-Identifier: GPL-2.0-or-later
"""How long a test waits for what should come: with VAS_PATIENCE=N, N times as long as usual."""

import os

_TIMES = float(os.environ.get("VAS_PATIENCE", "1"))


def patiently(seconds):
    """What usually takes no longer than @seconds."""
    return seconds * _TIMES
