#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
A Debian i386 is switched in every phase of its life: in the BIOS, at GRUB's menu, in
the kernel's early boot, in the initramfs, while systemd starts, at the login prompt,
under load, idle, across a reboot, and while it shuts down.
"""

import time

from lib.rigtest import (BiosConsole, Failure, Guest, LAST_SECONDS, Machine, RoundTrips, Switcher,
                         a_host, arguments, check_log, check_verdict, run_test, image,
                         machine_arguments, say, seconds)
from vas.debian import disk_arguments


def start_in_tcg(guest, switcher):
    """The BIOS and the menu in TCG, from the first instruction on."""
    guest.wait_phase("grub", 120)
    guest.expect("Debian i386", 120)
    switcher.to("kvm", "GRUB's menu")
    guest.send("\r")


def boot_switching(guest, switcher, bios):
    bios.expect("SeaBIOS", 60)
    switcher.there_and_back("BIOS")
    bios.expect("Booting from", 120)
    switcher.there_and_back("BIOS, boot sector")
    guest.wait_phase("grub")
    guest.expect("Debian i386", 60)
    switcher.to("tcg", "GRUB's menu")
    # A key stops the countdown: the menu takes it under TCG, and redraws itself.
    guest.send("\x1b[B")
    time.sleep(switcher.window)
    guest.send("\x1b[A")
    switcher.to("kvm", "GRUB's menu")
    guest.send("\r")


def rest_of_boot(guest, switcher):
    guest.wait_phase("kernel", 120)
    switcher.there_and_back("early kernel")
    guest.expect(r"Key type|Loading compiled-in", 120)
    switcher.there_and_back("kernel's device probing")
    guest.wait_phase("initramfs", 120)
    switcher.there_and_back("initramfs")
    guest.wait_phase("systemd", 120)
    switcher.there_and_back("systemd starts")
    guest.expect(r"Reached target", 120)
    switcher.there_and_back("systemd's units")
    guest.wait_phase("login", 180)


def at_login(guest, switcher):
    """The prompt answers under TCG, too."""
    switcher.to("tcg", "login prompt")
    guest.send("\n")
    guest.wait_phase("login", 120)
    switcher.to("kvm", "login prompt")
    guest.login()


def load(guest, switcher, pairs, options):
    guest.start_load(options)
    guest.wait_round()
    for _ in range(pairs):
        switcher.there_and_back("under load")
        guest.wait_round(120)
    check_verdict(*guest.stop_load())


def idle(guest, switcher):
    """A halted vCPU goes to TCG halted, and is woken there."""
    time.sleep(2)
    switcher.to("tcg", "idle")
    time.sleep(switcher.window)
    guest.send("echo woken-$((40 + 2))\n")
    guest.expect("woken-42", 120)
    time.sleep(switcher.window)
    switcher.to("kvm", "idle")
    # A sleep that began under one accelerator ends under the other.
    guest.send("sleep 3; echo slept-$((40 + 2))\n")
    time.sleep(0.5)
    switcher.there_and_back("asleep")
    guest.expect("slept-42", 120)


def reboot(guest, switcher, bios):
    guest.send("reboot\n")
    guest.expect("reboot: Restarting system", 120)
    switcher.to("tcg", "reboot")
    bios.expect("SeaBIOS", 120)
    switcher.to("kvm", "reboot")
    guest.boot()


def shutdown(guest, switcher):
    guest.send("poweroff\n")
    guest.expect("Stopped target|Stopping", 120)
    switcher.there_and_back("shutdown")
    status = guest.machine.wait(180 * guest.pace)
    if status:
        raise Failure(f"QEMU ended with status {status}")


def test(args):
    disk = str(image.image_path())
    accel = args.accel
    with a_host(args.local, args.deadline, [disk]) as host:
        command = machine_arguments(args)
        if args.disk == "ahci":
            path = host.put(disk)
            command += ["-drive", f"file={path},format=raw,if=none,id=disk,snapshot=on",
                        "-device", "ide-hd,drive=disk"]
        else:
            command += disk_arguments(host, args.disk)
        bios = BiosConsole(host)
        with Machine(command + bios.arguments, binary="i386", host=host, name="debian",
                     deadline=args.deadline - LAST_SECONDS, start=False) as machine:
            bios.connect(machine)
            machine.cont()
            guest = Guest(machine)
            switcher = Switcher(machine, accel.startswith("switch"))
            with RoundTrips(machine, args.roundtrip):
                if "initial=tcg" in accel:
                    start_in_tcg(guest, switcher)
                else:
                    boot_switching(guest, switcher, bios)
                rest_of_boot(guest, switcher)
                say("login prompt")
                at_login(guest, switcher)
                load(guest, switcher, args.pairs, "--light" if host.name == "rig" else "")
                idle(guest, switcher)
                check_log(guest)
                if not args.no_reboot:
                    reboot(guest, switcher, bios)
                    check_log(guest)
                shutdown(guest, switcher)
                bios.check_boots(1 if args.no_reboot else 2)
            say(f"{len(machine.switches)} switches")


def main():
    parser = arguments(__doc__)
    parser.add_argument("--pairs", type=int, default=4, help="windows under load")
    parser.add_argument("--no-reboot", action="store_true", help="leave the reboot out")
    parser.add_argument("--deadline", type=seconds, default=600, help="seconds for it all")
    args = parser.parse_args()
    run_test(test, args)


if __name__ == "__main__":
    main()
