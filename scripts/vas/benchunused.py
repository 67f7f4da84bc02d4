# SPDX-License-Identifier: GPL-2.0-or-later
"""
./vas bench unused: what this QEMU costs a user who does not ask for -accel switch: its speed, its start and
its memory, beside Debian's own QEMU of the same version.
"""

import statistics
import time

from vas.benchguest import GUESTS, WorkGuest
from vas.benchspeed import check_runs, check_turns, take_turns
from vas.benchstats import Progress, spread
from vas.debianqemu import SUITE, debian_qemu
from vas.machine import Machine
from vas.testing import Failure

HELP = "this QEMU without -accel switch, beside Debian's"
ACCELS = ("kvm", "tcg")
LABELS = {"debian": "Debian's", "ours": "this one"}
COLOURS = {"debian": "#7f8c8d", "ours": "#1e8449"}
CPU = "qemu64"
MEANING = f"""\
Two QEMUs, started alike with -accel kvm or -accel tcg and -cpu {CPU}: Debian's from {SUITE}, with its
libraries, and this one, which has the switch and does not use it. Speed: units of the guest's work per
second of the host's time; the QEMUs take turns, and each run has fresh ones. Start: from the program's
start to the first answer of its monitor. Memory: resident, without the guest's own, after the guest has
worked.

Debian's QEMU has more devices and libraries, which cost it time at its start and memory. The ratio is that
of the medians, this one to Debian's: above 1.00 it is faster in the first table, slower or larger in the
second."""


def add_arguments(parser):
    parser.add_argument("--runs", type=int, metavar="N", help="runs with fresh QEMUs (4)")
    parser.add_argument("--turns", type=int, metavar="N", help="turns of each QEMU in a run (3)")
    parser.add_argument("--seconds", type=float, metavar="S", help="length of a turn (1)")
    parser.add_argument("--starts", type=int, metavar="N", help="starts of each QEMU (20)")


def check(arguments):
    """Fill in what was not given; a Failure says what can't be."""
    check_runs(arguments)
    check_turns(arguments, 3, 1)
    if arguments.starts is None:
        arguments.starts = 2 if arguments.quick else 20
    if not 1 <= arguments.starts <= 1000:
        raise Failure(f"--starts must be 1 to 1000, not {arguments.starts}")


def _resident_kib(pid):
    """Resident memory of the process @pid without the guest's, which is shared."""
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        values = dict(line.split(":", 1) for line in file)
    return int(values["VmRSS"].split()[0]) - int(values["RssShmem"].split()[0])


def _start_ms(binary, accel):
    """From the start of the program @binary to its monitor's first answer."""
    begin = time.monotonic()
    with Machine(["-accel", accel, "-cpu", CPU, "-m", "256"], binary=binary, name="bench-start",
                 start=False) as machine:
        machine.qmp("query-status")
        return (time.monotonic() - begin) * 1000


def _ratio(values):
    return round(statistics.median(values["ours"]) / statistics.median(values["debian"]), 3)


def _run(arguments, binaries, name, accel, speeds, memory, progress):
    """One run of the guest @name under @accel: adds to @speeds and resident @memory, by QEMU."""
    guests = {}
    try:
        for which, binary in binaries.items():
            guests[which] = WorkGuest(name, accel, cpu=CPU, binary=binary, name="bench-unused",
                                      deadline=arguments.turns * (arguments.seconds + 2) * 2 + 300)
            guests[which].expect_work()
            guests[which].machine.stop()
        take_turns(arguments, guests, speeds, progress)
        for which, guest in guests.items():
            memory[which].append(_resident_kib(guest.machine.pid))
    finally:
        for guest in guests.values():
            guest.machine.close()


def measure(arguments):
    """What --json writes."""
    binaries = {"debian": debian_qemu("x86_64"), "ours": "x86_64"}
    progress = Progress("unused", len(ACCELS) * 2 *
                        (arguments.starts + len(GUESTS) * arguments.runs * arguments.turns))
    result = {"parameters": {name: getattr(arguments, name) for name in ("runs", "turns", "seconds", "starts")},
              "cpu": CPU, "guests": {}, "process": {}}
    memory = {accel: {which: [] for which in binaries} for accel in ACCELS}
    for name in GUESTS:
        result["guests"][name] = {}
        for accel in ACCELS:
            speeds = {which: [] for which in binaries}
            for _ in range(arguments.runs):
                _run(arguments, binaries, name, accel, speeds, memory[accel], progress)
            result["guests"][name][accel] = {
                "work_per_second": {which: spread(values, 0) for which, values in speeds.items()},
                "ratio": _ratio(speeds)}
    for accel in ACCELS:
        starts = {which: [] for which in binaries}
        for _ in range(arguments.starts):
            for which, binary in binaries.items():
                starts[which].append(_start_ms(binary, accel))
                progress.step()
        result["process"][accel] = {
            "start_ms": {**{which: spread(values) for which, values in starts.items()}, "ratio": _ratio(starts)},
            "resident_kib": {**{which: spread(values, 0) for which, values in memory[accel].items()},
                             "ratio": _ratio(memory[accel])}}
    return result


def _row(label, values, ratio, digits):
    return [label, *(f"{values[which]['p50']:.{digits}f}" for which in LABELS), f"{ratio:.3f}"]


def tables(result):
    """Of the report: (title, head, rows) of each table."""
    head = ["", *LABELS.values(), "ratio"]
    yield ("Units of work per second, medians", head,
           [_row(f"{name}, {accel}", row["work_per_second"], row["ratio"], 0)
            for name, rows in result["guests"].items() for accel, row in rows.items()])
    yield ("The process, medians", head,
           [_row(f"{what}, {accel}", row[member], row[member]["ratio"], digits)
            for accel, row in result["process"].items()
            for what, member, digits in (("start, ms", "start_ms", 1), ("resident, KiB", "resident_kib", 0))])


def notes(result):
    """Sentences below the tables."""
    values = result["parameters"]
    return [f"{values['runs']} run(s) of {values['turns']} turn(s) of {values['seconds']:g} s for each guest;"
            f" {values['starts']} start(s)."]


def draw(result, figure):
    axes = figure.subplots()
    labels, ratios = [], []
    for name, rows in result["guests"].items():
        for accel, row in rows.items():
            labels.append(f"{name}\n{accel}")
            ratios.append(row["ratio"])
    axes.bar(labels, ratios, color=COLOURS["ours"])
    axes.axhline(1, color=COLOURS["debian"])
    axes.set(ylabel="speed, this QEMU / Debian's", ylim=(0, None))
    axes.grid(True, axis="y", alpha=0.3)
