# SPDX-License-Identifier: GPL-2.0-or-later
"""
Thousands of switches in a row, with the payload's verdict after each.
"""

import random
import time

from lib.ways import switch_at_random
from vas.machine import Machine
from vas.soak import SEED, report, soak
from vas.testing import LONG, Failure, Payload, expect_equal, main, need_kvm


def soak64():
    need_kvm()
    soak("soak64", 10000)


def soak64_from_tcg():
    need_kvm()
    soak("soak64", 200, initial="tcg")


def soak64_smp8():
    need_kvm()
    # The other vCPUs wait for a SIPI that never comes.
    soak("soak64", 200, arguments=["-smp", "8"])


def soak16():
    need_kvm()
    soak("soak16", 5000 if LONG else 1000)


def soak16_i386():
    need_kvm()
    soak("soak16", 200, binary="i386")


def idle16():
    need_kvm()
    soak("idle16", 20000 if LONG else 4000)


def burst():
    """Switches as fast as they go: the guest gets no more than the time in between."""
    need_kvm()
    with Payload("soak64", "switch,initial=kvm", name="soak-burst") as guest:
        for _ in range(20):
            for accel in ("tcg", "kvm") * 25:
                guest.machine.switch(accel)
            guest.expect_laps(3)
        report(guest.machine)


def differential():
    """With switches at random points the payload ends in the state that it has without any."""
    need_kvm()
    laps = 20000 if LONG else 5000
    with Payload("soak64", "tcg", laps=laps, name="differential-tcg") as guest:
        expected = guest.finish()
    generator = random.Random(SEED)
    with Payload("soak64", "switch,initial=kvm", laps=laps,
                 name="differential-switch") as guest:
        count = switch_at_random(guest, generator)
        print(f"{count} switches in {laps} laps")
        expect_equal("digest", expected, guest.finish())


def seabios(smp=2):
    """SeaBIOS with @smp vCPUs, INIT and SIPI included, and a reset now and then."""
    need_kvm()
    resets = 20 if LONG else 4
    with Machine(["-accel", "switch,initial=kvm", "-m", "64", "-smp", str(smp), "-nodefaults"],
                 debugcon=0x402, name="soak-seabios") as machine:
        accel = "kvm"
        for boot in range(resets + 1):
            booted = False
            switches = 0
            deadline = time.monotonic() + 120
            while not booted or switches < 50:
                if time.monotonic() > deadline:
                    raise Failure(f"boot {boot + 1} came to no end: "
                                  f"{machine.debugcon.tail()!r}")
                accel = "tcg" if accel == "kvm" else "kvm"
                machine.switch(accel)
                switches += 1
                time.sleep(0.01)
                text = machine.debugcon.unread()
                booted = "No bootable device" in text
            if f"Found {smp} cpu(s)" not in text:
                raise Failure(f"boot {boot + 1}: SeaBIOS did not find {smp} vCPUs")
            print(f"boot {boot + 1}: {switches} switches")
            machine.debugcon.skip()
            if boot < resets:
                machine.qmp("system_reset")
        report(machine)


main({"soak64": soak64, "soak64-from-tcg": soak64_from_tcg, "soak64-smp8": soak64_smp8,
      "soak16": soak16, "soak16-i386": soak16_i386, "idle16": idle16, "burst": burst,
      "differential": differential, "seabios": seabios,
      "seabios-smp8": lambda: seabios(8)})
