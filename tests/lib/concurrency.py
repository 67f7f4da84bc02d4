# SPDX-License-Identifier: GPL-2.0-or-later
"""
Several clients at once, each with its own monitor, do at random what monitors can do: every command
is answered, what is refused is refused by name, and the guest finds nothing wrong, then or
afterwards.  VAS_SEED repeats a run's choices (their interleaving is the machine's).
"""

import contextlib
import os
import random
import re
import tempfile
import threading
import time

from lib import plugins
from vas.host import LocalHost
from vas.machine import QMPError
from vas.patience import patiently
from vas.qmp import QMPClient
from vas.testing import LONG, Failure, Payload, at_monitor, make_qcow2, need_kvm

SECONDS = 120 if LONG else 5
ANSWER = 90
LEAST = 10
MONITORS = ("qmp1", "qmp2", "qmp3", "qmp4", "qmp5")
OURS = ("switch-accel", "switch_accel", "x-accel-roundtrip", "x_accel_roundtrip")
# A paravirtual KVM can't go on from the TSC of a snapshot.
NO_OFFSET = "tsc_offset is 0x0,"
# What stands in the way of a switch while others do something else: always by name.
REFUSED = (r"can't switch: (a switch is already in progress|a migration is running|"
           r"a debugger is about to hear|the guest (has been migrated away|is in state))|"
           r"can't open a window: the guest is in TCG already|"
           + NO_OFFSET)
# A snapshot of the other accelerator leaves the machine to be reset.
LOST = r"|can't switch: the guest is lost after an internal error"


class Client(threading.Thread):
    """Does its @commands at random until @end is set."""

    def __init__(self, name, qmp, commands, seed, end, refusals):
        super().__init__(daemon=True)
        self._refusals = refusals
        self.name = name
        self._qmp = qmp
        self._commands = commands
        self._generator = random.Random(f"{seed} {name}")
        self._end = end
        self.done = {}
        self.refused = {}
        self.failure = None
        self.no_offset = False

    def keys(self):
        """What it does, as in self.done."""
        return {arguments.get("command-line", command) for command, arguments in self._commands}

    def _one(self):
        command, arguments = self._generator.choice(self._commands)
        key = arguments.get("command-line", command)
        if "ACCEL" in key:
            accel = self._qmp.execute("query-accel", {}, ANSWER)["active"]
            arguments = {"command-line": key.replace("ACCEL", accel)}
        try:
            answer = self._qmp.execute(command, arguments, ANSWER)
            # The human monitor's errors come as text.
            if isinstance(answer, str) and answer.startswith("Error"):
                self._refuse(key, answer)
            else:
                self.done[key] = self.done.get(key, 0) + 1
        except QMPError as error:
            self._refuse(key, str(error))

    def _refuse(self, key, text):
        self.refused[key] = self.refused.get(key, 0) + 1
        self.no_offset |= NO_OFFSET in text
        if key in OURS and not re.search(self._refusals, text):
            raise Failure(f"{self.name}: {key}: {text.strip()}")

    def run(self):
        try:
            while not self._end.is_set():
                self._one()
                time.sleep(self._generator.random() * 0.02)
        except Exception as error:
            self.failure = error
            self._end.set()


def switch(accel):
    return ("switch-accel", {"accel": accel})


def human(line):
    return ("human-monitor-command", {"command-line": line})


SWITCHING = [switch("tcg"), switch("kvm"), human("switch_accel"), ("query-accel", {}),
             ("x-accel-roundtrip", {})]
RUNNING = [("stop", {}), ("cont", {}), ("cont", {}), ("query-status", {}),
           ("query-cpus-fast", {}), ("inject-nmi", {}), human("info registers -a"),
           human("info accel"), human("info mtree"), human("info jit")]
PERSONS = [human("switch_accel"), human("switch_accel tcg"), human("info accel"),
           human("x_accel_roundtrip"), human("info status"), human("info registers"),
           human("stop"), human("cont"), human("cont")]
DEVICES = [("device_add", {"driver": "usb-tablet", "id": "tablet"}),
           ("device_del", {"id": "tablet"}), ("query-block", {}),
           ("blockdev-backup", {"job-id": "backup", "device": "disk", "target": "copy",
                                "sync": "full", "auto-dismiss": True, "speed": 1000000}),
           ("block-job-cancel", {"device": "backup"}), ("query-block-jobs", {})]


def window_commands(plugin):
    """Triggers, windows and the @plugin, whose file is on the host."""
    def trigger(name, on, end, **more):
        return ("accel-trigger-add", {"id": name, "on": on, "window": {"end": end} | more})

    timer = {"type": "timer", "period-ns": 3000000, "jitter-ns": 1000000}
    count, time_ = {"type": "instructions", "count": 5000}, {"type": "time", "ns": 500000}
    return [trigger("timer", timer, count), trigger("named", timer, time_, plugins=["plugin"]),
            trigger("address", {"type": "address", "address": 0xdead0000}, time_),
            *[("accel-trigger-del", {"id": name}) for name in ("timer", "named", "address")],
            ("switch-accel", {"accel": "tcg", "window": {"end": count}}),
            ("plugin-add", {"id": "plugin", "file": plugin, "arguments": ["inline=on"]}),
            ("plugin-del", {"id": "plugin"}), ("query-plugins", {}),
            ("query-accel-triggers", {}), human("info accel-triggers")]


def saving_commands(scratch, snapshots):
    """
    Snapshots or migration, with files of a host's scratch().  While the debugger has breakpoints, a
    snapshot of the other accelerator can't be loaded, and QEMU aborts if it then is to migrate what it
    has not loaded (restore-vm -> finish-migrate).  One of the same is named after it, but a switch may
    come before it is loaded.
    """
    commands = [("system_reset", {}), ("screendump", {"filename": scratch("screen.ppm")}),
                ("cont", {})]
    if snapshots:
        return commands + [human("savevm ACCEL"), human("loadvm ACCEL")]
    return commands + [("migrate", {"uri": "file:" + scratch("stream")}), ("migrate_cancel", {}),
                       ("query-migrate", {})]


class Person:
    """A human monitor of its own, in place of a QMPClient."""

    def __init__(self, connection):
        self._connection = connection

    def execute(self, _, arguments, timeout):
        self._connection.settimeout(timeout)
        return at_monitor(self._connection, arguments["command-line"])

    def close(self):
        self._connection.close()


def clients(monitors, saving, windows, seed, end, refusals):
    """A client for each kind of work, one that does all of it, and a person."""
    kinds = {"switching": SWITCHING, "running": RUNNING, "devices": DEVICES, "saving": saving,
             "all": SWITCHING * 2 + RUNNING + DEVICES + saving + windows, "windows": windows,
             "person": PERSONS}
    return [Client(name, monitor, commands, seed, end, refusals)
            for (name, commands), monitor in zip(kinds.items(), monitors)]


def ask(connection, command):
    """
    Send a packet to the gdbstub and wait for one.  When somebody else has let the guest run, the
    stub takes the packet's first byte for a request to stop it: send it again, as GDB does.
    """
    answer = b""
    for _ in range(10):
        connection.sendall(b"+" + command)
        try:
            while not re.search(rb"\$[^#]*#..", answer):
                part = connection.recv(65536)
                if not part:
                    raise Failure("the gdbstub has closed the connection")
                answer += part
            return
        except TimeoutError:
            pass
    raise Failure(f"the gdbstub did not answer {command}")


def debug(gdb, end, failures):
    """
    A debugger that attaches at the listener @gdb, reads registers, sets a breakpoint, has the guest
    run, and detaches.
    """
    try:
        while not end.wait(0.5):
            with gdb.connect() as connection:
                connection.settimeout(5)
                for command in (b"$?#3f", b"$g#67", b"$Z1,fff0,1#%02x" % (sum(b"Z1,fff0,1") % 256)):
                    ask(connection, command)
                connection.sendall(b"$c#63")
                end.wait(0.3)
                connection.sendall(b"\x03")
                ask(connection, b"$D#44")
    except Exception as error:
        failures.append(error)
        end.set()


def settle(machine, guest, reset):
    """Whatever the clients left: no job, no migration, running; and all goes well from there."""
    for command, arguments in (
            ("migrate_cancel", {}), ("block-job-cancel", {"device": "backup"}),
            *[("accel-trigger-del", {"id": name}) for name in ("timer", "named", "address")],
            ("plugin-del", {"id": "plugin"})):
        try:
            machine.qmp(command, arguments)
        except QMPError:
            pass
    while machine.qmp("query-migrate").get("status") in ("active", "cancelling", "setup", "device"):
        time.sleep(0.05)
    if reset:
        machine.qmp("system_reset")
    machine.qmp("cont")
    guest.expect_laps(3)
    try:
        for _ in range(20):
            for accel in ("kvm", "tcg"):
                machine.switch(accel)
                guest.expect_laps(3)
                machine.qmp("x-accel-roundtrip")
    except QMPError as error:
        if NO_OFFSET not in str(error):
            raise
        guest.expect_laps(3)


def concurrency(smp, snapshots, host=None, seconds=SECONDS):
    """
    For @seconds on @host, which is this machine if not given; @snapshots: with those in place of
    migration.
    """
    if host is None:
        need_kvm()
    seed = int(os.environ.get("VAS_SEED", time.time_ns() % 1000000))
    print(f"VAS_SEED={seed}")
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        there = host or stack.enter_context(LocalHost())
        arguments = ["-smp", str(smp), "-device", "VGA,romfile=", "-device", "qemu-xhci"]
        for name in ("disk", "copy"):
            make_qcow2(f"{folder}/{name}")
            arguments += ["-blockdev", f"qcow2,node-name={name},file.driver=file,"
                                       f"file.filename={there.put(f'{folder}/{name}')}"]
        arguments += ["-device", "virtio-blk-pci,drive=disk,romfile="]
        listeners = {name: there.listener(name) for name in (*MONITORS, "person", "gdb")}
        for name, listener in listeners.items():
            arguments += ["-chardev", f"socket,id={name},{listener.options}"]
        for name in MONITORS:
            arguments += ["-mon", f"chardev={name},mode=control"]
        arguments += ["-mon", "chardev=person", "-gdb", "chardev:gdb"]
        windows = window_commands(there.put(plugins.plugin("insn")))
        with Payload("soak64", "switch,initial=kvm,plugins=on", arguments=arguments, host=there,
                     name="concurrency", deadline=seconds + 400) as guest:
            run(guest, listeners, saving_commands(there.scratch, snapshots), windows, snapshots, seed,
                seconds)


def lacking(machine, threads):
    """What there must still be: commands that no client has done yet, and switches."""
    # A client may add to its own meanwhile: list() takes them all at once.
    done = {key for client in threads for key in list(client.done)}
    never = {key for client in threads for key in client.keys()} - done
    if any(client.no_offset for client in threads):
        # There may be none after the first load.
        return never - set(OURS)
    switches = len(machine.events("ACCEL_SWITCHED"))
    return never | ({f"{LEAST - switches} switches"} if switches < LEAST else set())


def work(machine, threads, end, seconds):
    """Let them work for @seconds; on a slow machine longer, until nothing is lacking."""
    start = time.monotonic()
    while not end.wait(0.2):
        passed = time.monotonic() - start
        if passed > seconds + patiently(60) or (passed > seconds
                                                and not lacking(machine, threads)):
            break
    end.set()


def run(guest, listeners, saving, windows, snapshots, seed, seconds):
    machine = guest.machine
    guest.expect_laps(3)
    end, failures = threading.Event(), []
    with open(os.path.join(machine.logs, "qmp-extra.log"), "wb") as log:
        extra = [QMPClient(listeners[name].connect(), log, 30) for name in MONITORS]
        extra.append(Person(listeners["person"].connect()))
        threads = clients([machine.qmp_client, *extra], saving, windows, seed, end,
                          REFUSED + (LOST if snapshots else ""))
        debugger = threading.Thread(target=debug, args=(listeners["gdb"], end, failures),
                                    daemon=True)
        for thread in (*threads, debugger):
            thread.start()
        work(machine, threads, end, seconds)
        for thread in (*threads, debugger):
            thread.join(ANSWER + 10)
            if thread.is_alive():
                raise Failure(f"{thread.name} still waits for an answer")
        for client in threads:
            print(f"{client.name}: done {client.done}, refused {client.refused}")
            if client.failure:
                raise client.failure
        if failures:
            raise failures[0]
        print(f"{machine.qmp('query-accel')['switches']} switches")
        if lacking(machine, threads):
            raise Failure(f"never done: {', '.join(sorted(lacking(machine, threads)))}")
        settle(machine, guest, snapshots)
        if "ERROR" in machine.debugcon.text():
            raise Failure("the payload says: "
                          + re.search("ERROR.*", machine.debugcon.text()).group(0))
        for client in extra:
            client.close()

