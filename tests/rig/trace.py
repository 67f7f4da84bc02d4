# SPDX-License-Identifier: GPL-2.0-or-later
"""
Traces by single steps under a real kvm-amd, which are compared with TCG's.
"""

import argparse

from lib import traces
from lib.rigtest import a_host, say, seconds
from vas.testing import LONG, run_test

# Real, virtual-8086, 32- and 16-bit protected and long mode, task switches, SYSCALL, exceptions.  They begin
# by copying themselves, which is most of the first 30,000 steps of some.
COMPARED = {"modes16": 10000, "modes32": 60000, "modes64": 60000, "fpu64": 50000, "paging32": 50000,
            "control64": 60000}


def all_of_them(deadline):
    times = 10 if LONG else 1
    with a_host(False, deadline) as host:
        for name, count in COMPARED.items():
            say(name)
            traces.compared(name, host, count * times)
        say("the guest's own breakpoints and steps")
        traces.verdict("debug32", host, 40000 * times)
        say("interrupts held back by the guest")
        traces.verdict("events64", host, 20000 * times, **{"interrupts-every": 1})
        say("events")
        traces.events(host, 20000)
        traces.flags_control(host, 20000)
        traces.handlers_control(host, 20000)
        say("two vCPUs")
        traces.several_vcpus(host, 10000)
        say("meanwhile")
        traces.stays_usable(host)
        traces.refusals(host)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--deadline", type=seconds, default=300)
run_test(all_of_them, parser.parse_args().deadline)
