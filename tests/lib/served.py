# SPDX-License-Identifier: GPL-2.0-or-later
"""
A one-shot LAPIC timer that the guest was served, while another interrupt waits for the vCPU: with
VMX's preemption timer KVM does not look then whether it is over, unless it is made to.
"""

from vas.testing import Failure, Payload, expect_equal


def served(host=None, laps=6):
    """
    An interrupt comes to the paused vCPU, which in turn runs and is halted.  Then a round trip
    changes nothing, and a switch brings no second tick.
    """
    with Payload("served64", "switch,initial=kvm", host=host, name="served") as guest:
        machine = guest.machine
        for lap in range(laps):
            machine.debugcon.expect("^waits", 30)
            machine.stop()
            if not machine.wait_trace("ioapic_set_irq", 10, lambda: machine.serial.send("x")):
                raise Failure("the serial line has made no interrupt")
            machine.qmp("x-accel-roundtrip")
            expect_equal("accelerator", "kvm", machine.accel())
            if lap // 2 % 2:
                machine.switch("tcg")
            machine.cont()
            guest.expect_obeyed("x")
            if machine.accel() == "tcg":
                machine.switch("kvm")
