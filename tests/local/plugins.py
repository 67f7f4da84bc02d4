# SPDX-License-Identifier: GPL-2.0-or-later
"""
Plugins that come and go while the guest runs.
"""

from lib import plugins
from vas.testing import main, need_kvm


def local(function, *arguments):
    def run():
        need_kvm()
        function(*arguments)
    return run


main({f"stock-{name}": local(plugins.stock, name, plugins.COUNT) for name in plugins.STOCK} | {
    "lockstep": local(plugins.lockstep, plugins.COUNT),
    "in-windows": local(plugins.in_windows),
    "counted": local(plugins.counted),
    "refusals": local(plugins.refusals),
    "uninstalls-itself": local(plugins.uninstalls_itself),
    "many": local(plugins.many),
})
