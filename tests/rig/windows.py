# SPDX-License-Identifier: GPL-2.0-or-later
"""
Windows under a real kvm-amd, with its breakpoint registers.
"""

import argparse

from lib import windows
from lib.rigtest import a_host, seconds
from vas.testing import run_test


def all_of_them(deadline):
    with a_host(False, deadline) as host:
        windows.all_of_them(host)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--deadline", type=seconds, default=300)
run_test(all_of_them, parser.parse_args().deadline)
