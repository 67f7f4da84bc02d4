# SPDX-License-Identifier: GPL-2.0-or-later
"""
What becomes of TCG's translations over switches: kept and compared, or dropped, as the guest's code
and the options say.
"""

import re

from vas.soak import soak
from vas.testing import Failure, Payload, expect_equal, main, need_kvm

# Windows in TCG, each long enough for the guest's whole lap.
WINDOWS = 20


def translations(machine):
    return machine.qmp("query-accel")["translations"]


def windows(guest):
    """What each window in TCG adds to the counts, after a first one."""
    counts = []
    for _ in range(WINDOWS + 1):
        before = translations(guest.machine)
        guest.machine.switch("tcg")
        guest.expect_laps(3)
        guest.machine.switch("kvm")
        after = translations(guest.machine)
        guest.expect_laps(3)
        counts.append({name: after[name] - before[name] for name in after})
    return counts[1:]


def at_least_one(counts, name):
    if not any(window[name] for window in counts):
        raise Failure(f"in {len(counts)} windows '{name}' was always 0")


def shown(machine):
    """The monitor shows the same figures, in TCG in two places."""
    machine.switch("tcg")
    machine.stop()
    figures = translations(machine)
    text = machine.hmp("info accel")
    expect_equal("info accel",
                 [figures[name] for name in ("made", "kept", "dropped", "pages-compared", "flushes")],
                 [int(number) for number in
                  re.findall(r"\d+", re.search("translations: .*", text).group(0))])
    text = machine.hmp("info jit")
    for name, label in (("made", "TB made count"), ("kept", "TB kept count"),
                        ("dropped", "TB dropped count"), ("pages-compared", "pages compared"),
                        ("flushes", "TB flush count")):
        expect_equal(f"info jit: {label}", figures[name],
                     int(re.search(label + r" +(\d+)", text).group(1)))
    machine.cont()


def kept():
    need_kvm()
    with Payload("soak64", "switch,initial=kvm", arguments=["-smp", "2"], name="translations-kept") as guest:
        counts = windows(guest)
        print(f"a window, after the first: {counts[-1]}")
        # soak64 changes its own code, under both accelerators.
        for name in ("kept", "dropped", "pages-compared", "made"):
            at_least_one(counts, name)
        expect_equal("flushes", 0, translations(guest.machine)["flushes"])
        shown(guest.machine)
        guest.expect_laps(3)


def flush():
    need_kvm()
    with Payload("soak64", "switch,initial=kvm,keep-translations=off", name="translations-flush") as guest:
        for window in windows(guest):
            expect_equal("a window's flushes", 1, window["flushes"])
            expect_equal("kept, dropped and compared", (0, 0, 0),
                         (window["kept"], window["dropped"], window["pages-compared"]))
    soak("soak64", 200, options=",keep-translations=off")


def full():
    """A buffer so small that it is full again and again."""
    need_kvm()
    with Payload("soak64", "switch,initial=kvm,tb-size=1,one-insn-per-tb=on", name="translations-full") as guest:
        for _ in range(50):
            windows(guest)
            figures = translations(guest.machine)
            if figures["flushes"] >= 3:
                print(figures)
                return
    raise Failure(f"the translation buffer was not full: {figures}")


main({"kept": kept, "flush": flush, "full": full})
