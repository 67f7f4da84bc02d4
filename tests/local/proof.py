# SPDX-License-Identifier: GPL-2.0-or-later
"""
What a switch must not change, and what happens when KVM fails in the middle of one.
"""

import re

from lib.faults import faults
from vas import oracle
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
                                        ("soak64", "tcg", "xstate-bv", r"env\.(fp|mxcsr|xmm)"),
                                        ("soak64", "kvm", "lapic-count", "LAPIC's timer"),
                                        ("soak64", "tcg", "lapic-count", "LAPIC's timer")):
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


def oracle_control():
    """
    A negative control of test-x86-kvm-oracle, which asks KVM whether the table of the state is
    right: with the table's exceptions left out, KVM must be seen to differ.
    """
    need_kvm()
    answer = oracle.ask(options=["--exact"])
    print(answer.text)
    # PPR follows from TPR on every KVM.
    if not answer.wrong or "LAPIC[0xa0]" not in answer.text:
        raise Failure("the table's exceptions were left out, and no difference was seen")


def faults_payloads():
    need_kvm()
    faults("soak16", binary="i386")
    faults("idle16")


def faults_soak64(smp=1):
    need_kvm()
    faults("soak64", smp)


main({"roundtrip-soak64": lambda: roundtrip("soak64"),
      "roundtrip-smp": lambda: roundtrip("soak64", smp=4),
      "roundtrip-payloads": roundtrip_payloads, "roundtrip-from-tcg": roundtrip_from_tcg,
      "roundtrip-traced": roundtrip_traced, "roundtrip-control": roundtrip_control,
      "read-back": read_back, "faults": faults_soak64, "faults-smp": lambda: faults_soak64(2),
      "faults-payloads": faults_payloads, "oracle-control": oracle_control})
