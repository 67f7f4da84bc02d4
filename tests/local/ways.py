# SPDX-License-Identifier: GPL-2.0-or-later
"""
The payloads of tests/guest/payloads.list on this machine: as many of the four ways as its KVM can.
"""

from lib.ways import all_ways, four_ways, kvm_runs
from vas.testing import Skip, main, need_kvm


def local(way):
    try:
        need_kvm()
        kvm = kvm_runs(way)
    except Skip:
        kvm = False
    if kvm and way.known_errors and any("+tsc-adjust" in option for option in way.arguments):
        raise Skip("this machine's KVM does not let a guest move its TSC, and a switch finds that out")
    four_ways(way, kvm=kvm)


main({way.name: lambda way=way: local(way) for way in all_ways().values()})
