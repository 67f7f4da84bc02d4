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
import signal
import subprocess
import sys
import tempfile
import textwrap
import time

from lib.rigtest import seconds
from vas import paths
from vas.machine import Machine
from vas.patience import patiently
from vas.testing import LONG, Failure, expect_equal, need_kvm, run_command, run_test

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


def handover(folder, timeout):
    """./vas handover, once there and back."""
    for way in ("cpr-transfer", "x-ignore-shared") if LONG else ("x-ignore-shared",):
        run_command("handover", "--by", way, "--rounds", "1", "--json", "handover.json", folder=folder,
                    timeout=timeout)
        with open(os.path.join(folder, "handover.json"), encoding="utf-8") as file:
            report = json.load(file)
        expect_equal("verdict", "pass", report["guest"]["verdict"])
        expect_equal("pauses", {"plain to switch": 1, "switch to plain": 1},
                     {name: len(values) for name, values in report["pauses_ms"].items()})
        for value in [*sum(report["pauses_ms"].values(), []), *report["stop_cont_ms"]]:
            if not 0 < value < 5000:
                raise Failure(f"a pause of {value} ms")


def soak(folder, timeout):
    """./vas soak of a Debian with two vCPUs, and then of the same guest under TCG alone."""
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
                     re.findall(r"total insns: (\d+)", entry["plugins"]["insn"]))
    if len(re.findall(r"(?m)^ +\d  vfs_statx ", text)) != 3:
        raise Failure("the table does not name the function")
    if not LONG:
        return
    text = run_command("window", "--at", "no_such_function", status=1, folder=folder, timeout=timeout,
                       errors=True)
    if "has no function 'no_such_function'" not in text:
        raise Failure("a function that is not there is not named")


def window_process(folder, timeout):
    """./vas window --process: of two programs that call a function only one's windows are shown."""
    run_command("window", "--at", "vfs_statx", "--process", "ls", "--insns", "2000", "--times", "2",
                "--plugin", "insn,inline=on", "--plugin", "hotblocks", "--json", "window.json",
                "--run", "while :; do stat /etc/passwd; ls -l /; done >/dev/null 2>&1",
                folder=folder, timeout=timeout)
    with open(os.path.join(folder, "window.json"), encoding="utf-8") as file:
        report = json.load(file)
    expect_equal("windows", 2, len(report["windows"]))
    for entry in report["windows"]:
        expect_equal("begin, instructions", (report["on"]["address"], 2000),
                     (entry["begin"], entry["instructions"]))
        expect_equal("the plugins", ["hotblocks", "insn"], sorted(entry["plugins"]))


def own_guest(map_file):
    """QEMU's arguments for the payload window64; its symbols are written to @map_file."""
    with open(map_file, "w", encoding="utf-8") as output:
        subprocess.run(["nm", paths.guest("window64.elf")], stdout=output, check=True)
    return ["-m", "64", "-device", "isa-accel-switch", "-bios", paths.guest("window64.bin"), "-device",
            "isa-debug-exit,iobase=0xf4", "-debugcon", "file:/dev/null"]


def window_own(folder, timeout):
    """./vas window with a guest of the user's own: a function by the name that a file has for it."""
    guest = own_guest(os.path.join(folder, "map"))
    text = run_command("window", "--at", "function", "--return", "--times", "3", "--plugin", "hotblocks",
                       "--symbols", "map", "--", *guest, folder=folder, timeout=timeout)
    # call_kernel() or user_main(), which have called it.
    for pattern in (r"(?m)^ +\d  function  +return  +user_main\+", r"0x[0-9a-f]{16} <function>, "):
        expect_equal(f"lines like {pattern}", 3, len(re.findall(pattern, text)))
    for wrong, why in ((["--at", "no_such_function"], "'no_such_function' needs --symbols"),
                       (["--at", "0x1", "--run", "ls"], "--run is for the Debian guest"),
                       (["--at", "0x1", "--process", "ls"], "--process is for the Debian guest")):
        text = run_command("window", *wrong, "--", *guest, status=2 if wrong[2:] else 1, folder=folder,
                           timeout=timeout, errors=True)
        if why not in text:
            raise Failure(f"{' '.join(wrong)}: the error does not say: {why}")


def sample(folder, timeout):
    """./vas sample: each sample has a window's instructions, and shares come with an interval."""
    arguments = ["sample", "--every", "50ms", "--window", "5k", "--times", "20", "--batch", "1", "--plugin",
                 "bb,inline=on", "--json", "sample.json"]
    guest = own_guest(os.path.join(folder, "map"))
    text = run_command(*arguments, "--", *guest, folder=folder, timeout=timeout)
    with open(os.path.join(folder, "sample.json"), encoding="utf-8") as file:
        report = json.load(file)
    expect_equal("samples, windows", (20, 20), (len(report["samples"]), len(report["windows"])))
    expect_equal("instructions", [5000] * 20, [entry["instructions"] for entry in report["windows"]])
    expect_equal("the plugin's instructions", [5000] * 20,
                 [entry["instructions"] for entry in report["samples"]])
    blocks = report["quantities"]["blocks"]
    if not 0.05 < blocks["share"] < 1 or not 0 <= blocks["share_half_interval"] < blocks["share"]:
        raise Failure(f"blocks: {blocks}")
    if not 0 < report["kvm_share"] < 1 or "Student's t" not in text:
        raise Failure(f"{report['kvm_share']} of the time in KVM")
    sample_interrupted(folder, guest)


def sample_interrupted(folder, guest):
    """Ctrl-C, which all processes of a terminal get, ends it with the results so far."""
    with subprocess.Popen([sys.executable, "-m", "vas.sample", "--every", "50ms", "--window", "5k", "--for",
                           "600", "--plugin", "insn", "--json", "sample.json", "--", *guest],
                          cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          start_new_session=True) as process:
        try:
            # A line of progress says that there are samples.
            while " samples, " not in process.stderr.readline():
                expect_equal("status", None, process.poll())
            os.killpg(process.pid, signal.SIGINT)
            text, errors = process.communicate(timeout=patiently(60))
        finally:
            process.kill()
    expect_equal("status", 0, process.returncode)
    if "interrupted after" not in errors or "instructions" not in text:
        raise Failure(f"an interrupted sampling has no results: {text} {errors}")


def python(folder, timeout):
    """The two examples of docs/python.rst print what the page says."""
    with open(os.path.join(paths.TOP, "docs/python.rst"), encoding="utf-8") as file:
        blocks = [textwrap.dedent(block) for block in re.findall(r"(?ms)::\n\n(    .*?)(?=^\S|\Z)", file.read())]
    programs = [block for block in blocks if block.startswith(("import", "from"))]
    printed = [block for block in blocks if block.startswith("instructions")]
    expect_equal("programs, outputs", (2, 2), (len(programs), len(printed)))
    need_kvm()
    environment = {**os.environ, "PYTHONPATH": f"{paths.TOP}/scripts:{paths.SOURCE}/python"}
    with Machine(["-accel", "switch", "-m", "64", "-bios", paths.guest("compute64.bin"), "-qmp",
                  f"unix:{folder}/qmp.sock,server=on,wait=off"], binary="x86_64", name="python"):
        for program, wanted in zip(programs, printed):
            result = subprocess.run([sys.executable, "-c", program], cwd=folder, env=environment,
                                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
                                    timeout=patiently(timeout), check=False)
            expect_equal("status, output", (0, wanted.strip()), (result.returncode, result.stdout.strip()))


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


COMMANDS = {"demo": demo, "handover": handover, "python": python, "rig": rig, "sample": sample,
            "shell": shell, "soak": soak, "window": window, "window-own": window_own,
            "window-process": window_process}


def test(args):
    with tempfile.TemporaryDirectory() as folder:
        COMMANDS[args.command](folder, args.deadline)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("command", choices=list(COMMANDS))
parser.add_argument("--deadline", type=seconds, default=300)
run_test(test, parser.parse_args())
