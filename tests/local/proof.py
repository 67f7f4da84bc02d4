# SPDX-License-Identifier: GPL-2.0-or-later
"""
What a switch must not change, and what happens when KVM fails in the middle of one.
"""

import re

from vas.machine import QMPError
from vas.testing import LONG, Failure, Payload, expect_equal, main, need_kvm

TRIPS = 1000 if LONG else 100


def roundtrip(payload, accel="kvm", smp=1, binary="x86_64"):
    """To the other accelerator and back, without one instruction, changes nothing that shows."""
    need_kvm()
    with Payload(payload, f"switch,initial={accel}", binary=binary, name="proof-roundtrip",
                 arguments=["-smp", str(smp)]) as guest:
        for _ in range(TRIPS):
            guest.expect_laps(1)
            guest.machine.qmp("x-accel-roundtrip")
        expect_equal("switches", 0, guest.machine.qmp("query-accel")["switches"])
        guest.machine.stop()
        if "nothing has changed" not in guest.machine.hmp("x_accel_roundtrip"):
            raise Failure("x_accel_roundtrip found a change in a stopped guest")
        expect_equal("status", "paused", guest.machine.qmp("query-status")["status"])
        guest.machine.cont()
        guest.expect_laps(3)


def roundtrip_payloads():
    """What is not run in the four ways; pae32 and cross32 are rig-payloads'."""
    for payload in ("soak16", "idle16", "told16", "told32", "msr64", "fault64", "clock64", "vga64",
                    "hostile64"):
        roundtrip(payload)
    roundtrip("soak16", binary="i386")


def roundtrip_from_tcg():
    for payload in ("soak64", "soak16", "idle16", "told32"):
        roundtrip(payload, "tcg")


def roundtrip_traced():
    """Round trips just after what a device or an interrupt controller does."""
    need_kvm()
    anywhere = ("memory_region_ops_write", "pic_set_irq", "pic_interrupt", "pic_ioport_write")
    for payload, accel, events in (
            ("soak64", "kvm", anywhere), ("soak16", "kvm", anywhere),
            ("soak64", "tcg", (*anywhere, "apic_local_deliver", "apic_register_write"))):
        with Payload(payload, f"switch,initial={accel}", name="proof-traced") as guest:
            for event in events * (TRIPS // 10):
                guest.expect_laps(1)
                if not guest.machine.wait_trace(event, 20):
                    raise Failure(f"{payload} in {accel}: no {event} within 20 s")
                guest.machine.qmp("x-accel-roundtrip")
            guest.expect_laps(3)


def roundtrip_control():
    """With a fix-up left out a round trip finds the change, and names it."""
    need_kvm()
    for payload, accel, omit, field in (("soak16", "kvm", "reinject", r"events\.interrupt"),
                                        ("soak64", "tcg", "xstate-bv", r"env\.(fp|mxcsr|xmm)")):
        with Payload(payload, f"switch,initial={accel},read-back=off,x-omit={omit}",
                     name="proof-control") as guest:
            guest.expect_laps(3)
            for number in range(2000):
                try:
                    guest.machine.qmp("x-accel-roundtrip")
                except QMPError as error:
                    print(f"without {omit}, trip {number}: {error}")
                    if not re.search(field, str(error)):
                        raise Failure(f"the error does not name {field}: {error}") from error
                    break
                if number % 20 == 0:
                    guest.expect_laps(1)
            else:
                raise Failure(f"{omit} was left out and {number} round trips found nothing")


def read_back():
    """
    A KVM without paging outside long mode takes CR0.PG and leaves it clear: the guest must not get
    there.  Where KVM does page, it does get there.
    """
    need_kvm()
    for binary in ("x86_64", "i386"):
        for payload in ("pae32", "cross32"):
            with Payload(payload, "switch,initial=tcg", binary=binary, name="proof-read-back") \
                    as guest:
                machine = guest.machine
                guest.expect_laps(3)
                try:
                    machine.switch("kvm")
                    print(f"{payload}: KVM has taken it")
                except QMPError as error:
                    print(f"{payload}: {error}")
                    if "sregs.cr0" not in str(error):
                        raise Failure(f"the error does not name CR0: {error}") from error
                    expect_equal("accelerator", "tcg", machine.accel())
                guest.expect_laps(3)


# What every KVM is asked in a switch, of a vCPU and of the VM; some have more (XCRs, the TSC's
# offset).
IOCTLS = {
    "tcg": {f"KVM_GET_{name}" for name in (
        "DEBUGREGS", "LAPIC", "MP_STATE", "MSRS", "REGS", "VCPU_EVENTS")},
    "kvm": {f"KVM_SET_{name}" for name in (
        "DEBUGREGS", "GSI_ROUTING", "LAPIC", "MP_STATE", "MSRS", "REGS", "USER_MEMORY_REGION",
        "VCPU_EVENTS", "XSAVE")},
}


def fail_each_ioctl(accel, guest):
    """Switch until no ioctl is left to fail; returns the errors."""
    machine = guest.machine
    before = machine.accel()
    errors = []
    while True:
        try:
            machine.switch(accel)
            return errors
        except QMPError as error:
            errors.append(str(error))
        expect_equal("accelerator", before, machine.accel())
        expect_equal("status", "running", machine.qmp("query-status")["status"])
        guest.expect_laps(1)


def missing(accel, smp, errors):
    """What was to fail in a switch to @accel and is not among the @errors."""
    failed = {name for error in errors for name in re.findall(r"KVM_[A-Z_]+", error)}
    vcpus = {f"vCPU {cpu}" for cpu in range(smp) if not any(f"vCPU {cpu}: KVM_" in error
                                                           for error in errors)}
    # Either form will do.
    sregs = f"KVM_{'GET' if accel == 'tcg' else 'SET'}_SREGS"
    return vcpus | IOCTLS[accel] - failed | ({sregs} - {name.rstrip("2") for name in failed})


def faults(payload="soak64", smp=1, binary="x86_64"):
    """
    Each ioctl of a switch fails in turn, with each of some errnos: the guest runs on where it was,
    and the error names the ioctl.
    """
    need_kvm()
    with Payload(payload, "switch,initial=kvm,x-fail-ioctls=on", binary=binary,
                 name="proof-faults", arguments=["-smp", str(smp)]) as guest:
        guest.expect_laps(3)
        for accel, other in (("tcg", "kvm"), ("kvm", "tcg")) * 2:
            errors = fail_each_ioctl(accel, guest)
            # How many there are changes with what the LAPIC's timer does: one may be passed over.
            for _ in range(5):
                if not missing(accel, smp, errors):
                    break
                fail_each_ioctl(other, guest)
                errors += fail_each_ioctl(accel, guest)
            print(f"{payload} -smp {smp} to {accel}: {len(errors)} failures")
            for error in errors:
                if ": KVM_" not in error:
                    raise Failure(f"the error does not name the ioctl: {error}")
                if "KVM_SET_TSC_KHZ" in error:
                    raise Failure("a switch has set the TSC's frequency")
            expect_equal("what never failed", set(), missing(accel, smp, errors))
            guest.expect_laps(3)
        if guest.machine.events("STOP"):
            raise Failure("the guest was stopped")


def faults_payloads():
    faults("soak16", binary="i386")
    faults("idle16")


main({"roundtrip-soak64": lambda: roundtrip("soak64"),
      "roundtrip-smp": lambda: roundtrip("soak64", smp=4),
      "roundtrip-payloads": roundtrip_payloads, "roundtrip-from-tcg": roundtrip_from_tcg,
      "roundtrip-traced": roundtrip_traced, "roundtrip-control": roundtrip_control,
      "read-back": read_back, "faults": faults, "faults-smp": lambda: faults(smp=2),
      "faults-payloads": faults_payloads})
