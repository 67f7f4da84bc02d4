# SPDX-License-Identifier: GPL-2.0-or-later
"""
A synchronous QMP client.

QEMU's own qemu.qmp is asynchronous inside; what tests want is to call a command and to wait for an
event of a given name, with a timeout on each, from any thread.  That is a page of code.
"""

import json
import os
import socket
import threading
import time

from vas.patience import patiently


class QMPError(Exception):
    """The monitor answered with an error: @error_class and @description as it gave them."""

    def __init__(self, command, error):
        self.error_class = error.get("class", "")
        self.description = error.get("desc", "")
        super().__init__(f"{command}: {self.description}")


class QMPLost(Exception):
    """The connection ended, or nothing came in time."""


class QMPClient:
    """
    @sock: connected stream socket.  @log: a binary file that gets a copy of all traffic.
    The constructor returns after the greeting and the negotiation.
    """

    def __init__(self, sock, log, timeout):
        self._socket = sock
        self._log = log
        self._changed = threading.Condition()
        self._answers = {}
        self._events = []
        self._count = 0
        self._ended = None
        self._greeting = None
        threading.Thread(target=self._read, daemon=True).start()
        with self._changed:
            if not self._changed.wait_for(lambda: self._greeting or self._ended, timeout):
                self._ended = "no greeting came from the monitor"
        if self._ended:
            self.close()
            raise QMPLost(self._ended)
        self.execute("qmp_capabilities", {}, timeout)

    def _read(self):
        why = "the monitor's connection was closed"
        try:
            with self._socket.makefile("rb") as stream:
                for line in stream:
                    self._log.write(b"< " + line)
                    self._log.flush()
                    self._take(json.loads(line))
        except (OSError, ValueError) as error:
            why = f"the monitor's connection failed: {error}"
        with self._changed:
            self._ended = self._ended or why
            self._changed.notify_all()

    def _take(self, message):
        with self._changed:
            if "QMP" in message:
                self._greeting = message["QMP"]
            elif "event" in message:
                message["received"] = time.monotonic()
                self._events.append(message)
            elif "id" in message:
                self._answers[message["id"]] = message
            self._changed.notify_all()

    def send(self, command, arguments, descriptors=()):
        """
        Send @command without waiting, with file descriptors if it takes them; returns a number for
        answer().
        """
        with self._changed:
            self._count += 1
            number = self._count
            request = {"execute": command, "id": number}
            if arguments:
                request["arguments"] = arguments
            data = json.dumps(request).encode() + b"\n"
            self._log.write(b"> " + data)
            self._log.flush()
            try:
                if descriptors:
                    socket.send_fds(self._socket, [data], descriptors)
                else:
                    self._socket.sendall(data)
            except OSError as error:
                raise QMPLost(f"{command} could not be sent: {error}") from error
        return number

    def answer(self, number, command, timeout):
        """The return value of the command sent as @number.  Raises QMPError or QMPLost."""
        with self._changed:
            self._changed.wait_for(lambda: number in self._answers or self._ended,
                                   patiently(timeout))
            if number not in self._answers:
                raise QMPLost(f"{command}: " + (self._ended or f"no answer within {timeout} s"))
            message = self._answers.pop(number)
        if "error" in message:
            raise QMPError(command, message["error"])
        return message["return"]

    def pass_descriptor(self, descriptor, name, timeout=30):
        """Give QEMU the file @descriptor, as @name, and close it here.  On this machine only."""
        try:
            self.answer(self.send("getfd", {"fdname": name}, [descriptor]), "getfd", timeout)
        finally:
            os.close(descriptor)

    def execute(self, command, arguments, timeout):
        """Send @command and return its answer."""
        return self.answer(self.send(command, arguments), command, timeout)

    def wait_event(self, name, timeout, match=lambda data: True):
        """
        Take the oldest event @name whose data @match accepts, waiting up to @timeout seconds;
        returns the whole message.
        """
        deadline = time.monotonic() + patiently(timeout)
        with self._changed:
            while True:
                for event in self._events:
                    if event["event"] == name and match(event.get("data", {})):
                        self._events.remove(event)
                        return event
                left = deadline - time.monotonic()
                if self._ended or left <= 0:
                    raise QMPLost(f"event {name}: "
                                  + (self._ended or f"did not come within {timeout} s"))
                self._changed.wait(left)

    def events(self, name=None):
        """The events that came and were not taken, oldest first, those called @name if given."""
        with self._changed:
            return [e for e in self._events if name in (None, e["event"])]

    def close(self):
        try:
            self._socket.close()
        except OSError:
            pass
