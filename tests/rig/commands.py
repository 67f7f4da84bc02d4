#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
The front door's commands that use the rig, as ./vas runs them: the demo, the soak, the shell, windows,
and any command.
"""

import argparse
import json
import os
import pty
import re
import select
import subprocess
import sys
import tempfile
import time

from lib.rigtest import seconds
from vas.patience import patiently
from vas.testing import LONG, Failure, expect_equal, run_command, run_test

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


def soak(folder, timeout):
    """./vas soak of a Debian with two vCPUs, and beside it the same guest under TCG alone."""
    run_command("soak", "--payload", "debian", "--smp", "2", "--seed", "7", "--switches",
                "1000" if LONG else "20", "--json", "soak.json", folder=folder, timeout=timeout)
    with open(os.path.join(folder, "soak.json"), encoding="utf-8") as file:
        report = json.load(file)
    expect_equal("verdicts", ("pass", "pass"), (report["verdict"], report["control"]["verdict"]))
    if not report["checks"] or not report["control"]["checks"]:
        raise Failure(f"there were no checks: {report}")


def window(folder, timeout):
    """./vas window: three calls of a function, each with what a plugin has counted in it."""
    text = run_command("window", "--at", "vfs_statx", "--insns", "2000", "--plugin", "insn,inline=on",
                       "--times", "3", "--json", "window.json", folder=folder, timeout=timeout)
    with open(os.path.join(folder, "window.json"), encoding="utf-8") as file:
        report = json.load(file)
    expect_equal("windows", 3, len(report["windows"]))
    for entry in report["windows"]:
        expect_equal("begin", report["on"]["address"], entry["begin"])
        expect_equal("reason, instructions", ("instructions", 2000),
                     (entry["reason"], entry["instructions"]))
        expect_equal("the plugin's instructions", [str(entry["instructions"])],
                     re.findall(r"total insns: (\d+)", entry["plugin"]))
    if len(re.findall(r"(?m)^ +\d  vfs_statx ", text)) != 3:
        raise Failure("the table does not name the function")
    if not LONG:
        return
    text = run_command("window", "--at", "no_such_function", status=1, folder=folder, timeout=timeout,
                       errors=True)
    if "has no function 'no_such_function'" not in text:
        raise Failure("a function that is not there is not named")


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


def expect_at(terminal, pattern, timeout):
    """What the program at the other end of @terminal writes, until the @pattern comes."""
    until = time.monotonic() + patiently(timeout)
    said = b""
    while not re.search(pattern, said):
        if not select.select([terminal], [], [], max(0, until - time.monotonic()))[0]:
            raise Failure(f"{pattern} did not come within {timeout} s: {said[-200:]}")
        said += os.read(terminal, 4096)


def shell(_, timeout):
    """./vas shell on a terminal: the guest's console, the monitor one key away, a switch, the end."""
    person, terminal = pty.openpty()
    with subprocess.Popen([sys.executable, "-m", "vas.shell"], stdin=terminal, stdout=terminal,
                          stderr=terminal, start_new_session=True) as process:
        try:
            expect_at(person, b"GRUB", timeout)
            for typed, pattern in ((b"\x01c", rb"\(qemu\)"), (b"info accel\n", rb"active: kvm"),
                                   (b"switch_accel\n", rb"\(qemu\)"),
                                   (b"info accel\n", rb"active: tcg")):
                os.write(person, typed)
                expect_at(person, pattern, 60)
            os.write(person, b"\x01x")
            expect_equal("status", 0, process.wait(60))
        finally:
            process.terminate()


def test(args):
    with tempfile.TemporaryDirectory() as folder:
        {"demo": demo, "rig": rig, "shell": shell, "soak": soak,
         "window": window}[args.command](folder, args.deadline)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("command", choices=["demo", "rig", "shell", "soak", "window"])
parser.add_argument("--deadline", type=seconds, default=300)
run_test(test, parser.parse_args())
