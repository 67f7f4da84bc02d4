# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest of most tests here, under -accel switch."""

from vas.testing import Payload, expect_equal, need_kvm

SWITCH = "switch,initial=kvm"


def switchable(accel=SWITCH, **keywords):
    need_kvm()
    return Payload("soak64", accel, name="guest", **keywords)


def expect_untouched(machine, accel="kvm", switches=0):
    info = machine.qmp("query-accel")
    expect_equal("active accelerator", accel, info["active"])
    expect_equal("switches", switches, info["switches"])
