# SPDX-License-Identifier: GPL-2.0-or-later
"""
Payloads without any switch: under TCG alone and under KVM alone they find no error and end with
the same digest.  What fails here is no fault of switching.  The guests of ./vas bench are switched,
too.
"""

from vas.testing import PLAIN_KVM, Payload, expect_equal, main, need_kvm

LAPS = {"soak64": 2000, "soak16": 200, "idle16": 400}


def alone(payload, accel, binary="x86_64"):
    with Payload(payload, accel, laps=LAPS.get(payload, 1000), binary=binary,
                 name=f"payload-{payload}") as guest:
        return guest.finish()


def tcg():
    for payload in LAPS:
        alone(payload, "tcg")
    # 32-bit paging, which not every /dev/kvm has
    for binary in ("x86_64", "i386"):
        alone("pae32", "tcg", binary)
        with Payload("cross32", "tcg", laps=50, binary=binary, name="payload-cross32",
                     arguments=["-device", "loader,addr=0x504,data=1,data-len=4"]) as guest:
            guest.finish()
    expect_equal("digest of the i386 binary", alone("soak16", "tcg"),
                 alone("soak16", "tcg", "i386"))


def kvm():
    need_kvm()
    for payload in LAPS:
        expect_equal(f"digest of {payload}", alone(payload, "tcg"), alone(payload, PLAIN_KVM))
    expect_equal("digest of the i386 binary", alone("soak16", "tcg"),
                 alone("soak16", PLAIN_KVM, "i386"))


def bench():
    """What ./vas bench measures is right under either accelerator, and where it is switched."""
    need_kvm()
    for payload, vcpus in (("compute64", 1), ("compute64", 2), ("syscall64", 1), ("remap64", 1)):
        arguments = ["-smp", str(vcpus), "-device",
                     f"loader,addr=0x508,data={vcpus},data-len=4"]
        digests = []
        for accel in ("tcg", PLAIN_KVM):
            with Payload(payload, accel, laps=10, name=f"payload-{payload}",
                         arguments=arguments) as guest:
                digests.append(guest.finish())
        expect_equal(f"digest of {payload}", *digests)
        with Payload(payload, "switch", name=f"payload-{payload}", arguments=arguments) as guest:
            for target in ("tcg", "kvm", "tcg", "kvm"):
                guest.expect_laps(3)
                guest.machine.switch(target)
            guest.expect_laps(3)


main({"tcg": tcg, "kvm": kvm, "bench": bench})
