# SPDX-License-Identifier: GPL-2.0-or-later
"""
Windows: stays in TCG that end by themselves, and the triggers that open them.
"""

from lib import windows
from vas.testing import LONG, main, need_kvm


def local(function, *arguments):
    def run():
        need_kvm()
        function(*arguments)
    return run


main({
    "command": local(windows.command, None),
    "exact": local(windows.exact, None, 10000 if LONG else 1000),
    "counts": local(windows.counts, None),
    "timer": local(windows.timer, None, 10000 if LONG else 100),
    "kvm-error": local(windows.kvm_error, None),
    "smp": local(windows.several_vcpus, None, 100),
    "refusals": local(windows.refusals),
    "people": local(windows.people),
    "stuck": local(windows.stuck),
    "limit": local(windows.limit),
    "breakpoints": local(windows.breakpoints, None, 20),
})
