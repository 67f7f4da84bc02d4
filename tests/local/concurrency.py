# SPDX-License-Identifier: GPL-2.0-or-later
"""Several clients of one machine's monitors at once: see lib.concurrency."""

from lib.concurrency import concurrency
from vas.testing import main

main({"snapshots": lambda: concurrency(1, True), "migration": lambda: concurrency(1, False),
      "smp-snapshots": lambda: concurrency(2, True), "smp-migration": lambda: concurrency(2, False)})
