# SPDX-License-Identifier: GPL-2.0-or-later
"""
Guests that are no Linux, and that nobody here wrote: each is switched again and again while it works, and is
watched by its text screen.
"""

import argparse
import re
import time

from lib.rigtest import LAST_SECONDS, Failure, Machine, Switcher, a_host, pace_of, run_test, say, seconds
from vas import debs
from vas.host import LocalHost
from vas.patience import patiently

COLUMNS, ROWS = 80, 25


class Screen:
    """The text that VGA shows of @machine."""

    def __init__(self, machine):
        self._machine = machine
        self._pace = pace_of(machine.host)

    def rows(self):
        said = self._machine.hmp(f"xp /{COLUMNS * ROWS}hx 0xb8000")
        cells = [int(cell, 16) & 0xff for cell in re.findall(r"0x([0-9a-f]{4})\b", said)]
        text = "".join(chr(cell) if 32 <= cell < 127 else " " for cell in cells)
        return [text[n:n + COLUMNS].rstrip() for n in range(0, len(text), COLUMNS)]

    def text(self):
        return "\n".join(self.rows())

    def wait(self, pattern, timeout, meanwhile=lambda: None):
        """Until it shows the regular expression @pattern; @meanwhile is called again and again."""
        give_up = time.monotonic() + patiently(timeout * self._pace)
        while True:
            text = self.text()
            found = re.search(pattern, text)
            if found:
                return found
            if time.monotonic() > give_up:
                raise Failure(f"'{pattern}' does not come; the screen shows:\n{text}")
            meanwhile()
            time.sleep(0.1)

    def type(self, text):
        """Keys, one after the other."""
        for character in text:
            self._machine.hmp("sendkey " + {"\n": "ret", " ": "spc", "-": "minus"}.get(character, character))
            time.sleep(0.15)


class Windows:
    """Stays in TCG and in KVM in turn, of a length that the guest chooses for itself."""

    def __init__(self, machine, enabled):
        self._switcher = Switcher(machine, enabled)
        self.count = 0

    def __call__(self):
        """A stay in TCG, and as long in KVM again."""
        self.count += 1
        self._switcher.window = 0.1 + 0.1 * (self.count % 4)
        self._switcher.there_and_back(f"window {self.count}")
        time.sleep(self._switcher.window)


def memtest(screen, windows):
    """
    memtest86+ tests all memory with patterns of its own, on two CPUs: it would find what a switch lost of
    memory, caches of translations, or SSE registers.
    """
    screen.wait(r"Memtest86\+ v", 60)
    tests = set()

    def watch():
        windows()
        text = screen.text()
        found = re.search(r"Errors: +(\d+)", text)
        if found and int(found.group(1)):
            raise Failure(f"memtest86+ has found errors:\n{text}")
        test = re.search(r"Test #(\d+)", text)
        if test:
            tests.add(int(test.group(1)))

    watch()
    # The last but one of a pass; the last waits for minutes.
    screen.wait(r"Test #9", 300, watch)
    text = screen.text()
    if not re.search(r"Errors: +0\b", text) or len(tests) < 3:
        raise Failure(f"tests {sorted(tests)} were seen; the screen shows:\n{text}")
    say(f"memtest86+: tests {sorted(tests)}, {re.search(r'Pass +[0-9]+%', text).group(0)}, no error")


def grub(screen, windows):
    """GRUB's rescue CD: its menu, and its command line by the keyboard."""
    screen.wait(r"GNU GRUB +version", 60, windows)
    windows()
    screen.type("c")
    screen.wait(r"grub>", 30, windows)
    for number in range(3):
        screen.type(f"echo answer {number}\n")
        screen.wait(rf"(?m)^answer {number}$", 30, windows)
    screen.type("ls\n")
    screen.wait(r"\(cd\)|\(cd0\)|\(hd0\)", 30, windows)


def ipxe(screen, windows):
    """iPXE gets an address from QEMU's user network, by an e1000."""
    screen.wait(r"net0: 10\.0\.2\.15", 120, windows)
    screen.wait(r"No more network devices|Nothing to boot|No bootable device", 120, windows)


MEMTEST, GRUB, IPXE = "memtest86+", "grub-rescue-pc", "ipxe"
# For each guest: its function, its package, the file in that package, and QEMU's arguments. PATH among
# these stands for the file's path.
GUESTS = {
    "memtest": (memtest, MEMTEST, "boot/memtest86+x64.bin",
                ["-m", "24", "-smp", "2", "-nic", "none", "-kernel", "PATH"]),
    "memtest32": (memtest, MEMTEST, "boot/memtest86+ia32.bin",
                  ["-M", "q35", "-m", "24", "-smp", "2", "-nic", "none", "-kernel", "PATH"]),
    "grub": (grub, GRUB, "usr/lib/grub-rescue/grub-rescue-cdrom.iso",
             ["-m", "64", "-nic", "none", "-boot", "d", "-cdrom", "PATH"]),
    "ipxe": (ipxe, IPXE, "boot/ipxe.lkrn", ["-m", "64", "-nic", "user,model=e1000", "-kernel", "PATH"]),
}


def one(name, host, accel, deadline):
    work, package, file, arguments = GUESTS[name]
    path = host.put(str(debs.unpacked(package) / file))
    with Machine(["-accel", accel, *(path if part == "PATH" else part for part in arguments)], host=host,
                 name=f"guest-{name}", deadline=deadline - LAST_SECONDS) as machine:
        windows = Windows(machine, accel.startswith("switch"))
        work(Screen(machine), windows)
        while windows.count < 5:
            windows()
        if machine.events("RESET"):
            raise Failure(f"{name}: the guest was reset")
        say(f"{name}: {windows.count} windows")


def test(names, local, accel, deadline):
    if local:
        with LocalHost() as host:
            for name in names:
                one(name, host, accel, deadline)
        return
    with a_host(False, deadline) as host:
        for name in names:
            one(name, host, accel, deadline)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("names", nargs="*", help=f"of {', '.join(GUESTS)} (all)")
parser.add_argument("--local", action="store_true", help="this machine's KVM, not the rig")
parser.add_argument("--accel", default="switch", help="with tcg or kvm nothing is switched")
parser.add_argument("--deadline", type=seconds, default=900)
args = parser.parse_args()
if set(args.names) - set(GUESTS):
    parser.error(f"there is no guest {', '.join(sorted(set(args.names) - set(GUESTS)))}")
run_test(test, args.names or list(GUESTS), args.local, args.accel, args.deadline)
