# SPDX-License-Identifier: GPL-2.0-or-later
"""
Traces by single steps, as far as this machine's KVM can: what is refused, and by what name.
"""

from lib import traces
from vas.testing import main, need_kvm


def refusals():
    need_kvm()
    traces.refusals()


main({"refusals": refusals})
