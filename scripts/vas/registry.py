# SPDX-License-Identifier: GPL-2.0-or-later
"""
The registered tests, tests/tests.list, and the bare-metal payloads, tests/guest/payloads.list.

meson registers the tests by the same two lists.
"""

import collections
import os

from vas import paths

TESTS = "tests/tests.list"
PAYLOADS = "tests/guest/payloads.list"

Test = collections.namedtuple("Test", "name tier command seconds how hazards proves")
Payload = collections.namedtuple(
    "Payload", "name binary laps arguments hazards tests seconds proves")


def _rows(name, kind):
    with open(os.path.join(paths.TOP, name), encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip() or line.startswith("#"):
                continue
            columns = [column.strip() for column in line.split("|")]
            if len(columns) != len(kind._fields):
                raise ValueError(f"{name}:{number}: {len(columns)} columns, not "
                                 f"{len(kind._fields)}: {' | '.join(kind._fields)}")
            yield kind(*columns)


def tests():
    """The rows of tests.list: all tests but the payloads in four ways."""
    return list(_rows(TESTS, Test))


def payloads():
    """The rows of payloads.list."""
    return list(_rows(PAYLOADS, Payload))


def in_four_ways():
    """The payloads with a number of laps: each has a test "ways-NAME"."""
    return [payload for payload in payloads() if payload.laps != "-"]


def names():
    """The names of all tests; a ValueError if two have one."""
    found = ([test.name for test in tests()]
             + [f"ways-{payload.name}" for payload in in_four_ways()])
    twice = {name for name in found if found.count(name) > 1}
    if twice:
        raise ValueError(f"two tests are called {', '.join(sorted(twice))}")
    return found


def qemu_targets():
    """What QEMU's own meson has to build of the tests, as paths in its build folder."""
    return sorted({test.command.split()[1] for test in tests()
                   if test.command.startswith("qemu-test.sh ")})
