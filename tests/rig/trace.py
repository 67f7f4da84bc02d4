# SPDX-License-Identifier: GPL-2.0-or-later
"""
Traces by single steps under a real kvm-amd, which are compared with TCG's; and (command) ./vas trace.
"""

import argparse
import os
import tempfile

from lib import traces
from lib.rigtest import a_host, seconds
from vas import tracefile
from vas.testing import LONG, expect_equal, run_command, run_test

def all_of_them(deadline):
    with a_host(False, deadline) as host:
        traces.all_of_them(host)


def command(deadline):
    """./vas trace of Debian under KVM reads as its raw file does; with --long in TCG, too."""
    count = 2000
    with tempfile.TemporaryDirectory() as folder:
        # TCG in the rig's TCG takes its time.
        for accel, options in [("kvm", ["--raw", "raw"]), *([("tcg", ["--tcg"])] if LONG else [])]:
            run_command("trace", "--rig", "--insns", str(count), "--output", accel, *options,
                        timeout=deadline / 2, folder=folder)
            with open(os.path.join(folder, accel), encoding="utf-8") as file:
                lines = file.read().splitlines()
            comments = [line for line in lines if line.startswith("#")]
            print(accel, comments)
            expect_equal(f"lines of execlog, {accel}", len(lines) - len(comments),
                         len(list(tracefile.execlog_lines("\n".join(lines)))))
            expect_equal(f"instructions, {accel}", count, len(lines) - len(comments))
            if accel == "kvm":
                expect_equal("the raw file", "\n".join(lines), run_command(
                    "trace", "raw", folder=folder).rstrip("\n"))


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("what", nargs="?", choices=("command",))
parser.add_argument("--deadline", type=seconds, default=400)
args = parser.parse_args()
run_test(command if args.what else all_of_them, args.deadline)
