# SPDX-License-Identifier: GPL-2.0-or-later
"""
Guests go from QEMU without -accel switch to QEMU with it and back, with a KVM that keeps a TSC.  It is our
own QEMU, as Debian's is not in the rig.
"""

import argparse

from lib import handover, plain
from lib.rigtest import a_host, seconds
from vas.handover import WAYS
from vas.testing import run_test


def test(deadline):
    with a_host(False, deadline) as host:
        plain.takes_own(host)
        for way in WAYS:
            handover.crosswise(way, host)
        for form in plain.FORMS:
            plain.saved_elsewhere(form, host)
            plain.to_and_fro(form, "x86_64", host, [way.on(host) for way in plain.ways(form)])


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--deadline", type=seconds, default=600)
run_test(test, parser.parse_args().deadline)
