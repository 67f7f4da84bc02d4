# SPDX-License-Identifier: GPL-2.0-or-later
"""
kvm-clock, registered under either accelerator and read under both; and the PIT's ticks, which
some guests' time is made of.
"""

import os
import socket
import tempfile
import time

from lib.hostile import hostile_guest, write
from vas.testing import Failure, Payload, expect_equal, gdb_command, left_out, main, need_kvm

# Far above what the payload tolerates of a stop, and above what a stop takes on a busy machine.
STOPPED = 1.5
# Where the payload has nothing.
WALL = 0x2000000
IOAPIC = 0xfec00000


def kvmclock():
    """The clock goes on in a switch, whichever accelerator filled its page."""
    need_kvm()
    for accel, other in (("kvm", "tcg"), ("tcg", "kvm")):
        with Payload("clock64", f"switch,initial={accel}", name="clock") as guest:
            guest.expect_laps(3)
            for register_in in (accel, other):
                guest.machine.switch(register_in)
                guest.tell("k")
                for target in ("tcg", "kvm") * 50:
                    guest.machine.switch(target)
                    guest.expect_laps(5)


def kvmclock_stopped(accel="kvm", options=""):
    """It stands still while the machine is stopped, and goes on from there."""
    need_kvm()
    with Payload("clock64", f"switch,initial={accel}" + options, name="clock") as guest:
        machine = guest.machine
        guest.expect_laps(3)
        guest.tell("k")
        guest.tell("s")
        for before, after in (("kvm", "kvm"), ("tcg", "tcg"), ("tcg", "kvm"), ("kvm", "tcg")):
            machine.switch(before)
            guest.expect_laps(5)
            machine.stop()
            time.sleep(STOPPED)
            machine.switch(after)
            machine.cont()
            guest.expect_laps(20)


def kvmclock_control():
    """A negative control: KVM is not told where the guest has registered its clock in TCG."""
    with left_out("kvm-clock", "ERROR kvm-clock"):
        kvmclock_stopped("tcg", ",read-back=off,x-omit=kvm-clock")


def pit():
    """None is lost under -accel switch, as they are with QEMU's PIT otherwise."""
    try:
        with Payload("pit64", "tcg", name="pit") as guest:
            guest.expect_laps(1)
    except Failure as error:
        if "ERROR at least so many ticks" not in str(error):
            raise
    else:
        raise Failure("TCG alone has lost no tick: the payload sees nothing")
    need_kvm()
    with Payload("pit64", "switch,initial=kvm", name="pit") as guest:
        for accel in ("tcg", "kvm"):
            guest.expect_laps(2)
            guest.machine.switch(accel)
        guest.expect_laps(2)


def wall():
    """
    The wall clock of kvm-clock: a VM has one, whichever vCPU asked for it, and a switch does not
    have KVM write it again, which a guest may no longer expect there.
    """
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as connection:
        path = os.path.join(folder, "gdb")
        with hostile_guest(arguments=["-smp", "2", "-gdb", f"unix:{path},server=on,wait=off"]) \
                as guest:
            machine = guest.machine
            guest.expect_laps(3)
            expect_equal("exception", None, write(guest, "KVM_WALL_CLOCK", "=", WALL))
            machine.qmp("x-accel-roundtrip")
            connection.connect(path)
            gdb_command(connection, b"?")
            if not int(gdb_command(connection, b"m%x,4" % (WALL + 4)), 16):
                raise Failure("the guest was given no time")
            expect_equal("write", b"OK", gdb_command(connection, b"M%x,4:efbeadde" % (WALL + 4)))
            for accel in ("kvm", "tcg"):
                machine.switch(accel)
                expect_equal("memory", b"efbeadde", gdb_command(connection, b"m%x,4" % (WALL + 4)))
            connection.close()
            machine.cont()
            guest.expect_laps(3)


def kvmclock_device():
    """
    A guest that gives a device's address as that of its clock's page, or of its wall clock: the device
    is not written to.  It is the IOAPIC's index, which can be read back.
    """
    for initial in ("tcg", "kvm"):
        with hostile_guest(initial=initial) as guest:
            guest.expect_laps(3)
            for name, value in (("KVM_SYSTEM_TIME", IOAPIC | 1), ("KVM_WALL_CLOCK", IOAPIC)):
                expect_equal("exception", None, write(guest, name, "=", value))
                text = guest.machine.hmp(f"xp /wx {IOAPIC:#x}")
                expect_equal(f"the IOAPIC's index after {name} in {initial}", 0,
                             int(text.split(":")[1], 16))
            guest.expect_laps(3)


def order(options=""):
    """In TCG, what one vCPU has read of the TSC and stored is never ahead of the other vCPU's TSC."""
    need_kvm()
    with Payload("tscorder64", "switch,initial=tcg" + options, laps=200, arguments=["-smp", "2"],
                 name="clock-order") as guest:
        guest.finish()


def order_control():
    """A negative control: the host may execute the guest's RDTSC before the loads that precede it."""
    need_kvm()
    with left_out("tsc-order", "ERROR steps back"):
        order(",x-omit=tsc-order")


main({"order": order, "order-control": order_control, "wall": wall, "kvmclock": kvmclock,
      "kvmclock-control": kvmclock_control, "kvmclock-stopped": kvmclock_stopped, "kvmclock-device": kvmclock_device, "pit": pit})
