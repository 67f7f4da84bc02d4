# SPDX-License-Identifier: GPL-2.0-or-later
"""
The guest's TSC where the host's is marked unstable, which has KVM move the guest's when it is
written: soak64 must see nothing of it, and must notice when what prevents it is left out (this
with --long only; unstable).  Nor must it stand still when a vCPU that is halted is switched, or
one that has never run (halted).  And where KVM was loaded before the kernel measured the TSC
anew, which it counts wrongly then: refused (measured-anew).
"""

import argparse
import os
import time

from lib.rigtest import mistaken_tsc, say, seconds
from vas.machine import MachineError
from vas.rig import RigHost, boot_rig
from vas.soak import soak
from vas.testing import LONG, Failure, Payload, Skip, excuse, left_out, run_test


# Two starts in eight did not notice, so the control is one of the long tests, with enough of them.
STARTS = 12
BOOTS = 4
MOVE = ("p=0; while :; do for t in /proc/[0-9]*/task/*; do p=$((1 - p)); "
        "read name < $t/comm; case $name in qemu*|CPU*) taskset -p $((p + 1)) ${t##*/};; esac; "
        "done; sleep 0.02; done 2>&1")


def kvm_was_early(rig):
    """Whether KVM was there when the kernel measured the TSC's frequency anew."""
    _, text = rig.run("dmesg")
    return 0 < text.find(b"kvm: Nested Virtualization") < text.find(b"tsc: Refined TSC")


def measured_anew(deadline):
    """The frequency that the kernel begins with is not that of the TSC."""
    early = f"vas.kvm=early {mistaken_tsc(1000, deadline)}"
    for late in range(BOOTS):
        with boot_rig(cmdline=early, deadline=deadline) as rig:
            if not kvm_was_early(rig):
                continue
            excuse("again", late, late + 1, "the rig's KVM was loaded too late")
            try:
                with Payload("soak64", "switch,initial=kvm", host=RigHost(rig), name="tsc"):
                    pass
            except MachineError as error:
                say(str(error))
                if "measured anew" not in str(error):
                    raise
                return
            raise Failure("KVM counts the TSC wrongly, and QEMU has started")
    raise Skip(f"in {BOOTS} boots of the rig KVM was loaded too late, as on a busy machine")


def switch_halted(rig, options=""):
    with Payload("tsc64", "switch,initial=kvm" + options, host=RigHost(rig), name="halted",
                 arguments=["-smp", "2"]) as guest:
        for _ in range(2):
            guest.expect_laps(2)
            for target in ("tcg", "kvm") * 3:
                # Into the second for which it is halted.
                time.sleep(0.5)
                guest.machine.switch(target)
                guest.expect_laps(2)
            guest.machine.qmp("system_reset")


def halted(deadline):
    """The first switch after a start or a reset is the one that has no offset of an earlier one."""
    with boot_rig(cmdline="tsc=unstable", deadline=deadline) as rig:
        switch_halted(rig)
        with left_out("tsc-offset", "TSC"):
            switch_halted(rig, ",read-back=off,x-omit=tsc-offset")


def unstable(deadline):
    with boot_rig(smp=2, cmdline="tsc=unstable", deadline=deadline) as rig:
        say(f"the rig is up after {rig.boot_seconds:.1f} s, its console: {rig.console}")
        host = RigHost(rig)
        # Has the vCPU's thread change CPUs, which is when KVM sets the TSC anew.
        rig.spawn(["sh", "-c", MOVE], os.devnull)
        soak("soak64", 60, host=host)
        if not LONG:
            return
        # It shows when the vCPU's thread comes to another CPU while the guest runs.
        for start in range(STARTS):
            try:
                soak("soak64", 60, host=host, seed=start, options=",x-omit=tsc-offset")
            except Failure as error:
                say(f"without tsc-offset: {error}")
                if "TSC" not in str(error):
                    raise
                return
    raise Failure(f"tsc-offset was left out and {STARTS} times 60 switches went well")


CASES = {"unstable": unstable, "halted": halted, "measured-anew": measured_anew}
parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("case", choices=CASES)
parser.add_argument("--deadline", type=seconds, default=280)
given = parser.parse_args()
run_test(CASES[given.case], given.deadline)
