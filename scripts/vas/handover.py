# SPDX-License-Identifier: GPL-2.0-or-later
"""
./vas handover: a running guest goes from one QEMU to another on the same host, and none of its memory is copied.

Both QEMUs map the same file or memfd as the guest's memory; the stream has devices and vCPUs only.
"""

import argparse
import contextlib
import json
import re
import sys
import tempfile
import threading
import time

from vas import image, paths
from vas.debian import Guest, verdict_lines
from vas.demo import windows
from vas.front import Progress, guest_host, reporting, write_json
from vas.machine import Machine, MachineError
from vas.patience import patiently
from vas.qmp import QMPError

PLAIN = "kvm"
SWITCH = "switch,streams=plain-kvm"
MODEL = "qemu32"
WAYS = ("cpr-transfer", "x-ignore-shared")
NOT_LISTENING = re.compile(r"Connection refused|No such file")


def lost_features(accel, model, host, binary, arguments=()):
    """What QEMU with @accel, such as "switch,streams=plain-kvm", wants to have added to -cpu @model; "" if nothing."""
    try:
        Machine(["-accel", accel, "-nodefaults", "-cpu", model, *arguments], binary=binary, host=host,
                name="features", start=False).close()
    except MachineError as error:
        found = re.search(r"Add to -cpu, on both sides: ([^\s;]+)", str(error))
        if not found:
            raise
        return found.group(1)
    return ""


def common_cpu(accel, model, host, binary, arguments=()):
    """The CPU @model without what only plain QEMU would show: the same CPU on both sides."""
    lost = lost_features(accel, model, host, binary, arguments)
    return f"{model},{lost}" if lost else model


def memory_arguments(way, size, file):
    """QEMU's arguments for memory of @size MiB that another QEMU can map; @file is where x-ignore-shared has it."""
    if way == "cpr-transfer":
        return ["-m", str(size), "-object", f"memory-backend-memfd,id=ram,size={size}M,share=on",
                "-machine", "memory-backend=ram,aux-ram-share=on"]
    return ["-m", str(size), "-object", f"memory-backend-file,id=ram,size={size}M,share=on,mem-path={file}",
            "-machine", "memory-backend=ram"]


@contextlib.contextmanager
def memory_file(host):
    """The name of a file in the @host's own memory, for the guest's."""
    if host.name != "local":
        yield host.scratch("ram")
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="vas-") as folder:
        yield folder + "/ram"


def wait_completed(machine, seconds=120):
    """Wait until a migration has completed, whichever side of it @machine is."""
    give_up = time.monotonic() + patiently(seconds)
    while True:
        state = machine.qmp("query-migrate")
        status = state.get("status")
        if status == "completed":
            return state
        if status in ("failed", "cancelled"):
            raise MachineError(f"the migration has {status}: {state.get('error-desc', 'QEMU does not say why')}")
        if time.monotonic() > give_up:
            raise MachineError(f"the migration is still \"{status}\" after {patiently(seconds):.0f} s")
        time.sleep(0.01)


def channel(name, path):
    return {"channel-type": name, "addr": {"transport": "socket", "type": "unix", "path": path}}


def seconds(event):
    return event["timestamp"]["seconds"] + event["timestamp"]["microseconds"] / 1e6


class Handover:
    """A guest's way from QEMU to QEMU on @host, as often as it is called; @way is one of WAYS."""

    def __init__(self, host, way):
        self._host, self._way = host, way
        self._count = 0
        self.pages = 0          # that were sent the last time

    def __call__(self, source, start):
        """
        @start: a function that starts the other QEMU with more arguments, and returns its Machine.  Returns
        (machine, seconds that the guest stood still).  If this fails before the guest has left, it runs on in
        the @source.
        """
        self._count += 1
        go = self._transfer if self._way == "cpr-transfer" else self._ignore_shared
        machine, state = go(source, start)
        self.pages = state["ram"]["normal"] + state["ram"]["duplicate"]
        try:
            # The other QEMU's monitor may have been too late to tell.
            pause = seconds(machine.wait_event("RESUME", 2)) - seconds(source.wait_event("STOP", 2))
        except MachineError:
            if not machine.qmp("query-status")["running"]:
                raise
            pause = state["downtime"] / 1000
        return machine, pause

    def _path(self, name):
        return self._host.scratch(f"{name}-{self._count}")

    def _ignore_shared(self, source, start):
        path = self._path("handover")
        machine = start(["-incoming", "defer"])
        with taken_back(source, machine):
            for side in (source, machine):
                side.qmp("migrate-set-capabilities",
                         capabilities=[{"capability": "x-ignore-shared", "state": True}])
            machine.qmp("migrate-incoming", uri="unix:" + path)
            source.qmp("migrate", uri="unix:" + path)
            state = wait_completed(source)
        wait_completed(machine)
        return machine, state

    def _transfer(self, source, start):
        """The other QEMU opens its monitor only when the first has begun to talk to it."""
        channels = [channel("main", self._path("main")), channel("cpr", self._path("cpr"))]
        source.qmp("migrate-set-parameters", mode="cpr-transfer")
        over, trouble = threading.Event(), []

        def migrate():
            while not over.is_set():
                try:
                    source.qmp("migrate", channels=channels)
                    return
                except (QMPError, MachineError) as error:
                    if not NOT_LISTENING.search(str(error)):
                        trouble.append(error)
                        return
                    time.sleep(0.01)

        thread = threading.Thread(target=migrate, daemon=True)
        thread.start()
        try:
            machine = start([argument for one in channels for argument in ("-incoming", json.dumps(one))])
        except BaseException:
            over.set()
            thread.join(10)
            source.qmp("migrate-set-parameters", mode="normal")
            raise
        thread.join()
        with taken_back(source, machine):
            for error in trouble:
                raise error
            state = wait_completed(source)
        wait_completed(machine)
        return machine, state


@contextlib.contextmanager
def taken_back(source, machine):
    """If the body fails the guest stays in @source, and the other @machine ends."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(MachineError, QMPError):
            source.qmp("migrate_cancel")
            source.qmp("migrate-set-parameters", mode="normal")
        machine.close()
        raise


def stop_and_cont(machine):
    """How long the guest stands still in it, in seconds: what a pause costs anyway."""
    for name in ("STOP", "RESUME"):
        while machine.events(name):
            machine.wait_event(name, 1)
    machine.stop()
    stopped = machine.wait_event("STOP", 10)
    machine.cont()
    return seconds(machine.wait_event("RESUME", 10)) - seconds(stopped)


class Scene:
    """Debian, whose disk and memory outlive the QEMU that runs it, its @machine."""

    def __init__(self, host, options, ram, say):
        self.host, self.options, self.ram, self.say = host, options, ram, say
        self.slow = host.name == "rig"
        self.disk = host.scratch("disk")
        self.cpu = common_cpu(SWITCH, MODEL, host, "i386")
        self.hand_over = Handover(host, options.by)
        self.machine = None

    def make_disk(self):
        """An overlay over the image, which stays as it is."""
        log = paths.LOGS + "/handover-disk.log"
        process = self.host.spawn([paths.QEMU + "/qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b",
                                   self.host.put(str(image.image_path())), self.disk], log)
        if process.wait(60):
            raise MachineError(f"qemu-img could not make the guest's disk: see {log}")

    def start(self, accel, more=(), **keywords):
        return Machine(["-accel", accel, "-cpu", self.cpu, "-nic", "none",
                        *memory_arguments(self.options.by, self.options.memory, self.ram),
                        "-drive", f"file={self.disk},format=qcow2,if=virtio", *more],
                       binary="i386", host=self.host, name="handover", deadline=1200, connect=120, **keywords)

    def to(self, guest, accel):
        """Hand the @guest over to a QEMU with @accel; returns (guest, seconds)."""
        source = self.machine
        self.machine, pause = self.hand_over(source, lambda more: self.start(accel, more, hold=False))
        source.close()
        guest = Guest(self.machine)
        guest.wait_round(120)
        self.say(f"with -accel {accel.split(',')[0]} after a pause of {pause * 1000:.1f} ms; the load runs on")
        return guest, pause


def run(host, options, ram, say):
    """Returns what --json writes.  @ram: where x-ignore-shared has the guest's memory."""
    scene = Scene(host, options, ram, say)
    scene.make_disk()
    pauses = {"plain to switch": [], "switch to plain": []}
    scene.machine = scene.start(PLAIN)
    try:
        guest = Guest(scene.machine)
        guest.skip_menu()
        say("booting Debian i386 under plain KVM, without -accel switch")
        guest.wait_phase("login", 120)
        guest.login()
        guest.start_load("--light" if scene.slow else "")
        guest.wait_round()
        stops = [stop_and_cont(scene.machine) for _ in range(5)]
        for _ in range(options.rounds):
            guest, pause = scene.to(guest, SWITCH)
            pauses["plain to switch"].append(pause)
            windows(guest, 1, scene.slow, say)
            guest, pause = scene.to(guest, PLAIN)
            pauses["switch to plain"].append(pause)
        found = guest.judge()
        guest.poweroff()
    finally:
        scene.machine.close()
    return {"host": "rig" if scene.slow else "kvm", "by": options.by, "memory_mib": options.memory,
            "pauses_ms": {name: [value * 1000 for value in values] for name, values in pauses.items()},
            "stop_cont_ms": [value * 1000 for value in stops],
            "guest": found}


def table(result):
    """The result for a person."""
    lines = [f"Pauses of a guest of {result['memory_mib']} MiB, by {result['by']}, in ms:"]
    rows = {**result["pauses_ms"], "stop, cont": result["stop_cont_ms"]}
    lines += [f"  {name:<16}" + "".join(f"  {value:7.1f}" for value in values) for name, values in rows.items()]
    lines += verdict_lines(result["guest"])
    if result["host"] == "rig":
        lines.append("(These times are an emulated host's: hardware is faster by far.)")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(
        prog="vas handover", description="Boot Debian i386 under plain KVM, hand it over to a QEMU with -accel "
        "switch on the same host without copying its memory, switch it to TCG and back, hand it back; and print "
        "how long it stood still.")
    parser.add_argument("--by", choices=WAYS, default=WAYS[0], help=f"QEMU's way to hand it over ({WAYS[0]})")
    parser.add_argument("--memory", type=paths.positive, default=256, metavar="MIB", help="the guest's memory (256)")
    parser.add_argument("--rounds", type=paths.positive, default=2, metavar="N", help="how often there and back (2)")
    parser.add_argument("--json", metavar="FILE", type=paths.output_file, help="write the result there, too")
    parser.add_argument("--rig", action="store_true", help="in the rig, even if this machine's KVM would do")
    args = parser.parse_args()
    paths.clear(args.json)
    say = Progress("handover")
    with reporting("handover"):
        with guest_host(say, args.rig, disks=[str(image.image_path())], files=[paths.QEMU + "/qemu-img"]) as host, \
                memory_file(host) as ram:
            result = run(host, args, ram, say)
    print(table(result))
    write_json(args.json, result)
    if result["guest"]["verdict"] != "pass":
        sys.exit("vas handover: the guest's load found faults")


if __name__ == "__main__":
    main()
