# SPDX-License-Identifier: GPL-2.0-or-later
"""What the commands of ./vas that run a guest share: progress, the choice of a host, errors."""

import contextlib
import json
import os
import sys
import time

from vas import debs, image, kvmprobe
from vas.host import HostError, LocalHost
from vas.machine import MachineError
from vas.qmp import QMPError, QMPLost
from vas.rig import RigHost, boot_rig, end_in_order, kind
from vas.rigtree import RigError

# What these commands say in one sentence.
ERRORS = (debs.DebError, image.ImageError, HostError, MachineError, QMPError, QMPLost, RigError)


class Progress:
    """Lines with the time since the start, on standard error."""

    def __init__(self, command):
        self._command = command
        self._start = time.monotonic()

    def __call__(self, text):
        print(f"{self._command}: {time.monotonic() - self._start:5.1f} s  {text}", file=sys.stderr,
              flush=True)


@contextlib.contextmanager
def reporting(command, *more):
    """The body of a command: its ERRORS, those of @more, and Ctrl-C end the program with a sentence."""
    end_in_order()
    try:
        yield
    except (*ERRORS, *more) as error:
        sys.exit(f"vas {command}: {error}")
    except KeyboardInterrupt:
        sys.exit(f"vas {command}: interrupted")


def own_guest_probe(breakpoints):
    """
    (whether this machine's KVM is for a guest of the user's own, why not).  @breakpoints: whether
    the guest must stop at some.
    """
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False, "/dev/kvm is not there or may not be opened (is the user in group kvm?)"
    if breakpoints and os.path.isdir("/sys/module/kvm_pvm"):
        return False, "this machine's kvm-pvm never stops at a breakpoint"
    return True, None


@contextlib.contextmanager
def guest_host(say, rig=False, probe=kvmprobe.probe, disks=(), deadline=1200, files=()):
    """
    This machine if @probe, which returns (whether, why not), says that its KVM will do, else, or if
    @rig says so, the rig, which sees the @disks and @files and ends after @deadline seconds.
    """
    usable, why = probe()
    if usable and not rig:
        say("running on this machine's KVM")
        with LocalHost() as host:
            yield host
        return
    say(f"running in the rig, on a kvm-{kind().vendor} made by emulation, since " +
        ("--rig says so" if usable else why))
    with boot_rig(disks=list(disks), files=list(files), deadline=deadline) as booted:
        say(f"the rig is up after {booted.boot_seconds:.0f} s")
        yield RigHost(booted)


def write_json(name, result):
    """Write @result to the file @name, if there is a name."""
    if name:
        with open(name, "w", encoding="utf-8") as out:
            json.dump(result, out, indent=2)
            out.write("\n")
