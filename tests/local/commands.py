# SPDX-License-Identifier: GPL-2.0-or-later
"""The front door's commands that need no rig, and what they write for scripts."""

import argparse
import contextlib
import json
import os
import tempfile
import xml.etree.ElementTree

from vas import benchplot, oracle, paths
from vas.bench import MEASUREMENTS
from vas.doctor import Section, examine_answer, verdict
from vas.machine import Machine
from vas.soak import run_and_write
from vas.testing import Failure, Skip, expect_equal, main, need_kvm, run_command


def read_json(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


# What --json has, beside what all have, as docs/performance.rst says.
BENCH = {
    "downtime": ["command_to_kvm", "command_to_tcg", "stop_cont", "times_us", "to_kvm", "to_tcg"],
    "windows": ["unit_of_work", "windows"],
    "speed": ["cpu", "guests"],
    "sampling": ["cpu", "duty_percent", "speeds"],
    "alternatives": ["cpu", "machine_type", "poll_ms", "ways"],
    "unused": ["cpu", "guests", "process"],
}
PLACE = ["commit", "cpu", "cpus", "date", "kernel", "kvm_module", "virtualization"]
DIRECTION = ["max_us", "p50_us", "p90_us", "p99_us", "phases", "ratio_to_stop_cont"]
PHASES = ["convert", "export", "import", "quiesce", "resume"]


def expect_members(name, result):
    expect_equal(f"members of {name}",
                 sorted(["measurement", "others_cpus", "others_of", "parameters", "place", "quick", *BENCH[name]]),
                 sorted(result))
    expect_equal("measurement", (name, True), (result["measurement"], result["quick"]))
    expect_equal("place", PLACE, sorted(result["place"]))


def expect_downtime(result):
    for direction in ("to_tcg", "to_kvm"):
        row = result[direction]
        expect_equal(f"members of {direction}", DIRECTION, sorted(row))
        expect_equal(f"phases {direction}", PHASES, sorted(row["phases"]))
        if not 0 < row["p50_us"] <= row["p90_us"] <= row["p99_us"] <= row["max_us"]:
            raise Failure(f"{direction}: {row}")


def expect_svg(path):
    root = xml.etree.ElementTree.parse(path).getroot()
    expect_equal("picture", "svg", root.tag.split("}")[-1])


def bench():
    """Each measurement, briefly; and what is not measured, in one sentence."""
    need_kvm()
    with open(os.path.join(paths.TOP, "docs/performance.rst"), encoding="utf-8") as file:
        page = file.read()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "bench.json")
        for name, members in BENCH.items():
            said = run_command("bench", name, "--quick", "--json", path)
            if not said.strip():
                raise Failure(f"bench {name} has printed nothing")
            result = read_json(path)
            expect_members(name, result)
            missing = [member for member in members if f"``{member}``" not in page]
            expect_equal(f"members of {name} that docs/performance.rst lacks", [], missing)
        run_command("bench", "downtime", "--quick", "--smp", "2", "--memory", "64", "--load", "1",
                    "--json", path)
        expect_downtime(read_json(path))
    for command, why in ((["downtime", "--count", "499"], "--count must be 500 at least"),
                         (["downtime", "--smp", "0"], "--smp must be 1 to 8, not 0"),
                         (["downtime", "--memory", "lots"], "invalid int value: 'lots'"),
                         (["windows", "--lengths", "1,x"], "'1,x' is not a list such as 1,10,100"),
                         (["speed", "--turns", "0"], "--turns must be 1 to 1000, not 0"),
                         (["speed", "--guest", "quake"], "invalid choice: 'quake'"),
                         (["sampling", "--window", "9", "--period", "9"],
                          "--window must be 0.1 at least, and less than --period"),
                         (["alternatives", "--count", "0"], "--count must be 1 to 1000, not 0"),
                         (["all"], "the following arguments are required: --report")):
        said = run_command("bench", *command, status=2, errors=True)
        if why not in said:
            raise Failure(f"bench {command}: {said}")


def bench_report():
    """Pictures, and the report."""
    need_kvm()
    try:
        benchplot.available()
    except benchplot.PlotError as error:
        raise Skip(str(error)) from error
    with tempfile.TemporaryDirectory() as folder:
        picture = os.path.join(folder, "one.svg")
        run_command("bench", "downtime", "--quick", "--svg", picture)
        expect_svg(picture)
        run_command("bench", "all", "--quick", "--report", folder)
        for name in MEASUREMENTS:
            expect_members(name, read_json(os.path.join(folder, f"{name}.json")))
            expect_svg(os.path.join(folder, f"{name}.svg"))
        page = xml.etree.ElementTree.parse(os.path.join(folder, "index.html")).getroot()
        expect_equal("page", "html", page.tag)
        expect_equal("sections", list(MEASUREMENTS), [title.text for title in page.iter("h2")])
        expect_equal("pictures", len(MEASUREMENTS),
                     len(list(page.iter("{http://www.w3.org/2000/svg}svg"))))
        failed = [part.text for part in page.iter("p") if part.get("class") == "failed"]
        expect_equal("what the report warns of", 1, len(failed))


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


main({"bench": bench, "bench-report": bench_report, "soak": soak, "refused": refused, "qemu": qemu,
      "doctor": doctor, "doctor-without-kvm": doctor_without_kvm})
