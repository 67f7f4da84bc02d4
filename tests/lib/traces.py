# SPDX-License-Identifier: GPL-2.0-or-later
"""
Traces of KVM by single steps (kvm-trace-start), on this machine or (host) in a rig.

What the CPU has executed is compared with what TCG executes from the same state, the reset: execlog,
QEMU's plugin, sees it in a window.
"""

import os
import time
from collections import Counter

from lib.debugging import debugged
from lib.rigtest import say
from lib.ways import all_ways, alone, finish
from lib.windows import TICKS, Window
from vas import paths, tracefile
from vas.machine import Machine
from vas.testing import (LONG, Failure, Payload, expect_equal, expect_error, left_out, payload_arguments,
                         snapshot_disk)

EXECLOG = os.path.join(paths.QEMU, "contrib/plugins/libexeclog.so")
# Gaps that a comparison can fill: one instruction of TCG's.
FILLED = "mov-ss"


# Real, virtual-8086, 32- and 16-bit protected and long mode, task switches, SYSCALL, exceptions.  They begin
# by copying themselves, which is most of the first 30,000 steps of some.
COMPARED = {"modes16": 10000, "modes32": 60000, "modes64": 60000, "fpu64": 50000, "paging32": 50000,
            "control64": 60000}


def trace(machine, count, cont=False, timeout=120, **options):
    """Trace @count instructions; returns the file's contents and the event of its end."""
    path = machine.host.scratch("trace")
    machine.qmp("kvm-trace-start", {"file": path, "max-instructions": count, **options})
    start = time.monotonic()
    if cont:
        machine.cont()
    end = machine.wait_event("KVM_TRACE_END", timeout)["data"]
    took = time.monotonic() - start
    expect_equal("reason", "max-instructions", end["reason"])
    print(f"{end['instructions']} instructions, {end['gaps']} gaps,"
          f" {took / end['instructions'] * 1e6:.1f} us an instruction")
    return machine.host.read_bytes(path), end


def execlog(machine, count, timeout=120):
    """What execlog sees in a window of @count instructions, of a machine that is held by -S."""
    path = machine.host.scratch("execlog")
    machine.qmp("plugin-add", {"id": "log", "file": machine.host.put(EXECLOG), "windows": True,
                               "output": path})
    machine.qmp("switch-accel", {"accel": "tcg", "window": {
        "end": {"type": "instructions", "count": count}, "plugins": ["log"]}})
    machine.cont()
    machine.wait_event("ACCEL_WINDOW_END", timeout)
    machine.qmp("plugin-del", {"id": "log"})
    return list(tracefile.collapsed(tracefile.execlog_lines(machine.host.read(path))))


def key(line):
    """
    What of an execlog line is compared: no disassembly, where there is no python3-capstone; and no
    opcode of what capstone does not know, as the trace does not have its length.
    """
    if not tracefile.capstone:
        return line.split(", ")[:2]
    return line.split(", ")[:2] + [".byte"] if '".byte' in line else line


def compare(data, expected):
    """
    The trace with the contents @data is a beginning of execlog's lines @expected, where its gaps are of
    kinds that say how much is missing.  Returns how many of each gap and event it has.
    """
    disassembler = tracefile.Disassembler()
    at, last, kinds = 0, None, Counter()
    for record in tracefile.records(data):
        if isinstance(record, tracefile.Step):
            line = disassembler.line(record)
            if line == last:
                continue
            last = line
            if at >= len(expected):
                raise Failure(f"execlog has only {at} lines")
            if key(line) != key(expected[at]):
                before = "\n    ".join(expected[max(0, at - 3):at])
                raise Failure(f"instruction {at}, after\n    {before}\n  in TCG: {expected[at]}\n"
                              f"  in KVM: {line}")
            at += 1
        elif isinstance(record, tracefile.Gap):
            kinds[record.why] += 1
            if record.why == FILLED:
                last = expected[at] if at < len(expected) else None
                at += 1
            elif record.why != "begin":
                raise Failure(f"a gap after {at} instructions: {record}")
        elif isinstance(record, tracefile.Event):
            kinds[f"vector {record.vector}"] += 1
    return at, kinds


def compared(name, host, count, **options):
    """
    From its reset, the payload @name executes the same instructions in KVM as in TCG; and it finds
    nothing wrong, with the same digest.
    """
    way = all_ways()[name].on(host)
    # As many laps in each rig, so that it does not end before.
    laps = all_ways()[name].laps
    accel = "switch,initial=kvm,plugins=on"
    with way.payload(accel, laps, host, start=False) as guest:
        expected = execlog(guest.machine, 2 * count)
        digest = finish(way, guest)
    with way.payload(accel, laps, host, start=False) as guest:
        data, end = trace(guest.machine, count, cont=True, **options)
        expect_equal("digest", digest, finish(way, guest))
    number, kinds = compare(data, expected)
    print(f"{name}: {number} of {end['instructions']} compared after REP; {dict(kinds)}")
    # A comparison that is worth its name finds what is changed.
    wrong = list(expected)
    wrong[number // 2] = wrong[number // 2].replace("0x", "0x1", 1)
    try:
        compare(data, wrong)
    except Failure:
        return kinds
    raise Failure("a changed line of execlog was not noticed")


def verdict(name, host, count, **options):
    """The payload @name finds nothing wrong while it is traced, and ends as under TCG alone."""
    way = all_ways()[name].on(host)
    digest = alone(way, "tcg", host)
    with way.payload("switch,initial=kvm", way.laps, host, start=False) as guest:
        trace(guest.machine, count, cont=True, **options)
        expect_equal("digest", digest, finish(way, guest))


def events(host, count, omit=""):
    """window64's system calls, exceptions, interrupts and returns are in the trace, without a gap."""
    with Window(host, TICKS, "switch,initial=kvm" + omit) as window:
        data, end = trace(window.machine, count)
        window.guest.expect_laps(3)
        handlers, last = {}, None
        entries = Counter()
        for record in tracefile.records(data):
            if isinstance(record, tracefile.Step):
                if isinstance(last, tracefile.Event):
                    handlers.setdefault(last.vector, set()).add(record.pc)
                    entries[last.vector] += 1
                if record.pc == window.at["syscall"]:
                    entries["syscall"] += 1
            if isinstance(record, tracefile.Gap):
                print(record)
            last = record
        print(f"entries: {dict(entries)}, handlers: {handlers}")
        expect_equal("gaps", 0, end["gaps"])
        expect_equal("timer's handler", {window.at["timer"]}, handlers.get(0x40))
        if not entries["syscall"] or not entries[6]:
            raise Failure(f"system calls or exceptions are missing: {dict(entries)}")
        # A trace for programs only: nothing at CPL0.
        data, end = trace(window.machine, count, filter={"cpl": 3})
        kernel = [record for record in tracefile.records(data)
                  if isinstance(record, tracefile.Step) and record.pc == window.at["syscall"]]
        expect_equal("the kernel's instructions, filtered", [], kernel)
        if not end["instructions"] < count or not end["gaps"]:
            raise Failure(f"the filter has left out nothing: {end}")
        window.guest.expect_laps(3)


def flags_control(host, count):
    """A negative control: TF that stays in what an exception has pushed reaches the payload."""
    with left_out("trace-flags", "got 'shutdown'"):
        with Window(host, (), "switch,initial=kvm,x-omit=trace-flags") as window:
            trace(window.machine, count)
            window.guest.expect_laps(3)


def handlers_control(host, count):
    """A negative control: without breakpoints at handlers, what exceptions push has TF, too."""
    with left_out("trace-handlers", "got 'shutdown'"):
        events(host, count, ",x-omit=trace-handlers")


def stays_usable(host):
    """While a trace runs QEMU answers, a switch and triggers are refused, and a reset ends nothing."""
    with Window(host) as window:
        machine = window.machine
        path = machine.host.scratch("trace")
        machine.qmp("kvm-trace-start", {"file": path, "max-instructions": 1000000000})
        expect_error("a trace runs", machine.switch, "tcg")
        expect_error("a trace runs", window.add, {"type": "port", "number": 0x20})
        expect_error("a trace runs already", machine.qmp, "kvm-trace-start", {"file": path})
        longest = 0
        for _ in range(50):
            start = time.monotonic()
            info = machine.qmp("query-kvm-trace")
            longest = max(longest, time.monotonic() - start)
        print(f"the slowest of 50 answers came after {longest * 1000:.1f} ms; {info}")
        machine.hmp("info registers")
        machine.qmp("system_reset")
        machine.stop()
        machine.cont()
        window.guest.expect_laps(1)
        machine.qmp("kvm-trace-stop")
        expect_equal("reason", "command",
                     machine.wait_event("KVM_TRACE_END", 10)["data"]["reason"])
        kinds = Counter(record.why for record in tracefile.records(machine.host.read_bytes(path))
                        if isinstance(record, tracefile.Gap))
        print(dict(kinds))
        if not kinds["lost"]:
            raise Failure("a reset is no gap of the trace")
        window.guest.expect_laps(3)
        machine.switch("tcg")
        window.guest.expect_laps(3)


def ends(host):
    """A debugger's breakpoint ends a trace and stops the guest; so does what KVM can't execute, in TCG."""
    endless = {"file": host.scratch("trace"), "max-instructions": 1000000000}
    for kind in "break", "hbreak":
        with debugged("window64", host) as (guest, gdb):
            place = gdb.value("&function")
            guest.machine.qmp("kvm-trace-start", endless)
            gdb(f"{kind} *{place:#x}")
            for _ in range(3):
                expect_equal("stop", place, gdb.go())
            end = guest.machine.wait_event("KVM_TRACE_END", 10)["data"]
            expect_equal("reason", "debugger", end["reason"])
    with Payload("told32", "switch,initial=kvm,on-kvm-error=tcg", host=host,
                 name="trace-kvm-error") as guest:
        guest.expect_laps(3)
        guest.machine.qmp("kvm-trace-start", endless)
        guest.tell("x", 60)
        expect_equal("reason", "kvm-error",
                     guest.machine.wait_event("KVM_TRACE_END", 10)["data"]["reason"])
        expect_equal("accelerator", "tcg", guest.machine.accel())
        guest.expect_laps(3)
    ended_by_a_load(host)


def ended_by_a_load(host):
    """A guest that was saved in TCG is loaded in TCG, where there is no trace; the guest is in KVM afterwards."""
    with snapshot_disk(host) as drive, \
            Payload("soak64", "switch,initial=tcg", host=host, arguments=drive, name="trace-load") as guest:
        machine = guest.machine
        guest.expect_laps(3)
        expect_equal("savevm", "", machine.hmp("savevm saved"))
        machine.switch("kvm")
        machine.qmp("kvm-trace-start", {"file": host.scratch("load"), "max-instructions": 1000000000})
        expect_equal("loadvm", "", machine.hmp("loadvm saved"))
        expect_equal("reason", "load", machine.wait_event("KVM_TRACE_END", 10)["data"]["reason"])
        expect_equal("accelerator", "kvm", machine.accel())
        guest.expect_laps(3)


def several_vcpus(host, count):
    """Two vCPUs are traced at once, or one of them."""
    with Payload("compute64", "switch,initial=kvm", host=host, name="trace-smp", arguments=[
            "-smp", "2", "-device", "loader,addr=0x508,data=2,data-len=4"]) as guest:
        guest.expect_laps(3)
        for options, vcpus in (({}, {0, 1}), ({"cpu-index": 1}, {1})):
            data, _ = trace(guest.machine, count, **options)
            found = {record.cpu for record in tracefile.records(data)
                     if isinstance(record, tracefile.Step)}
            expect_equal("vCPUs in the trace", vcpus, found)
            guest.expect_laps(3)


def refusals(host=None):
    """What can't be traced is refused by a sentence."""
    with Window(host) as window:
        machine, path = window.machine, window.machine.host.scratch("trace")

        def refused(sentence, **arguments):
            expect_error(sentence, machine.qmp, "kvm-trace-start", {"file": path} | arguments)

        expect_error("no trace runs", machine.qmp, "kvm-trace-stop")
        refused("there is no vCPU 1", **{"cpu-index": 1})
        refused("max-instructions must be from 1", **{"max-instructions": 0})
        refused("cpl must be from 0 to 3", filter={"cpl": 4})
        window.add({"type": "port", "number": 0x20}, filter={"cpl": 3})
        refused("a trigger is armed")
        window.delete()
        if not host and os.path.exists("/sys/module/kvm_pvm"):
            refused("kvm-pvm gives the debug exceptions")
        else:
            refused("No such file or directory", file="/nonexistent/trace")
            refused("No space left", file="/dev/full")
        machine.switch("tcg")
        refused("the guest is in TCG")
        window.guest.expect_laps(3)
    with Machine(payload_arguments("soak64", "tcg", host=host), host=host, name="trace") as machine:
        expect_error("without -accel switch", machine.qmp, "kvm-trace-start", {"file": "trace"})


def all_of_them(host, names=tuple(COMPARED)):
    """In a rig; @names: of COMPARED."""
    times = 10 if LONG else 1
    for name in names:
        say(name)
        compared(name, host, COMPARED[name] * times)
    say("the guest's own breakpoints and steps")
    verdict("debug32", host, 40000 * times)
    say("interrupts held back by the guest")
    verdict("events64", host, 20000 * times, **{"interrupts-every": 1})
    say("events")
    events(host, 20000)
    flags_control(host, 20000)
    handlers_control(host, 20000)
    say("two vCPUs")
    several_vcpus(host, 10000)
    say("ends")
    ends(host)
    say("meanwhile")
    stays_usable(host)
    refusals(host)
