#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
A Debian i386's devices at work while it is switched: disks at IDE, AHCI, virtio-blk and virtio-scsi,
the latter two with an iothread each, written and read with requests in flight; frames between an
e1000 and a virtio-net; a USB tablet; a PS/2 keyboard.  Each byte, frame, click and key comes once
and in order.  And a balloon, which takes memory in one window and gives it back in the next.
"""

import re
import tempfile
import time

from pathlib import Path

from lib.rigtest import (Failure, Guest, LAST_SECONDS, Machine, Switcher, a_host, arguments,
                         check_log, check_resets, check_verdict, run_test, image, machine_arguments,
                         say, seconds)
from vas.testing import wait_until

DISK_BYTES = 1 << 20            # what vas-load --block writes to
DISKS = {"ide": ["-device", "ide-hd,bus=ide.1,drive=ide"],
         "ahci": ["-device", "ahci,id=sata", "-device", "ide-hd,bus=sata.0,drive=ahci"],
         "virtio-blk": ["-object", "iothread,id=thread0",
                        "-device", "virtio-blk-pci,iothread=thread0,drive=virtio-blk"],
         "virtio-scsi": ["-object", "iothread,id=thread1",
                         "-device", "virtio-scsi-pci,iothread=thread1,id=scsi",
                         "-device", "scsi-hd,bus=scsi.0,drive=virtio-scsi"]}
OTHERS = ["-netdev", "hubport,id=end0,hubid=0", "-device", "e1000,netdev=end0,romfile=",
          "-netdev", "hubport,id=end1,hubid=0", "-device", "virtio-net-pci,netdev=end1,romfile=",
          "-device", "qemu-xhci", "-device", "usb-tablet", "-device", "virtio-balloon-pci"]
MIB = 1 << 20
# What the balloon leaves of the guest's memory, in turn.
MEMORY = (200 * MIB, 256 * MIB)
# EV_ABS with ABS_X, EV_KEY with BTN_LEFT and with KEY_A, as od shows a struct input_event's end.
MOVE, BUTTON, KEY = "00000003", "01100001", "001e0001"


def device_arguments(host, disk, scratch):
    """The guest's @disk and the devices under test; each has its own copy of the file @scratch."""
    command = ["-drive", f"file={host.put(disk)},format=raw,if=none,id=boot,snapshot=on",
               "-device", "virtio-blk-pci,drive=boot,bootindex=0", *OTHERS]
    path = host.put(str(scratch))
    for name, device in DISKS.items():
        command += ["-drive", f"file={path},format=raw,if=none,id={name},snapshot=on", *device]
    return command


def words(guest, line, count, what):
    """
    What the shell's command @line prints: @count words, once they are there, as udev may still be
    looking for devices when the guest asks for a login.
    """
    said = ""

    def are_there():
        nonlocal said
        status, said = guest.command(line, 120)
        return not status and len(said.split()) == count

    wait_until(are_there, lambda: f"{count} {what} expected, the guest says: {said}", 120)
    return said.split()


def msix_interrupts(guest):
    """How many the virtio devices have had by MSI-X."""
    _, text = guest.command("grep virtio /proc/interrupts")
    if "PCI-MSI" not in text:
        raise Failure(f"virtio has no MSI-X: {text}")
    return sum(int(line.split()[1]) for line in text.splitlines())


class Clicks:
    """A tablet that is moved to the right, its button and a key pressed and released in turn."""

    def __init__(self, guest):
        self._guest = guest
        self._sent = 0

    @staticmethod
    def position(number):
        return number * 256

    def send(self, count):
        """Each is waited for, as the tablet keeps a few only."""
        for _ in range(count):
            self._sent += 1
            position, down = self.position(self._sent), self._sent % 2 == 1
            self._guest.machine.qmp("input-send-event", {"events": [
                {"type": "abs", "data": {"axis": "x", "value": position}},
                {"type": "btn", "data": {"button": "left", "down": down}}]})
            self._guest.expect(f"{MOVE} {position:08x}", 60)
            self._guest.machine.qmp("input-send-event", {"events": [
                {"type": "key", "data": {"key": {"type": "qcode", "data": "a"}, "down": down}}]})
            self._guest.expect(f"{KEY} {down:08x}", 60)

    def check(self, text):
        """@text is all that the guest has read."""
        moves = [int(value, 16) for value in re.findall(MOVE + " ([0-9a-f]{8})", text)]
        numbers = range(1, self._sent + 1)
        if moves != [self.position(n) for n in numbers]:
            raise Failure(f"{self._sent} moves, the guest read {moves}")
        for event in (BUTTON, KEY):
            values = [int(value, 16) for value in re.findall(event + " ([0-9a-f]{8})", text)]
            if values != [n % 2 for n in numbers]:
                raise Failure(f"{event} {self._sent} times, the guest read {values}")
        say(f"{self._sent} clicks, as many keys")


def wait_balloon(guest, size):
    """Until the balloon leaves @size bytes."""
    def actual():
        return guest.machine.qmp("query-balloon")["actual"]

    wait_until(lambda: actual() == size, lambda: f"the balloon leaves {actual()} bytes, not {size}",
               30 * guest.pace)


def test(args):
    disk = str(image.image_path())
    with tempfile.TemporaryDirectory() as folder, \
            a_host(args.local, args.deadline, [disk]) as host:
        scratch = Path(folder) / "scratch.raw"
        scratch.write_bytes(bytes(DISK_BYTES))
        command = [*machine_arguments(args), *device_arguments(host, disk, scratch)]
        with Machine(command, binary="i386", host=host, name="devices",
                     deadline=args.deadline - LAST_SECONDS) as machine:
            guest = Guest(machine)
            switcher = Switcher(machine, args.accel.startswith("switch"))
            guest.boot()
            say("logged in")
            sectors = DISK_BYTES // 512
            disks = words(guest, f"cd /sys/block; grep -lx {sectors} */size | cut -d/ -f1",
                          len(DISKS), "disks")
            links = words(guest, "cd /sys/class/net; ls | grep -v lo", 2, "interfaces")
            events = words(guest, "cd /sys/class/input; grep -l -e Tablet -e 'AT.*keyboard' "
                           "event*/device/name | cut -d/ -f1", 2, "tablet and keyboard")
            before = msix_interrupts(guest)
            for event in events:
                guest.send(f"od -An -v -tx4 -w16 /dev/input/{event} &\n")
            start = len(machine.serial.text())
            clicks = Clicks(guest)
            guest.start_load(" ".join([*(f"--block /dev/{name}" for name in disks),
                                       "--link " + ",".join(links)]))
            guest.wait_round(120)
            for pair in range(args.pairs):
                size = MEMORY[pair % 2]
                clicks.send(2)
                machine.qmp("balloon", value=size)
                switcher.to("tcg", "devices at work")
                clicks.send(2)
                time.sleep(switcher.window)
                switcher.to("kvm", "devices at work")
                wait_balloon(guest, size)
                guest.wait_round(120)
            check_verdict(*guest.stop_load())
            clicks.check(machine.serial.text()[start:])
            count = msix_interrupts(guest) - before
            say(f"{count} interrupts by MSI-X")
            if count < 10:
                raise Failure(f"{count} interrupts came by MSI-X, not 10")
            check_log(guest)
            check_resets(machine)
            guest.poweroff()
            say(f"{len(machine.switches)} switches")


def main():
    parser = arguments(__doc__)
    parser.add_argument("--pairs", type=int, default=6, help="windows")
    parser.add_argument("--deadline", type=seconds, default=400, help="seconds for it all")
    args = parser.parse_args()
    run_test(test, args)


if __name__ == "__main__":
    main()
