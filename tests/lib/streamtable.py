# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of what goes from where to where, made of what the tests of streams go by."""

from lib import plain, streams
from vas.handover import WAYS

NAMES = {"kvm": "KVM", "tcg": "TCG"}
# Not every KVM keeps an offset of the TSC.
NOTE = "KVM [1]_"
HEAD = """\
.. SPDX-License-Identifier: GPL-2.0-or-later
.. Made by tests/index.py --write of what tests/lib/streams.py, plain.py and handover.py expect: change those.

===================================
Streams: from where, to where, how
===================================

`streams.rst <../streams.rst>`_ explains these. In the tables' cells is where the guest is after the load, or the
hand-over, and runs. *To KVM* is a QEMU whose ``initial=``, or active accelerator, is KVM.

.. [1] On a KVM that keeps no offset of the TSC, such as kvm-pvm, what TCG has saved stays in TCG, with a warning.
"""


def cell(saved, loaded):
    whole, poor = (streams.arrives(saved, loaded, keeps_offset) for keeps_offset in (True, False))
    return NAMES[whole] if whole == poor else NOTE


def own_rows():
    """One for each way of -accel switch's own and each accelerator that a guest was saved under."""
    ways = [(kind.what, f"streams-{name}" + ("" if name == "fd" else ", rig-streams"))
            for name, kind in streams.KINDS.items()]
    ways += [("``savevm``, then ``loadvm`` into a running guest, or ``-loadvm``", "streams-snapshots, rig-streams")]
    ways += [(f"hand-over by ``{way}``", f"streams-{way.removeprefix('x-')}, rig-streams-plain") for way in WAYS]
    for what, tests in ways:
        for saved in streams.ACCELS:
            yield (what, NAMES[saved], *(cell(saved, loaded) for loaded in streams.ACCELS), tests)


def plain_rows():
    """One for each accelerator of plain QEMU."""
    for form, (home, accels) in plain.FORMS.items():
        for accel in accels:
            names = [name for payloads in (plain.PAYLOADS if accel == home else {}, plain.ENDLESS)
                     for name in payloads.get(form, ())]
            yield (f"``-accel {accel}``", f"``{form}``", *(cell(home, loaded) for loaded in streams.ACCELS),
                   ", ".join(names), f"streams-{form}, rig-streams-plain")


def page(title, table):
    """The page, with the functions of index.py that make a title and a table."""
    text = HEAD + title("-accel switch to -accel switch")
    text += "\n".join(table((64, 5, 8, 8, 40), ("how", "from", "to KVM", "to TCG", "tests"), own_rows())) + "\n"
    text += title("Plain QEMU to -accel switch")
    text += "\n".join(table((38, 14, 8, 8, 22, 24), ("from", "streams=", "to KVM", "to TCG", "payloads", "tests"),
                            plain_rows())) + "\n"
    text += title("-accel switch to plain QEMU")
    text += ("Only a guest that is under plain QEMU's accelerator is saved so; elsewhere it is refused.\n\n")
    rows = [(f"``{form}``", NAMES[home], " or ".join(f"``-accel {accel}``" for accel in accels),
             ", ".join(name for payloads in (plain.PAYLOADS, plain.ENDLESS)
                       for name, and_back in payloads[form].items() if and_back),
             f"streams-{form}, rig-streams-plain")
            for form, (home, accels) in plain.FORMS.items()]
    text += "\n".join(table((14, 5, 58, 22, 24), ("streams=", "from", "to", "payloads", "tests"), rows)) + "\n"
    return text
