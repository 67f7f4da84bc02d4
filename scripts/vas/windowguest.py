# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest of ./vas window, sample and compare: our Debian i386, or one of the user's own."""

import argparse
import contextlib
import os
import re

from vas import image, kvmprobe, paths
from vas.debian import Guest, disk_arguments
from vas.front import guest_host, own_guest_probe
from vas.machine import Machine
from vas.symbols import FileSymbols, KernelSymbols

PLUGIN_FOLDERS = ("contrib/plugins", "tests/tcg/plugins")
# What keeps the guest busy unless --run says otherwise.
BUSY = "while :; do cat /etc/passwd /proc/loadavg; ls -l / /proc; done >/dev/null 2>&1"
ACCEL = "switch,initial=kvm,plugins=on"
DEADLINE = 24 * 3600


def _entries(folder):
    return os.listdir(folder) if os.path.isdir(folder) else []


def plugin_file(name):
    """A plugin's file, by its path or by the name of one of QEMU's own."""
    if "/" in name:
        if not os.path.exists(name):
            raise argparse.ArgumentTypeError(f"there is no file {name}")
        return os.path.abspath(name)
    for folder in PLUGIN_FOLDERS:
        path = os.path.join(paths.QEMU, folder, f"lib{name}.so")
        if os.path.exists(path):
            return path
    known = sorted(entry[3:-3] for folder in PLUGIN_FOLDERS
                   for entry in _entries(os.path.join(paths.QEMU, folder)) if entry.endswith(".so"))
    raise argparse.ArgumentTypeError(f"there is no plugin {name}; QEMU's own are: {' '.join(known)}")


def plugin_option(text):
    """--plugin's argument: (name, file, arguments)"""
    name, *arguments = text.split(",")
    return os.path.basename(name), plugin_file(name), arguments


def add_arguments(parser):
    """Options of the guest, for both commands."""
    parser.add_argument("--run", metavar="COMMAND",
                        help="a command for the guest's shell (a loop that reads and lists files)")
    parser.add_argument("--smp", type=paths.positive, default=1, metavar="N", help="the guest's CPUs (1)")
    parser.add_argument("--symbols", metavar="FILE",
                        help="names of your own guest's addresses: a System.map, or what nm prints")
    parser.add_argument("--target", choices=["i386", "x86_64"], default="x86_64",
                        help="the QEMU for your own guest (x86_64)")
    parser.add_argument("--rig", action="store_true", help="in the rig, even if this machine's KVM would do")


def parse(parser, argv):
    """The arguments in front of "--", and QEMU's behind it as "own", None without "--"."""
    end = argv.index("--") if "--" in argv else len(argv)
    args = parser.parse_args(argv[:end])
    args.own = argv[end + 1:] if end < len(argv) else None
    if args.own is None:
        if args.symbols:
            parser.error("--symbols is for your own guest: give QEMU's arguments after --")
        args.run = args.run or BUSY
        return args
    if args.run:
        parser.error("--run is for the Debian guest: your own has no shell that is known")
    if args.smp != 1:
        parser.error("--smp is for the Debian guest: give -smp after --")
    if any(word in ("-accel", "--accel", "-enable-kvm", "-S") for word in args.own):
        parser.error("leave out -accel, -enable-kvm and -S: this command sets the accelerator and starts"
                     " the guest")
    return args


def own_arguments(host, words):
    """QEMU's arguments, with files under the names that they have on the @host."""
    def there(match):
        return match[1] + (host.put(match[2]) if os.path.isfile(match[2]) else match[2])

    return [re.sub(r"(^|=)([^=,]+)", there, word) for word in words]


class Subject:
    """@machine: the guest's. @symbols: its. @guest: its shell, None of the user's own guest."""

    def __init__(self, machine, symbols, guest=None):
        self.machine, self.symbols, self.guest = machine, symbols, guest

    def start(self, command, say):
        """Have the guest's shell run the @command, or the user's guest begin."""
        if self.guest is None:
            self.machine.cont()
            say("the guest runs")
        else:
            self.guest.command(f"({command}) & echo", 30)
            say(f"the guest runs: {command}")


@contextlib.contextmanager
def subject(args, name, say, breakpoints=True, probe=kvmprobe.probe, login=True):
    """
    A Subject that is ready for start(). @breakpoints: whether the user's own must stop at some. @probe:
    of the Debian guest, whether this machine's KVM will do. Without @login it has not begun to boot.
    """
    if args.own is None:
        with guest_host(say, args.rig, probe, [str(image.image_path())], DEADLINE) as host:
            in_rig = host.name == "rig"
            with Machine(["-accel", ACCEL, "-smp", str(args.smp), "-m", "256", "-nic", "none",
                          *disk_arguments(host)],
                         binary="i386", host=host, name=name, deadline=DEADLINE, start=login) as machine:
                if not login:
                    yield Subject(machine, FileSymbols())
                    return
                guest = Guest(machine)
                guest.skip_menu()
                say("booting Debian i386 under KVM" + (" (about 40 seconds in the rig)" if in_rig else ""))
                guest.wait_phase("login", 120)
                guest.login()
                yield Subject(machine, KernelSymbols(guest), guest)
        return
    symbols = FileSymbols(args.symbols)
    with guest_host(say, args.rig, lambda: own_guest_probe(breakpoints), deadline=DEADLINE) as host:
        with Machine(["-accel", ACCEL, *own_arguments(host, args.own)], binary=args.target, host=host,
                     name=name, deadline=DEADLINE, start=False) as machine:
            yield Subject(machine, symbols)
