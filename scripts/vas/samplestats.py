# SPDX-License-Identifier: GPL-2.0-or-later
"""Numbers of ./vas sample: what a plugin has printed, and means with their confidence intervals."""

import math
import re
import statistics

# Student's t for 95 %, two-sided, of 1 to 4 degrees of freedom; from there on a series is exact enough.
T_95 = (12.706, 4.303, 3.182, 2.776)
Z_95 = 1.959964

INSTRUCTIONS = "instructions"
# A line of one of QEMU's plugins, and the name of its number; "total insns" is what shares are of.
LINES = (
    (re.compile(r"Match: (?P<name>[^,]+), hits (?P<value>\d+)$"), None),
    (re.compile(r"(?:Class|Instr): (?P<name>.+?)\s+\((?P<value>\d+) hits\)"), None),
    (re.compile(r"Total: bb's: (?P<value>\d+), insns: (?P<insns>\d+)$"), "blocks"),
    (re.compile(r"(?:total )?insns: (?P<insns>\d+)$"), None),
    # A sum of all vCPUs comes, too.
    (re.compile(r"cpu ?\d+.*", re.I), None),
    (re.compile(r"(?P<name>[A-Za-z][^:]*?)\s*:\s*(?P<value>\d+)$"), None),
)


def quantities(text):
    """The numbers in what a plugin has printed, by name. Equal names are added up."""
    found = {}
    for line in text.splitlines():
        match, name = next(((m, name) for m, name in ((pattern.match(line.strip()), name)
                                                      for pattern, name in LINES) if m), (None, None))
        groups = match.groupdict() if match else {}
        if groups.get("insns"):
            found[INSTRUCTIONS] = int(groups["insns"])
        if groups.get("value"):
            name = " ".join((name or groups["name"]).split())
            found[name] = found.get(name, 0) + int(groups["value"])
    return found


def t_95(degrees):
    """Student's t for a two-sided 95 % interval."""
    if degrees < 1:
        return math.inf
    if degrees <= len(T_95):
        return T_95[degrees - 1]
    z = Z_95
    return (z + (z ** 3 + z) / (4 * degrees) + (5 * z ** 5 + 16 * z ** 3 + 3 * z) / (96 * degrees ** 2)
            + (3 * z ** 7 + 19 * z ** 5 + 17 * z ** 3 - 15 * z) / (384 * degrees ** 3))


def _half_width(deviations):
    """Half a 95 % interval of the mean of something, by its samples' deviations; None of one sample."""
    count = len(deviations)
    if count < 2:
        return None
    return t_95(count - 1) * math.sqrt(sum(d * d for d in deviations) / (count - 1) / count)


def mean(values):
    """(mean, half a 95 % interval)"""
    middle = statistics.fmean(values)
    return middle, _half_width([value - middle for value in values])


def share(values, totals):
    """
    (share of @values in @totals over all samples, half a 95 % interval): the ratio of the sums, with
    the interval of a ratio estimator, since samples are not of one length.
    """
    total = statistics.fmean(totals)
    if not total:
        return 0.0, None
    ratio = statistics.fmean(values) / total
    half = _half_width([value - ratio * size for value, size in zip(values, totals)])
    return ratio, None if half is None else half / total


def table(samples):
    """
    For each quantity of @samples, dicts of numbers with INSTRUCTIONS among them: mean and share, each
    with half a 95 % interval; the most first.
    """
    totals = [sample[INSTRUCTIONS] for sample in samples]
    rows = {}
    for name in dict.fromkeys(name for sample in samples for name in sample):
        values = [sample.get(name, 0) for sample in samples]
        (middle, middle_half), (part, part_half) = mean(values), share(values, totals)
        rows[name] = {"mean": middle, "mean_half_interval": middle_half,
                      "share": part, "share_half_interval": part_half}
    return dict(sorted(rows.items(), key=lambda row: -row[1]["mean"]))
