# SPDX-License-Identifier: GPL-2.0-or-later
"""
./vas bench linux: a Debian i386's system calls, context switches and page faults per second, under -accel
switch and under plain KVM.

Both are the same QEMU with -cpu host. They take turns. Where this machine's KVM can't run the guest, it
is measured in the rig.
"""

import contextlib
import re
import statistics
import sys

from vas import image
from vas.benchspeed import check_runs, check_turns, running
from vas.benchstats import Progress, spread
from vas.debian import Guest, disk_arguments
from vas.front import guest_host
from vas.machine import Machine, MachineError

HELP = "a Linux guest's system calls, context switches and page faults"
RATES = {"getpid": "getpid()", "switch": "context switches", "fault": "page faults"}
ACCELS = {"kvm": "kvm", "switch": "switch,initial=kvm"}
LABELS = {"kvm": "-accel kvm -cpu host", "switch": "-accel switch -cpu host"}
COLOURS = {"kvm": "#154360", "switch": "#5dade2"}
MEANING = """\
Each turn runs vas-load --rate in one of two guests, and the other is stopped. getpid: system calls of one
process. switch: context switches between two processes on one CPU, which wake each other through pipes.
fault: page faults of pages that were dropped. No switch of accelerators is made.

-accel switch hides some features of the host's processor from the guest, and has the interrupt controllers
but the LAPIC in QEMU (kernel-irqchip=split). The plain QEMU has all features, and kernel-irqchip=on. The
ratio is that of the medians over all turns."""
# A guest's boot, in a slow rig
BOOT_SECONDS = 1200


def add_arguments(parser):
    parser.add_argument("--runs", type=int, metavar="N", help="runs, with fresh guests (4)")
    parser.add_argument("--turns", type=int, metavar="N", help="turns of each guest in a run (4)")
    parser.add_argument("--seconds", type=float, metavar="S", help="length of each rate in a turn (1)")
    parser.add_argument("--rig", action="store_true", help="in the rig, even if this machine's KVM would do")


def check(arguments):
    """Fill in what was not given; a Failure says what can't be."""
    check_runs(arguments)
    check_turns(arguments, 4, 1)


def _seconds(arguments):
    """How long a run takes at most."""
    return 2 * BOOT_SECONDS + arguments.turns * len(ACCELS) * len(RATES) * (arguments.seconds + 10)


def host(arguments):
    """Where it is measured."""
    def say(sentence):
        print(f"bench: {sentence}", file=sys.stderr, flush=True)

    return guest_host(say, arguments.rig, disks=[str(image.image_path())],
                      deadline=arguments.runs * _seconds(arguments))


def _boot(accel, where, deadline):
    """A guest with a shell, stopped."""
    machine = Machine(["-accel", ACCELS[accel], "-cpu", "host", "-m", "256", "-nic", "none",
                       *disk_arguments(where)],
                      binary="i386", host=where, name="bench-linux", deadline=deadline)
    guest = Guest(machine)
    try:
        guest.boot()
        machine.stop()
    except BaseException:
        machine.close()
        raise
    return guest


def _rate(guest, name, seconds):
    status, text = guest.command(f"vas-load --rate {name} --seconds {seconds:g}", 60 + seconds)
    found = re.search(rf"vas-load: rate {name} ([0-9.]+)", text)
    if status or not found:
        raise MachineError(f"vas-load --rate {name} ended with status {status}: {text}")
    return float(found.group(1))


def _run(arguments, rates, progress):
    """One run: adds to @rates; returns the features that the guest of -accel switch lacks."""
    with contextlib.ExitStack() as stack:
        guests = {}
        for accel in ACCELS:
            guests[accel] = _boot(accel, arguments.host, _seconds(arguments))
            stack.callback(guests[accel].machine.close)
            progress.step()
        for turn in range(arguments.turns):
            # Neither is always the first.
            for accel in sorted(ACCELS, reverse=turn % 2):
                with running(guests[accel]):
                    for name in RATES:
                        rates[name][accel].append(_rate(guests[accel], name, arguments.seconds))
                progress.step()
        return guests["switch"].machine.qmp("query-accel")["features-lost"]


def measure(arguments):
    """What --json writes."""
    progress = Progress("linux", len(ACCELS) * arguments.runs * (1 + arguments.turns))
    rates = {name: {accel: [] for accel in ACCELS} for name in RATES}
    for _ in range(arguments.runs):
        lost = _run(arguments, rates, progress)
    return {"parameters": {name: getattr(arguments, name) for name in ("runs", "turns", "seconds")},
            "host": "rig" if arguments.host.name == "rig" else "kvm",
            "features_lost": lost,
            "rates": {name: {"per_second": {accel: spread(values, 0) for accel, values in one.items()},
                             "ratio": round(statistics.median(one["switch"]) /
                                            statistics.median(one["kvm"]), 3)}
                      for name, one in rates.items()}}


def tables(result):
    """Of the report: (title, head, rows) of each table."""
    yield ("Per second, medians", ["", *LABELS.values(), "switch / kvm"],
           [[RATES[name], *(f"{row['per_second'][accel]['p50']:.0f}" for accel in ACCELS),
             f"{row['ratio']:.3f}"] for name, row in result["rates"].items()])


def notes(result):
    """Sentences below the tables."""
    values = result["parameters"]
    said = [f"{values['runs']} run(s) of {values['turns']} turn(s) of {values['seconds']:g} s for each rate.",
            "The guest loses against -cpu host: " + (", ".join(result["features_lost"]) or "nothing") + "."]
    if result["host"] == "rig":
        said.append("Measured in the rig, on a host made by emulation: only the ratios mean anything.")
    return said


def draw(result, figure):
    every = figure.subplots(1, len(RATES), squeeze=False)[0]
    for axes, (name, row) in zip(every, result["rates"].items()):
        for number, accel in enumerate(ACCELS):
            value = row["per_second"][accel]
            axes.bar(number, value["p50"], color=COLOURS[accel], label=LABELS[accel],
                     yerr=[[value["p50"] - value["min"]], [value["max"] - value["p50"]]], capsize=3)
        axes.set(title=RATES[name], xticks=[], ylim=(0, None), xlabel=f"switch / kvm: {row['ratio']:.3f}")
        axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0), useMathText=True)
        axes.grid(True, axis="y", alpha=0.3)
    every[0].set(ylabel="per second\n(median, least and most)")
    figure.get_layout_engine().set(rect=(0, 0.08, 1, 0.92))
    figure.legend(*every[0].get_legend_handles_labels(), loc="lower center", ncol=2)
