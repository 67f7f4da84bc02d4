# SPDX-License-Identifier: GPL-2.0-or-later
"""
What programs of a guest say on the serial console, which is the kernel's, too: the kernel's lines
may come between any two characters.
"""

import io
import socket

from vas.debian import PHASES, said
from vas.machine import Console, MachineError
from vas.testing import Failure, expect_equal, run_test

PROMPT = "vas-guest login: "
LINES = ("[  144.933297] lpc_ich 0000:00:1f.0: I/O space for GPIO uninitialized\r\n"
         "[ 1044.000001] input: ImExPS/2 Generic Explorer Mouse\r\n")


def shown(text, pattern):
    """What comes after @pattern in @text, which a console shows and then ends."""
    ours, guests = socket.socketpair()
    with ours, guests:
        console = Console("serial", ours, io.BytesIO(), lambda: True)
        guests.sendall(text.encode())
        guests.shutdown(socket.SHUT_WR)
        console.expect(pattern, 20)
        return console.unread()


def test():
    for place in range(len(PROMPT) + 1):
        text = "\r\n" + PROMPT[:place] + LINES + PROMPT[place:]
        expect_equal(f"after a prompt whose character {place} comes after the kernel's lines",
                     LINES if place == len(PROMPT) else "", shown(text, PHASES["login"]))
    expect_equal("after signs", "!", shown("(a+b)*[c] !", said("(a+b)*[c] ")))
    for line in ("a program's", "[  OK  ] Reached target\r\n", "[  144.9"):
        try:
            shown("vas-guest" + line + " login: ", PHASES["login"])
        except MachineError:
            continue
        raise Failure(f"{line!r} was taken for the kernel's")
    print("ok")


run_test(test)
