# SPDX-License-Identifier: GPL-2.0-or-later
"""Opens one window after the other: the trigger, the plugins, and which process it is for."""

import time

from vas.machine import MachineError
from vas.qmp import QMPError
from vas.tasks import COMM_BYTES, USER_TABLE, Tasks

TRIGGER, EXEC = "window", "exec"
# Where each program's start comes by in Linux, with its own page table and name.
EXEC_FUNCTION = "finalize_exec"
NOT_YET_SECONDS = 0.2


class WindowError(Exception):
    """One sentence that says why there are no windows."""


class Plugins:
    """The plugins of --plugin, loaded anew for each window, whose results are then theirs alone."""

    def __init__(self, machine, options):
        self._machine = machine
        self._options = [(name, machine.host.put(file), arguments) for name, file, arguments in options]
        self._loaded = []
        self._count = 0

    def load(self):
        """Load all; returns their ids."""
        self._count += 1
        for number, (name, file, arguments) in enumerate(self._options):
            output = self._machine.host.scratch(f"plugin{number}-{self._count % 2}")
            self._machine.qmp("plugin-add", {"id": f"plugin{number}", "file": file, "windows": True,
                                             "arguments": arguments, "output": output})
            self._loaded.append((name, f"plugin{number}", output))
        return [identity for _, identity, _ in self._loaded]

    def unload(self):
        """Unload all; returns what each has printed, by its name."""
        loaded, self._loaded = self._loaded, []
        for _, identity, _ in loaded:
            self._machine.qmp("plugin-del", {"id": identity})
        return {name: self._machine.host.read(output) for name, _, output in loaded}


class Process:
    """
    The newest process of a name. Found among those that are there, and at each start of a program
    from then on: QEMU knows page tables, not processes.
    """

    def __init__(self, subject, name, user_table):
        machine, symbols = subject.machine, subject.symbols
        _, text = subject.guest.command("cat /sys/devices/system/cpu/vulnerabilities/meltdown")
        isolated = "PTI" in text
        # Linux keeps so much of it.
        self._machine, self.name = machine, name[:COMM_BYTES - 1]
        self._user = USER_TABLE if isolated and user_table else 0
        self.exec_address = symbols.address(EXEC_FUNCTION)
        self._tasks = self._stopped(Tasks, machine, symbols.address("_etext"), isolated)
        self.table = None

    def _stopped(self, function, *arguments):
        self._machine.stop()
        try:
            return function(*arguments)
        finally:
            self._machine.cont()

    def find(self):
        """The newest that is there already."""
        self.table = self._stopped(self._tasks.newest, self.name)

    def filter(self):
        """The trigger's, or None as long as there is no such process."""
        return None if self.table is None else {"cr3": self.table | self._user}

    def is_its(self, cr3):
        """Whether a window was the process's: several page tables of a PAE guest pass one filter."""
        return self._tasks.same(self.table, cr3) and \
            self._stopped(self._tasks.owner, cr3) in (self.name, None)

    def is_in(self, cr3):
        """Whether @cr3 is its page table."""
        return self._tasks.same(self.table, cr3)

    def started(self, cr3):
        """A program has started with the page table @cr3, and the guest waits in a window."""
        self._machine.stop()
        if self._tasks.owner(cr3) == self.name:
            self.table = cr3
        elif self.table is not None and self._tasks.same(self.table, cr3):
            self.table = None


class Opener:
    """
    @on, @window: accel-trigger-add's. @plugins: Plugins. @process: a Process, or None for any.
    @wait: seconds until there must be a window, and until one must end.
    """

    def __init__(self, machine, on, window, plugins, process, wait):
        self._machine, self._plugins, self._process, self._wait = machine, plugins, process, wait
        self._on, self._window, self._triggers = on, window, []
        self.passed_over = 0

    def _add(self, identity, **trigger):
        self._machine.qmp("accel-trigger-add", {"id": identity, **trigger})
        self._triggers.append(identity)

    def _delete(self, identity):
        if identity in self._triggers:
            self._machine.qmp("accel-trigger-del", {"id": identity})
            self._triggers.remove(identity)

    def _arm_window(self, ids, give_up):
        window = self._window | ({"plugins": ids} if ids else {})
        condition = {"on": self._on, "window": window, "count": 1}
        if self._process:
            if not self._process.filter():
                return
            condition["filter"] = self._process.filter()
        while True:
            try:
                self._add(TRIGGER, **condition)
                return
            except QMPError as error:
                # A guest that is still booting may not have set up its handlers.
                if "handler" not in str(error) or time.monotonic() > give_up:
                    raise
                time.sleep(NOT_YET_SECONDS)

    def _begin(self, ids, give_up):
        while True:
            left = max(0.1, give_up - time.monotonic())
            event = self._machine.wait_event("ACCEL_WINDOW_BEGIN", left)["data"]
            if event.get("id") == TRIGGER:
                return event
            self._process.started(event["cr3"])
            self._delete(TRIGGER)
            self._arm_window(ids, give_up)
            self._machine.switch("kvm")
            self._machine.cont()
            self._end(EXEC)

    def _end(self, identity):
        return self._machine.wait_event("ACCEL_WINDOW_END", self._wait,
                                        lambda data: data.get("id") == identity)["data"]

    def _disarm(self):
        self._delete(EXEC)
        self._delete(TRIGGER)
        for event in self._machine.events("ACCEL_WINDOW_BEGIN"):
            self._machine.wait_event(event["event"], 1)
            self._machine.switch("kvm")
            self._end(event["data"]["id"])

    def _no_window(self, error):
        if not self._machine.running():
            return WindowError("the guest has ended before it got there")
        triggers = {info["id"]: info for info in self._machine.qmp("query-accel-triggers")}
        info = triggers.get(TRIGGER)
        if info is None:
            why = f"there was no process {self._process.name}" if self._process else str(error)
        else:
            why = f"{info['hits']} hits, {info['filtered']} of others, {info['refused']} refused"
        return WindowError(f"no window within {self._wait} s: {why}; have the guest get there, for instance"
                           " by --run COMMAND, or wait longer by --wait")

    def open(self, start=None):
        """
        A window, when the guest gets there; returns (the events' data at its begin, at its end, what
        each plugin has printed). @start is called once the trigger waits.
        """
        give_up = time.monotonic() + self._wait
        while True:
            ids = self._plugins.load()
            if self._process:
                self._process.find()
                self._add(EXEC, on={"type": "address", "address": self._process.exec_address},
                          window={"end": {"type": "never"}})
            if start and self._on["type"] in ("syscall", "interrupt"):
                start()
                start = None
            self._arm_window(ids, give_up)
            if start:
                start()
                start = None
            try:
                begin = self._begin(ids, give_up)
            except MachineError as error:
                raise self._no_window(error) from error
            try:
                end = self._end(TRIGGER)
            except MachineError as error:
                raise WindowError(f"a window has not ended within {self._wait} s: a function may wait for"
                                  " long before it returns; use --insns or --ms, or a longer --wait") from error
            self._disarm()
            printed = self._plugins.unload()
            if not self._process or self._process.is_its(begin["cr3"]):
                return begin, end, printed
            self.passed_over += 1
