# SPDX-License-Identifier: GPL-2.0-or-later
"""Numbers of ./vas bench: percentiles, and progress while they come, until Ctrl-C."""

import signal
import statistics
import sys
import time

# The seed of all random pauses.
SEED = 11
PROGRESS_SECONDS = 5


def percentile(values, part):
    """The smallest of @values that @part percent of them don't exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * part // 100) - 1)]


def spread(values, digits=1):
    """p50, least and most of @values, as JSON has them."""
    return {"p50": round(statistics.median(values), digits), "min": round(min(values), digits),
            "max": round(max(values), digits)}


def percentiles_us(values):
    """The percentiles of microseconds, as JSON has them."""
    return {**{f"p{part}_us": round(percentile(values, part), 1) for part in (50, 90, 99)},
            "max_us": round(max(values), 1)}


def table(head, rows):
    """Lines of text: the first column to the left, others to the right."""
    cells = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(map(len, column)) for column in zip(*cells)]
    for row in cells:
        yield "  ".join(cell.ljust(width) if not number else cell.rjust(width)
                        for number, (cell, width) in enumerate(zip(row, widths))).rstrip()


class Interrupt:
    """
    Ctrl-C.  It ends the QEMUs, too, whose end is then no error; and Python drops an exception that
    a handler raises while a finalizer runs.  So it is remembered.
    """

    def __init__(self):
        self.came = False

    def watch(self):
        """From now on, remember it."""
        signal.signal(signal.SIGINT, self._handle)

    def _handle(self, *unused):
        self.came = True
        raise KeyboardInterrupt

    def check(self):
        """Raise it again."""
        if self.came:
            raise KeyboardInterrupt


INTERRUPT = Interrupt()


class Progress:
    """Says on stderr how far a measurement of @total steps is, every few seconds."""

    def __init__(self, what, total):
        self._what, self._total, self._done = what, total, 0
        self._start = self._said = time.monotonic()

    def step(self):
        INTERRUPT.check()
        self._done += 1
        now = time.monotonic()
        if now - self._said < PROGRESS_SECONDS:
            return
        self._said = now
        left = (now - self._start) / self._done * (self._total - self._done)
        print(f"bench: {self._what}: {self._done} of {self._total}, about {left:.0f} s to go",
              file=sys.stderr, flush=True)
