#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
A Debian amd64 kernel is switched while it boots, under load and idle.  The load is the i386
guest's: a 64-bit kernel runs it in compatibility mode, so that both modes are met.  --efi boots it by
OVMF, and switches while that runs, too.
"""

import os
import stat
import tempfile
import time

from pathlib import Path

from lib.rigtest import (Failure, Guest, LAST_SECONDS, Machine, RoundTrips, Switcher, a_host, arguments,
                         check_log, check_resets, check_verdict, run_test, image, machine_arguments,
                         pace_of, say, seconds)
from vas import rigtree
from vas.qmp import QMPError

# Of the package ovmf; what has Secure Boot keeps its variables in SMM
OVMF = "/usr/share/OVMF/OVMF_CODE_4M{}.fd"
VARIABLES = "/usr/share/OVMF/OVMF_VARS_4M.fd"
FIRMWARE_WINDOWS = 20

INIT = """#!/bin/sh
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
dmesg -n 1
stty -echo < /dev/console
echo vas-init: up
export PS1='vas''@guest# '
exec setsid cttyhack sh
"""


def initramfs(scratch):
    """busybox, the load, and an init that is a shell on the console."""
    load = scratch / "vas-load"
    image.build_load(load, scratch / "build.log")
    folder, program = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o755
    files = [(name, folder) for name in ("bin", "proc", "sys", "dev", "var", "var/tmp")]
    files += [("bin/busybox", program, rigtree.busybox().read_bytes()),
              ("bin/vas-load", program, load.read_bytes()),
              ("init", program, INIT.encode())]
    for name in ("sh mount dmesg stty echo setsid cttyhack grep sleep cat uname poweroff "
                 "reboot").split():
        files.append((f"bin/{name}", stat.S_IFLNK | 0o777, b"busybox"))
    path = scratch / "initrd"
    path.write_bytes(rigtree.cpio(files))
    return path


def ovmf(host, smm):
    """QEMU's arguments for OVMF in two flash chips, which are left as they are."""
    code = OVMF.format(".secboot" if smm else "")
    for file in (code, VARIABLES):
        if not os.path.exists(file):
            raise Failure(f"{file} is missing: ./vas check installs its package, ovmf")
    code, variables = host.put(code), host.put(VARIABLES)
    secure = ["-global", "driver=cfi.pflash01,property=secure,value=on"] if smm else []
    return [*secure, "-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={code}",
            "-drive", f"if=pflash,unit=1,format=raw,snapshot=on,file={variables}"]


def switch_in_firmware(guest, switcher):
    """From its first instructions on until it starts the kernel."""
    for number in range(2 * FIRMWARE_WINDOWS):
        accel = "kvm" if number % 2 else "tcg"
        while True:
            try:
                switcher.to(accel, f"OVMF, {number // 2 + 1}")
                break
            except QMPError as refusal:
                # It may stay in SMM for longer than a switch waits.
                if "System Management Mode" not in str(refusal):
                    raise
                say(str(refusal))
        time.sleep(switcher.window if accel == "tcg" else switcher.window / 2)
        if accel == "kvm" and "EFI stub" in guest.machine.serial.text():
            break
    guest.expect("EFI stub", 120)


def test(args):
    vmlinuz, _, release = rigtree.kernel()
    with tempfile.TemporaryDirectory() as scratch, \
            a_host(args.local, args.deadline) as host:
        initrd = initramfs(Path(scratch))
        command = [*machine_arguments(args), *(ovmf(host, "smm=on" in args.machine) if args.efi else []),
                   "-kernel", host.put(os.fspath(vmlinuz)),
                   "-initrd", host.put(os.fspath(initrd)),
                   "-append", "console=ttyS0 loglevel=6 mitigations=off panic=-1"]
        with Machine(command, binary="x86_64", host=host, name="amd64",
                     deadline=args.deadline - LAST_SECONDS) as machine:
            guest = Guest(machine)
            switcher = Switcher(machine, args.accel.startswith("switch"))
            with RoundTrips(machine, args.roundtrip):
                if args.efi:
                    switch_in_firmware(guest, switcher)
                guest.wait_phase("kernel", 60)
                switcher.there_and_back("early kernel")
                guest.expect(r"Key type|Run /init|integrity", 90)
                switcher.there_and_back("kernel's device probing")
                guest.expect(r"vas-init: up", 90)
                guest.expect("vas@guest# ", 60)
                _, name = guest.command("uname -rm")
                say(f"booted {name}")
                assert release in name and "x86_64" in name, name
                guest.start_load("--light" if host.name == "rig" else "")
                guest.wait_round()
                for _ in range(args.pairs):
                    switcher.there_and_back("under load")
                    guest.wait_round(60)
                check_verdict(*guest.stop_load())
                time.sleep(1)
                switcher.to("tcg", "idle")
                guest.send("echo woken-$((40 + 2))\n")
                guest.expect("woken-42", 60)
                switcher.to("kvm", "idle")
                check_log(guest)
                check_resets(machine)
                guest.send("poweroff -f\n")
                status = machine.wait(60 * pace_of(host))
                assert status == 0, status
            say(f"{len(machine.switches)} switches")


def main():
    parser = arguments(__doc__)
    parser.set_defaults(smp=2)
    parser.add_argument("--efi", action="store_true", help="boot by OVMF; with --machine "
                        "q35,smm=on by one that uses SMM")
    parser.add_argument("--pairs", type=int, default=4, help="windows under load")
    parser.add_argument("--deadline", type=seconds, default=400, help="seconds for it all")
    args = parser.parse_args()
    run_test(test, args)


if __name__ == "__main__":
    main()
