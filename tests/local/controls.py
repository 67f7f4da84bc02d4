# SPDX-License-Identifier: GPL-2.0-or-later
"""
Negative controls: with one of the switch's fix-ups left out (-accel switch,x-omit=...), the soak
must notice.  A soak that passes with the fix-up left out would not test it.
"""

from vas.machine import MachineError, QMPError
from vas.soak import soak
from vas.testing import Failure, main, need_kvm


def control(omit, payload, count, starts=1):
    need_kvm()
    for number in range(starts):
        try:
            # From TCG: what KVM never set is still missing then.
            # Without the read-back: the guest is to notice.
            soak(payload, count, initial="tcg", options=f",read-back=off,x-omit={omit}", quiet=20,
                 seed=number, jitter=True)
        except (Failure, MachineError, QMPError) as error:
            print(f"without {omit}: {error}")
            return
    raise Failure(f"{omit} was left out and {count} switches of {payload} went well")


# Left out, the fix-up harms within this many switches of the payload, started so many times: mostly
# in far fewer, but a switch must come at the right point of a lap, and a busy machine keeps it away.
CONTROLS = {
    "tb-flush": ("soak64", 4000),
    # Mostly within 300 switches; but 4000 of one QEMU went well once.
    "shadow-flush": ("soak64", 1000, 20),
    # Harms at the first switch alone: KVM gives a value back that is right from then on.
    "xstate-bv": ("soak64", 1, 1500),
    "x87-order": ("soak64", 4000),
    "reinject": ("soak16", 2000),
    "extint": ("soak16", 4000),
    "lapic-expired": ("soak64", 4000),
    "interrupt-shadow": ("idle16", 10000),
    # AMD's hosts run it: what notices is the rule of Intel's VM entry.
    "descriptors": ("soak64", 2),
}

main({name: lambda name=name: control(name, *CONTROLS[name]) for name in CONTROLS})
