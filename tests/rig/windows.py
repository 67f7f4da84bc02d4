# SPDX-License-Identifier: GPL-2.0-or-later
"""
Windows under a real kvm-amd, with its breakpoint registers.
"""

import argparse

from lib import windows
from lib.rigtest import a_host, say, seconds
from vas.testing import LONG, run_test


def all_of_them(deadline):
    times = 10 if LONG else 1
    with a_host(False, deadline) as host:
        say("breakpoints")
        windows.breakpoints(host, 10 * times)
        windows.filtered_breakpoints(host)
        windows.first_instruction(host, 100)
        say("the guest's own breakpoints")
        windows.own_breakpoints(host)
        windows.drops(host)
        windows.nmis(host, 500 * times)
        say("ends")
        windows.command(host)
        windows.exact(host, 40 * times)
        windows.counts(host)
        windows.timer(host, 20 * times)
        windows.kvm_error(host)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--deadline", type=seconds, default=300)
run_test(all_of_them, parser.parse_args().deadline)
