# SPDX-License-Identifier: GPL-2.0-or-later
"""A whole Debian i386 under -accel switch, in TCG alone: this machine's KVM need not run it."""

from vas.debian import Guest, disk_arguments
from vas.host import LocalHost
from vas.machine import Machine
from vas.testing import Failure, main, need_kvm


def in_tcg():
    """
    Its kernel executes what CPUID shows, RDRAND among the first: in TCG that is what the guest's CPU
    model has, whatever this KVM shows.
    """
    need_kvm()
    with LocalHost() as host, \
            Machine(["-accel", "switch,initial=tcg", "-m", "256", "-nic", "none", "-no-reboot",
                     *disk_arguments(host)],
                    binary="i386", host=host, name="debian", deadline=280) as machine:
        guest = Guest(machine)
        guest.boot()
        trouble = guest.trouble()
        if trouble:
            raise Failure("the guest's kernel says: " + "; ".join(trouble))


main({"in-tcg": in_tcg})
