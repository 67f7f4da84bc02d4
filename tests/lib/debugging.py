# SPDX-License-Identifier: GPL-2.0-or-later
"""
A debugger's breakpoints, watchpoints and steps, which go along with a switch.

On this machine, or (host) in a rig.
"""

import contextlib
import random
import threading

from lib.gdb import Gdb, Stub
from lib.rigtest import say
from lib.ways import PORT, SEED
from lib.windows import NUMBER, way_through_function
from vas.testing import LONG, Failure, Payload, expect_equal, expect_error, left_out, wait_until

OTHER = {"kvm": "tcg", "tcg": "kvm"}


@contextlib.contextmanager
def debugged(payload, host, arguments=(), accel="switch,initial=kvm", **keywords):
    """The @payload, which has done three laps, and a gdb that has stopped it."""
    with contextlib.closing(Stub(host)) as stub, \
            Payload(payload, accel, arguments=[*arguments, *stub.arguments], host=host,
                    name="debugging", **keywords) as guest:
        guest.expect_laps(3)
        with Gdb(stub, payload) as gdb:
            yield guest, gdb
            gdb("delete")
            gdb("detach")
            guest.machine.cont()
            guest.expect_laps(3)


def at_prompt(gdb, accel):
    """Switch by gdb's own prompt."""
    text = gdb(f"monitor switch_accel {accel}")
    if f"-> {accel}: downtime" not in text:
        raise Failure(f"monitor switch_accel {accel}: {text!r}")


def steps(host, kind):
    """
    A stop at a breakpoint under each accelerator, a switch there, and steps: no register changes
    by the switch, and the steps are the function's way.
    """
    with debugged("window64", host, PORT) as (guest, gdb):
        gdb(f"{kind} *function")
        start = gdb.value("&function")
        way = way_through_function(start)
        for accel in ("kvm", "tcg", "kvm"):
            expect_equal("accelerator", accel, guest.machine.accel())
            expect_equal("stop", start, gdb.go())
            expect_equal("status", "debug", guest.machine.qmp("query-status")["status"])
            place = 0
            for active in (OTHER[accel], accel, OTHER[accel]):
                before = gdb("info registers")
                at_prompt(gdb, active)
                gdb("flushregs")
                expect_equal("registers", before, gdb("info registers"))
                for _ in range(7):
                    place += 1
                    expect_equal(f"step {place} in {active}", way[place], gdb.step())


def rounds(host, kind, count, accel="switch,initial=kvm"):
    """
    A breakpoint at what each round calls, with switches all the time: its argument counts the
    rounds, so none is missed, and none comes twice.
    """
    chance = random.Random(SEED)
    with debugged("window64", host, PORT, accel) as (guest, gdb):
        gdb(f"{kind} *function")
        expect_equal("stop", gdb.value("&function"), gdb.go())
        first = last = gdb.value("$rdi")
        end, failures, switches = threading.Event(), [], [0]

        def switch():
            try:
                while not end.is_set():
                    guest.machine.switch(OTHER[guest.machine.accel()])
                    switches[0] += 1
                    end.wait(chance.random() * 0.02)
            except Exception as error:  # pylint: disable=broad-except
                failures.append(error)

        thread = threading.Thread(target=switch)
        thread.start()
        try:
            for _ in range(count):
                gdb.go()
                expect_equal("round", last + 1, gdb.value("$rdi"))
                last += 1
        finally:
            end.set()
            thread.join()
        if failures:
            raise failures[0]
        print(f"{last - first} rounds, {switches[0]} switches; VAS_SEED={SEED}")
        if switches[0] < count / 20:
            raise Failure("there were hardly any switches")


def rounds_control(host):
    """A negative control: without the fix-up, a breakpoint stays where it was set."""
    with left_out("debugger", "round: expected"):
        rounds(host, "hbreak", 50, "switch,initial=kvm,x-omit=debugger")


def memory(machine, address, size):
    """A number in the guest's memory."""
    path = machine.host.scratch("memory")
    machine.qmp("pmemsave", {"val": address, "size": size, "filename": path})
    return int.from_bytes(machine.host.read_bytes(path), "little")


def running(host, kind, stops):
    """
    32-bit code: a breakpoint and a watchpoint, switched there and back while the guest runs, stop it
    under each accelerator of @stops.  The guest's code is as it was, but for KVM's INT3.
    """
    with debugged("told32", host, binary="i386") as (guest, gdb):
        machine = guest.machine
        place, esp0 = gdb.value("&visit_cpl3"), gdb.value("(char *)&tss + 4")
        own = memory(machine, place, 1)
        gdb(f"{kind} *{place:#x}")
        gdb(f"watch *(int *){esp0:#x}")
        for accel in stops:
            gdb.run(machine)
            for _ in range(5):
                machine.switch(OTHER[machine.accel()])
                expect_equal(f"code at the breakpoint in {machine.accel()}",
                             0xcc if kind == "break" and machine.accel() == "kvm" else own,
                             memory(machine, place, 1))
                guest.expect_laps(2)
            machine.switch(accel)
            machine.serial.send("r")
            expect_equal("stop", place, gdb.stopped())
            old = gdb.value("$esp")
            gdb(f"set *(int *){esp0:#x} = 0")
            gdb.go()
            expect_equal("stop", "watchpoint-trigger", gdb.reason)
            expect_equal("esp0", old - 16, gdb.value(f"*(int *){esp0:#x}"))
            gdb.resume()
            guest.expect_obeyed("r")
            gdb.interrupted(machine)


TWO_VCPUS = ["-smp", "2", "-device", "loader,addr=0x508,data=2,data-len=4"]


def work(machine, vcpu):
    """What compute64's vCPU, as gdb counts them, has done (tests/guest/lib/work.h)."""
    return memory(machine, 0x600 + 64 * (vcpu - 1), 8)


def several(host):
    """
    Two vCPUs: each stops at a breakpoint under either accelerator, alone or while both run (of two
    that meet it at once QEMU tells of one).
    """
    chance = random.Random(SEED)
    with debugged("compute64", host, TWO_VCPUS) as (guest, gdb):
        place = gdb.value("&compute")
        gdb(f"break *{place:#x}")
        for number in range(40):
            vcpu = number % 3
            gdb("set scheduler-locking " + ("on" if vcpu else "off"))
            if vcpu:
                gdb(f"thread {vcpu}")
            expect_equal("stop", place, gdb.go())
            if vcpu:
                expect_equal("vCPU", vcpu, gdb.value("$_thread"))
            if chance.random() < 0.5:
                at_prompt(gdb, OTHER[guest.machine.accel()])
        gdb("set scheduler-locking off")


def locked_control(host):
    """A negative control: without the fix-up, a switch lets the vCPU run."""
    with left_out("debugger", "registers of the vCPU that does not run"):
        locked(host, "switch,initial=kvm,x-omit=debugger")


def locked(host, accel="switch,initial=kvm"):
    """A vCPU that the debugger keeps stopped stays so, over switches while the other runs."""
    with debugged("compute64", host, TWO_VCPUS, accel) as (guest, gdb):
        machine = guest.machine
        gdb("set scheduler-locking on")
        for runs, stays in ((1, 2), (2, 1)):
            gdb(f"thread {stays}")
            before = gdb("info registers")
            gdb(f"thread {runs}")
            done = work(machine, runs)
            gdb.run(machine)
            for _ in range(4):
                machine.switch(OTHER[machine.accel()])
                wait_until(lambda: work(machine, runs) > done,  # pylint: disable=cell-var-from-loop
                           f"vCPU {runs} does not run")
                done = work(machine, runs)
            gdb.interrupted(machine)
            gdb(f"thread {stays}")
            # It has not resumed this one, and would not ask again.
            gdb("flushregs")
            expect_equal("registers of the vCPU that does not run", before, gdb("info registers"))
        gdb("set scheduler-locking off")


def refusals(host):
    """What KVM can't have is refused by name, and stays in TCG."""
    with debugged("window64", host, PORT) as (guest, gdb):
        machine = guest.machine
        at_prompt(gdb, "tcg")

        def refused(part, *commands):
            for command in commands:
                gdb(command)
            gdb.run(machine)
            expect_error(part, machine.qmp, "switch-accel", {"accel": "kvm"})
            expect_equal("accelerator", "tcg", machine.accel())
            gdb.interrupted(machine)
            gdb("delete")

        refused("can't watch for reads alone", "rwatch *(int *)0x7f0")
        refused("watches 3 bytes", "watch *(char (*)[3])0x7f0")
        refused("need 5 breakpoint registers",
                *(f"hbreak *{address:#x}" for address in range(0x7f0, 0x7f5)))
        machine.qmp("accel-trigger-add", {"id": "t", "on": {"type": "address", "address": 0x7f0}})
        refused("need 5 breakpoint registers",
                *(f"hbreak *{address:#x}" for address in range(0x7f0, 0x7f4)))
        machine.qmp("accel-trigger-del", {"id": "t"})
        machine.switch("kvm")
        for address in range(0x7f0, 0x7f3):
            gdb(f"hbreak *{address:#x}")
        gdb.run(machine)
        for number in range(2):
            on = {"type": "address", "address": 0x7f8 + number}
            add = {"id": f"t{number}", "on": on}
            if number:
                expect_error("a debugger 3", machine.qmp, "accel-trigger-add", add)
            else:
                machine.qmp("accel-trigger-add", add)
        machine.qmp("accel-trigger-add", {
            "id": "port", "on": {"type": "port", "number": NUMBER}, "count": 1,
            "window": {"end": {"type": "instructions", "count": 50}}})
        machine.wait_event("ACCEL_WINDOW_END", 30)
        gdb.interrupted(machine)


def all_of_them(host):
    """In a rig."""
    times = 10 if LONG else 1
    for kind in "break", "hbreak":
        say(kind)
        steps(host, kind)
        rounds(host, kind, 60 * times)
        running(host, kind, ["kvm", "tcg"] * 2)
    rounds_control(host)
    say("two vCPUs")
    several(host)
    locked(host)
    locked_control(host)
    refusals(host)
