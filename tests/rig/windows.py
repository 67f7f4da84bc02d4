# SPDX-License-Identifier: GPL-2.0-or-later
"""
Under a real kvm-amd, with its breakpoint registers: windows; or a real gdb, and switches while it has
breakpoints set and steps.
"""

import argparse

from lib import debugging, windows
from lib.rigtest import a_host, seconds
from vas.testing import run_test

WHAT = {"windows": windows.all_of_them, "debugging": debugging.all_of_them}


def run(function, deadline):
    with a_host(False, deadline) as host:
        function(host)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("what", choices=WHAT)
parser.add_argument("--deadline", type=seconds, default=300)
args = parser.parse_args()
run_test(run, WHAT[args.what], args.deadline)
