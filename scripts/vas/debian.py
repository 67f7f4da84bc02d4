# SPDX-License-Identifier: GPL-2.0-or-later
"""The Debian i386 guest while it runs: how far its boot is, its shell, its load."""

import re

from vas import image
from vas.machine import MachineError

# A line that the kernel prints comes whole, and between any two characters of programs.
KERNEL_LINES = r"(?:\[ *\d+\.\d{6}\] [^\n]*\n)*"


def said(text):
    """A pattern for @text of a program, wherever the kernel's lines fall into it."""
    return KERNEL_LINES.join(map(re.escape, text))


# What the serial console shows first in each phase of a boot.
PHASES = {
    "grub": r"GNU GRUB",
    "kernel": r"\] Linux version|Linux version \d",
    "initramfs": said("Loading, please wait") + "|" + said("Begin: "),
    "systemd": said("Welcome to "),
    "login": said("vas-guest login: "),
}
PROMPT = "vas@guest# "
VERDICT = r"vas-load: verdict (pass|fail) checks (\d+)[^\n]*\n"
# What a kernel says when memory, registers or interrupts went wrong.  Stalls and
# lockups are not here: an emulator inside an emulator is slow enough for them.
TROUBLE = (r"BUG:|Oops|general protection|unable to handle|segfault|double fault|"
           r"Bad page|irq [0-9]+: nobody cared|EXT4-fs error|I/O error|WARNING: CPU")
# Lockups, as above; and Linux warns so that AMD never sold qemu32's CPU for SMP.
HARMLESS = r"WARNING: CPU.* at arch/x86/kernel/cpu/amd\.c|BUG: (soft|workqueue) lockup"


def disk_arguments(host, interface="virtio"):
    """QEMU's arguments for the image, which they leave as it is."""
    path = host.put(str(image.image_path()))
    return ["-drive", f"file={path},format=raw,if={interface},snapshot=on"]


def verdict_lines(found):
    """Lines that show what Guest.judge() has @found."""
    return [f"The guest's own verdict: {found['verdict']}, {found['checks']} checks",
            *(f"  {complaint}" for complaint in found["complaints"])]


def pace_of(host):
    """
    How much longer things may take than on hardware, by which all timeouts are stretched.  On a busy
    machine a rig was seen to be eight times slower than on an idle one.
    """
    return 10 if host.name == "rig" else 1


class Guest:
    """A Debian in @machine.  @pace stretches all timeouts, as pace_of() says if it is not given."""

    def __init__(self, machine, pace=None):
        self.machine = machine
        self.pace = pace or pace_of(machine.host)

    def expect(self, pattern, seconds):
        return self.machine.serial.expect(pattern, seconds * self.pace)

    def send(self, text):
        self.machine.serial.send(text)

    def wait_phase(self, name, seconds=60):
        """Wait until the console shows that phase @name has begun."""
        self.expect(PHASES[name], seconds)

    def skip_menu(self, key="\r"):
        """Start GRUB's entry of that @key, or the first, without waiting for its countdown."""
        self.wait_phase("grub")
        self.expect(r"Debian i386", 30)
        self.send(key)

    def boot(self, key="\r"):
        """From GRUB's menu to the prompt of a shell."""
        self.skip_menu(key)
        self.wait_phase("login", 180)
        self.login()

    def login(self):
        """Log in at the prompt, which has been seen."""
        self.send(image.USER + "\n")
        self.expect(said("Password: "), 60)
        self.send(image.PASSWORD + "\n")
        self.expect(said("root@vas-guest"), 60)
        # A shell that edits no lines, a prompt that nothing else prints, and a
        # console without the kernel's messages.
        self.send("dmesg -n 1; stty -echo; PS1='vas''@guest# ' exec sh\n")
        self.expect(PROMPT, 60)

    def command(self, line, seconds=60):
        """Run @line in the shell; returns (exit status, output)."""
        self.send(f"echo vas-'begin'; {line}; echo vas-status $?\n")
        self.expect("vas-begin\r?\n", seconds)
        start = len(self.machine.serial.text()) - len(self.machine.serial.unread())
        match = self.expect(r"vas-status (\d+)\r?\n", seconds)
        text = self.machine.serial.text()[start:]
        self.expect(PROMPT, seconds)
        return int(match.group(1)), text.split("vas-status")[0].replace("\r", "").strip()

    def start_load(self, options=""):
        """Start vas-load in the foreground."""
        self.send(f"vas-load {options}\n")
        self.expect(r"vas-load: start pid \d+", 60)

    def wait_round(self, seconds=60):
        """Wait for the load's next report; returns (rounds, checks)."""
        match = self.expect(r"vas-load: round (\d+) checks (\d+) (ok|FAILED)", seconds)
        return int(match.group(1)), int(match.group(2))

    def stop_load(self, seconds=120):
        """Stop vas-load; returns (verdict, checks, FAIL lines)."""
        self.send("\x03")
        match = self.expect(VERDICT, seconds)
        self.expect(PROMPT, seconds)
        failures = re.findall(r"vas-load: FAIL [^\r\n]*", self.machine.serial.text())
        return match.group(1), int(match.group(2)), failures

    def judge(self):
        """Stop vas-load, and look for faults also in the kernel's log."""
        verdict, checks, failures = self.stop_load()
        complaints = failures + self.trouble()
        return {"verdict": "fail" if complaints else verdict, "checks": checks, "complaints": complaints}

    def trouble(self):
        """Lines of the kernel's log that tell of a fault."""
        _, text = self.command(f"dmesg | grep -E '{TROUBLE}'")
        return [line for line in text.splitlines()
                if line.strip() and not re.search(HARMLESS, line)]

    def poweroff(self, seconds=180):
        """Shut down in good order and wait for QEMU to end."""
        self.machine.qmp("set-action", {"reboot": "shutdown"})
        self.send("poweroff\n")
        status = self.machine.wait(seconds * self.pace)
        if any(event["data"]["reason"] == "guest-reset"
               for event in self.machine.events("SHUTDOWN")):
            raise MachineError("the guest restarted instead of shutting down")
        if status:
            raise MachineError(f"QEMU ended with status {status}")
