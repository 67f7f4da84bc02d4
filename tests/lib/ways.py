# SPDX-License-Identifier: GPL-2.0-or-later
"""
A payload in four ways: under TCG alone, under KVM alone, switched where it asks for it itself
(isa-accel-switch), in both directions, and switched at random points, with round trips in between.
All must end with the same digest.

The payloads are those of tests/guest/payloads.list.
"""

import collections
import copy
import os
import random
import re
import time

from vas import kvmprobe, registry
from vas.machine import MachineError, QMPError
from vas.testing import (ERROR_LINE, LONG, PLAIN_KVM, Failure, Payload, Skip, excuse,
                         expect_equal)

SEED = int(os.environ.get("VAS_SEED") or random.randrange(1000000))
# A switch that comes as the guest ends.
ENDED = re.compile("the guest has shut down|QEMU is ending")
NOT_NOW = "must run on until"
# A KVM without hardware paging, virtual-8086 mode and the like drops the register's bit: the read-back
# refuses then.  No KVM may drop anything else.
NOT_HELD = re.compile(r"KVM does not hold what it was given: (regs\.rflags|sregs\.cr0)")
# What a payload says of itself, behind the dots of laps that are done
SAID = re.compile(r"(?m)^\.*(LATE|ON TIME|AWAKE|ASLEEP)$")
# Fewer switches than these before a payload's end would be no test: then it is run again, for four
# times as many laps.
LEAST_AT_RANDOM = 10
TRIES = 6
# The port at which payloads ask for switches, as fast as they can.
PORT = ["-device", "isa-accel-switch,max-switches-per-second=0"]
# TCG has these features under -accel switch alone.
OF_THE_SWITCH = re.compile(r"\+(tsc-adjust|tsc-deadline|kvm-steal-time)\b|-cpu max\b")


class Way:
    """A line of the list: a @name, QEMU's @binary and more of its @arguments."""

    def __init__(self, name, binary, laps, arguments):
        self.name, self.binary = name, binary
        self.laps = int(laps) * (10 if LONG else 1)
        self.arguments = arguments.split()
        # What it finds wrong with this host's KVM alone; digests then say nothing.
        self.known_errors = set()

    @property
    def own_laps(self):
        """Where it asks for switches there are many of them, and two runs."""
        return max(2, self.laps // 4)

    def on(self, host):
        """The same with as many laps as suit the @host; None is this machine."""
        way = copy.copy(self)
        way.laps = max(2, self.laps // (host.laps_divisor if host else 1))
        return way

    def payload(self, accel, laps, host, more=(), **keywords):
        return Payload(self.name, accel, laps=laps, binary=self.binary, host=host,
                       arguments=[*self.arguments, *more], name=f"ways-{self.name}", **keywords)


def all_ways():
    """The list's payloads that are run in four ways, by name."""
    return {payload.name: Way(*payload[:4]) for payload in registry.in_four_ways()}


def finish(way, guest, switched=True):
    """
    The digest at the payload's end.  Makes an excuse of what the payload could not judge: HLTs, and
    ticks if it was @switched.  A KVM that has no hardware (kvm-pvm) was seen to end a HLT with
    interrupts off, in KVM_RUN, for nothing.
    """
    digest = guest.finish(known_errors=way.known_errors)
    said = collections.Counter(SAID.findall(guest.machine.debugcon.text()))
    late, awake = said["LATE"], said["AWAKE"]
    if switched and late + said["ON TIME"]:
        excuse("late", late, late + said["ON TIME"],
               f"{way.name}: a series of ticks, as the host ran its timers late")
    if awake + said["ASLEEP"]:
        excuse("awake", awake, awake + said["ASLEEP"],
               f"{way.name}: a HLT that only an NMI ends was over before, which a KVM without"
               " hardware does")
    if awake and (guest.machine.host.name == "rig" or kvmprobe.probe()[0]):
        raise Failure(f"{way.name}: HLT ended for nothing")
    return digest


def alone(way, accel, host=None, laps=None):
    """Without any switch; returns the digest.  isa-accel-switch does nothing then, or is not there."""
    port = PORT
    if accel == "tcg" and OF_THE_SWITCH.search(" ".join(way.arguments)):
        accel, port = "switch,initial=tcg", []
    with way.payload(accel, laps or way.laps, host, port) as guest:
        return finish(way, guest, switched=False)


def kvm_runs(way):
    """
    Whether this machine's KVM gets the payload through its laps.  If it does, way.known_errors has
    what the payload finds wrong on the way.
    """
    give_up = time.monotonic() + 20
    try:
        with way.payload(PLAIN_KVM, 4, None, ["-no-reboot"]) as guest:
            machine = guest.machine
            # An internal error of KVM stops the machine.
            while not machine.events("STOP") and time.monotonic() < give_up:
                if "DIGEST" in machine.debugcon.text():
                    way.known_errors = set(ERROR_LINE.findall(machine.debugcon.text()))
                    return True
                time.sleep(0.01)
    except MachineError as error:
        # -cpu …,enforce: a feature that this machine doesn't have.
        print(error)
    return False


def expect_digest(way, what, expected, digest):
    if not way.known_errors:
        expect_equal(f"{way.name}: digest {what}", expected, digest)


def own_points(way, initial, host=None):
    """A switch at each point where the payload asks for one; returns the digest."""
    with way.payload(f"switch,initial={initial}", way.own_laps, host,
                     [*PORT, "-trace", "accel_switch_resumed"]) as guest:
        digest = finish(way, guest)
        # The guest's own switches do not make an event each.
        count = guest.machine.output().count("accel_switch_resumed ")
        # The payload's end is not at once that of its vCPUs.
        refused = [line for line in guest.machine.output().splitlines()
                   if "isa-accel-switch:" in line and not ENDED.search(line)]
        if refused:
            raise Failure(f"{way.name}: {refused[0]}")
        if count < way.own_laps:
            raise Failure(f"{way.name}: {count} switches in {way.own_laps} laps")
        return digest, count


def round_trip(machine):
    """Returns whether it was made, for which it does not wait as a switch does."""
    try:
        machine.qmp("x-accel-roundtrip")
    except QMPError as error:
        if NOT_NOW not in error.description:
            raise
        return False
    return True


def switch_at_random(guest, generator):
    """
    Switch to and fro at random points until the payload has done its laps, with a round trip before
    every fourth switch or so; returns how many of each.  The payload's end is QEMU's end, and may
    cut a command short or have it refused.
    """
    machine = guest.machine
    trips = 0
    while "DIGEST" not in machine.debugcon.text():
        try:
            if generator.random() < 0.1:
                # A look at the registers changes nothing, either.
                machine.hmp("info registers -a")
            if generator.random() < 0.25:
                trips += round_trip(machine)
                time.sleep(generator.random() * 0.01)
            machine.switch("tcg" if len(machine.switches) % 2 == 0 else "kvm")
        except (MachineError, QMPError) as error:
            if isinstance(error, QMPError) and not ENDED.search(error.description):
                raise
            try:
                machine.wait(10)
            except MachineError as end:
                raise Failure(f"{error}; {end}") from error
            break
        time.sleep(generator.random() * 0.02)
    return len(machine.switches), trips


def expect_noticed(way, omit, host=None, laps=2, at_random=False):
    """
    A negative control: without the fix-up @omit the payload finds something wrong, in so many @laps, when
    it is switched where it asks for it, or @at_random points.
    """
    with way.payload(f"switch,read-back=off,x-omit={omit}", laps, host, [] if at_random else PORT) as guest:
        if at_random:
            switch_at_random(guest, random.Random(SEED))
        said = guest.machine.debugcon.expect(r"ERROR.*\n|DIGEST \w+\n", 60).group(0).strip()
    if not said.startswith("ERROR"):
        raise Failure(f"{omit} was left out, and {way.name} has noticed nothing")
    print(f"without {omit} {way.name} says: {said}")


def random_points(way, host=None):
    """Switches at random points, of which there must be some; returns what was done."""
    for number in range(TRIES):
        laps = way.laps * 4 ** number
        expected = alone(way, "tcg", host, laps)
        with way.payload("switch,initial=kvm", laps, host) as guest:
            switches, trips = switch_at_random(guest, random.Random(SEED))
            expect_digest(way, "with switches at random", expected, finish(way, guest))
        if switches >= LEAST_AT_RANDOM:
            excuse("again", number, number + 1,
                   f"{way.name}: there were too few switches before the payload's end")
            return f"{laps} laps, {switches} switches and {trips} round trips at random"
    raise Failure(f"{way.name}: {switches} switches at random in {laps} laps")


def trips_to_kvm(guest, generator):
    """
    Make round trips at random points until the payload, in TCG, has done its laps; returns how many
    were made, and of those that were refused how many for which register.
    """
    machine = guest.machine
    made, refused = 0, collections.Counter()
    while "DIGEST" not in machine.debugcon.text():
        try:
            made += round_trip(machine)
        except QMPError as error:
            if ENDED.search(error.description):
                break
            unable = NOT_HELD.search(error.description)
            if not unable:
                raise
            refused[unable.group(1)] += 1
        except MachineError:
            machine.wait(10)
            break
        time.sleep(generator.random() * 0.005)
    return made, refused


def in_tcg_alone(way, host=None):
    """
    Where KVM alone does not run the payload, TCG does under -accel switch.  Round trips put the state
    of each moment into KVM, which executes none of it, and take it out again.
    """
    for laps in (way.laps * 4 ** number for number in range(TRIES + 2)):
        try:
            expected = alone(way, "tcg", host, laps)
            guest = way.payload("switch,initial=tcg", laps, host)
        except MachineError as error:
            if not re.search("doesn't support requested|not supported by this hypervisor|needs KVM", str(error)):
                raise
            raise Skip(f"this machine's KVM can't give the guest's CPU what it needs: "
                       f"{str(error).splitlines()[-1].split(': ')[-1]}") from error
        with guest:
            made, refused = trips_to_kvm(guest, random.Random(SEED))
            expect_digest(way, "with round trips from TCG", expected, finish(way, guest))
        tried = made + sum(refused.values())
        if tried >= LEAST_AT_RANDOM:
            print(f"{way.name}: {laps} laps in TCG, {made} round trips to KVM; refused, as this KVM "
                  f"does not hold the register: {dict(refused) or 'none'}")
            if not made:
                raise Skip("this machine's KVM takes no state of it (TCG alone runs it)")
            excuse("refused", tried - made, tried,
                   f"{way.name}: a state of which this KVM does not hold a register")
            return
    raise Failure(f"{way.name}: {made} round trips in {laps} laps")


def four_ways(way, host=None, kvm=True):
    """All that this host can do; prints what was done, and fails where a digest differs."""
    way = way.on(host)
    print(f"{way.name}: VAS_SEED={SEED}", flush=True)
    start = time.monotonic()
    if not kvm:
        in_tcg_alone(way, host)
        return
    expected = alone(way, "tcg", host, way.own_laps)
    for error in sorted(way.known_errors):
        print(f"{way.name}: this KVM alone does so, too, and with switches this is allowed: {error}")
    expect_digest(way, "under KVM alone", alone(way, "tcg", host), alone(way, PLAIN_KVM, host))
    # In both directions, as a payload may ask for an even number of them in each lap.
    for initial in ("kvm", "tcg"):
        digest, own = own_points(way, initial, host)
        expect_digest(way, f"with its own switches, from {initial}", expected, digest)
    print(f"{way.name}: {way.own_laps} laps, twice {own} switches of its own; "
          f"{random_points(way, host)}; {time.monotonic() - start:.1f} s", flush=True)
