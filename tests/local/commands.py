# SPDX-License-Identifier: GPL-2.0-or-later
"""The front door's commands that need no rig, and what they write for scripts."""

import argparse
import contextlib
import json
import os
import tempfile
import xml.etree.ElementTree

from vas import oracle, paths
from vas.doctor import Section, examine_answer, verdict
from vas.machine import Machine
from vas.soak import run_and_write
from vas.testing import Failure, expect_equal, main, need_kvm, run_command


def read_json(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def bench():
    need_kvm()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "bench.json")
        run_command("bench", "downtime", "--json", path)
        result = read_json(path)
    for direction in ("to_tcg", "to_kvm"):
        expect_equal("keys", ["p50_us", "p99_us", "ratio_to_stop_cont"], sorted(result[direction]))
        if not 0 < result[direction]["p50_us"] <= result[direction]["p99_us"]:
            raise Failure(f"{direction}: {result[direction]}")


def soak():
    need_kvm()
    with tempfile.TemporaryDirectory() as folder:
        figures, picture = (os.path.join(folder, name) for name in ("soak.json", "soak.svg"))
        run_command("soak", "--switches", "200", "--seed", "3", "--json", figures, "--svg", picture)
        result = read_json(figures)
        expect_equal("verdict", "pass", result["verdict"])
        expect_equal("seed", 3, result["seed"])
        expect_equal("switches", (100, 100),
                     (result["to_tcg"]["count"], result["to_kvm"]["count"]))
        root = xml.etree.ElementTree.parse(picture).getroot()
        expect_equal("picture", "svg", root.tag.split("}")[-1])
        run_command("soak", "--smp", "2", "--switches", "50", "--json", figures)
        result = read_json(figures)
        expect_equal("payload", "smp64", result["payload"])
        expect_equal("both arms", ("pass", "pass"),
                     (result["verdict"], result["control"]["verdict"]))
        # Without its second vCPU smp64 finds a fault.
        run_and_write(argparse.Namespace(payload="smp64", smp=1, switches=50, seed=3, rig=False,
                                         json=figures, svg=None))
        result = read_json(figures)
        expect_equal("verdict", "fail", result["verdict"])
        if not any("the payload says: ERROR" in text for text in result["complaints"]):
            raise Failure(f"the complaints are {result['complaints']}")


def doctor():
    """A report on this machine's KVM, for a person and for a script."""
    need_kvm()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "doctor.json")
        said = run_command("doctor", "--quick", "--json", path)
        result = read_json(path)
    expect_equal("verdict", "pass", result["verdict"])
    expect_equal("sections", ["host", "vCPU state", "CPU features", "switches", "limits"],
                 list(result["sections"]))
    expect_equal("problems", [], [s["problems"] for s in result["sections"].values()
                                  if s["problems"]])
    expect_equal("switches", 250, result["sections"]["switches"]["to_kvm"]["count"])
    if "verdict: pass" not in said:
        raise Failure("the report has no verdict")


def doctor_without_kvm():
    """A KVM that can't be used is one sentence with the remedy, and a verdict of its own."""
    for device, why in (("/nonexistent", "there is no /dev/kvm: turn virtualization on"),
                        ("/dev/null", "is no KVM with an interface that this program knows")):
        answer = oracle.ask(options=["--kvm", device])
        if not answer.unusable or why not in answer.unusable.group(1):
            raise Failure(f"{device}: {answer.text}")
        section = Section("vCPU state")
        examine_answer(answer, section)
        expect_equal("verdict", "unusable", verdict([section])[0])


def refused():
    """What can't be done, or be written, is said before anything runs."""
    for command, why in ((["soak", "--switches", "0"], "'0' is not a number of 1 or more"),
                         (["demo", "--pairs", "-3"], "'-3' is not a number of 1 or more"),
                         (["soak", "--payload", "smp64"], "smp64 does not work on 1 vCPU(s)"),
                         (["soak", "--payload", "soak64", "--smp", "2"],
                          "soak64 does not work on 2 vCPU(s)"),
                         (["soak", "--rig"], "--rig is for --payload debian")):
        said = run_command(*command, status=2, errors=True)
        if why not in said:
            raise Failure(f"{command}: {said}")
    for command in (["demo"], ["bench", "downtime"], ["soak"]):
        said = run_command(*command, "--json", "/nowhere/at-all", status=2, errors=True)
        if "/nowhere/at-all: No such file or directory" not in said:
            raise Failure(f"{command}: {said}")


def qemu():
    """./vas qemu-... finds its firmware."""
    for target in ("i386", "x86_64"):
        machine = Machine([f"qemu-{target}", "-nodefaults", "-accel", "tcg"], debugcon=0x402,
                          binary=os.path.join(paths.TOP, "vas"), name="commands")
        with contextlib.closing(machine):
            machine.debugcon.expect("SeaBIOS", 30)


main({"bench": bench, "soak": soak, "refused": refused, "qemu": qemu, "doctor": doctor,
      "doctor-without-kvm": doctor_without_kvm})
