# SPDX-License-Identifier: GPL-2.0-or-later
"""
A real kvm-amd or kvm-intel on any machine, in a host that is emulated: by our QEMU, which has AMD-V
(rigamd.py), or by Bochs, which has VMX, and SVM as well (rigbochs.py).

"./vas rig -- COMMAND" runs a command in it.  A Rig (rigbase.py) is booted once and used many times;
RigHost lets a Machine (machine.py) start its QEMU in there.
"""

import argparse
import os
import shlex
import sys

from vas import debs, paths
from vas.rigagent import RigHost
from vas.rigamd import AmdRig
from vas.rigbase import Rig, end_in_order
from vas.rigbochs import BochsAmdRig, IntelRig
from vas.rigtree import RigError

__all__ = ["Rig", "RigError", "RigHost", "boot_rig", "end_in_order", "kind", "suite"]

KINDS = {rig.cpu: rig for rig in (AmdRig, IntelRig, BochsAmdRig)}
# Debian releases whose kernels a rig can have: 6.1, 6.12, 7.2.
SUITES = ("bookworm", "trixie", "sid")


def _chosen(given, variable, choices):
    """What was @given, or what the environment's @variable says, or the first of the @choices."""
    value = given or os.environ.get(variable) or choices[0]
    if value not in choices:
        raise RigError(f"{variable} is '{value}', not one of {', '.join(choices)}")
    return value


def kind(cpu=None):
    """The class of rig for @cpu, a key of KINDS; if not given, $VAS_RIG_CPU, or "amd"."""
    return KINDS[_chosen(cpu, "VAS_RIG_CPU", list(KINDS))]


def suite(kernel=None):
    """The Debian release of the rig's kernel: @kernel, or $VAS_RIG_KERNEL, or bookworm."""
    return _chosen(kernel, "VAS_RIG_KERNEL", SUITES)


def boot_rig(cpu=None, kernel=None, kvm=None, model=None, **options):
    """
    Boot a rig.  @cpu and @kernel: see above.  @kvm: a list of parameters of its KVM; if not given,
    the words of $VAS_RIG_KVM.  @model: its processor, by the emulator's name; if not given,
    $VAS_RIG_MODEL, or the usual.  @options: the others of Rig's.
    """
    if kvm is None:
        kvm = os.environ.get("VAS_RIG_KVM", "").split()
    return kind(cpu)(suite=suite(kernel), kvm=kvm,
                     model=model or os.environ.get("VAS_RIG_MODEL"), **options)


def main():
    parser = argparse.ArgumentParser(
        prog="vas rig", description="Run COMMAND on an emulated host with a real KVM: kvm-amd "
        "(our QEMU or Bochs emulates the host) or kvm-intel (Bochs).  Prints COMMAND's output and ends "
        "with its status.  The host has busybox, and our QEMU under the path that it has here.",
        epilog="About 35 seconds to boot, 75 in Bochs.  Times measured inside say nothing "
        "about hardware.")
    parser.add_argument("--cpu", choices=list(KINDS),
                        help="the kind of rig: amd has a kvm-amd in our QEMU, intel a kvm-intel in Bochs, "
                        "amd-bochs a kvm-amd in Bochs ($VAS_RIG_CPU, or amd)")
    parser.add_argument("--model", metavar="NAME",
                        help="its processor, as the emulator's cpu option names it: QEMU's "
                        "-cpu, such as EPYC,+svm, or Bochs's cpu: model=, such as corei3_cnl "
                        "($VAS_RIG_MODEL, or the usual)")
    parser.add_argument("--kernel", choices=SUITES,
                        help="the Debian release of its kernel: bookworm has 6.1, trixie 6.12, sid a "
                        "newer one ($VAS_RIG_KERNEL, or bookworm)")
    parser.add_argument("--kvm", action="append", metavar="NAME=VALUE",
                        help="a parameter of kvm-amd or kvm-intel, such as ept=0; may be given more "
                        "than once (the words of $VAS_RIG_KVM)")
    parser.add_argument("--smp", type=paths.positive, default=1, metavar="N",
                        help="CPUs (1; two hang now and then)")
    parser.add_argument("--mem", type=paths.positive, metavar="M", help="MiB (2048)")
    parser.add_argument("--put", action="append", default=[], metavar="FILE",
                        help="a file that COMMAND needs; programs come with their libraries")
    parser.add_argument("--get", action="append", default=[], metavar="FILE",
                        help="copy this file of COMMAND's back here")
    parser.add_argument("--disk", action="append", default=[], metavar="IMAGE",
                        help="an image to be seen as /dev/vda, /dev/vdb… (sda in Bochs); never "
                        "written to")
    parser.add_argument("--timeout", type=paths.positive, default=900, metavar="S",
                        help="seconds until all ends (900)")
    parser.add_argument("--append", default="", metavar="TEXT",
                        help="more for the outer kernel's command line, such as tsc=unstable")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    args = parser.parse_args()
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        parser.error("there is no COMMAND")
    end_in_order()
    files = list(args.put)
    if "/" in command[0] and os.path.isfile(command[0]):
        files.append(command[0])
    try:
        for file in [*files, *args.disk]:
            if not os.path.exists(file):
                raise RigError(f"{file} is not there")
        with boot_rig(args.cpu, args.kernel, args.kvm, args.model, smp=args.smp, mem=args.mem,
                      files=files, disks=args.disk, deadline=args.timeout, cmdline=args.append) as rig:
            print(f"rig: up after {rig.boot_seconds:.0f} s", file=sys.stderr)
            here = shlex.quote(os.getcwd())
            status, _ = rig.run(f"mkdir -p {here}; cd {here} && exec {shlex.join(command)}",
                                output=write_out)
            for file in args.get:
                try:
                    rig.get(os.path.abspath(file), file)
                except RigError as error:
                    # What COMMAND says of itself comes first.
                    print(f"vas rig: {error}", file=sys.stderr)
                    status = status or 1
    except (RigError, debs.DebError) as error:
        sys.exit(f"vas rig: {error}")
    except KeyboardInterrupt:
        sys.exit("vas rig: interrupted")
    sys.exit(status)


def write_out(data):
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
