# SPDX-License-Identifier: GPL-2.0-or-later
"""
Guests under a KVM without nested paging, which holds the page directory pointers of a guest with
PAE paging in registers, as a processor with EPT does: what the guest has changed in memory and not
loaded is not to take effect at a switch.
"""

import argparse

from lib import ways
from lib.rigtest import a_host, seconds
from vas.rig import kind
from vas.soak import soak
from vas.testing import Payload, expect_equal, run_test, switch_must_wait


def pdptes(deadline):
    module, option = {"amd": ("kvm_amd", "npt"), "intel": ("kvm_intel", "ept")}[kind().vendor]
    with a_host(False, deadline, cmdline=f"{module}.{option}=0") as host:
        expect_equal("nested paging", "N",
                     host.read(f"/sys/module/{module}/parameters/{option}").strip())
        with Payload("told32", "switch,initial=kvm", host=host, binary="i386",
                     name="pdptes") as guest:
            guest.expect_laps(3)
            switch_must_wait(guest, "tcg", "p", "l", "page directory pointers")
        soak("pae32", 60, host=host, laps=3, binary="i386")
        ways.four_ways(ways.all_ways()["paging32"], host)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--deadline", type=seconds, default=300)
run_test(pdptes, parser.parse_args().deadline)
