#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
docs/internals/tests.rst is what tests/tests.list and tests/guest/payloads.list say, docs/internals/streams.rst what
the tests of streams go by.

usage: PYTHONPATH=scripts:tests /usr/bin/python3 tests/index.py [--write]

--write writes the pages anew.
"""

import os
import re
import sys
import textwrap

from lib import streamtable
from vas import paths, registry
from vas.check import TIERS
from vas.testing import Failure, run_test

NEEDS = {
    "unit": "Nothing but the source or the built programs",
    "qtest": "QEMU, without a guest",
    "local": "This machine's ``/dev/kvm``",
    "rig": "The rig: a real kvm-amd on a host that our own TCG emulates",
    "intel": "A real kvm-intel on a host that Bochs emulates; in ``--long`` kvm-amd, too",
}
HEAD = """\
.. SPDX-License-Identifier: GPL-2.0-or-later
.. Made by tests/index.py --write of tests/tests.list and tests/guest/payloads.list: change those.

=====
Tests
=====

This page says what each test proves. `testing.rst <../testing.rst>`_ says how to run the tests, and
how the rigs work.

The column *how* says what is special. ``./vas check`` runs a *long* test only with ``--long``, or if
it is given the test's name. An *alone* test measures time: no other test runs beside it.
"""
HAZARD = re.compile(r"([A-G])(\d+)")


def title(text, line="="):
    return f"\n{text}\n{line * len(text)}\n\n"


def table(widths, head, rows):
    """A simple table of reStructuredText; the last column is as wide as it needs to be."""
    rule = "  ".join("=" * width for width in widths)
    yield rule
    yield "  ".join(cell.ljust(width) for cell, width in zip(head, widths)).rstrip()
    yield rule
    for row in rows:
        cells = [textwrap.wrap(cell.replace("*", "\\*"), width, break_on_hyphens=False, break_long_words=False) or [""]
                 for cell, width in zip(row, widths)]
        for number in range(max(map(len, cells))):
            line = [cell[number] if number < len(cell) else "" for cell in cells]
            yield "  ".join(part.ljust(width) for part, width in zip(line, widths)).rstrip() or "\\"
    yield rule


def by_number(hazard):
    letter, number = HAZARD.fullmatch(hazard).groups()
    return letter, int(number)


def hazards_of(row):
    """The hazards of a row of either list."""
    return HAZARD.findall(row.hazards)


def by_hazard():
    """For each hazard that a row names, the payloads and the tests that would notice it."""
    found = {}
    for kind, rows in enumerate((registry.payloads(), registry.tests())):
        for row in rows:
            for letter, number in hazards_of(row):
                found.setdefault(letter + number, ([], []))[kind].append(row.name)
    return [(hazard, *map(", ".join, found[hazard])) for hazard in sorted(found, key=by_number)]


def page():
    text = HEAD
    width = max(len(test.name) for test in registry.tests())
    for tier in TIERS:
        rows = [(test.name, "" if test.how == "-" else test.how, test.proves)
                for test in registry.tests() if test.tier == tier]
        text += title(tier) + NEEDS[tier] + ".\n\n"
        text += "\n".join(table((width, 5, 60), ("test", "how", "what it proves"), rows)) + "\n"
    text += title("Payloads")
    text += ("Bare-metal guests. One with a number of laps is a test in four ways, ``ways-NAME``: under TCG\n"
             "alone, under KVM alone, switched where it asks for it, and switched at random points. In the\n"
             "rig they are ``rig-ways`` and ``rig-ways-ticks``, on kvm-intel ``intel-ways``.\n\n")
    rows = [(payload.name, "" if payload.laps != "-" else payload.tests, payload.proves)
            for payload in registry.payloads()]
    text += "\n".join(table((12, 28, 54), ("payload", "tests, if not four ways", "what it proves"),
                            rows)) + "\n"
    text += title("By hazard")
    text += ("What would notice a hazard of `hazards.rst <hazards.rst>`_. A payload stands for all tests that\n"
             "run it.\n\n")
    text += "\n".join(table((6, 32, 54), ("hazard", "payloads", "tests"), by_hazard())) + "\n"
    return text


PAGES = {"docs/internals/tests.rst": page,
         "docs/internals/streams.rst": lambda: streamtable.page(title, table)}


def index():
    for kind, rows in (("test", registry.tests()), ("payload", registry.payloads())):
        for row in rows:
            if not row.proves:
                raise Failure(f"the {kind} {row.name} does not say what it proves")
    for name, make in PAGES.items():
        with open(os.path.join(paths.TOP, name), encoding="utf-8") as file:
            if file.read() != make():
                raise Failure(f"what it is made of has changed: run tests/index.py --write to make {name} anew")


if sys.argv[1:] == ["--write"]:
    for page_name, make_page in PAGES.items():
        with open(os.path.join(paths.TOP, page_name), "w", encoding="utf-8") as output:
            output.write(make_page())
elif sys.argv[1:]:
    print(__doc__.strip())
    sys.exit(0 if sys.argv[1] in ("-h", "--help") else 2)
else:
    run_test(index)
