# SPDX-License-Identifier: GPL-2.0-or-later
"""
Plain QEMU's streams and -accel switch,streams=plain-kvm or plain-tcg: a guest goes from one to the other and
back, on this machine or (host) in a rig.
"""

import contextlib
import copy
import random
import time

from lib import streams
from lib.rigtest import say
from lib.ways import SEED, Way, all_ways, alone, expect_digest, finish
from vas.handover import common_cpu
from vas.machine import MachineError
from vas.qmp import QMPError
from vas.testing import ERROR_LINE, LONG, Failure, expect_equal, expect_error

# The accelerators of plain QEMU whose streams are those of streams=, and how we call that accelerator
FORMS = {"plain-kvm": ("kvm", ("kvm", "kvm,kernel-irqchip=split")), "plain-tcg": ("tcg", ("tcg",))}
ROUNDS = 20 if LONG else 1

# True: it also goes back to plain QEMU.  False: plain QEMU under KVM loads it wrongly, and the payload notices.  A TSC
# went back in 4 of 4 loads of tscorder64 and in 2 of 4 of smp64.  events64 is left out there: in 1 of 4 loads the
# interrupt shadow of MOV SS was lost.  Plain QEMU's TCG lacks fixes of ours, which fpu64 and smp64 notice.
PAYLOADS = {"plain-kvm": {"fpu64": True, "smp64": False, "tscorder64": False},
            "plain-tcg": {"events64": True, "tscorder64": True}}
# These run for ever: registers of any kind and the TSC; kvm-clock beside the HPET
ENDLESS = {"plain-kvm": {"soak64": False, "clock64": True}, "plain-tcg": {"soak64": True}}


def with_common_cpu(way, streams_form, host):
    """@way with a CPU that is the same with and without -accel switch."""
    way = copy.copy(way)
    arguments = list(way.arguments)
    model = "qemu64"
    if "-cpu" in arguments:
        at = arguments.index("-cpu")
        model = arguments[at + 1]
        del arguments[at:at + 2]
    model = common_cpu(f"switch,streams={streams_form}", model, host, way.binary, arguments)
    way.arguments = [*arguments, "-cpu", model]
    return way


def with_binary(way, binary):
    way = copy.copy(way)
    way.binary = binary
    return way


class Stop:
    """
    Where a guest runs for a while: with @accel, of @way's binary.  With -accel switch it comes into @initial,
    and when it leaves it is in the accelerator @home.
    """

    def __init__(self, way, accel, home=None, initial=None):
        self.way, self.accel, self.home, self.initial = way, accel, home, initial

    @contextlib.contextmanager
    def visit(self, path, laps, host):
        """The guest of the stream @path, or a new one, runs here."""
        with self.way.payload(self.accel, laps, host, ["-incoming", "defer"] if path else [],
                              start=not path) as guest:
            if path:
                guest.machine.qmp("migrate-incoming", uri="file:" + path)
                streams.wait_completed(guest.machine)
                if self.home:
                    streams.where_it_is(guest.machine, self.home, self.initial)
                guest.machine.cont()
            yield guest

    def leave(self, machine):
        """The path of a stream of the guest, which stands still now; None if it has come to its end."""
        try:
            if self.home and machine.accel() != self.home:
                machine.qmp("switch-accel", accel=self.home)
            machine.stop()
        except (MachineError, QMPError):
            if "DIGEST" not in machine.debugcon.text():
                raise
            return None
        path = machine.host.scratch("stream")
        machine.qmp("migrate", uri="file:" + path)
        streams.wait_completed(machine)
        return path


def journey(stops, laps, generator, host):
    """
    The payload is stopped at a random point at each of the @stops and goes on at the next.  Returns its
    digest, or None if it came to its end too early.
    """
    path = None
    for number, stop in enumerate(stops):
        with stop.visit(path, laps, host) as guest:
            if number == len(stops) - 1:
                return finish(stop.way, guest)
            console = guest.machine.debugcon
            if not path:
                console.expect(r"\.|DIGEST", 60)
            time.sleep(generator.random() * 0.2)
            path = stop.leave(guest.machine)
            said, _, last = console.text().rpartition("\n")
            if not set(ERROR_LINE.findall(said)) <= stop.way.known_errors:
                raise Failure(f"{stop.way.name} under {stop.accel}: {said}")
            if not path or "DIGEST" in said or "D" in last:
                return None
    return None


def stops_of(way, plain_binary, streams_form, accel, and_back, generator):
    """
    Plain QEMU, then in turn -accel switch, in either accelerator, and plain QEMU again; without @and_back
    -accel switch once more instead.
    """
    home = FORMS[streams_form][0]
    plain = Stop(with_binary(way, plain_binary), accel)
    if "split" in accel:
        # Plain QEMU shows it there alone.
        plain.way.arguments = [*plain.way.arguments[:-1], plain.way.arguments[-1] + ",-kvm-msi-ext-dest-id"]

    def switch():
        initial = generator.choice(streams.ACCELS)
        return Stop(way, f"switch,initial={initial},streams={streams_form}", home, initial)

    stops = [plain]
    for _ in range(ROUNDS if and_back else 1):
        stops += [switch(), plain if and_back else switch()]
    return stops


def with_digest(way, plain_binary, streams_form, accel, generator, host):
    and_back = PAYLOADS[streams_form][way.name]
    way = with_common_cpu(way, streams_form, host)
    for _ in range(1 if and_back else ROUNDS):
        laps, digest = way.laps, None
        while digest is None:
            if laps > 2 ** 12 * way.laps:
                raise Failure(f"{way.name} comes to its end too early, even with {laps} laps")
            stops = stops_of(way, plain_binary, streams_form, accel, and_back, generator)
            digest = journey(stops, laps, generator, host)
            if digest is None:
                laps *= 2
        expect_digest(way, f"{accel} and streams={streams_form}", alone(way, "tcg", host, laps), digest)
        say(f"{way.name}, {laps} laps: " + ", ".join(stop.accel for stop in stops))


def for_ever(name, plain_binary, streams_form, accel, generator, host):
    """A payload without an end goes to and fro, and finds nothing wrong."""
    way = with_common_cpu(Way(name, "x86_64", 1, ""), streams_form, host)
    stops = stops_of(way, plain_binary, streams_form, accel, ENDLESS[streams_form][name], generator)
    path = None
    for stop in stops:
        with stop.visit(path, None, host) as guest:
            guest.expect_laps(3)
            path = stop.leave(guest.machine)
            if not path:
                raise Failure(f"{name} has ended")
    say(f"{name}: " + ", ".join(stop.accel for stop in stops))


def to_and_fro(streams_form, plain_binary, host, ways):
    """@ways: those of PAYLOADS that the host's KVM runs."""
    generator = random.Random(SEED)
    say(f"VAS_SEED={SEED}")
    for accel in FORMS[streams_form][1]:
        if accel == FORMS[streams_form][0]:
            for way in ways:
                with_digest(way, plain_binary, streams_form, accel, generator, host)
        for name in ENDLESS[streams_form]:
            for_ever(name, plain_binary, streams_form, accel, generator, host)


def ways(streams_form):
    known = all_ways()
    return [known[name] for name in PAYLOADS[streams_form]]


def saved_elsewhere(streams_form, host):
    """A guest that is not where plain QEMU has it is not saved, and runs on."""
    home = FORMS[streams_form][0]
    away = "tcg" if home == "kvm" else "kvm"
    way = with_common_cpu(Way("soak64", "x86_64", 1, ""), streams_form, host)
    with way.payload(f"switch,initial={away},streams={streams_form}", None, host) as guest:
        machine = guest.machine
        why = f"the guest is in {away}, and streams={streams_form}: switch it first (switch_accel {home})"
        guest.expect_laps(3)
        expect_error(why, machine.qmp, "migrate", uri="file:" + machine.host.scratch("stream"))
        guest.expect_laps(3)
        machine.qmp("switch-accel", accel=home)
        machine.qmp("migrate", uri="file:" + machine.host.scratch("stream"))
        streams.wait_completed(machine)
        expect_equal("accelerator", home, machine.accel())


def takes_own(host):
    """A stream of -accel switch is loaded with streams=plain-kvm, too, by what it says of itself."""
    way = with_common_cpu(Way("soak64", "x86_64", 1, ""), "plain-kvm", host)
    for saved in streams.ACCELS:
        path = host.scratch("stream")
        with way.payload(f"switch,initial={saved}", None, host) as source:
            source.expect_laps(3)
            source.machine.qmp("migrate", uri="file:" + path)
            streams.wait_completed(source.machine)
        with way.payload(f"switch,initial={saved},streams=plain-kvm", None, host, ["-incoming", "defer"],
                         start=False) as copied:
            copied.machine.qmp("migrate-incoming", uri="file:" + path)
            streams.wait_completed(copied.machine)
            copied.machine.cont()
            copied.expect_laps(3)
            expect_equal("accelerator", saved, copied.machine.accel())
