#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What a comparison of TCG with KVM takes for a difference, and what the manuals leave open (docs/compare.rst)."""

from vas import tracefile
from vas.comparer import Comparer
from vas.testing import Skip, expect_equal, run_test

CF, PF, AF, ZF, OF = 0x1, 0x4, 0x10, 0x40, 0x800
EMPTY = {"instructions": 1, "user-instructions": 0, "blocks": 1, "end": "count", "next": 0x1000, "mode": 4,
         "differences": [], "block-differences": [], "block-state": [], "block-memory": [], "state": [], "memory": []}


class Machine:
    """Answers the monitor's commands: @word is in guest memory, the GDT has 32 entries."""

    def __init__(self, word):
        self._word = word

    def hmp(self, line):
        return f"0000000000001000: {self._word:#06x}\r\n" if line.startswith("xp") else \
            "EAX=00000000\r\nGDT=     ff401000 000000ff\r\nIDT=     ff400000 000007ff\r\n"


def found(word=0, **result):
    """(differences, what was left undefined)"""
    comparer = Comparer(Machine(word))
    comparer._take({**EMPTY, **result})     # pylint: disable=protected-access
    return len(comparer.differences), dict(comparer.undefined)


def flags(code, bits, name="eflags"):
    return {"differences": [{"number": 0, "address": 0x1000, "code": code, "mode": 4,
                             "values": [{"name": name, "kvm": 0x2, "tcg": 0x2 ^ bits}]}]}


def memory(address, kvm, tcg):
    return {"memory": [{"address": address, "kvm": kvm, "tcg": tcg, "before": kvm}]}


def test():
    if not tracefile.capstone:
        raise Skip("python3-capstone is not there")
    for name, expected, result in (
            ("SHL by 5: OF, AF", (0, {"shll": 1}), flags("c1e005", OF | AF)),
            ("SHL by 5: CF", (1, {}), flags("c1e005", CF | AF)),
            ("SHL by 1: OF", (1, {}), flags("d1e0", OF)),
            ("ADD: AF", (1, {}), flags("01d8", AF)),
            ("BSF: PF", (0, {"bsfl": 1}), flags("0fbcc3", PF)),
            ("BSF: ZF", (1, {}), flags("0fbcc3", ZF)),
            ("TZCNT: ZF", (0, {"tzcntl": 1}), flags("f30fbcc3", ZF)),
            ("BSF: its result", (1, {}), flags("0fbcc3", PF, "eax")),
            ("XSTATE_BV", (0, {"xsave": 1}), memory(0x1000, "02", "03")),
            ("a byte of another place", (1, {}), memory(0x1001, "02", "03")),
            ("Accessed", (0, {"page tables": 1}), memory(0x1004, "67", "47")),
            ("Accessed without Present", (1, {}), memory(0x1004, "66", "46")),
            ("a word", (1, {}), memory(0x1000, "0001", "0002")),
            ("a block", (1, {}), {"block-differences": flags("0fa3c3", OF)["differences"]}),
            ("a block that stops", (1, {}), {"block-differences": [{"number": 0, "address": 0x1000, "code": "90",
                                                                    "mode": 4, "values": []}]}),
            ("after the blocks", (1, {}), {"block-memory": [{"name": "0x1000", "kvm": 0, "tcg": 0x20}]})):
        expect_equal(name, expected, found(**result))
    pushed = memory(0x1002, "2fc1", "0000")
    expect_equal("PUSH DS", (0, {"selectors on the stack": 1}), found(0x7b, **pushed))
    expect_equal("PUSH of an LDT's selector", (0, {"selectors on the stack": 1}), found(0x17, **pushed))
    expect_equal("no selector", (1, {}), found(0x1238, **pushed))
    expect_equal("not zeros", (1, {}), found(0x7b, **memory(0x1002, "2fc1", "0001")))
    expect_equal("not its upper half", (1, {}), found(0x7b, **memory(0x1001, "2fc1", "0000")))


run_test(test)
