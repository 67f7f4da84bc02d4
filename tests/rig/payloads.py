# SPDX-License-Identifier: GPL-2.0-or-later
"""
The bare-metal payloads under a real KVM, switched.  pae32 and cross32 can run nowhere else, where
the local /dev/kvm has no paging outside long mode.  Counts are low: TCG is slow within the rig.
"""

import argparse

from lib import hostile
from lib.faults import faults
from lib.rigtest import a_host, seconds
from lib.screen import screen
from lib.ways import PORT, all_ways
from vas import oracle
from vas.machine import MachineError
from vas.patience import patiently
from vas.soak import soak
from vas.testing import (LONG, Failure, Payload, at_monitor, expect_equal, left_out, run_test,
                         switch_must_wait, wait_until)

# payload: switches
COUNTS = {"pae32": 200, "cross32": 20, "idle16": 200, "soak16": 60, "soak64": 60}


def on_kvm_error(host):
    """KVM queues a #UD before it gives up an instruction; in TCG the guest must not see it."""
    with Payload("told32", "switch,initial=kvm,on-kvm-error=tcg", host=host,
                 arguments=["-no-reboot"], name="payloads-on-error") as guest:
        guest.expect_laps(3)
        for _ in range(10):
            guest.tell("x")
            expect_equal("accelerator", "tcg", guest.machine.accel())
            guest.expect_laps(3)
            guest.machine.switch("kvm")
            guest.expect_laps(3)


def on_kvm_error_waits(host):
    """
    While the switch has to wait, the vCPU meets the instruction again, and not the #UD: whether it is
    its own switch or another one that waits, and after the guest was stopped.
    """
    listener = host.listener("person")
    with Payload("told32", "switch,initial=kvm,on-kvm-error=tcg,x-wait=60", host=host,
                 arguments=["-no-reboot", "-chardev", f"socket,id=person,{listener.options}",
                            "-mon", "chardev=person", "-trace", "accel_switch_kvm_error"],
                 name="payloads-on-error-waits") as guest:
        machine = guest.machine
        person = listener.connect()
        person.settimeout(patiently(20))
        for another in (False, True) * 2:
            guest.expect_laps(3)
            at_monitor(person, "o /b 0x92 0")   # masks A20, which KVM doesn't know
            if another:
                number = machine.qmp_client.send("switch-accel", {"accel": "tcg"})
            met = machine.output().count("accel_switch_kvm_error")
            machine.serial.send("x")
            wait_until(lambda: machine.output().count("accel_switch_kvm_error") > met + 2,
                       "KVM executes the instruction")
            if not another:
                machine.stop()
                machine.cont()
            if "active: kvm" not in at_monitor(person, "info accel"):
                raise Failure("a guest whose A20 line is masked was switched")
            at_monitor(person, "o /b 0x92 2")
            machine.wait_event("ACCEL_SWITCHED", 10)
            if another:
                machine.qmp_client.answer(number, "switch-accel", 10)
            machine.debugcon.expect("^done: x", 10)
            guest.expect_laps(3)
            machine.switch("kvm")
            machine.wait_event("ACCEL_SWITCHED", 10)
        if "could not execute" in machine.output():
            raise Failure(f"QEMU says: {machine.output()}")


def smm(host):
    """System Management Mode, which the rig's KVM has: a switch waits for its end."""
    with Payload("told16", "switch,initial=kvm", host=host, arguments=["-M", "pc,smm=on"],
                 name="payloads-smm") as guest:
        guest.expect_laps(3)
        for accel in ("tcg", "kvm"):
            switch_must_wait(guest, accel, "s", "r", "System Management Mode")


def refused_at_start(host, why, *arguments):
    """QEMU must not start with these @arguments, and say @why."""
    try:
        with Payload("soak64", "switch,initial=kvm", host=host, name="payloads-refused",
                     arguments=arguments):
            pass
    except MachineError as error:
        if why not in str(error):
            raise
        return
    raise Failure(f"qemu-system-x86_64 starts with {' '.join(arguments)}")


def cpuid_control(host):
    """A negative control: TCG computes CPUID by itself, and control64 must see that."""
    way = all_ways()["control64"]
    with left_out("cpuid", "ERROR CPUID after a switch"), \
            way.payload("switch,initial=kvm,x-omit=cpuid", 3, host, PORT) as guest:
        guest.finish()


def payloads(deadline):
    with a_host(False, deadline) as host:
        print("oracle")
        oracle.expect_right(host)
        print("control64")
        cpuid_control(host)
        print("told16")
        smm(host)
        # TCG's area for the state in SMM is that of 64 bits then, and KVM's that of 32.
        refused_at_start(host, "SMM and a CPU without 'lm'", "-M", "pc,smm=on", "-cpu", "qemu32")
        # KVM shows PKRU in an XSAVE area only.
        refused_at_start(host, "with 'pku' and without 'xsave'", "-cpu", "qemu64,+pku")
        print("told32")
        on_kvm_error(host)
        on_kvm_error_waits(host)
        print("vga64")
        screen(host)
        print("hostile64")
        hostile.registers(host, xsave=True)
        hostile.fuzz(steps=200 if LONG else 20, host=host, xsave=True)
        hostile.refusals(host)
        hostile.fuzz_refusals(steps=200 if LONG else 20, host=host)
        hostile.from_kvm(host)
        hostile.without_tcg(host)
        hostile.reset_ends_it(host)
        hostile.debugger(host)
        faults("pae32", binary="i386", host=host, turns=1)
        for payload, count in COUNTS.items():
            print(payload)
            soak(payload, count * (10 if LONG else 1), host=host, laps=3, trips=5,
                 binary="i386" if payload == "pae32" else "x86_64")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deadline", type=seconds, default=600)
    run_test(payloads, parser.parse_args().deadline)


if __name__ == "__main__":
    main()
