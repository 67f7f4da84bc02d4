# SPDX-License-Identifier: GPL-2.0-or-later
"""
The soak of a whole guest: Debian i386 under its self-checking load, switched at random times.

With more than one vCPU the same guest then runs under TCG alone: QEMU's own MTTCG has faults with code
that one vCPU modifies and another runs, and what both show is not the switch's.
"""

import random
import time

from vas import image
from vas.debian import Guest, disk_arguments
from vas.host import LocalHost
from vas.machine import Machine

# Seconds: TCG in the rig is TCG inside TCG, and does little in that time.
LONGEST_WINDOW = 0.3
CHECK_EVERY = 50


def arguments(host, accel, smp):
    return ["-accel", accel, "-smp", str(smp), "-m", "256", "-nic", "none",
            *disk_arguments(host)]


def boot(machine, in_rig):
    """Up to the load's first report."""
    guest = Guest(machine)
    guest.boot()
    guest.start_load("--light" if in_rig else "")
    guest.wait_round(120)
    return guest


def under_tcg(smp, checks, seconds):
    """
    The same guest under TCG alone, on this machine: until it has made so many @checks, or its load has run
    for so many @seconds.  Returns its verdict.
    """
    with LocalHost() as host, \
            Machine(arguments(host, "tcg", smp), binary="i386", host=host, name="soak-control",
                    deadline=seconds + 1800) as machine:
        guest = Guest(machine, pace=8)
        guest.boot()
        guest.start_load("--light")
        end = time.monotonic() + seconds
        done = 0
        while done <= checks and time.monotonic() < end:
            _, done = guest.wait_round(120)
        return guest.judge()


def soak_debian(host, count, smp, seed, record, say):
    """Returns the guest's verdict; the rest is in the Record."""
    generator = random.Random(seed)
    in_rig = host.name == "rig"
    with Machine(arguments(host, "switch,initial=kvm", smp), binary="i386", host=host,
                 name="soak-debian", deadline=count * 3 + 900) as machine:
        record.switches = machine.switches
        guest = boot(machine, in_rig)
        say(f"the load runs; now {count} switches")
        for number in range(1, count + 1):
            accel = "tcg" if number % 2 else "kvm"
            machine.switch(accel, timeout=180)
            time.sleep(generator.random() * LONGEST_WINDOW)
            record.remember_memory(machine, number, count)
            if number % (2 * CHECK_EVERY) == 0:
                rounds, checks = guest.wait_round(240)
                say(f"{number} switches, the load is in round {rounds} with {checks} checks")
        if machine.accel() == "tcg":
            machine.switch("kvm")
        result = guest.judge()
        guest.poweroff()
        return result


def disk():
    """The image, built if need be."""
    return str(image.image_path())
