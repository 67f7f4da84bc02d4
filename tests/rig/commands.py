#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
The front door's commands that use the rig, as ./vas runs them: the demo, and any command in the rig.
"""

import argparse
import json
import os
import tempfile

from rigtest import seconds
from vas.testing import Failure, expect_equal, run_command, run_test

PAIRS = 10
PHASES = ["convert_ns", "export_ns", "import_ns", "quiesce_ns", "resume_ns"]


def demo(folder, timeout):
    """./vas demo, to the end, with what it writes for scripts."""
    run_command("demo", "--json", "demo.json", folder=folder, timeout=timeout)
    with open(os.path.join(folder, "demo.json"), encoding="utf-8") as file:
        report = json.load(file)
    expect_equal("keys", ["guest", "host", "switches"], sorted(report))
    if report["host"] not in ("kvm", "rig"):
        raise Failure(f"host: {report['host']}")
    expect_equal("verdict", "pass", report["guest"]["verdict"])
    if report["guest"]["checks"] < 100:
        raise Failure(f"the guest has made {report['guest']['checks']} checks only")
    expect_equal("directions", [("kvm", "tcg"), ("tcg", "kvm")] * PAIRS,
                 [(switch["from"], switch["to"]) for switch in report["switches"]])
    for switch in report["switches"]:
        expect_equal("phases", PHASES, sorted(switch["phases"]))
        total = sum(switch["phases"].values())
        if not 0 < total <= switch["downtime_ns"]:
            raise Failure(f"{total} ns in phases, {switch['downtime_ns']} in all")


def rig(folder, timeout):
    """./vas rig: a file goes in, one comes out, and so do the output and the exit status."""
    with open(os.path.join(folder, "given"), "w", encoding="utf-8") as file:
        file.write("forty-two\n")
    command = "test -c /dev/kvm && cat given && tr a-z A-Z < given > made; exit 7"
    output = run_command("rig", "--put", "given", "--get", "made", "--", "sh", "-c", command,
                         status=7, folder=folder, timeout=timeout)
    expect_equal("output", "forty-two\n", output)
    with open(os.path.join(folder, "made"), encoding="utf-8") as file:
        expect_equal("the file that came out", "FORTY-TWO\n", file.read())


def test(args):
    with tempfile.TemporaryDirectory() as folder:
        {"demo": demo, "rig": rig}[args.command](folder, args.deadline)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("command", choices=["demo", "rig"])
parser.add_argument("--deadline", type=seconds, default=300)
run_test(test, parser.parse_args())
