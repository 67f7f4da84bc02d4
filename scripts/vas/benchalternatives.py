# SPDX-License-Identifier: GPL-2.0-or-later
"""
./vas bench alternatives: how long a guest stands when it is switched, and when it is moved to
another QEMU by what QEMU itself has: a migration on this machine, or savevm and -loadvm.
"""

import os
import statistics
import tempfile
import threading
import time

from vas.benchguest import ERRORS, SWITCH, Abilities, WorkGuest
from vas.benchplot import plain_log
from vas.benchstats import Progress, spread
from vas.patience import patiently
from vas.testing import PLAIN_KVM, Failure, make_qcow2, wait_until

HELP = "a switch beside migration, and savevm with -loadvm"
POLL_SECONDS = 50e-6
ACCELS = {"kvm": PLAIN_KVM, "tcg": "tcg"}
# QEMU loads a stream of KVM under TCG only if it has no device "kvmclock": newer machines have it
# always, this one only if the CPU has the feature.
MACHINE = ["-machine", "pc-i440fx-5.1"]
NO_KVMCLOCK = ",-kvmclock,-kvmclock-stable-bit"
LABELS = {
    "stop_cont": "stop + cont, KVM",
    "switch_kvm_tcg": "switch-accel, KVM to TCG",
    "switch_tcg_kvm": "switch-accel, TCG to KVM",
    "migrate_kvm_kvm": "migration, KVM to KVM",
    "migrate_kvm_tcg": "migration, KVM to TCG",
    "migrate_tcg_kvm": "migration, TCG to KVM",
    "snapshot_kvm_tcg": "savevm, -loadvm, KVM to TCG",
    "snapshot_tcg_kvm": "savevm, -loadvm, TCG to KVM",
}
COLOURS = {"stop": "#7f8c8d", "switch": "#1e8449", "migrate": "#d68910", "snapshot": "#c0392b"}
MEANING = """\
Standing time: how long the guest does no work, in ms, by the counter of work in its memory, which
the host reads about each 0.1 ms. It is the same measure for all lines, from the last unit of work
before to the first one after.

The guest is compute64 with one vCPU and 256 MiB, most of which it never touches. A guest that
writes to its memory faster stands longer in a migration, and one with more memory in use stands
longer in a snapshot.

Migration: to a second QEMU that waits with -incoming, over a unix socket on this machine, with
QEMU's default parameters. The last column is the downtime that query-migrate reports.

savevm, -loadvm: stop, savevm to a qcow2 image, quit, and a new QEMU with -loadvm, whose start
counts.

Both cross from KVM to TCG only without the device kvmclock, which an old machine type allows
(pc-i440fx-5.1, -cpu …,-kvmclock). All lines have that machine, and the same CPU. Such a guest has
no kvm-clock, and its TSC jumps."""


def add_arguments(parser):
    parser.add_argument("--count", type=int, metavar="N", help="times each (10)")


def check(arguments):
    """Fill in what was not given; a Failure says what can't be."""
    if arguments.count is None:
        arguments.count = 1 if arguments.quick else 10
    if not 1 <= arguments.count <= 1000:
        raise Failure(f"--count must be 1 to 1000, not {arguments.count}")


class Watch:
    """
    Reads the @guest's work all the time, in a thread, while the body of "with" runs.  @copy: the
    guest that it is to become, which has its last count before it runs.
    """

    def __init__(self, guest, copy=None):
        self._guest, self._copy = guest, copy
        self._ended = False
        self.longest = 0        # seconds without work
        self.polls = []         # seconds from reading to reading
        self.work = guest.work()
        self.changed = time.monotonic()
        self.resumed = None     # when the copy was first seen to work
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        last = time.monotonic()
        while not self._ended:
            time.sleep(POLL_SECONDS)
            work, now = self._guest.work(), time.monotonic()
            self.polls.append(now - last)
            last = now
            if work != self.work:
                self.longest = max(self.longest, now - self.changed)
                self.work, self.changed = work, now
            elif self._copy and self.resumed is None and self._copy.work() > work:
                self.resumed = now

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *unused):
        self._ended = True
        self._thread.join()


def _wait_beyond(guest, work, timeout=30):
    """Wait until the @guest has done more than @work; returns when."""
    give_up = time.monotonic() + patiently(timeout)
    while guest.work() <= work:
        if time.monotonic() > give_up:
            raise Failure(f"the guest did not go on within {timeout} s after it was moved")
        time.sleep(POLL_SECONDS)
    return time.monotonic()


class Measurement:
    """All ways of one run, each with its list of standing times in ms."""

    def __init__(self, cpu, folder):
        self.cpu, self.folder = cpu + NO_KVMCLOCK, folder
        self.standing = {name: [] for name in LABELS}
        self.reported = {name: [] for name in LABELS}
        self.polls, self.failed = [], {}

    def _guest(self, accel, arguments=(), **keywords):
        return WorkGuest("compute", ACCELS.get(accel, accel), cpu=self.cpu,
                         arguments=[*MACHINE, *arguments],
                         **{"name": "bench-alternatives", "deadline": 120, **keywords})

    def _longest(self, name, guest, action):
        """The longest time without work while @action() runs."""
        guest.expect_work()
        with Watch(guest) as watch:
            time.sleep(0.02)
            action()
            guest.expect_work()
            time.sleep(0.02)
        self.standing[name].append(watch.longest * 1000)
        self.polls += watch.polls

    def in_one_process(self):
        """stop + cont, and switches in both directions."""
        with self._guest(SWITCH) as guest:
            machine = guest.machine
            self._longest("stop_cont", guest, lambda: (machine.stop(), machine.cont()))
            for source, target in (("kvm", "tcg"), ("tcg", "kvm")):
                name = f"switch_{source}_{target}"
                self._longest(name, guest, lambda to=target: machine.switch(to))
                self.reported[name].append(machine.switches[-1]["downtime-ns"] / 1e6)

    def migrate(self, source, target):
        """To a QEMU that waits for the guest."""
        name = f"migrate_{source}_{target}"
        address = "unix:" + os.path.join(self.folder, "stream")
        with self._guest(source) as old, \
                self._guest(target, ["-incoming", address], hold=False) as new:
            old.expect_work()
            with Watch(old, new) as watch:
                old.machine.qmp("migrate", {"uri": address})
                while True:
                    answer = old.machine.qmp("query-migrate")
                    if answer.get("status") in ("completed", "failed"):
                        break
                    time.sleep(0.001)
                if answer["status"] == "failed" or not new.machine.running():
                    raise Failure(f"the migration failed: {new.machine.output().strip()[-200:]}")
                _wait_beyond(new, old.work())
                wait_until(lambda: watch.resumed, "the guest's work was not seen to go on")
            self.standing[name].append((watch.resumed - watch.changed) * 1000)
            self.reported[name].append(answer["downtime"])

    def snapshot(self, source, target):
        """By a snapshot in an image, and a new QEMU."""
        name = f"snapshot_{source}_{target}"
        image = os.path.join(self.folder, "snapshot.qcow2")
        make_qcow2(image)
        drive = ["-drive", f"if=none,id=image,format=qcow2,file={image}"]
        with self._guest(source, drive) as old:
            old.expect_work()
            with Watch(old) as watch:
                time.sleep(0.01)
                old.machine.stop()
                said = old.machine.hmp("savevm bench").strip()
                if said:
                    raise Failure(f"savevm: {said}")
                old.machine.quit()
            work, begin = watch.work, watch.changed
        with self._guest(target, [*drive, "-loadvm", "bench"], hold=False) as new:
            self.standing[name].append((_wait_beyond(new, work) - begin) * 1000)

    def round(self, progress):
        """Each way once; one that fails is not tried again."""
        ways = [("stop_cont", self.in_one_process)]
        for kind, function in (("migrate", self.migrate), ("snapshot", self.snapshot)):
            for name in LABELS:
                if name.startswith(kind):
                    ways.append((name, lambda run=function, ends=name.split("_")[1:]: run(*ends)))
        for name, function in ways:
            if name not in self.failed:
                try:
                    function()
                except ERRORS as error:
                    if name == "stop_cont":
                        raise
                    self.failed[name] = str(error)
            progress.step()


def measure(arguments):
    """What --json writes."""
    abilities = Abilities()
    progress = Progress("alternatives", 6 * arguments.count)
    with tempfile.TemporaryDirectory(prefix="vas-") as folder:
        measurement = Measurement(abilities.cpu, folder)
        for _ in range(arguments.count):
            measurement.round(progress)
    result = {"parameters": {"count": arguments.count}, "machine_type": MACHINE[1],
              "cpu": measurement.cpu,
              "poll_ms": round(statistics.median(measurement.polls) * 1000, 3), "ways": {}}
    for name, values in measurement.standing.items():
        row = {"standing_ms": spread(values, 2) if values else None}
        if measurement.reported[name]:
            row["reported_downtime_ms"] = spread(measurement.reported[name], 2)
        if name in measurement.failed:
            row["failed"] = measurement.failed[name]
        result["ways"][name] = row
    return result


def tables(result):
    """Of the report: (title, head, rows) of each table."""
    rows = []
    for name, row in result["ways"].items():
        standing, reported = row["standing_ms"], row.get("reported_downtime_ms")
        rows.append([LABELS[name],
                     *(f"{standing[key]:.1f}" if standing else "-" for key in ("p50", "min", "max")),
                     f"{reported['p50']:.1f}" if reported else ""])
    yield ("Standing time in ms", ["", "p50", "min", "max", "QEMU's own downtime"], rows)


def notes(result):
    """Sentences below the tables."""
    return [f"{result['parameters']['count']} time(s) each, in turns. The host read the counter each "
            f"{result['poll_ms']:.2f} ms.",
            *(f"{LABELS[name]} failed: {row['failed']}" for name, row in result["ways"].items()
              if "failed" in row)]


def draw(result, figure):
    axes = figure.subplots()
    measured = {name: row["standing_ms"] for name, row in result["ways"].items()
                if row["standing_ms"]}
    for number, (name, row) in enumerate(measured.items()):
        value = row["p50"]
        axes.barh(number, value, color=COLOURS[name.split("_")[0]], height=0.6,
                  xerr=[[value - row["min"]], [row["max"] - value]], capsize=3)
        axes.text(row["max"] * 1.15, number, f"{value:.1f} ms", va="center")
    least, most = (function(row["p50"] for row in measured.values()) for function in (min, max))
    axes.set(xlabel="the guest does no work for … ms (median, least and most; log scale)",
             yticks=range(len(measured)), yticklabels=[LABELS[name] for name in measured],
             title="How long the guest stands")
    axes.invert_yaxis()
    plain_log(axes.xaxis)
    axes.set_xlim(least / 2, most * 4)
    axes.grid(True, axis="x", alpha=0.3)


def height():
    """Of the picture, in inches."""
    return 4.5
