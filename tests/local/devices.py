# SPDX-License-Identifier: GPL-2.0-or-later
"""Devices whose state the accelerators hold, or that ask which one runs."""

import itertools

from lib.screen import screen
from lib.served import served
from lib.switchable import SWITCH, switchable
from vas.host import LocalHost
from vas.testing import Payload, expect_equal, expect_error, left_out, main, need_kvm


def balloon():
    """Whether the balloon can be used does not change with the accelerator."""
    with switchable(arguments=["-device", "virtio-balloon-pci"]) as guest:
        machine = guest.machine
        for accel in ("tcg", "kvm"):
            machine.switch(accel)
            machine.qmp("balloon", value=32 << 20)
            expect_equal("balloon", 64 << 20, machine.qmp("query-balloon")["actual"])
            expect_error("dirty-ring-size", machine.qmp, "set-vcpu-dirty-limit",
                         {"dirty-rate": 1})
            guest.expect_laps(3)


def ferr():
    """
    An x87 error reaches the PIC in TCG, on a board that was made while KVM ran; and again, wherever
    it was answered (IGNNE#) and cleared.
    """
    need_kvm()
    for board in ("pc", "q35"):
        with Payload("told16", SWITCH, name="devices", arguments=["-M", board]) as guest:
            guest.expect_laps(3)
            for answered, cleared in itertools.product(("tcg", "kvm"), repeat=2):
                guest.machine.switch("kvm")
                guest.machine.switch("tcg")
                guest.tell("f")
                guest.machine.switch(answered)
                guest.tell("i")
                guest.machine.switch(cleared)
                guest.tell("c")
                guest.expect_laps(3)
            guest.machine.switch("tcg")
            guest.tell("f")


def coalesced(omit="", count=100):
    """What KVM has kept of a guest's writes to a VGA is written before TCG reads there."""
    need_kvm()
    with Payload("told16", SWITCH + omit, name="devices",
                 arguments=["-device", "VGA,romfile="]) as guest:
        guest.expect_laps(3)
        guest.tell("v")
        for _ in range(count):
            guest.expect_laps(3)
            guest.machine.switch("tcg")
            guest.expect_laps(3)
            guest.machine.switch("kvm")


def coalesced_control():
    with left_out("coalesced-mmio", "VGA"):
        coalesced(",x-omit=coalesced-mmio", 400)


def screen_shown():
    """What one accelerator draws is shown under the other."""
    need_kvm()
    with LocalHost() as host:
        screen(host, laps=10)


def timer_served():
    """A one-shot LAPIC timer that was served does not come again."""
    need_kvm()
    with LocalHost() as host:
        served(host)


main({"balloon": balloon, "ferr": ferr, "coalesced": coalesced,
      "coalesced-control": coalesced_control, "screen": screen_shown,
      "timer-served": timer_served})
