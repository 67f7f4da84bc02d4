# SPDX-License-Identifier: GPL-2.0-or-later
"""
./vas bench sampling: what a guest loses that is in TCG for a short window now and then.

This is how one takes samples of a guest under KVM with TCG's means.
"""

import contextlib
import statistics
import time

from vas.benchguest import SWITCH, Abilities, WorkGuest, since, translations
from vas.benchspeed import SETTLE_SECONDS, check_turns, running, speed
from vas.benchstats import Progress, spread
from vas.testing import PLAIN_KVM, Failure

HELP = "what a guest loses that is in TCG now and then"
LABELS = {"kvm": "-accel kvm", "unsampled": "-accel switch, no switches",
          "kept": "sampled, translations kept", "flushed": "sampled, flushed at each switch"}
COLOURS = {"kvm": "#154360", "unsampled": "#5dade2", "kept": "#1e8449", "flushed": "#c0392b"}
MEANING = """\
Sampling: at the start of each period the running guest is switched to TCG, stays there for a
window, and is switched back to KVM. The guest is compute64, with one vCPU.

Speed: units of work (16 function calls) per second of the host's time, with all switches in it, by
a counter in the guest's memory. It is compared with the speed under plain -accel kvm
(kernel-irqchip=split, the same -cpu), as a ratio of medians over the turns. One QEMU for each line
takes its turn; the others are stopped meanwhile.

The real window is the time from the answer to switch-accel tcg to the sending of switch-accel
kvm."""


def add_arguments(parser):
    parser.add_argument("--window", type=float, default=1, metavar="MS",
                        help="in TCG, in ms (1)")
    parser.add_argument("--period", type=float, default=100, metavar="MS",
                        help="from window to window, in ms (100)")
    parser.add_argument("--turns", type=int, metavar="N", help="turns of each QEMU (7)")
    parser.add_argument("--seconds", type=float, metavar="S", help="length of a turn (3)")


def check(arguments):
    """Fill in what was not given; a Failure says what can't be."""
    check_turns(arguments, 7, 3)
    if not 0.1 <= arguments.window < arguments.period <= 60000:
        raise Failure("--window must be 0.1 at least, and less than --period, which is 60000 at "
                      "most")


def sampled_speed(guest, arguments):
    """
    Switch the guest to TCG and back in each period, for a turn.  Returns its speed and the real
    lengths of the windows in ms.
    """
    machine, windows = guest.machine, []
    before = guest.work()
    start = due = time.monotonic()
    while due - start < arguments.seconds:
        machine.switch("tcg")
        entered = time.monotonic()
        time.sleep(arguments.window / 1000)
        windows.append((time.monotonic() - entered) * 1000)
        machine.switch("kvm")
        due += arguments.period / 1000
        time.sleep(max(0, due - time.monotonic()))
    return (guest.work() - before) / (time.monotonic() - start), windows


def measure(arguments):
    """What --json writes."""
    abilities = Abilities()
    accels = {"kvm": PLAIN_KVM, "unsampled": SWITCH, **dict(abilities.keeping())}
    progress = Progress("sampling", arguments.turns * len(accels))
    speeds = {name: [] for name in accels}
    windows = {name: [] for name in accels}
    with contextlib.ExitStack() as stack:
        guests = {}
        for name, accel in accels.items():
            guest = stack.enter_context(WorkGuest(
                "compute", accel, cpu=abilities.cpu, name="bench-sampling",
                deadline=arguments.turns * (arguments.seconds + 2) * len(accels) + 300))
            guest.expect_work()
            guest.machine.stop()
            guests[name] = guest
        counted = {name: translations(guests[name].machine) for name, _ in abilities.keeping()}
        for _ in range(arguments.turns):
            for name, guest in guests.items():
                with running(guest):
                    speed(guest, SETTLE_SECONDS)
                    if name in counted:
                        value, lengths = sampled_speed(guest, arguments)
                        windows[name] += lengths
                    else:
                        value = speed(guest, arguments.seconds)
                    speeds[name].append(value)
                progress.step()
        counts = {name: since(before, translations(guests[name].machine))
                  for name, before in counted.items()}
    base = statistics.median(speeds["kvm"])
    result = {"parameters": {name: getattr(arguments, name)
                             for name in ("window", "period", "turns", "seconds")},
              "cpu": abilities.cpu, "duty_percent": round(100 * arguments.window
                                                          / arguments.period, 3),
              "speeds": {}}
    for name, values in speeds.items():
        row = {"work_per_second": spread(values, 0),
               "ratio_to_kvm": round(statistics.median(values) / base, 4)}
        if name in counted:
            row["windows"] = len(windows[name])
            row["real_window_ms"] = spread(windows[name], 3)
            row["translations"] = counts[name]
        result["speeds"][name] = row
    return result


def tables(result):
    """Of the report: (title, head, rows) of each table."""
    rows = []
    for name, row in result["speeds"].items():
        made = row.get("translations")
        rows.append([LABELS[name], f"{row['work_per_second']['p50']:.0f}",
                     f"{100 * row['ratio_to_kvm']:.1f} %", row.get("windows", ""),
                     f"{row['real_window_ms']['p50']:.2f}" if "windows" in row else "",
                     f"{made['made'] / row['windows']:.0f}" if made else
                     "?" if "windows" in row else ""])
    yield (f"Speed with a duty of {result['duty_percent']:g} % in TCG",
           ["", "work per second", "of -accel kvm", "windows", "real window (ms)",
            "translations made in each"], rows)


def notes(result):
    """Sentences below the tables."""
    values = result["parameters"]
    said = [f"Windows of {values['window']:g} ms, one each {values['period']:g} ms; "
            f"{values['turns']} turn(s) of {values['seconds']:g} s each."]
    if "kept" not in result["speeds"]:
        said.append("This QEMU has no property keep-translations: it flushes at each switch.")
    return said


def draw(result, figure):
    axes = figure.subplots()
    base = result["speeds"]["kvm"]["work_per_second"]["p50"]
    for number, (name, row) in enumerate(result["speeds"].items()):
        speeds = row["work_per_second"]
        value, low, high = (100 * speeds[key] / base for key in ("p50", "min", "max"))
        axes.barh(number, value, color=COLOURS[name], height=0.6,
                  xerr=[[value - low], [high - value]], capsize=3)
        axes.text(2, number, f"{value:.1f} %", color="white", va="center", weight="bold")
    axes.set(yticks=range(len(result["speeds"])),
             yticklabels=[LABELS[name] for name in result["speeds"]],
             xlabel="the guest's speed in % of plain KVM's (median, least and most)",
             title=f"Windows of {result['parameters']['window']:g} ms in TCG, one each "
                   f"{result['parameters']['period']:g} ms")
    axes.invert_yaxis()
    axes.grid(True, axis="x", alpha=0.3)


def height():
    """Of the picture, in inches."""
    return 3.5
