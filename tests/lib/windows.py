# SPDX-License-Identifier: GPL-2.0-or-later
"""
Windows and triggers, with the payload window64, on this machine or (host) in a rig.
"""

import os
import random
import re
import tempfile
import time

from lib.rigtest import say
from lib.ways import PORT, SEED, all_ways, alone, finish
from vas.machine import Machine
from vas.testing import (LONG, Failure, Payload, Skip, expect_equal, expect_error, left_out,
                         payload_arguments, wait_until)

# What window64.c writes to the port, and window64.h's numbers of system calls
NUMBER = 0x20
CALL_ONE = 7
VECTOR_TIMER = 0x40
LOOPS, NOPS = 100, 200
TICKS = ["-device", "loader,addr=0x508,data=1,data-len=4"]


def way_through_function(start):
    """The RIPs of window64.S's function(), from its first instruction at @start to its RET."""
    loop = start + 5
    return [start, *[loop, loop + 3, loop + 5] * LOOPS,
            *range(loop + 7, loop + 7 + NOPS), loop + 7 + NOPS, loop + 10 + NOPS]


class Window:
    """window64 under -accel switch, in KVM, and where its parts are."""

    def __init__(self, host=None, arguments=(), accel="switch,initial=kvm"):
        self.guest = Payload("window64", accel, arguments=[*PORT, *arguments], host=host,
                             name="windows")

    def __enter__(self):
        self.machine = self.guest.machine
        self.machine.debugcon.expect(r"AT timer (\w+)\n", 20)
        self.at = {name: int(place, 16) for name, place
                   in re.findall(r"AT (\w+) (\w+)\n", self.machine.debugcon.text())}
        self.guest.expect_laps(3)
        return self

    def __exit__(self, *unused):
        self.guest.__exit__()

    def add(self, on, end=None, **more):
        """Add the trigger "t": the dicts are accel-trigger-add's."""
        if end:
            more.setdefault("window", {})["end"] = end
        self.machine.qmp("accel-trigger-add", {"id": "t", "on": on, **more})

    def delete(self):
        self.machine.qmp("accel-trigger-del", {"id": "t"})

    def info(self):
        """What query-accel-triggers says of "t"."""
        return [t for t in self.machine.qmp("query-accel-triggers") if t["id"] == "t"][0]

    def next_window(self, timeout=30):
        """The next window's begin and end, as their events' data."""
        begin = self.machine.wait_event("ACCEL_WINDOW_BEGIN", timeout)["data"]
        return begin, self.machine.wait_event("ACCEL_WINDOW_END", timeout)["data"]

    def wait_disarmed(self):
        wait_until(lambda: not self.info()["armed"], "the trigger is not armed any more")

    def expect_counts(self, **expected):
        info = self.info()
        expect_equal("counts", expected, {name: info[name] for name in expected})


def need_breakpoints(window):
    """Skip the test if this KVM stops a vCPU at no breakpoint register."""
    window.add({"type": "address", "address": window.at["function"]}, count=1,
               end={"type": "instructions", "count": 1})
    try:
        window.next_window(5)
    except Exception:
        if window.info()["hits"]:
            raise
        if window.machine.host.name == "rig":
            raise
        raise Skip("this machine's KVM takes breakpoints (KVM_SET_GUEST_DEBUG) and stops at none") \
            from None
    window.delete()


def command(host):
    """switch-accel opens a window, which each kind of end ends."""
    with Window(host) as window:
        machine, start = window.machine, window.at["function"]
        for end, reason in (({"type": "time", "ns": 2000000}, "time"),
                            ({"type": "instructions", "count": 5000}, "instructions"),
                            ({"type": "address", "address": start}, "address"),
                            ({"type": "port", "number": NUMBER}, "port"),
                            ({"type": "never"}, "command"), (None, "command")):
            for accel in ("kvm", "tcg"):
                spec = {"accel": accel}
                if end:
                    spec["end"] = end
                machine.qmp("switch-accel", {"accel": "tcg", "window": spec})
                if reason == "command":
                    window.guest.expect_laps(3)
                    machine.switch("kvm")
                _, data = window.next_window()
                print(data)
                expect_equal("reason", reason, data["reason"])
                expect_equal("accelerator", "kvm" if reason == "command" else accel, data["accel"])
                if reason == "instructions":
                    expect_equal("instructions", 5000, data["instructions"])
                if reason == "address":
                    expect_equal("rip", start, data["rip"])
                if reason == "time" and data["ns"] < 2000000:
                    raise Failure(f"a window of 2 ms has ended after {data['ns']} ns")
                wait_until(lambda: machine.accel() == data["accel"], "the window is over")
                machine.switch("kvm")
                window.guest.expect_laps(3)


def exact(host, count):
    """Windows of @count numbers of instructions, each of which ends at the instruction it must."""
    chance = random.Random(SEED)
    with Window(host) as window:
        start = window.at["function"]
        port = {"type": "port", "number": NUMBER}
        # How far it is from the port to the function
        window.add(port, count=1, end={"type": "address", "address": start})
        way, ahead = way_through_function(start), window.next_window()[1]["instructions"]
        window.delete()
        for _ in range(count):
            number = chance.randrange(1, len(way))
            window.add(port, count=1, end={"type": "instructions", "count": ahead + number})
            begin, end = window.next_window()
            window.delete()
            expect_equal("instructions", ahead + number, end["instructions"])
            expect_equal(f"rip after {number} of the function's, from {begin['rip']:#x}",
                         way[number], end["rip"])
        print(f"{count} windows, {ahead} instructions ahead of the function; VAS_SEED={SEED}")
        window.guest.expect_laps(3)


def counts(host):
    """skip, every, count and the filter pick hits, and all are counted."""
    with Window(host) as window:
        port, end = {"type": "port", "number": NUMBER}, {"type": "instructions", "count": 20}
        window.add(port, end, skip=5, every=3, count=4)
        window.wait_disarmed()
        window.expect_counts(hits=5 + 3 * 3 + 1, windows=4, filtered=0, refused=0)
        window.delete()
        cr3 = window.machine.events("ACCEL_WINDOW_END")[-1]["data"]["cr3"]
        for passes, wanted in ((True, {"cpu-index": 0, "cpl": 0, "cr3": cr3 | 0x18}),
                               (False, {"cpl": 3}), (False, {"cr3": cr3 ^ 0x1000})):
            window.add(port, end, filter=wanted, count=3)
            if passes:
                window.wait_disarmed()
                window.expect_counts(hits=3, windows=3, filtered=0)
            else:
                wait_until(lambda: window.info()["filtered"] > 10, "hits are filtered")
                window.expect_counts(hits=0, windows=0)
            window.delete()
        window.guest.expect_laps(3)


def timer(host, count):
    """Windows by time: as many as are asked for, no two at once, none lost."""
    for clock in ("guest", "host"):
        with Window(host, TICKS) as window:
            window.add({"type": "timer", "period-ns": 10000000, "jitter-ns": 2000000, "clock": clock},
                       end={"type": "time", "ns": 200000}, count=count)
            for _ in range(count):
                begin, end = window.next_window()
                expect_equal("reason", "time", end["reason"])
                expect_equal("id", ("t", "t"), (begin["id"], end["id"]))
            window.expect_counts(hits=count, windows=count, refused=0, armed=False)
            window.guest.expect_laps(3)


def refusals():
    """Each thing that can't be is refused by a sentence, and changes nothing."""
    port = {"type": "port", "number": NUMBER}
    with Window() as window:
        machine = window.machine

        def refused(sentence, **arguments):
            expect_error(sentence, machine.qmp, "accel-trigger-add", {"id": "t", "on": port} | arguments)

        window.add(port, filter={"cpl": 3})
        refused("there is a trigger 't' already")
        window.delete()
        expect_error("there is no trigger 't'", machine.qmp, "accel-trigger-del", {"id": "t"})
        refused("is no name for a trigger", id="1 2")
        refused("every must be at least 1", every=0)
        refused("count must be at least 1", count=0)
        refused("the port's numbers are from 16", on={"type": "port", "number": 2})
        refused("period-ns must be from 100000", on={"type": "timer", "period-ns": 99999})
        refused("jitter-ns must be less", on={"type": "timer", "period-ns": 100000,
                                               "jitter-ns": 100000})
        refused("has no filter", on={"type": "timer", "period-ns": 100000}, filter={"cpl": 3})
        refused("there is no vCPU 1", filter={"cpu-index": 1})
        refused("cpl must be", filter={"cpl": 4})
        refused("no handler for interrupt 255", on={"type": "interrupt", "vector": 255})
        for end, sentence in (({"type": "instructions", "count": 0}, "at least one instruction"),
                              ({"type": "time", "ns": 0}, "from 1 ns"),
                              ({"type": "port", "number": 2}, "numbers are from 16"),
                              ({"type": "return"}, "return from a function only")):
            refused(sentence, window={"end": end})
            expect_error(sentence, machine.qmp, "switch-accel",
                         {"accel": "tcg", "window": {"end": end}})
        expect_error("a window is a stay in TCG", machine.qmp, "switch-accel",
                     {"accel": "kvm", "window": {}})
        expect_equal("triggers", [], machine.qmp("query-accel-triggers"))
        machine.switch("tcg")
        expect_error("is in TCG already", machine.qmp, "switch-accel", {"accel": "tcg", "window": {}})
        expect_equal("windows", [], machine.events("ACCEL_WINDOW_BEGIN"))
    with Machine(payload_arguments("soak64", "tcg"), name="windows") as machine:
        expect_error("without -accel switch", machine.qmp, "accel-trigger-add", {"id": "t", "on": port})


def people():
    """The human monitor's commands do what QMP's do."""
    with Window() as window:
        machine = window.machine
        expect_equal("triggers", "no triggers\r\n", machine.hmp("info accel-triggers"))
        said = machine.hmp(f"accel_trigger_add id=t,on.type=port,on.number={NUMBER},count=2,"
                           "window.end.type=instructions,window.end.count=10")
        expect_equal("accel_trigger_add says", "", said)
        window.wait_disarmed()
        expect_equal("triggers", f"t: port {NUMBER} (not armed): 2 hits, 0 filtered, 2 windows,"
                     " 0 refused\r\n", machine.hmp("info accel-triggers"))
        expect_equal("accel_trigger_del says", "", machine.hmp("accel_trigger_del t"))
        for line in ("accel_trigger_del t", "accel_trigger_add id=t", "accel_trigger_add x=1=,,"):
            if "Error: " not in machine.hmp(line):
                raise Failure(f"{line} is no error")


def stuck():
    """A window that can't end says so, and ends as soon as it can."""
    with tempfile.NamedTemporaryFile() as file:
        # Memory that takes a while to migrate
        file.write(os.urandom(32 << 20))
        file.flush()
        stuck_by_migration(["-device", f"loader,file={file.name},addr=0x1000000,force-raw=on"])


def stuck_by_migration(arguments):
    with Window(arguments=arguments) as window:
        machine = window.machine
        window.add({"type": "port", "number": NUMBER}, count=1, end={"type": "time", "ns": 500000000})
        machine.wait_event("ACCEL_WINDOW_BEGIN", 10)
        machine.qmp("migrate-set-parameters", {"max-bandwidth": 4096})
        machine.qmp("migrate", {"uri": "file:" + os.path.join(machine.logs, "stream")})
        why = machine.wait_event("ACCEL_WINDOW_STUCK", 20)["data"]["why"]
        if "migration" not in why:
            raise Failure(f"the window is stuck as {why}")
        window.guest.expect_laps(3)
        expect_equal("accelerator", "tcg", machine.accel())
        machine.qmp("migrate_cancel")
        expect_equal("reason", "time", machine.wait_event("ACCEL_WINDOW_END", 20)["data"]["reason"])
        expect_equal("accelerator", "kvm", machine.accel())
        expect_equal("times that it said so again", 0, len(machine.events("ACCEL_WINDOW_STUCK")))
        window.guest.expect_laps(3)


def limit():
    """A trigger that is hit all the time neither starves the monitor nor opens too many windows."""
    with Window(accel="switch,initial=kvm,max-windows-per-second=20") as window:
        window.add({"type": "port", "number": NUMBER}, {"type": "instructions", "count": 1})
        start = time.monotonic()
        while time.monotonic() < start + 3:
            window.info()
        info = window.info()
        if not 20 <= info["windows"] <= 20 * (time.monotonic() - start + 1) or not info["refused"]:
            raise Failure(f"with 20 windows a second there were, in 3 seconds: {info}")
        window.delete()
        window.guest.expect_laps(3)


def kvm_error(host):
    """An instruction that KVM can't execute is executed in a window of one instruction."""
    with Payload("told32", "switch,initial=kvm", host=host, arguments=["-no-reboot"],
                 name="windows-kvm-error") as guest:
        machine = guest.machine
        machine.qmp("accel-trigger-add", {
            "id": "t", "on": {"type": "kvm-error"},
            "window": {"end": {"type": "instructions", "count": 1}}})
        guest.expect_laps(3)
        for _ in range(10):
            guest.tell("x")
            expect_equal("reason", "instructions",
                         machine.wait_event("ACCEL_WINDOW_END", 10)["data"]["reason"])
            guest.expect_laps(3)
        wait_until(lambda: machine.accel() == "kvm", "the last window is over")
        info = machine.qmp("query-accel-triggers")[0]
        print(info)
        expect_equal("windows, refused", (info["hits"], 0), (info["windows"], info["refused"]))
        guest.expect_laps(3)


def several_vcpus(host, count):
    """With two vCPUs the one that has executed its instructions ends the window, after exactly so many."""
    with Payload("compute64", "switch,initial=kvm", host=host, name="windows-smp", arguments=[
            "-smp", "2", "-device", "loader,addr=0x508,data=2,data-len=4"]) as guest:
        machine = guest.machine
        guest.expect_laps(3)
        machine.qmp("accel-trigger-add", {
            "id": "t", "on": {"type": "timer", "period-ns": 5000000}, "count": count,
            "window": {"end": {"type": "instructions", "count": 20000}}})
        vcpus = set()
        for _ in range(count):
            data = machine.wait_event("ACCEL_WINDOW_END", 30)["data"]
            expect_equal("reason, instructions", ("instructions", 20000),
                         (data["reason"], data["instructions"]))
            vcpus.add(data["cpu-index"])
        expect_equal("vCPUs that ended windows", {0, 1}, vcpus)
        guest.expect_laps(3)


def breakpoints(host, count, more=""):
    """At an address, a system call and an interrupt: the window's first instruction is the one there."""
    with Window(host, TICKS, "switch,initial=kvm" + more) as window:
        need_breakpoints(window)
        start = window.at["function"]
        way = way_through_function(start)
        for _ in range(count):
            # Whatever interrupt is pending: the first instruction of the window is the function's.
            window.add({"type": "address", "address": start}, count=1,
                       end={"type": "instructions", "count": 1})
            begin, end = window.next_window()
            window.delete()
            expect_equal("rip", (start, way[1]), (begin["rip"], end["rip"]))
        window.add({"type": "address", "address": start}, {"type": "return"}, count=count,
                   filter={"cpl": 3})
        for _ in range(count):
            begin, end = window.next_window()
            expect_equal("reason", "return", end["reason"])
            if end["instructions"] < len(way):
                raise Failure(f"a function of {len(way)} instructions returned after {end}")
        window.delete()
        window.add({"type": "syscall", "number": CALL_ONE}, count=count,
                   end={"type": "instructions", "count": 1})
        for _ in range(count):
            expect_equal("rip", window.at["syscall"], window.next_window()[0]["rip"])
        filtered = window.info()["filtered"]
        if not count - 1 <= filtered <= count + 1:
            raise Failure(f"of as many other system calls, {filtered} were filtered")
        window.delete()
        window.add({"type": "interrupt", "vector": VECTOR_TIMER}, count=count,
                   end={"type": "instructions", "count": 1})
        for _ in range(count):
            expect_equal("rip", window.at["timer"], window.next_window()[0]["rip"])
        window.delete()
        window.add({"type": "syscall"})
        window.machine.qmp("system_reset")
        window.machine.wait_event("ACCEL_TRIGGER_DROPPED", 10)
        window.guest.expect_laps(3)


def filtered_breakpoints(host):
    """A vCPU goes on beyond a breakpoint that its filter lets pass, and at it hits it again."""
    with Window(host) as window:
        need_breakpoints(window)
        window.add({"type": "address", "address": window.at["function"]}, filter={"cpl": 0})
        wait_until(lambda: window.info()["filtered"] > 100, "hits are filtered")
        window.guest.expect_laps(3)
        window.expect_counts(hits=0, windows=0)
        window.delete()
        # Five breakpoints are one too many.
        for place in range(4):
            window.machine.qmp("accel-trigger-add", {"id": f"b{place}", "on": {
                "type": "address", "address": 0x10 + place}})
        expect_error("there are 4 breakpoint registers", window.add,
                     {"type": "address", "address": 0x20})
        window.guest.expect_laps(3)


def own_breakpoints(host):
    """
    A guest's own breakpoints and steps work while a trigger is armed, and come with what the guest is
    to find in DR6: as debug32 verifies, in KVM alone and switched.
    """
    way = all_ways()["debug32"].on(host)
    digest = alone(way, "tcg", host)

    def run(accel, arguments=()):
        with way.payload(accel, way.laps, host, arguments, start=False) as guest:
            guest.machine.qmp("accel-trigger-add", {
                "id": "t", "on": {"type": "address", "address": 0xdead0000}})
            guest.machine.cont()
            expect_equal("digest", digest, finish(way, guest))

    run("switch,initial=kvm")
    run("switch,initial=kvm", PORT)
    with left_out("guest-breakpoints", "the payload says"):
        run("switch,initial=kvm,x-omit=guest-breakpoints")


def nmis(host, count):
    """
    kvm-amd steps a vCPU itself to inject an NMI, and shows it as a debug exception while a trigger is
    armed: soak64 must not get that.
    """
    with Payload("soak64", "switch,initial=kvm", host=host, name="windows-nmi") as guest:
        guest.machine.qmp("accel-trigger-add", {
            "id": "t", "on": {"type": "address", "address": 0xdead0000}})
        guest.expect_laps(3)
        for _ in range(count):
            guest.machine.qmp("inject-nmi")
        guest.expect_laps(3)


def drops(host):
    """When the guest itself needs all four registers, a trigger gives way and says so."""
    way = all_ways()["debug32"].on(host)
    with way.payload("switch,initial=kvm", way.laps, host, start=False) as guest:
        for number in range(4):
            guest.machine.qmp("accel-trigger-add", {
                "id": f"t{number}", "on": {"type": "address", "address": 0xdead0000 + number}})
        guest.machine.cont()
        data = guest.machine.wait_event("ACCEL_TRIGGER_DROPPED", 30)["data"]
        expect_equal("dropped", {"id": "t3", "reason": "the guest, or a debugger, needs its"
                                 " breakpoint register"}, data)
        finish(way, guest)


def first_instruction(host, count):
    """A negative control: an interrupt that is pending comes first without first-instruction."""
    with left_out("first-instruction", "rip"):
        breakpoints(host, count, ",x-omit=first-instruction")


def all_of_them(host):
    """In a rig."""
    times = 10 if LONG else 1
    say("breakpoints")
    breakpoints(host, 10 * times)
    filtered_breakpoints(host)
    first_instruction(host, 100)
    say("the guest's own breakpoints")
    own_breakpoints(host)
    drops(host)
    nmis(host, 500 * times)
    say("ends")
    command(host)
    exact(host, 40 * times)
    counts(host)
    timer(host, 20 * times)
    kvm_error(host)
