# SPDX-License-Identifier: GPL-2.0-or-later
"""
./vas bench downtime: how long a switch stops the guest.

Switches a bare-metal guest to and fro, and interleaves "stop" and "cont" of the same process: the
least that anything which pauses the guest can take.
"""

import random
import statistics
import time

from vas.benchguest import WORK_VCPUS, WorkGuest
from vas.benchload import busy
from vas.benchplot import plain_log
from vas.benchstats import SEED, Progress, percentile, percentiles_us
from vas.testing import Failure, Payload

HELP = "how long a switch stops the guest"
LEAST, QUICK = 500, 20
PHASES = ("quiesce", "export", "convert", "import", "resume")
LABELS = {"to_tcg": "KVM to TCG", "to_kvm": "TCG to KVM", "stop_cont": "stop + cont"}
COLOURS = {"to_tcg": "#c0392b", "to_kvm": "#2471a3", "stop_cont": "#7f8c8d"}
PHASE_COLOURS = ("#34495e", "#2980b9", "#8e44ad", "#c0392b", "#7f8c8d")
MEANING = """\
Downtime: QEMU's own figure for a switch, from the last instruction of the guest under one
accelerator (at the latest) to the first possible one under the other (at the earliest).

stop + cont: from the first command to the answer of the second, in the same process, between the
switches. The ratio compares the medians.

The phases are parts of the downtime: "quiesce" stops the vCPUs, "export" reads their registers from
the old accelerator, "convert" changes their form, "import" writes them into the new accelerator,
and "resume" lets the vCPUs run.

With one vCPU the guest is soak64; with more it is compute64, and each vCPU computes."""


def add_arguments(parser):
    parser.add_argument("--count", type=int, metavar="N",
                        help=f"switches in each direction ({LEAST}, which is the least)")
    parser.add_argument("--smp", type=int, default=1, metavar="N",
                        help=f"vCPUs, 1 to {WORK_VCPUS} (1)")
    parser.add_argument("--memory", type=int, default=256, metavar="MIB",
                        help="the guest's memory in MiB, 16 to 65536 (256)")
    parser.add_argument("--load", type=int, default=0, metavar="N",
                        help="busy loops on the host beside the guest, 0 to 1024 (0)")


def check(arguments):
    """Fill in what was not given; a Failure says what can't be."""
    least = 1 if arguments.quick else LEAST
    if arguments.count is None:
        arguments.count = QUICK if arguments.quick else LEAST
    if arguments.count < least:
        raise Failure(f"--count must be {least} at least, for the percentiles to mean something")
    for name, low, high in (("smp", 1, WORK_VCPUS), ("memory", 16, 65536), ("load", 0, 1024)):
        if not low <= getattr(arguments, name) <= high:
            raise Failure(f"--{name} must be {low} to {high}, not {getattr(arguments, name)}")


def _guest(arguments):
    """The guest, and a function that waits until it works."""
    keywords = {"memory": arguments.memory, "name": "bench-downtime",
                "deadline": arguments.count * 0.4 * (1 + arguments.load) + 300}
    if arguments.smp == 1:
        guest = Payload("soak64", "switch,initial=kvm", **keywords)
        return guest, lambda: guest.expect_laps(3)
    guest = WorkGuest("compute", "switch,initial=kvm", smp=arguments.smp, **keywords)
    return guest, guest.expect_work


def _measure(arguments):
    """Lists of microseconds: downtimes and phases by direction, command to answer, stop and cont."""
    generator = random.Random(SEED)
    times = {name: [] for name in ("to_tcg", "to_kvm", "command_to_tcg", "command_to_kvm",
                                   "stop_cont")}
    phases = {name: {phase: [] for phase in PHASES} for name in ("to_tcg", "to_kvm")}
    progress = Progress("downtime", 2 * arguments.count)
    guest, wait = _guest(arguments)
    with busy(arguments.load), guest:
        machine = guest.machine
        wait()
        for _ in range(arguments.count):
            for accel in ("tcg", "kvm"):
                start = time.monotonic()
                result = machine.switch(accel)
                times[f"command_to_{accel}"].append((time.monotonic() - start) * 1e6)
                times[f"to_{accel}"].append(result["downtime-ns"] / 1e3)
                for phase in PHASES:
                    phases[f"to_{accel}"][phase].append(result["phases"][f"{phase}-ns"] / 1e3)
                wait()
                time.sleep(generator.random() * 0.005)
                start = time.monotonic()
                machine.stop()
                machine.cont()
                times["stop_cont"].append((time.monotonic() - start) * 1e6)
                wait()
                progress.step()
    return times, phases


def measure(arguments):
    """What --json writes."""
    times, phases = _measure(arguments)
    base = statistics.median(times["stop_cont"])
    result = {"parameters": {name: getattr(arguments, name)
                             for name in ("count", "smp", "memory", "load")}}
    for name, values in times.items():
        result[name] = percentiles_us(values)
    for name in ("to_tcg", "to_kvm"):
        result[name]["ratio_to_stop_cont"] = round(percentile(times[name], 50) / base, 3)
        result[name]["phases"] = {
            phase: {"p50_us": round(percentile(values, 50), 1), "max_us": round(max(values), 1)}
            for phase, values in phases[name].items()}
    result["times_us"] = {name: [round(value, 1) for value in times[name]] for name in LABELS}
    return result


def tables(result):
    """Of the report: (title, head, rows) of each table."""
    base = result["stop_cont"]["p50_us"]
    rows = []
    for name, label in LABELS.items():
        row = result[name]
        rows.append([label, *(f"{row[key]:.0f}" for key in ("p50_us", "p90_us", "p99_us", "max_us")),
                     f"{row['p50_us'] / base:.2f}"])
    yield "Downtime in µs", ["", "p50", "p90", "p99", "max", "p50 / stop + cont"], rows
    rows = []
    for name in ("to_tcg", "to_kvm"):
        for phase, row in result[name]["phases"].items():
            rows.append([f"{LABELS[name]}: {phase}", f"{row['p50_us']:.0f}",
                         f"{row['max_us']:.0f}"])
    yield "Phases of a switch in µs", ["", "p50", "max"], rows


def notes(result):
    """Sentences below the tables."""
    values = result["parameters"]
    return [f"{values['count']} switches in each direction, {values['smp']} vCPU(s), "
            f"{values['memory']} MiB, {values['load']} busy loop(s) on the host.",
            f"From command to answer a switch took {result['command_to_tcg']['p50_us']:.0f} µs (to "
            f"TCG) and {result['command_to_kvm']['p50_us']:.0f} µs (to KVM) at the median."]


def draw(result, figure):
    shares, bars = figure.subplots(1, 2, width_ratios=(3, 2))
    for name, label in LABELS.items():
        values = sorted(result["times_us"][name])
        shares.step(values, [100 * (n + 1) / len(values) for n in range(len(values))],
                    where="post", label=label, color=COLOURS[name])
    shares.set(xlabel="downtime in µs (log scale)",
               ylabel="switches that took no longer, in %", title="Downtime", ylim=(0, 101))
    plain_log(shares.xaxis)
    shares.grid(True, alpha=0.3)
    shares.legend(loc="lower right")
    left = [0, 0]
    for phase, colour in zip(PHASES, PHASE_COLOURS):
        widths = [result[name]["phases"][phase]["p50_us"] for name in ("to_kvm", "to_tcg")]
        bars.barh([LABELS["to_kvm"], LABELS["to_tcg"]], widths, left=left, color=colour,
                  label=phase, height=0.5)
        left = [a + b for a, b in zip(left, widths)]
    bars.set(xlabel="sum of the phases' medians in µs", title="Where the time goes",
             ylim=(-0.6, 2.1))
    bars.legend(loc="upper center", ncol=3, fontsize="small")
    bars.grid(True, axis="x", alpha=0.3)
