# SPDX-License-Identifier: GPL-2.0-or-later
"""
Negative controls: with one of the switch's fix-ups left out (-accel switch,x-omit=...), a soak or a
payload must notice.  One that passes with the fix-up left out would not test it.
"""

import re

from lib.ways import all_ways, expect_noticed
from vas.machine import MachineError, QMPError
from vas.soak import soak
from vas.testing import Failure, main, need_kvm


# What the guest says, or that it is lost: an interrupt has not come.
NUMBERS = "the payload says: ERROR"
LOST = r"did not come \((within|the machine ended)"


def control(omit, payload, expected, count, starts=1):
    need_kvm()
    for number in range(starts):
        try:
            # From TCG: what KVM never set is still missing then.
            # Without the read-back: the guest is to notice.
            soak(payload, count, initial="tcg", options=f",read-back=off,x-omit={omit}", quiet=20,
                 seed=number, jitter=True)
        except (Failure, MachineError, QMPError) as error:
            print(f"without {omit}: {error}")
            if "QEMU was ended by" in str(error) or not re.search(expected, str(error)):
                raise
            return
    raise Failure(f"{omit} was left out and {count} switches of {payload} went well")


# Left out, the fix-up harms within this many switches of the payload, started so many times: mostly
# in far fewer, but a switch must come at the right point of a lap, and a busy machine keeps it away.
CONTROLS = {
    "tb-validate": ("soak64", "ERROR .*(code|page)|" + LOST, 4000),
    # Mostly within 300 switches; but 4000 of one QEMU went well once.
    "shadow-flush": ("soak64", "ERROR .*(code|page|address)|" + LOST, 1000, 20),
    # Harms at the first switch alone: KVM gives a value back that is right from then on.
    "xstate-bv": ("soak64", NUMBERS, 1, 1500),
    "x87-order": ("soak64", NUMBERS, 4000),
    "reinject": ("soak16", LOST, 2000),
    "extint": ("soak16", LOST, 4000),
    "interrupt-shadow": ("idle16", "ERROR|" + LOST, 10000),
    # AMD's hosts run it: what notices is the rule of Intel's VM entry.
    "descriptors": ("soak64", "rule '", 2),
}


def lapic_expired():
    """
    timer64 asks for switches as its timer expires, and waits 10 seconds for the lost tick.  In 2 laps it was
    not hit in 7 of 40 runs.
    """
    need_kvm()
    expect_noticed(all_ways()["timer64"], "lapic-expired", laps=30)


def tb_validate_payloads():
    """Each has code changed under KVM, by another writer or in another way."""
    need_kvm()
    for name in ("modify64", "dma64", "shadow64", "spans64"):
        expect_noticed(all_ways()[name], "tb-validate")


main({name: lambda name=name: control(name, *CONTROLS[name]) for name in CONTROLS}
     | {"lapic-expired": lapic_expired, "tb-validate-payloads": tb_validate_payloads})
