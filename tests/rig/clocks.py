#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
A Debian i386's clocksources against QEMU's ACPI PM timer, which counts the host's time: switched
each second they must not drift more than without a switch.  For some seconds each; ten minutes with
./vas check --long.

A guest's kernel judges its clocks itself.  At boot it measures the PM timer by the PIT, which on a
busy machine may have it give the timer up: skipped, then.  Where the rig's TSC is unstable, KVM
sets the guest's forward, by most of a millisecond on a busy machine, so that the kernel is told not
to watch it (GRUB's entry w).
"""

import re
import time

from lib.rigtest import (Failure, Guest, LAST_SECONDS, Machine, Skip, Switcher, a_host, arguments,
                         check_log, check_resets, check_verdict, run_test, image, machine_arguments,
                         mistaken_tsc, say, seconds)
from vas.debian import disk_arguments
from vas.testing import LONG

SOURCES = ("kvm-clock", "tsc", "hpet", "acpi_pm")
CONTROL = "/sys/devices/system/clocksource/clocksource0"
SECONDS = 600 if LONG else 10
# An unswitched guest's rate is known well enough after these.
SECONDS_UNSWITCHED = 120 if LONG else 10
# Of how far a clock may be off after all switches.
LIMIT_NS = 1_000_000
GIVEN_UP = "PM-Timer running at invalid rate"


def drift(guest, port, work):
    """How far the clock and the PM timer come apart during @work(), and in what time; ns."""
    guest.start_load(f"--pm-timer {port}")
    start = len(guest.machine.serial.text())
    work()
    check_verdict(*guest.stop_load())
    found = re.search(r"vas-load: drift (-?\d+) ns in (\d+) ns",
                      guest.machine.serial.text()[start:])
    return [int(number) for number in found.groups()]


def switches(switcher, count):
    """One each second, the last one to KVM."""
    for _ in range(count // 2):
        switcher.to("tcg", "a clock")
        time.sleep(1)
        switcher.to("kvm", "a clock")
        time.sleep(1)


def check_source(guest, switcher, port, name):
    guest.command(f"echo {name} > {CONTROL}/current_clocksource")
    _, current = guest.command(f"cat {CONTROL}/current_clocksource")
    if current != name:
        raise Failure(f"the guest does not take {name} for its clocksource, but {current}")
    alone, alone_time = drift(guest, port, lambda: time.sleep(SECONDS_UNSWITCHED))
    switched, switched_time = drift(guest, port, lambda: switches(switcher, SECONDS))
    rate = alone / alone_time
    excess = switched - rate * switched_time
    say(f"{name}: {rate * 1e6:+.1f} ppm without a switch; with {SECONDS} in "
        f"{switched_time / 1e9:.1f} s {excess / 1e3:+.0f} us beyond that")
    if abs(excess) > LIMIT_NS:
        raise Failure(f"{name} has drifted by {excess / 1e6:.3f} ms")


def available(guest, sources):
    """Those of @sources that the guest has, which may have given up the PM timer when it booted."""
    _, has = guest.command(f"cat {CONTROL}/available_clocksource")
    _, pm_timer = guest.command(f"dmesg | grep '{GIVEN_UP}'")
    left = [name for name in sources if name in has.split()]
    if set(sources) - set(left) - ({"acpi_pm"} if pm_timer else set()):
        _, why = guest.command("dmesg | grep -iE 'clocksource|tsc|pm-timer'")
        raise Failure(f"the guest's clocksources are {has}; it says: {why}")
    return left


def test(args):
    disk = str(image.image_path())
    cmdline = args.cmdline
    if args.tsc_ppm:
        cmdline += " " + mistaken_tsc(args.tsc_ppm, args.deadline)
    with a_host(args.local, args.deadline, [disk], cmdline=cmdline) as host:
        command = [*machine_arguments(args), *disk_arguments(host, args.disk)]
        with Machine(command, binary="i386", host=host, name="clocks",
                     deadline=args.deadline - LAST_SECONDS) as machine:
            guest = Guest(machine)
            switcher = Switcher(machine, args.accel.startswith("switch"))
            guest.boot(args.key)
            say("logged in")
            sources = available(guest, args.sources)
            _, port = guest.command("grep PM_TMR /proc/ioports")
            for name in sources:
                check_source(guest, switcher, "0x" + port.split("-")[0].strip(), name)
            check_log(guest)
            check_resets(machine)
            available(guest, sources)
            guest.poweroff()
            if sources != list(args.sources):
                raise Skip(f"all but acpi_pm went well; at boot the guest said: {GIVEN_UP}")


def main():
    parser = arguments(__doc__)
    parser.add_argument("--cmdline", default="",
                        help="more for the rig's kernel, such as tsc=unstable")
    parser.add_argument("--tsc-ppm", type=int, default=0,
                        help="by how much the rig's kernel takes its TSC to be faster than it is")
    parser.add_argument("--key", default="\r", help="of another entry of GRUB's menu")
    parser.add_argument("--sources", type=lambda text: text.split(","), default=SOURCES,
                        help="names of clocksources, with commas")
    parser.add_argument("--deadline", type=seconds, default=600, help="seconds for it all")
    args = parser.parse_args()
    run_test(test, args)


if __name__ == "__main__":
    main()
