# SPDX-License-Identifier: GPL-2.0-or-later
"""
A limit of a switch's downtime: a switch that takes longer is given up, and the guest runs on.
"""

from vas.testing import (Failure, Payload, expect_equal, expect_error, main, need_kvm)

# x-slow has a phase take 500 ms more; a busy machine takes its time for the others.
SHORT_MS, LONG_MS = 400, 60000


def given_up(guest, accel, phase):
    """The switch is too slow, and the guest goes on where it was; without a limit it is made."""
    machine = guest.machine
    before = machine.accel()
    expect_error(f"can't switch: it takes longer than max-downtime-ms allows: the phase '{phase}' alone"
                 " took ", machine.qmp, "switch-accel",
                 {"accel": accel, "max-downtime-ms": SHORT_MS})
    expect_equal("accelerator", before, machine.accel())
    guest.expect_laps(3)
    if f"the phase '{phase}'" not in machine.hmp(f"switch_accel {accel} {SHORT_MS}"):
        raise Failure("HMP's switch_accel has no limit")
    guest.expect_laps(3)
    machine.qmp("switch-accel", {"accel": accel, "max-downtime-ms": LONG_MS})
    expect_equal("accelerator", accel, machine.accel())
    guest.expect_laps(3)


def slow(phase, *directions):
    need_kvm()
    with Payload("soak64", f"switch,initial=kvm,x-slow={phase}", arguments=["-smp", "2"],
                 name=f"downtime-{phase}") as guest:
        for accel in directions:
            if accel == guest.machine.accel():
                guest.machine.switch({"kvm": "tcg", "tcg": "kvm"}[accel])
            given_up(guest, accel, phase)


def refused():
    need_kvm()
    with Payload("soak64", "switch,initial=kvm", name="downtime-refused") as guest:
        for value in (0, -1, 2 ** 32):
            expect_error("max-downtime-ms", guest.machine.qmp, "switch-accel",
                         {"accel": "tcg", "max-downtime-ms": value})
            if "max-downtime-ms must be from 1 to 4294967295" not in \
                    guest.machine.hmp(f"switch_accel tcg {value}"):
                raise Failure(f"HMP's switch_accel accepts {value}")
        expect_equal("accelerator", "kvm", guest.machine.accel())


main({"quiesce": lambda: slow("quiesce", "tcg", "kvm"), "export": lambda: slow("export", "tcg"),
      "import": lambda: slow("import", "kvm"), "refused": refused})
