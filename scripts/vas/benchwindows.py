# SPDX-License-Identifier: GPL-2.0-or-later
"""
./vas bench windows: what a guest does in short windows in TCG, one after the other.

The guest runs under KVM for 20 ms, then for one window in TCG, and so on.  Without translations of
the window before, TCG translates all that runs once more.
"""

import argparse
import contextlib
import statistics
import time

from vas.benchguest import GUESTS, Abilities, WorkGuest, since, translations
from vas.benchplot import plain_log
from vas.benchstats import Progress, spread
from vas.testing import Failure

HELP = "what a guest does in short windows in TCG"
LENGTHS = [1, 10, 100]
KVM_SECONDS = 0.02
COUNTERS = ("made", "kept", "dropped", "pages-compared", "flushes")
KIND_COLOURS = {"kept": "#1e8449", "flushed": "#c0392b"}
MEANING = """\
Windows: the guest runs under KVM for 20 ms, then in TCG for a window of the given length, and so
on, a hundred times. "kept" is -accel switch,keep-translations=on; "flushed" is
keep-translations=off, a full flush at each switch. Both take turns, window by window, each in its
own QEMU.

Work: units of the guest's work in the window, by a counter in the guest's memory, divided by the
window's real length. Translations made: from query-accel, over the window and the switches at both
its ends.

To count exactly, each window begins and ends with the guest stopped: stop, switch-accel tcg, cont,
sleep, stop, switch-accel kvm, cont. A window's real length is the time between QEMU's events RESUME
and STOP. A busy host makes it longer than asked for. A run has fresh QEMUs; the figures are medians
over the runs."""


def lengths(text):
    """A type for argparse: milliseconds, with commas."""
    numbers = [int(word) if word.isdecimal() else 0 for word in text.split(",")]
    if not all(1 <= number <= 10000 for number in numbers):
        raise argparse.ArgumentTypeError(f"'{text}' is not a list such as 1,10,100 of milliseconds, "
                                         "1 to 10000 each")
    return sorted(set(numbers))


def add_arguments(parser):
    parser.add_argument("--lengths", type=lengths, default=LENGTHS, metavar="MS,…",
                        help="lengths of the windows in ms (1,10,100)")
    parser.add_argument("--count", type=int, metavar="N", help="windows in a run (100)")
    parser.add_argument("--runs", type=int, metavar="N", help="runs (3)")
    parser.add_argument("--guest", choices=list(GUESTS), default="compute",
                        help="what the guest does (compute)")


def check(arguments):
    """Fill in what was not given; a Failure says what can't be."""
    for name, quick, usual in (("count", 5, 100), ("runs", 1, 3)):
        if getattr(arguments, name) is None:
            setattr(arguments, name, quick if arguments.quick else usual)
        if not 1 <= getattr(arguments, name) <= 10000:
            raise Failure(f"--{name} must be 1 to 10000, not {getattr(arguments, name)}")


def _when(message):
    """Seconds, of a QMP event."""
    return message["timestamp"]["seconds"] + message["timestamp"]["microseconds"] / 1e6


def _window(guest, length):
    """
    Have the guest, which is stopped in KVM, run there for a while and then for @length seconds in
    TCG.  Returns its work, the real length in seconds, and the translations; it is stopped in KVM.
    """
    machine = guest.machine
    machine.cont()
    time.sleep(KVM_SECONDS)
    machine.stop()
    counted = translations(machine)
    machine.switch("tcg")
    for name in ("RESUME", "STOP"):
        while machine.events(name):
            machine.wait_event(name, 10)
    before = guest.work()
    machine.cont()
    time.sleep(length)
    machine.stop()
    work = guest.work() - before
    took = _when(machine.wait_event("STOP", 10)) - _when(machine.wait_event("RESUME", 10))
    machine.switch("kvm")
    return work, took, since(counted, translations(machine))


def _run(arguments, abilities, length, progress):
    """One run of windows of @length ms; returns, for each kind, a list of what _window() does."""
    found = {}
    with contextlib.ExitStack() as stack:
        guests = {}
        for kind, accel in abilities.keeping():
            guest = stack.enter_context(WorkGuest(
                arguments.guest, accel, cpu=abilities.cpu, name="bench-windows",
                deadline=arguments.count * (length / 1000 + 0.5) * 3 + 300))
            guest.expect_work()
            guest.machine.stop()
            guests[kind], found[kind] = guest, []
        for _ in range(arguments.count):
            for kind, guest in guests.items():
                found[kind].append(_window(guest, length / 1000))
                progress.step()
    return found


def _series(runs):
    """The medians over the @runs for each window of one length and kind."""
    windows = list(zip(*runs))
    result = {
        "work": [statistics.median(work for work, _, _ in window) for window in windows],
        "real_ms": spread([took * 1000 for run in runs for _, took, _ in run], 2),
        "work_per_ms": [round(statistics.median(work / took / 1000 for work, took, _ in window), 2)
                        for window in windows],
    }
    counted = all(counts for window in windows for _, _, counts in window)
    result["translations"] = {
        name: [statistics.median(counts.get(name, 0) for _, _, counts in window)
               for window in windows]
        for name in COUNTERS} if counted else None
    return result


def measure(arguments):
    """What --json writes."""
    abilities = Abilities()
    kinds = [kind for kind, _ in abilities.keeping()]
    progress = Progress("windows", len(arguments.lengths) * arguments.runs * arguments.count
                        * len(kinds))
    result = {"parameters": {name: getattr(arguments, name)
                             for name in ("lengths", "count", "runs", "guest")},
              "unit_of_work": GUESTS[arguments.guest][2], "windows": {}}
    for length in arguments.lengths:
        runs = [_run(arguments, abilities, length, progress) for _ in range(arguments.runs)]
        result["windows"][str(length)] = {kind: _series([run[kind] for run in runs])
                                          for kind in kinds}
    return result


def shown(count):
    """The numbers of the windows that the tables have: the first, second and last."""
    return sorted({0, min(1, count - 1), count - 1})


def tables(result):
    """Of the report: (title, head, rows) of each table."""
    numbers = shown(result["parameters"]["count"])
    names = [f"window {number + 1}" for number in numbers]
    rows, made = [], []
    for length, kinds in result["windows"].items():
        for kind, series in kinds.items():
            label = f"{length} ms, {kind}"
            rows.append([label, *(f"{series['work_per_ms'][number]:.0f}" for number in numbers),
                         f"{series['real_ms']['p50']:.2f}"])
            counts = series["translations"]
            made.append([label, *(f"{counts['made'][number]:.0f}" if counts else "?"
                                  for number in numbers)])
    yield (f"Work in a window, in units per ms (a unit: {result['unit_of_work']})",
           ["", *names, "real length (ms)"], rows)
    yield "Translations made in a window", ["", *names], made


def notes(result):
    """Sentences below the tables."""
    values = result["parameters"]
    said = [f"{values['runs']} run(s) of {values['count']} windows; the guest "
            f"{GUESTS[values['guest']][1]}."]
    kinds = next(iter(result["windows"].values()))
    if "kept" not in kinds:
        said.append("This QEMU has no property keep-translations: it flushes at each switch.")
    if not next(iter(kinds.values()))["translations"]:
        said.append("This QEMU's query-accel has no counters of translations.")
    return said


def draw(result, figure):
    figure.suptitle("What a guest does in windows in TCG, one after the other (medians over the runs)")
    columns = list(result["windows"].items())
    upper, lower = figure.subplots(2, len(columns), squeeze=False, sharex=True)
    numbers = range(1, result["parameters"]["count"] + 1)
    for (length, kinds), above, below in zip(columns, upper, lower):
        for kind, series in kinds.items():
            style = {"color": KIND_COLOURS[kind], "marker": ".", "markersize": 4, "label": kind}
            above.plot(numbers, series["work_per_ms"], **style)
            if series["translations"]:
                below.plot(numbers, series["translations"]["made"], **style)
        above.set(title=f"windows of {length} ms", ylim=(0, None))
        below.set(xlabel="number of the window (log scale)", ylim=(0, None))
        if not series["translations"]:
            below.text(0.5, 0.5, "this QEMU has no counters", ha="center",
                       transform=below.transAxes)
            below.set(yticks=[])
        for axes in (above, below):
            plain_log(axes.xaxis)
            axes.grid(True, alpha=0.3)
    upper[0].set(ylabel=f"work per ms (unit: {result['unit_of_work']})")
    lower[0].set(ylabel="translations made")
    upper[0].legend()


def height():
    """Of the picture, in inches."""
    return 6.5
