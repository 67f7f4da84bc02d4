# SPDX-License-Identifier: GPL-2.0-or-later
"""
Traces by single steps under a real kvm-amd, which are compared with TCG's; and (command) ./vas trace.
"""

import argparse
import os
import tempfile

from lib import traces
from lib.rigtest import a_host, say, seconds
from vas import tracefile
from vas.testing import LONG, expect_equal, run_command, run_test

# Real, virtual-8086, 32- and 16-bit protected and long mode, task switches, SYSCALL, exceptions.  They begin
# by copying themselves, which is most of the first 30,000 steps of some.
COMPARED = {"modes16": 10000, "modes32": 60000, "modes64": 60000, "fpu64": 50000, "paging32": 50000,
            "control64": 60000}


def all_of_them(deadline):
    times = 10 if LONG else 1
    with a_host(False, deadline) as host:
        for name, count in COMPARED.items():
            say(name)
            traces.compared(name, host, count * times)
        say("the guest's own breakpoints and steps")
        traces.verdict("debug32", host, 40000 * times)
        say("interrupts held back by the guest")
        traces.verdict("events64", host, 20000 * times, **{"interrupts-every": 1})
        say("events")
        traces.events(host, 20000)
        traces.flags_control(host, 20000)
        traces.handlers_control(host, 20000)
        say("two vCPUs")
        traces.several_vcpus(host, 10000)
        say("ends")
        traces.ends(host)
        say("meanwhile")
        traces.stays_usable(host)
        traces.refusals(host)


def command(deadline):
    """./vas trace of Debian reads alike under KVM and in TCG, and its raw file is the same text."""
    count = 2000
    with tempfile.TemporaryDirectory() as folder:
        for accel, options in (("kvm", ["--raw", "raw"]), ("tcg", ["--tcg"])):
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
