# SPDX-License-Identifier: GPL-2.0-or-later
"""Comparisons of TCG with a real kvm-amd, instruction by instruction."""

import argparse

from lib import comparing
from lib.rigtest import a_host, seconds
from vas.testing import run_test


def all_of_them(deadline, names):
    with a_host(False, deadline) as host:
        comparing.all_of_them(host, names)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("names", nargs="*", help="payloads")
parser.add_argument("--deadline", type=seconds, default=400)
args = parser.parse_args()
run_test(all_of_them, args.deadline, args.names)
