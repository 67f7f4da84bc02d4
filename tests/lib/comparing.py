# SPDX-License-Identifier: GPL-2.0-or-later
"""
TCG compared with KVM, instruction by instruction (accel-compare), on this machine or (host) in a rig.

A payload that is compared from its reset on must show no difference but those of KNOWN, and find nothing
wrong itself: what a comparison executes twice must be as if it were executed once.
"""

import time

from lib.rigtest import say
from lib.ways import all_ways, alone, finish
from vas.comparer import PIECE, Comparer, describe
from vas.machine import Machine
from vas.testing import LONG, Failure, Payload, expect_equal, expect_error, payload_arguments, snapshot_disk

# How many instructions of which payload: those that do not only copy themselves for so long.
COMPARED = {"modes16": 3000, "modes32": 20000, "modes64": 20000, "control64": 10000, "paging32": 20000,
            "pages64": 10000, "fpu64": 40000, "xsave64": 20000, "debug32": 10000, "halves64": 10000,
            "events64": 3000, "smp64": 3000}
# Whether these of them get to CPL 3
PROGRAMS = {"modes16": False, "modes64": True}
ACCEL = "switch,initial=kvm"


def known(difference):
    """
    Whether docs/compare.rst has it: the SS of a handler with an interrupt stack (IST) that is called at CPL0.
    """
    values = difference.get("values", ())
    return difference["kind"] in ("registers", "state") and values and all(
        value["name"] in ("ss", "ss limit", "ss attributes", "ss selector") and value["tcg"] == 0 for value in values)


def payload(name, host, accel=ACCEL, laps=None):
    way = all_ways()[name].on(host)
    return way, way.payload(accel, laps or way.laps, host, start=False)


def compared(name, host, count):
    """No instruction of the payload's first @count differs, and it ends as it does without a comparison."""
    way, run = payload(name, host)
    digest = alone(way, "tcg", host)
    with run as guest:
        start = time.monotonic()
        comparer = Comparer(guest.machine)
        comparer.run(count, first_only=False)
        took = time.monotonic() - start
        if not comparer.ended:
            guest.machine.switch("kvm")
            guest.machine.cont()
        expect_equal("digest", digest, finish(way, guest))
    say(f"{name}: {comparer.instructions} compared, {comparer.user} at CPL 3, {comparer.blocks} blocks,"
        f" {took / comparer.instructions * 1e6:.0f} us each; {dict(comparer.ends)}; undefined: {dict(comparer.undefined)}")
    for difference in comparer.differences:
        print("    known" if known(difference) else "   ", describe(difference))
    expect_equal(f"{name}: differences", 0, sum(not known(d) for d in comparer.differences))
    if not comparer.ended:
        expect_equal(f"{name}: instructions", count, comparer.instructions)
    if name in PROGRAMS:
        expect_equal(f"{name}: are there some at CPL 3", PROGRAMS[name], comparer.user > 0)
    if not 0 < comparer.blocks < comparer.instructions * 0.8:
        raise Failure(f"{name}: TCG has made {comparer.blocks} blocks of {comparer.instructions} instructions")


def noticed(name, host, omit, count, wanted, piece=PIECE):
    """A negative control: with @omit left out there is a difference that @wanted(difference) is true of."""
    _, run = payload(name, host, f"{ACCEL},x-omit={omit}")
    with run as guest:
        comparer = Comparer(guest.machine, piece=piece)
        found = comparer.run(count, first_only=piece == PIECE)
        print(f"without {omit}, after {comparer.instructions}: {[describe(d) for d in found[:3]]}")
        if not any(map(wanted, found)):
            raise Failure(f"{omit} was left out, and no such difference was found")


def controls(host):
    """What differs is found: in registers, in memory, in whole blocks, in the rest of the vCPU."""
    noticed("pages64", host, "compare-undo", 10000, lambda d: d["kind"] == "registers")
    noticed("debug32", host, "compare-undo", 1600, lambda d: d["kind"] == "memory", piece=10)
    noticed("modes64", host, "compare-blocks", 2000, lambda d: d["kind"] == "block")
    for place in ("xmm0", "0x"):
        noticed("modes64", host, "compare-blocks-end", 2000, lambda d, place=place:
                d["kind"] == "block-state" and d["values"][0]["name"].startswith(place))
    noticed("fpu64", host, "x87-order", 40000, lambda d: d["kind"] == "state" and
            d["values"][0]["name"].startswith("st"))


def snapshot(host, count=3000):
    """The same stretch from a snapshot that was saved under KVM, in a new QEMU and again; and one saved in TCG."""
    with snapshot_disk(host) as drive:
        with Payload("soak64", ACCEL, host=host, arguments=drive, name="compare-save") as guest:
            for saved in ("kvm", "tcg"):
                guest.machine.switch(saved)
                guest.expect_laps(3)
                expect_equal("savevm", "", guest.machine.hmp(f"savevm {saved}"))
        for saved in ("kvm", "kvm", "tcg"):
            with Payload("soak64", ACCEL, host=host, start=False, arguments=[*drive, "-loadvm", saved],
                         name="compare-load") as guest:
                comparer = Comparer(guest.machine)
                comparer.run(count, first_only=False)
                print(f"from {saved}: {comparer.instructions} {dict(comparer.ends)}")
                expect_equal("differences", [], [describe(d) for d in comparer.differences])
                expect_equal("instructions", count, comparer.instructions)
                guest.machine.switch("kvm")
                guest.machine.cont()
                guest.expect_laps(3)


def refusals(host=None):
    """What can't be compared is refused by a sentence, and the guest runs on."""
    with Payload("soak64", ACCEL, host=host, name="compare") as guest:
        machine = guest.machine
        guest.expect_laps(2)

        def refused(sentence, **arguments):
            expect_error(sentence, machine.qmp, "accel-compare", {"max-instructions": 10} | arguments)

        refused("the guest runs")
        machine.stop()
        refused("max-instructions must be from 1 to 65536", **{"max-instructions": 0})
        refused("max-instructions must be from 1 to 65536", **{"max-instructions": 65537})
        refused("there is no vCPU 1", **{"cpu-index": 1})
        if host is None:
            refused("kvm-pvm gives the debug exceptions")
        machine.cont()
        guest.expect_laps(2)
    with Machine(payload_arguments("soak64", "tcg", host=host), host=host, name="compare") as machine:
        expect_error("without -accel switch", machine.qmp, "accel-compare", {"max-instructions": 1})


def all_of_them(host, names=()):
    """In a rig; @names: those of COMPARED, and in the long tests all payloads, if not given."""
    for name in names or (all_ways() if LONG else COMPARED):
        compared(name, host, COMPARED.get(name, 2000) * (10 if LONG else 1))
    say("controls")
    controls(host)
    say("from a snapshot")
    snapshot(host)
    refusals(host)
