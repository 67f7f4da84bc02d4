# SPDX-License-Identifier: GPL-2.0-or-later
"""Comparisons of TCG with a real kvm-amd, instruction by instruction."""

import argparse
import json
import os
import tempfile

from lib import comparing
from lib.rigtest import a_host, seconds
from vas.testing import LONG, expect_equal, run_command, run_test


def all_of_them(deadline, names):
    with a_host(False, deadline) as host:
        comparing.all_of_them(host, names)


def command(deadline):
    """./vas compare finds no difference in Debian, and says in JSON what it has compared."""
    begin = [] if LONG else ["--boot"]
    with tempfile.TemporaryDirectory() as folder:
        text = run_command("compare", "--rig", *begin, "--insns", "20000", "--json", "result",
                           timeout=deadline - 20, folder=folder)
        with open(os.path.join(folder, "result"), encoding="utf-8") as file:
            result = json.load(file)
    expect_equal("instructions", 20000, result["instructions"])
    expect_equal("differences", [], result["differences"])
    expect_equal("its text", True, "20000 instructions compared, " in text)
    expect_equal("blocks", True, 0 < result["blocks"] < 10000)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("names", nargs="*", help="payloads, or \"command\"")
parser.add_argument("--deadline", type=seconds, default=600)
args = parser.parse_args()
if args.names == ["command"]:
    run_test(command, args.deadline)
run_test(all_of_them, args.deadline, args.names)
