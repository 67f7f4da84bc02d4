# SPDX-License-Identifier: GPL-2.0-or-later
"""
What QEMU shows of a VGA's memory that the guest writes: QEMU draws only the rows that its dirty log
names, which KVM and TCG keep each in its own way.
"""

import itertools

from vas.testing import Failure, Payload, expect_equal

# As the payload vga64 has them.
COLUMNS, ROWS = 640, 16
# The DAC's 6 bits of red in QEMU's 8.
SHADES = {value << 2 | (value & 1) * 3: value for value in range(64)}


def shown(machine, host):
    """The colour of each row of @machine's screen; fails where a row has more than one."""
    path = host.scratch("screen.ppm")
    machine.qmp("screendump", filename=path)
    header = f"P6\n{COLUMNS} {ROWS}\n255\n".encode()
    data = host.read_bytes(path)
    if not data.startswith(header) or len(data) != len(header) + 3 * COLUMNS * ROWS:
        raise Failure(f"the screen is not one of {COLUMNS} to {ROWS} pixels: {data[:20]}")
    rows = []
    for number in range(ROWS):
        start = len(header) + 3 * COLUMNS * number
        reds = set(data[start:start + 3 * COLUMNS:3])
        if len(reds) != 1:
            raise Failure(f"row {number} has {len(reds)} colours, not one")
        rows.append(SHADES.get(reds.pop()))
    return rows


def combinations():
    """
    Each of (accelerator that draws, accelerator under which it is shown, switched in between to
    another one and back).
    """
    return itertools.product(("kvm", "tcg"), ("kvm", "tcg"), (False, True))


def other(accel):
    return "tcg" if accel == "kvm" else "kvm"


def screen(host, laps=2):
    """On @host, @laps times all combinations, a row each; the other rows stay as they were."""
    with Payload("vga64", "switch,initial=kvm", host=host, name="screen",
                 arguments=["-device", "VGA,romfile="]) as guest:
        machine = guest.machine
        guest.expect_laps(3)
        expected = [0] * ROWS
        expect_equal("rows", expected, shown(machine, host))
        for drawn, (draws, shows, back) in enumerate(list(combinations()) * laps):
            row = drawn % ROWS
            machine.switch(draws)
            guest.tell(chr(ord("a") + row))
            expected[row] = drawn % 63 + 1
            if back:
                machine.switch(other(shows))
            machine.switch(shows)
            expect_equal(f"rows, drawn under {draws}, shown under {shows}", expected,
                         shown(machine, host))
        guest.expect_laps(3)
