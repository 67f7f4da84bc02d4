# SPDX-License-Identifier: GPL-2.0-or-later
"""
A real gdb, and switches while it has breakpoints set and steps, under a real kvm-amd.
"""

import argparse

from lib import debugging
from lib.rigtest import a_host, say, seconds
from vas.testing import LONG, run_test


def all_of_them(deadline):
    times = 10 if LONG else 1
    with a_host(False, deadline) as host:
        for kind in "break", "hbreak":
            say(kind)
            debugging.steps(host, kind)
            debugging.rounds(host, kind, 60 * times)
            debugging.running(host, kind, ["kvm", "tcg"] * 2)
        debugging.rounds_control(host)
        say("two vCPUs")
        debugging.several(host)
        debugging.locked(host)
        debugging.refusals(host)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--deadline", type=seconds, default=300)
run_test(all_of_them, parser.parse_args().deadline)
