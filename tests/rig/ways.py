# SPDX-License-Identifier: GPL-2.0-or-later
"""
The payloads of tests/guest/payloads.list in all four ways, under a real KVM.
"""

import argparse

from lib.rigtest import a_host, seconds
from lib.ways import all_ways, expect_noticed, four_ways
from vas.testing import run_test


def names(text):
    """--only's and --but's argument: payloads of the list."""
    unknown = set(text.split(",")) - set(all_ways())
    if unknown:
        raise argparse.ArgumentTypeError(f"no such payload: {', '.join(sorted(unknown))}")
    return text.split(",")


def ways(args):
    with a_host(False, args.deadline) as host:
        for way in all_ways().values():
            if way.name not in (args.only or all_ways()) or way.name in args.but:
                continue
            if args.omit:
                expect_noticed(way, args.omit, host, way.laps if args.at_random else 2, args.at_random)
            else:
                four_ways(way, host)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--only", type=names, help="comma-separated names of payloads")
parser.add_argument("--but", type=names, default=[], help="the same; not these")
parser.add_argument("--omit", metavar="FIX-UP", help="a negative control: the payloads must notice that it is left out")
parser.add_argument("--at-random", action="store_true", help="the control switches at random points, for all laps")
parser.add_argument("--deadline", type=seconds, default=600)
run_test(ways, parser.parse_args())
