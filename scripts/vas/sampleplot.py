# SPDX-License-Identifier: GPL-2.0-or-later
"""The picture of ./vas sample: a timeline of KVM and TCG, downtime, and the guest's speed in windows."""

from vas import benchplot

COLOURS = {"kvm": "#5dade2", "tcg": "#c0392b", "to tcg": "#c0392b", "to kvm": "#154360"}


def stretches(result):
    """(those in KVM, those in TCG): each a list of (begin, length) in seconds."""
    tcg = [(window["begin_s"], window["ns"] / 1e9) for window in result["windows"]]
    ends = [0.0] + [begin + length for begin, length in tcg]
    begins = [begin for begin, _ in tcg] + [result["seconds"]]
    return [(end, max(0.0, begin - end)) for end, begin in zip(ends, begins)], tcg


def draw(result, figure):
    kvm, tcg = stretches(result)
    where, downtime, speed = figure.subplots(3, sharex=True, height_ratios=[1, 2, 2])
    where.broken_barh(kvm, (0, 1), color=COLOURS["kvm"])
    where.broken_barh(tcg, (1, 1), color=COLOURS["tcg"])
    where.set(yticks=[0.5, 1.5], yticklabels=["KVM", "TCG"],
              title=f"{len(tcg)} windows, {100 * result['kvm_share']:.2f} % of the time in KVM")
    for direction in ("to tcg", "to kvm"):
        points = [(window["begin_s"], window["downtime_ns"][direction] / 1e6)
                  for window in result["windows"] if direction in window["downtime_ns"]]
        if points:
            downtime.plot(*zip(*points), ".", color=COLOURS[direction], label=direction)
    downtime.set(ylabel="downtime (ms)", ylim=(0, None))
    if downtime.get_legend_handles_labels()[1]:
        downtime.legend(loc="upper right")
    speed.plot([begin for begin, _ in tcg],
               [1000 * window["instructions"] / max(1, window["ns"]) for window in result["windows"]], ".",
               color=COLOURS["kvm"])
    speed.set(xlabel="seconds", ylabel="millions of instructions\nper second of a window", ylim=(0, None))
    for axes in (downtime, speed):
        axes.grid(True, alpha=0.3)


def height():
    """Of the picture, in inches."""
    return 6


def svg(result):
    """The picture, as text."""
    import sys
    return benchplot.svg(sys.modules[__name__], result)
