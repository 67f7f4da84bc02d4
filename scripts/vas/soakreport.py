# SPDX-License-Identifier: GPL-2.0-or-later
"""What a soak has seen: figures, and a picture of the downtimes."""

import statistics

WIDTH, HEIGHT, MARGIN = 900, 320, 50
COLUMNS = 200
COLOURS = {"tcg": "#c0392b", "kvm": "#2471a3"}
# What a process may have more at the end than at the beginning, in KiB: the guest's memory, too, is
# touched little by little.
GROWTH_KIB = 32 << 10


class Record:
    """What a soak leaves, also one that fails in the middle."""

    def __init__(self):
        self.switches = []
        self.begin_kib = self.end_kib = None

    def remember_memory(self, machine, number, count):
        """After switch @number of @count.  The first ones make TCG's buffers."""
        if number == max(2, count // 20):
            self.begin_kib = machine.memory_kib()
        if number == count:
            self.end_kib = machine.memory_kib()

    def complaints(self):
        """Memory that a switch does not give back."""
        if self.begin_kib and self.end_kib and self.end_kib > self.begin_kib + GROWTH_KIB:
            return [f"the process has grown from {self.begin_kib} to {self.end_kib} KiB"]
        return []


def downtimes(switches, target):
    """Microseconds, in order."""
    return [s["downtime-ns"] / 1000 for s in switches if s["to"] == target]


def figures(times):
    """At the beginning as at the end?  The medians of the first and of the last tenth tell."""
    tenth = max(1, len(times) // 10)
    first, last = statistics.median(times[:tenth]), statistics.median(times[-tenth:])
    return {"count": len(times), "p50_us": round(statistics.median(times), 1),
            "p50_first_tenth_us": round(first, 1), "p50_last_tenth_us": round(last, 1),
            "ratio_last_to_first_tenth": round(last / first, 2),
            "longest_us": round(max(times), 1)}


def summary(record, **more):
    """What --json writes."""
    result = dict(more)
    for target in COLOURS:
        times = downtimes(record.switches, target)
        if times:
            result[f"to_{target}"] = figures(times)
    result["memory_kib"] = {"begin": record.begin_kib, "end": record.end_kib}
    return result


def text(result):
    """The same for a person."""
    lines = []
    for target in COLOURS:
        if f"to_{target}" in result:
            f = result[f"to_{target}"]
            lines.append(f"to {target}: {f['count']} switches, downtime median {f['p50_us']:.0f} us "
                         f"(last tenth to first: {f['p50_last_tenth_us']:.0f} to "
                         f"{f['p50_first_tenth_us']:.0f}, {f['ratio_last_to_first_tenth']:.2f}), "
                         f"longest {f['longest_us']:.0f} us")
    memory = result["memory_kib"]
    if memory["begin"] and memory["end"]:
        lines.append(f"memory of the process: {memory['begin'] / 1024:.0f} MiB at the beginning, "
                     f"{memory['end'] / 1024:.0f} MiB at the end")
    return "\n".join(lines)


def columns(times):
    """(median, longest) of COLUMNS stretches of the run."""
    size = max(1, -(-len(times) // COLUMNS))
    parts = [times[i:i + size] for i in range(0, len(times), size)]
    return [(statistics.median(part), max(part)) for part in parts]


def svg(switches):
    """Downtime over the run: medians as lines, the longest as points; coarse."""
    series = {t: columns(downtimes(switches, t)) for t in COLOURS if downtimes(switches, t)}
    top = max(longest for values in series.values() for _, longest in values) * 1.05
    width, height = WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN

    def point(index, count, value):
        return (MARGIN + width * index / max(1, count - 1),
                HEIGHT - MARGIN - height * min(1, value / top))

    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
             'font-family="sans-serif" font-size="12">',
             f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>']
    for share in (0, 0.5, 1):
        x, y = point(0, 2, top * share)
        parts.append(f'<line x1="{x}" y1="{y:.1f}" x2="{WIDTH - MARGIN}" y2="{y:.1f}" '
                     'stroke="#ddd"/>')
        parts.append(f'<text x="{x - 5}" y="{y + 4:.1f}" text-anchor="end">'
                     f'{top * share / 1000:.1f}</text>')
    parts.append(f'<text x="5" y="15">downtime in ms; {len(switches)} switches from left to right'
                 '</text>')
    for number, (target, values) in enumerate(series.items()):
        line = " ".join("%.1f,%.1f" % point(i, len(values), m)
                        for i, (m, _) in enumerate(values))
        parts.append(f'<polyline points="{line}" fill="none" stroke="{COLOURS[target]}"/>')
        parts += ['<circle cx="%.1f" cy="%.1f" r="1.5" fill="%s"/>'
                  % (*point(i, len(values), longest), COLOURS[target])
                  for i, (_, longest) in enumerate(values)]
        parts.append(f'<text x="{MARGIN + 150 * number}" y="{HEIGHT - 15}" '
                     f'fill="{COLOURS[target]}">to {target}: median (line), longest</text>')
    return "\n".join(parts + ["</svg>"]) + "\n"
