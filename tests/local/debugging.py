# SPDX-License-Identifier: GPL-2.0-or-later
"""
A real gdb, and switches while it has breakpoints set and steps.
"""

from lib import debugging
from vas.testing import main, need_kvm


def local(function, *arguments):
    def run():
        need_kvm()
        function(None, *arguments)
    return run


main({
    "running": local(debugging.running, "break", ["tcg"] * 3),
    "locked": local(debugging.locked),
    "locked-control": local(debugging.locked_control),
    "refusals": local(debugging.refusals),
})
