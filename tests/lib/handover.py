# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest is handed over to another QEMU on the same host, and its memory is not copied."""

import contextlib

from lib import streams
from lib.rigtest import say
from vas.handover import Handover, memory_arguments, memory_file
from vas.testing import Failure, Payload


class Relay:
    """The payload soak64 with @arguments and @size MiB of memory, which goes from QEMU to QEMU by @way."""

    def __init__(self, host, way, size, arguments):
        self.host, self.way, self.size, self.arguments = host, way, size, arguments
        self.guest = None
        self._memory = None
        self._hand_over = Handover(host, way)
        self._stack = contextlib.ExitStack()

    def _start(self, accel, binary, more=(), **keywords):
        return Payload("soak64", accel, binary=binary, memory=self.size, host=self.host, name="handover",
                       arguments=[*self.arguments, *self._memory, *more], **keywords)

    def __enter__(self):
        file = self._stack.enter_context(memory_file(self.host))
        self._memory = memory_arguments(self.way, self.size, file)
        return self

    def __exit__(self, *unused):
        if self.guest:
            self.guest.machine.close()
        self._stack.close()

    def begin(self, accel, binary="x86_64"):
        self.guest = self._start(accel, binary)
        self.guest.expect_laps(3)

    def go(self, accel, binary="x86_64"):
        """To a QEMU of that @binary, with @accel.  Returns how long the guest stood still, in seconds."""
        arrived = []

        def start(more):
            arrived.append(self._start(accel, binary, more, start=False, hold=False))
            return arrived[0].machine

        pause = self._hand_over(self.guest.machine, start)[1]
        # ROMs and the display's memory may be sent, the guest's own is not: 256 pages a MiB.
        if self._hand_over.pages > 200:
            raise Failure(f"{self.way}: {self._hand_over.pages} pages of {self.size * 256} were sent")
        self.guest.machine.close()
        self.guest = arrived[0]
        self.guest.expect_laps(3)
        return pause


def crosswise(way, host):
    """Between two of ours, from and into either accelerator; then it can be switched."""
    for saved, loaded in streams.PAIRS:
        with Relay(host, way, 64, ["-smp", "2"]) as relay:
            relay.begin(f"switch,initial={saved}")
            pause = relay.go(f"switch,initial={loaded}")
            now = streams.where_it_is(relay.guest.machine, saved, loaded)
            streams.go_on(relay.guest)
            say(f"{way}: {saved} to {loaded}: in {now} after {pause * 1000:.1f} ms, then in both")
