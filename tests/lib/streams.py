# SPDX-License-Identifier: GPL-2.0-or-later
"""
Streams and snapshots: saved under one accelerator, loaded under either, on this machine or (host) in a
rig.
"""

import contextlib
import random
import socket
import time
import types

from lib.rigtest import say
from lib.ways import SEED, Way, all_ways, alone, expect_digest, finish
from vas.handover import wait_completed
from vas.machine import MachineError, QMPError
from vas.testing import (ERROR_LINE, LONG, Failure, Payload, expect_equal, expect_error, left_out,
                         snapshot_disk, wait_until)

ACCELS = ("kvm", "tcg")
PAIRS = [(saved, loaded) for saved in ACCELS for loaded in ACCELS]
# Not every KVM keeps an offset of the TSC (a paravirtual one has the host's): a guest that was saved in
# TCG can't be switched to it, and stays.
NO_OFFSET = "tsc_offset is 0x0"

# One for each part of a vCPU's state, and two vCPUs; --long has all but those below
SHORT = ("modes16", "modes64", "control64", "debug32", "events64", "fpu64", "xsave64", "smp64")
# Over the short times of these two, KVM's timer is too far ahead: it runs on until the guest, which was
# stopped, is saved.  QEMU's device edu has no state in a stream.
LEFT_OUT = ("timer64", "x2apic64", "msi64")
LONG_TIMES = Way("await64", "x86_64", 2, "")
# Seconds of a lap, in which the guest is stopped at a random point
LAP = {"await64": 2}


def status(machine):
    return machine.qmp("query-migrate").get("status")


def set_capabilities(machine, *names, state=True):
    machine.qmp("migrate-set-capabilities",
                capabilities=[{"capability": name, "state": state} for name in names])


def arrives(saved, loaded, keeps_offset=True):
    """Where a guest is that was @saved there and is @loaded here, under a KVM that @keeps_offset of the TSC."""
    return loaded if keeps_offset or (saved, loaded) != ("tcg", "kvm") else "tcg"


def where_it_is(machine, saved, loaded, said=None):
    """The accelerator that runs the guest, which must be right."""
    said = machine.output() if said is None else said
    now = machine.accel()
    if now != arrives(saved, loaded, machine.host.name == "rig" or NO_OFFSET not in said):
        raise Failure(f"saved in {saved}, loaded in {loaded}, the guest is in {now}: {said}")
    return now


def expect_loaded(machine, saved, loaded, said=None, event=True):
    """
    The guest, saved under @saved, was loaded into a QEMU that was in @loaded.  Returns where it is now:
    there, or in TCG if this machine's KVM can't take it, as QEMU has @said, and also by an @event if
    somebody listened.
    """
    now = where_it_is(machine, saved, loaded, said)
    if now != loaded and event:
        machine.wait_event("ACCEL_SWITCHED", 10, lambda data: data["to"] == now)
    expect_equal("events", [], machine.events("ACCEL_SWITCHED"))
    return now


def take_switches(machine):
    """What ACCEL_SWITCHED has said since the last call: (from, to) of each."""
    found = []
    while machine.events("ACCEL_SWITCHED"):
        data = machine.wait_event("ACCEL_SWITCHED", 1)["data"]
        found.append((data["from"], data["to"]))
    return found


class Kind:
    """A way for a guest from one QEMU to another: over @uri, with migration @capabilities; @what is its name."""

    def __init__(self, what, uri, capabilities=()):
        self.what, self.uri, self.capabilities = what, uri, capabilities

    def send(self, source, uri):
        """Have the guest go; returns when it has gone."""
        source.machine.qmp("migrate", uri=uri)
        wait_completed(source.machine)

    def receive(self, copy, uri):
        copy.machine.qmp("migrate-incoming", uri=uri)


class FileKind(Kind):
    """The stream is there before it is loaded."""


class BackgroundKind(FileKind):
    """The guest runs on where it is saved."""

    def send(self, source, uri):
        super().send(source, uri)
        source.expect_laps(3)


class PostcopyKind(Kind):
    def send(self, source, uri):
        # So slow that the first phase does not end by itself
        source.machine.qmp("migrate-set-parameters", {"max-bandwidth": 1 << 16})
        source.machine.qmp("migrate", uri=uri)
        wait_until(lambda: status(source.machine) == "active", "the migration does not begin")
        source.machine.qmp("migrate-start-postcopy")
        source.machine.qmp("migrate-set-parameters", {"max-bandwidth": 1 << 30})
        wait_completed(source.machine)
        if not source.machine.qmp("query-migrate")["ram"]["postcopy-bytes"]:
            raise Failure("the migration was over before its second phase")


class DescriptorKind(Kind):
    """Both have one end of a pair of sockets."""

    def __init__(self):
        super().__init__("migration over a descriptor (``fd:``)", "fd:stream")
        self._ends = None

    def _pass(self, guest):
        guest.machine.qmp_client.pass_descriptor(self._ends.pop(), "stream")

    def send(self, source, uri):
        self._pass(source)
        super().send(source, uri)

    def receive(self, copy, uri):
        self._ends = [end.detach() for end in socket.socketpair()]
        self._pass(copy)
        super().receive(copy, uri)


KINDS = {
    "file": FileKind("migration to a file, loaded from there", "file:{path}"),
    "exec": FileKind("migration through a command (``exec:``)", "exec:{command} {path}"),
    "mapped-ram": FileKind("migration to a file with ``mapped-ram``", "file:{path}", ["mapped-ram"]),
    "background-snapshot": BackgroundKind("``background-snapshot``", "file:{path}", ["background-snapshot"]),
    "precopy": Kind("migration over a socket", "unix:{path}"),
    "multifd": Kind("migration over a socket with ``multifd``", "unix:{path}", ["multifd"]),
    "postcopy": PostcopyKind("postcopy", "unix:{path}", ["postcopy-ram"]),
    "fd": DescriptorKind(),
}


# A descriptor does not go into a rig.
RIG_KINDS = [name for name in KINDS if name != "fd"]


def move(kind, source, copy):
    """Let the @source's guest come into @copy, which was started with -incoming defer."""
    uri = kind.uri.replace("{path}", source.machine.host.scratch("stream"))
    ends = ((source, uri.replace("{command}", "cat >"), kind.send),
            (copy, uri.replace("{command}", "cat"), kind.receive))
    for guest, _, _ in ends:
        names = [name for name in kind.capabilities
                 if guest is source or name != "background-snapshot"]
        if names:
            set_capabilities(guest.machine, *names)
    for guest, where, go in ends if isinstance(kind, FileKind) else reversed(ends):
        go(guest, where)
    wait_completed(copy.machine)


def go_on(guest):
    """The guest that was loaded runs, and can be switched as before."""
    machine = guest.machine
    machine.cont()
    guest.expect_laps(3)
    for _ in range(2):
        try:
            machine.switch("tcg" if machine.accel() == "kvm" else "kvm")
        except QMPError as error:
            if machine.host.name == "rig" or NO_OFFSET not in str(error):
                raise
        guest.expect_laps(3)


@contextlib.contextmanager
def guest_in(accel, host, start=True, more=(), laps=None):
    with Payload("soak64", f"switch,initial={accel}", laps, host=host, start=start, name="streams",
                 arguments=["-smp", "2", *more]) as guest:
        yield guest


def by_kind(name, host=None):
    """A guest that is saved under either accelerator is loaded under either, by streams of kind @name."""
    for saved, loaded in PAIRS:
        # Whatever a switch leaves behind goes along.
        with guest_in("kvm" if saved == "tcg" else "tcg", host) as source, \
                guest_in(loaded, host, start=False, more=["-incoming", "defer"]) as copy:
            source.expect_laps(3)
            source.machine.switch(saved)
            source.expect_laps(3)
            move(KINDS[name], source, copy)
            if name != "background-snapshot":
                expect_error("migrated away", source.machine.switch, "kvm" if saved == "tcg" else "tcg")
            now = expect_loaded(copy.machine, saved, loaded)
            go_on(copy)
            say(f"{name}: {saved} to {loaded}: in {now}, then in both")


def snapshots(host=None):
    """The same by savevm, with loadvm into a guest that runs and -loadvm into a new QEMU."""
    with snapshot_disk(host) as drive:
        with guest_in("kvm", host, more=drive) as guest:
            machine = guest.machine
            for saved in ACCELS:
                machine.switch(saved)
                guest.expect_laps(3)
                expect_equal("savevm", "", machine.hmp(f"savevm {saved}"))
            for saved, loaded in PAIRS * 3:
                if machine.accel() != loaded:
                    if loaded == "kvm":
                        # Not every KVM takes the guest that was loaded just now.
                        expect_equal("loadvm", "", machine.hmp("loadvm kvm"))
                    machine.switch(loaded)
                guest.expect_laps(3)
                switches = machine.qmp("query-accel")["switches"]
                take_switches(machine)
                said = machine.hmp(f"loadvm {saved}")
                if expect_loaded(machine, saved, loaded, said) == loaded:
                    expect_equal("loadvm, switches", ("", switches),
                                 (said, machine.qmp("query-accel")["switches"]))
                guest.expect_laps(3)
            machine.stop()
        for saved, loaded in PAIRS:
            with guest_in(loaded, host, start=False, more=[*drive, "-loadvm", saved]) as guest:
                now = expect_loaded(guest.machine, saved, loaded, event=False)
                go_on(guest)
                say(f"-loadvm: {saved} to {loaded}: in {now}, then in both")


def stopped(machine):
    """Stop the guest; returns whether that came before its payload had ended QEMU."""
    try:
        machine.stop()
    except (MachineError, QMPError):
        return False
    return True


def saved_at_random(way, options, laps, generator, host, then=None):
    """
    A stream of the payload, stopped at a random point under -accel switch with @options, and what it has
    said until then; None if that was, in part, its digest.  @then: it is switched after the stop, to there.
    """
    with way.payload("switch," + options, laps, host) as source:
        machine = source.machine
        machine.debugcon.expect(r"\.|DIGEST", 60)
        time.sleep(generator.random() * LAP.get(way.name, 0.2))
        if not stopped(machine):
            return None
        if then:
            machine.switch(then)
        path = machine.host.scratch("stream")
        machine.qmp("migrate", uri="file:" + path)
        wait_completed(machine)
        # The last line may have been cut short.
        said, _, last = machine.debugcon.text().rpartition("\n")
        return None if "DIGEST" in said or "D" in last else (path, said)


def with_digest(way, saved, loaded, generator, host, options="", then=None):
    """
    The payload is stopped at a random point, saved under @saved and loaded under @loaded, both with
    more @options of -accel switch; its digest is that of a run under TCG alone.  @then: it ran under
    @saved, and is switched after the stop, to there.
    """
    laps, stream = way.laps, None
    while stream is None:
        stream = saved_at_random(way, f"initial={saved}{options}", laps, generator, host, then)
        laps = laps if stream else laps * 4
    path, said = stream
    if not set(ERROR_LINE.findall(said)) <= way.known_errors:
        raise Failure(f"{way.name}: before it was saved: {said}")
    with way.payload(f"switch,initial={loaded}{options}", laps, host, ["-incoming", "defer"],
                     start=False) as copy:
        copy.machine.qmp("migrate-incoming", uri="file:" + path)
        wait_completed(copy.machine)
        now = expect_loaded(copy.machine, then or saved, loaded)
        copy.machine.cont()
        expect_digest(way, f"{saved} to {loaded}", alone(way, "tcg", host, laps), finish(way, copy))
    return now


def digest_ways():
    return [way for name, way in all_ways().items()
            if name in SHORT or (LONG and name not in LEFT_OUT)] + [LONG_TIMES]


def digests(ways, host):
    generator = random.Random(SEED)
    say(f"VAS_SEED={SEED}")
    for way in ways:
        where = [f"{saved} to {loaded} in {with_digest(way, saved, loaded, generator, host)}"
                 for saved, loaded in PAIRS]
        say(f"{way.name}: {', '.join(where)}")
    # The TSCs of two vCPUs stay together.
    for saved, then in (("kvm", "tcg"), ("tcg", "kvm")) if host.name == "rig" else (("kvm", "tcg"),):
        with_digest(all_ways()["tscorder64"].on(host), saved, "kvm", generator, host, then=then)
    if host.name != "rig":
        timer_controls(host)


def in_a_rig(host, kinds=RIG_KINDS, ways=None, rounds=0):
    """
    soak64 by each of @kinds and by snapshots, and the digests of @ways, or all.  With more @rounds the kinds
    come round in turn, with snapshots after each turn, and the digest of smp64 is made as often again.
    """
    for n in range(max(rounds, len(kinds))):
        by_kind(kinds[n % len(kinds)], host)
        if n % len(kinds) == len(kinds) - 1:
            snapshots(host)
    again = [all_ways()["smp64"]] * rounds
    digests([way.on(host) for way in [*(ways or digest_ways()), *again]], host)


def timer_controls(host):
    """Without the count both halves of a lap of await64 notice it: the one-shot, and then the periods."""
    for part, noticed in ((0.1, "one shot: the count"), (0.5, "periodic: the count")):
        with left_out("lapic-count", noticed):
            with_digest(LONG_TIMES, "kvm", "kvm", types.SimpleNamespace(random=lambda part=part: part), host,
                        ",x-omit=lapic-count")
