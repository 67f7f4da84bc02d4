# SPDX-License-Identifier: GPL-2.0-or-later
"""Each ioctl of a switch made to fail in turn (-accel switch,x-fail-ioctls=on)."""

import re

from vas.host import LocalHost
from vas.hostfacts import modules
from vas.machine import QMPError
from vas.testing import Failure, Payload, expect_equal

# What every KVM is asked in a switch, of a vCPU and of the VM; some have more (XCRs, the TSC's
# offset).
IOCTLS = {
    "tcg": {f"KVM_GET_{name}" for name in (
        "DEBUGREGS", "LAPIC", "MP_STATE", "MSRS", "REGS", "VCPU_EVENTS")},
    "kvm": {f"KVM_SET_{name}" for name in (
        "DEBUGREGS", "LAPIC", "MP_STATE", "MSRS", "REGS", "VCPU_EVENTS", "XSAVE")},
}
# The slot that has KVM drop its shadow pages
SLOT = "KVM_SET_USER_MEMORY_REGION"
PAGING = (("kvm_intel", "ept"), ("kvm_amd", "npt"))


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


def pages_by_hardware(host):
    """Whether the @host (None: this machine) has EPT or NPT, so that KVM has no shadow pages."""
    found = modules(host or LocalHost())
    return any(found.get(module, {}).get(name) in ("Y", "1") for module, name in PAGING)


def missing(accel, smp, errors, host):
    """What was to fail in a switch to @accel and is not among the @errors."""
    failed = {name for error in errors for name in re.findall(r"KVM_[A-Z_]+", error)}
    vcpus = {f"vCPU {cpu}" for cpu in range(smp) if not any(f"vCPU {cpu}: KVM_" in error
                                                           for error in errors)}
    # Either form will do.
    sregs = f"KVM_{'GET' if accel == 'tcg' else 'SET'}_SREGS"
    expected = set(IOCTLS[accel])
    if accel == "kvm":
        if not pages_by_hardware(host):
            expected.add(SLOT)
        elif SLOT in failed:
            raise Failure(f"{SLOT} where KVM has no shadow pages")
    return vcpus | expected - failed | ({sregs} - {name.rstrip("2") for name in failed})


def faults(payload, smp=1, binary="x86_64", host=None, turns=2):
    """
    Each ioctl of a switch fails in turn, with each of some errnos: the guest runs on where it was,
    and the error names the ioctl.
    """
    with Payload(payload, "switch,initial=kvm,x-fail-ioctls=on", binary=binary, host=host,
                 name="faults", arguments=["-smp", str(smp)], deadline=900) as guest:
        guest.expect_laps(3)
        for accel, other in (("tcg", "kvm"), ("kvm", "tcg")) * turns:
            errors = fail_each_ioctl(accel, guest)
            # How many there are changes with what the LAPIC's timer does: one may be passed over.
            for _ in range(5):
                if not missing(accel, smp, errors, host):
                    break
                fail_each_ioctl(other, guest)
                errors += fail_each_ioctl(accel, guest)
            print(f"{payload} -smp {smp} to {accel}: {len(errors)} failures")
            for error in errors:
                if ": KVM_" not in error:
                    raise Failure(f"the error does not name the ioctl: {error}")
                if "KVM_SET_TSC_KHZ" in error:
                    raise Failure("a switch has set the TSC's frequency")
            expect_equal("what never failed", set(), missing(accel, smp, errors, host))
            guest.expect_laps(3)
        if guest.machine.events("STOP"):
            raise Failure("the guest was stopped")
