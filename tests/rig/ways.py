# SPDX-License-Identifier: GPL-2.0-or-later
"""
The payloads of tests/guest/payloads.list in all four ways, under a real KVM.
"""

import argparse

from rigtest import a_host, seconds
from vas.testing import run_test
from vas.ways import all_ways, four_ways


def ways(deadline):
    with a_host(False, deadline) as host:
        for way in all_ways().values():
            four_ways(way, host)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--deadline", type=seconds, default=600)
run_test(ways, parser.parse_args().deadline)
