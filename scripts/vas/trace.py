# SPDX-License-Identifier: GPL-2.0-or-later
"""./vas trace: the instructions that a guest executes under KVM, or in TCG, as lines of execlog."""

import argparse
import contextlib
import os
import sys
import time

from vas import kvmprobe, paths, tracefile
from vas.front import Progress, reporting, write_json
from vas.windowguest import BUSY, plugin_file, subject

# With these KVM lets no interrupt in between steps (docs/trace.rst).
VIRTUAL_APIC = ("kvm_intel/parameters/enable_apicv", "kvm_amd/parameters/avic")


def probe():
    """(whether this machine's KVM will do, why not)"""
    for name in VIRTUAL_APIC:
        with contextlib.suppress(OSError), open(f"/sys/module/{name}", encoding="utf-8") as file:
            if file.read().strip() in ("Y", "1"):
                return False, f"this machine's KVM has {name.replace('/parameters/', '.')}=1"
    return kvmprobe.probe()


def output(name):
    """The file called @name to write text to; without a name, standard output."""
    return open(name, "w", encoding="utf-8") if name else os.fdopen(
        os.dup(sys.stdout.fileno()), "w", encoding="utf-8")


def convert(path, out):
    """Write the text of the trace at @path to @out."""
    with open(path, "rb") as file:
        data = file.read()
    if not tracefile.capstone:
        print("vas trace: without python3-capstone there is no disassembly", file=sys.stderr)
    for line in tracefile.lines(data):
        print(line, file=out)


def in_kvm(machine, args):
    """Trace the guest under KVM; returns (the text's lines, a summary)."""
    path = machine.host.scratch("trace")
    restrict = {} if args.cpl is None else {"filter": {"cpl": args.cpl}}
    start = time.monotonic()
    machine.qmp("kvm-trace-start", {"file": path, "max-instructions": args.insns, **restrict})
    end = machine.wait_event("KVM_TRACE_END", args.wait)["data"]
    seconds = time.monotonic() - start
    data = machine.host.read_bytes(path)
    if args.raw:
        with open(args.raw, "wb") as file:
            file.write(data)
    return list(tracefile.lines(data)), {
        "accel": "kvm", "reason": end["reason"], "instructions": end["instructions"],
        "gaps": end["gaps"], "seconds": seconds, "bytes": len(data)}


def in_tcg(machine, args):
    """The same by execlog, in a window of so many instructions."""
    path = machine.host.scratch("execlog")
    machine.qmp("plugin-add", {"id": "log", "file": machine.host.put(plugin_file("execlog")),
                               "windows": True, "output": path})
    start = time.monotonic()
    machine.qmp("switch-accel", {"accel": "tcg", "window": {
        "end": {"type": "instructions", "count": args.insns}, "plugins": ["log"]}})
    end = machine.wait_event("ACCEL_WINDOW_END", args.wait)["data"]
    seconds = time.monotonic() - start
    machine.qmp("plugin-del", {"id": "log"})
    lines = list(tracefile.execlog_lines(machine.host.read(path)))
    return lines, {"accel": "tcg", "reason": end["reason"], "instructions": len(lines), "gaps": 0,
                   "seconds": seconds}


def run(args, say):
    """Boot the guest, and trace it; returns what --json writes."""
    with subject(args, "trace", say, probe=kvmprobe.probe if args.tcg else probe) as guest:
        guest.start(args.run, say)
        lines, summary = (in_tcg if args.tcg else in_kvm)(guest.machine, args)
        # It is still well.
        guest.guest.command("true", 60)
        host = guest.machine.host.name
    with output(args.output) as out:
        for line in lines:
            print(line, file=out)
    say(f"{summary['instructions']} instructions in {summary['accel']},"
        f" {summary['seconds'] / max(1, summary['instructions']) * 1e6:.1f} us each,"
        f" {summary['gaps']} gaps")
    return {"host": host, **summary}


def arguments():
    parser = argparse.ArgumentParser(
        prog="./vas trace",
        description="Boot Debian i386 under KVM and record the instructions that it executes then, by single"
        " steps or (--tcg) by the plugin execlog; print them as execlog does. Or print the FILE of a trace"
        " that QMP's kvm-trace-start has made. Lines with # tell of gaps and interrupts.",
        epilog="example: ./vas trace --insns 100000 --output kvm.log")
    parser.add_argument("file", nargs="?", metavar="FILE", help="print this trace; no guest is run")
    parser.add_argument("--insns", type=paths.positive, default=10000, metavar="N",
                        help="N instructions (10000)")
    parser.add_argument("--tcg", action="store_true", help="in TCG, not under KVM")
    parser.add_argument("--cpl", type=int, choices=(0, 3), help="the kernel's (0) or programs' (3) only;"
                        " the others count, too (not with --tcg)")
    parser.add_argument("--run", default=BUSY, metavar="COMMAND",
                        help="a command for the guest's shell (a loop that reads and lists files)")
    parser.add_argument("--wait", type=paths.positive, default=300, metavar="S",
                        help="give up after so many seconds (300)")
    parser.add_argument("--smp", type=paths.positive, default=1, metavar="N", help="the guest's CPUs (1)")
    parser.add_argument("--output", metavar="FILE", type=paths.output_file,
                        help="write the lines there, not to standard output")
    parser.add_argument("--raw", metavar="FILE", type=paths.output_file,
                        help="write KVM's trace there, too, as it is (docs/trace.rst)")
    parser.add_argument("--json", metavar="FILE", type=paths.output_file, help="write the figures there")
    parser.add_argument("--rig", action="store_true", help="in the rig, even if this machine's KVM would do")
    parser.set_defaults(own=None)
    args = parser.parse_args()
    if args.tcg and (args.cpl is not None or args.raw):
        parser.error("--cpl and --raw are for a trace of KVM")
    return args


def main():
    args = arguments()
    say = Progress("trace")
    with reporting("trace", tracefile.TraceError, OSError):
        if args.file:
            with output(args.output) as out:
                convert(args.file, out)
            return
        paths.clear(args.output, args.raw, args.json)
        result = run(args, say)
    write_json(args.json, result)


if __name__ == "__main__":
    main()
