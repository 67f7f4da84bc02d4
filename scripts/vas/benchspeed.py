# SPDX-License-Identifier: GPL-2.0-or-later
"""
./vas bench speed: how fast a guest is under -accel switch, beside plain KVM and plain TCG.

All are the same QEMU, with the same CPU, and take turns.
"""

import contextlib
import statistics

from vas.benchguest import GUESTS, Abilities, WorkGuest, speed
from vas.benchstats import Progress, spread
from vas.testing import PLAIN_KVM, Failure

HELP = "a guest's speed under -accel switch, and under plain KVM and TCG"
RATIOS = ("ratio_in_kvm", "ratio_armed", "ratio_in_tcg", "ratio_tcg_to_kvm")
# Before a turn is measured: caches, and TCG's first translations.
SETTLE_SECONDS = 0.2
ACCELS = {"kvm": PLAIN_KVM, "switch_in_kvm": "switch,initial=kvm",
          "armed": "switch,initial=kvm", "tcg": "tcg", "switch_in_tcg": "switch,initial=tcg"}
LABELS = {"kvm": "-accel kvm", "switch_in_kvm": "-accel switch, in KVM",
          "armed": "the same, a trigger armed",
          "tcg": "-accel tcg", "switch_in_tcg": "-accel switch, in TCG"}
NEVER_HIT = {"id": "never", "on": {"type": "address", "address": 0x7f0}}
COLOURS = {"kvm": "#154360", "switch_in_kvm": "#5dade2", "armed": "#a9cce3", "tcg": "#78281f",
           "switch_in_tcg": "#ec7063"}
MEANING = """\
Speed: units of the guest's work per second of the host's time, by a counter in the guest's memory.
There is one QEMU for each guest and accelerator. They take turns; the others are stopped meanwhile.
Each run has fresh QEMUs. No switch is made. The armed trigger waits for an address that the guest
never gets to: QEMU asks KVM for the guest's debug registers at each exit.

-accel switch is compared with the plain accelerator of the same binary, of the same -cpu, and with
kernel-irqchip=split under KVM, as -accel switch has it. The ratio is that of the medians over all
turns: 1.00 means that -accel switch costs nothing while the guest runs."""


def add_arguments(parser):
    parser.add_argument("--runs", type=int, metavar="N", help="runs with fresh QEMUs (4)")
    parser.add_argument("--turns", type=int, metavar="N", help="turns of each QEMU in a run (3)")
    parser.add_argument("--seconds", type=float, metavar="S", help="length of a turn (1)")
    parser.add_argument("--guest", choices=list(GUESTS), action="append",
                        help="what the guest does; may be given more than once (all)")


def check_turns(arguments, turns, seconds):
    """Fill in --turns and --seconds; a Failure says what can't be."""
    if arguments.turns is None:
        arguments.turns = 1 if arguments.quick else turns
    if arguments.seconds is None:
        arguments.seconds = 0.2 if arguments.quick else seconds
    if not 1 <= arguments.turns <= 1000:
        raise Failure(f"--turns must be 1 to 1000, not {arguments.turns}")
    if not 0.1 <= arguments.seconds <= 600:
        raise Failure(f"--seconds must be 0.1 to 600, not {arguments.seconds}")


def check_runs(arguments):
    """The same for --runs."""
    if arguments.runs is None:
        arguments.runs = 1 if arguments.quick else 4
    if not 1 <= arguments.runs <= 1000:
        raise Failure(f"--runs must be 1 to 1000, not {arguments.runs}")


def check(arguments):
    """Fill in what was not given; a Failure says what can't be."""
    check_turns(arguments, 3, 1)
    check_runs(arguments)
    arguments.guest = list(dict.fromkeys(arguments.guest or GUESTS))


@contextlib.contextmanager
def running(guest):
    """For the body @guest runs, which is stopped before and after."""
    guest.machine.cont()
    yield
    guest.machine.stop()


def take_turns(arguments, guests, speeds, progress):
    """Each of @guests works for a while, and again; adds to the @speeds of the same keys."""
    for _ in range(arguments.turns):
        for key, guest in guests.items():
            with running(guest):
                speed(guest, SETTLE_SECONDS)
                speeds[key].append(speed(guest, arguments.seconds))
            progress.step()


def _run(arguments, name, cpu, speeds, progress):
    """One run of the guest @name; adds to its @speeds by accelerator."""
    with contextlib.ExitStack() as stack:
        guests = {}
        for accel, options in ACCELS.items():
            guest = stack.enter_context(WorkGuest(
                name, options, cpu=cpu, name="bench-speed",
                deadline=arguments.turns * (arguments.seconds + 2) * len(ACCELS) + 300))
            guest.expect_work()
            if accel == "armed":
                guest.machine.qmp("accel-trigger-add", NEVER_HIT)
            guest.machine.stop()
            guests[accel] = guest
        take_turns(arguments, guests, speeds, progress)


def measure(arguments):
    """What --json writes."""
    abilities = Abilities()
    progress = Progress("speed", len(arguments.guest) * arguments.runs * arguments.turns
                        * len(ACCELS))
    result = {"parameters": {name: getattr(arguments, name)
                             for name in ("runs", "turns", "seconds")},
              "cpu": abilities.cpu, "guests": {}}
    for name in arguments.guest:
        speeds = {accel: [] for accel in ACCELS}
        for _ in range(arguments.runs):
            _run(arguments, name, abilities.cpu, speeds, progress)
        medians = {accel: statistics.median(values) for accel, values in speeds.items()}
        result["guests"][name] = {
            "unit_of_work": GUESTS[name][2],
            "work_per_second": {accel: spread(values, 0) for accel, values in speeds.items()},
            "ratio_in_kvm": round(medians["switch_in_kvm"] / medians["kvm"], 3),
            "ratio_armed": round(medians["armed"] / medians["switch_in_kvm"], 3),
            "ratio_in_tcg": round(medians["switch_in_tcg"] / medians["tcg"], 3),
            "ratio_tcg_to_kvm": round(medians["tcg"] / medians["kvm"], 3),
        }
    return result


def tables(result):
    """Of the report: (title, head, rows) of each table."""
    yield ("Units of work per second, medians",
           ["guest", *LABELS.values()],
           [[name, *(f"{row['work_per_second'][accel]['p50']:.0f}" for accel in ACCELS)]
            for name, row in result["guests"].items()])
    yield ("Ratios",
           ["guest", "switch / kvm, in KVM", "armed / not", "switch / tcg, in TCG",
            "tcg / kvm"],
           [[name, *(f"{row[ratio]:.3f}" for ratio in RATIOS)] for name, row in result["guests"].items()])


def notes(result):
    """Sentences below the tables."""
    values = result["parameters"]
    return [f"{values['runs']} run(s) of {values['turns']} turn(s) of {values['seconds']:g} s each.",
            *(f"{name}: the guest {GUESTS[name][1]}; a unit is {row['unit_of_work']}."
              for name, row in result["guests"].items())]


def draw(result, figure):
    every = figure.subplots(1, len(result["guests"]), squeeze=False)[0]
    for axes, (name, row) in zip(every, result["guests"].items()):
        speeds = row["work_per_second"]
        for number, accel in enumerate(ACCELS):
            value = speeds[accel]["p50"]
            axes.bar(number, value, color=COLOURS[accel], label=LABELS[accel],
                     yerr=[[value - speeds[accel]["min"]], [speeds[accel]["max"] - value]],
                     capsize=3)
        axes.set(title=f"{name}\n(unit: {row['unit_of_work']})", xticks=[], ylim=(0, None),
                 xlabel=f"switch / kvm: {row['ratio_in_kvm']:.3f}\n"
                        f"armed / not: {row['ratio_armed']:.3f}\n"
                        f"switch / tcg: {row['ratio_in_tcg']:.3f}")
        axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0), useMathText=True)
        axes.grid(True, axis="y", alpha=0.3)
    every[0].set(ylabel="units of work per second\n(median, least and most)")
    # matplotlib 3.6 finds no place outside for it by itself.
    figure.get_layout_engine().set(rect=(0, 0.08, 1, 0.92))
    figure.legend(*every[0].get_legend_handles_labels(), loc="lower center", ncol=5)
