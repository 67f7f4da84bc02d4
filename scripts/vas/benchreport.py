# SPDX-License-Identifier: GPL-2.0-or-later
"""What ./vas bench says of its results: text for a terminal, one page of HTML, and where it ran."""

import html
import re
import subprocess
import time

from vas import hostfacts, paths
from vas.benchstats import table

STYLE = """\
body { font: 15px/1.45 sans-serif; max-width: 64em; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0 }
caption { text-align: left; font-weight: bold; padding-bottom: .3em }
td, th { padding: .2em .8em; border-bottom: 1px solid #ddd; text-align: right }
td:first-child, th:first-child { text-align: left }
svg { width: 100%; height: auto }
.failed { color: #c0392b }"""


def _commit():
    """The commit of this clone; "unknown" for one without git."""
    try:
        done = subprocess.run(["git", "-C", paths.TOP, "describe", "--always", "--dirty",
                               "--abbrev=12"], check=False, capture_output=True, text=True)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def where(host):
    """The machine kind and the version, without the host's name."""
    facts = hostfacts.facts(host)
    modules = [name for name in facts["modules"] if name != "kvm"]
    return {"date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), "commit": _commit(),
            "cpu": facts["cpu"], "cpus": facts["cpus"], "kernel": facts["kernel"],
            "kvm_module": ", ".join(modules) or "built in, or not known",
            "virtualization": ", ".join(facts["virtualization"])
            or "none: KVM runs guests without hardware"}


# Share of the host's CPUs: with more than this for others, the numbers are theirs.
BUSY = 0.1


def _notes(measurement, result):
    """Sentences below the tables."""
    others, cpus = result["others_cpus"], result["others_of"]
    said = [*measurement.notes(result),
            f"Meanwhile other programs kept {others:.2f} of this machine's {cpus} CPUs busy."]
    if others > BUSY * cpus:
        said.append("THE MACHINE WAS BUSY: measure again when it is idle.")
    return said


def text(measurement, result):
    """For a terminal."""
    lines = []
    for title, head, rows in measurement.tables(result):
        lines += [title, *table(head, rows), ""]
    return "\n".join([*lines, *_notes(measurement, result)])


def _html_table(title, head, rows):
    def line(cells, tag):
        return "<tr>" + "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"

    return "\n".join([f"<table><caption>{html.escape(title)}</caption>", line(head, "th"),
                      *(line(row, "td") for row in rows), "</table>"])


def _inline(picture):
    """An SVG file as an element of a page."""
    return re.sub(r"^.*?(?=<svg\b)", "", picture, flags=re.DOTALL)


def _section(name, measurement, result, picture):
    """@result may be a text that says why there is none."""
    parts = [f"<h2>{name}</h2>"]
    if isinstance(result, str):
        return "\n".join([*parts, f'<p class="failed">Not measured: {html.escape(result)}</p>'])
    parts += [_inline(picture)]
    parts += [_html_table(*one) for one in measurement.tables(result)]
    parts += [f"<p>{html.escape(sentence)}</p>" for sentence in _notes(measurement, result)]
    parts += [f"<p>{html.escape(paragraph)}</p>" for paragraph in
              measurement.MEANING.split("\n\n")]
    return "\n".join(parts)


def page(place, sections, quick):
    """
    One page that needs no other file.  @place: of where(); @sections: for each its name, module,
    result (or why there is none) and picture.
    """
    facts = [("date", place["date"]), ("commit", place["commit"]), ("CPU", place["cpu"]),
             ("host CPUs", place["cpus"]), ("kernel", place["kernel"]),
             ("KVM module", place["kvm_module"]),
             ("virtualization by hardware", place["virtualization"])]
    parts = ["<!DOCTYPE html>", '<html lang="en"><head><meta charset="utf-8"/>',
             f"<title>qemu-vas: measurements</title><style>{STYLE}</style></head><body>",
             "<h1>qemu-vas: measurements</h1>",
             _html_table("Where this was measured", ("", ""), facts)]
    if quick:
        parts.append('<p class="failed">A quick run (--quick): its counts are too small for its '
                     "numbers to mean anything.</p>")
    parts += [_section(*section) for section in sections]
    return "\n".join([*parts, "</body></html>"]) + "\n"
