# SPDX-License-Identifier: GPL-2.0-or-later
"""./vas compare: the same instructions of a guest under KVM and in TCG, and where the two differ."""

import argparse
import re
import sys
import time

from vas import paths, tracefile
from vas.comparer import ENDS, CompareError, Comparer, other_side, shown
from vas.front import Progress, reporting, write_json
from vas.machine import MachineError
from vas.qmp import QMPError
from vas.symbols import SymbolError
from vas.trace import probe
from vas.windowguest import add_arguments, parse, subject
from vas.windowopener import Process

TRIGGER = "compare"
AGAIN_SECONDS = 0.5


def enter(guest, name, wait):
    """Stop the guest in the newest process of that @name, in a system call of its."""
    process = Process(guest, name, True)
    machine, give_up = guest.machine, time.monotonic() + wait
    while time.monotonic() < give_up:
        process.find()
        if process.filter() is None:
            time.sleep(AGAIN_SECONDS)
            continue
        machine.qmp("accel-trigger-add", {"id": TRIGGER, "on": {"type": "syscall"}, "count": 1,
                                          "filter": process.filter(), "window": {"end": {"type": "never"}}})
        try:
            machine.wait_event("ACCEL_WINDOW_BEGIN", max(1, give_up - time.monotonic()))
        except MachineError:
            machine.qmp("accel-trigger-del", {"id": TRIGGER})
            break
        machine.stop()
        machine.qmp("accel-trigger-del", {"id": TRIGGER})
        machine.switch("kvm")
        table = int(re.search(r"CR3=([0-9a-f]+)", machine.hmp("info registers"))[1], 16)
        if process.is_in(table):
            return
        machine.cont()
    raise CompareError(f"the guest was not in a system call of a process {name} within {wait} s: start one by"
                       " --run COMMAND, or wait longer by --wait")


def show(difference, symbols):
    """A difference for a person."""
    symbols.look_up([difference["address"]])
    where = symbols.name(difference["address"])
    if difference["kind"] == "registers":
        print(f"{difference['address']:#x}  {where}  \"{difference['text']}\"  {difference['code']}")
    elif difference["kind"] == "block":
        print(f"{difference['address']:#x}  {where}  the translation block that begins with"
              f" \"{difference['text']}\" leads elsewhere than TCG's single steps:")
    elif difference["kind"] == "shutdown":
        print(f"{difference['address']:#x}  {where}  {difference['code']}: TCG shuts the vCPU down")
    elif difference["kind"] == "state":
        print(f"before {where}, the vCPU's state:")
    elif difference["kind"] == "block-state":
        print(f"before {where}, after whole translation blocks:")
    else:
        print(f"before {where}, guest memory at {difference['physical']:#x} (physical):")
        print(f"    before 0x{difference['before']}  KVM 0x{difference['kvm']}  TCG 0x{difference['tcg']}")
    other = other_side(difference)
    for value in difference.get("values", ()):
        before = f"before {shown(value['before'])}  " if "before" in value else ""
        flags = f"  ({' '.join(value['flags'])})" if value.get("flags") else ""
        print(f"    {value['name']:8}  {before}{other} {shown(value['kvm'])}  TCG {shown(value['tcg'])}{flags}")
    if difference.get("after_undefined"):
        print("    A flag that an instruction had left undefined differed before; this may come of it.")
    sys.stdout.flush()


def run(guest, args, say):
    """Returns what --json writes."""
    machine = guest.machine
    if guest.guest or args.after:
        guest.start(args.run, say)
    if args.after:
        say(f"letting it run for {args.after:g} s")
        time.sleep(args.after)
    if args.process:
        enter(guest, args.process, args.wait)
    elif guest.guest or args.after:
        machine.stop()
    start = time.monotonic()
    comparer, error = Comparer(machine, say, args.wait), None
    stretch = args.stretch or args.insns
    try:
        while comparer.instructions < args.insns and not comparer.ended and \
                (args.all or not comparer.differences):
            comparer.run(min(stretch, args.insns - comparer.instructions), not args.all)
            if comparer.instructions < args.insns and args.stretch and not comparer.ended:
                machine.switch("kvm")
                machine.cont()
                time.sleep(args.between)
                machine.stop()
    except (CompareError, MachineError, QMPError) as caught:
        error = caught
    seconds = time.monotonic() - start
    if guest.guest and machine.running():
        # Its shell knows the names of addresses.
        machine.switch("kvm")
        machine.cont()
    for difference in comparer.differences[:args.show]:
        show(difference, guest.symbols)
    summarise(comparer, seconds)
    return {"host": "rig" if machine.host.name == "rig" else "kvm", "instructions": comparer.instructions,
            "user_instructions": comparer.user, "blocks": comparer.blocks, "stepped": comparer.stepped,
            "ends": dict(comparer.ends), "refused": comparer.refused,
            "registers_only": comparer.registers_only, "undefined": dict(comparer.undefined),
            "differences": comparer.differences, "seconds": seconds, "error": str(error) if error else None}


def summarise(comparer, seconds):
    print(f"{comparer.instructions} instructions compared, {comparer.user} of them at CPL 3, in {seconds:.0f} s:"
          f" {len(comparer.differences) or 'no'} difference{'s' * (len(comparer.differences) != 1)}")
    print(f"TCG executed them by single steps, and again in {comparer.blocks} translation blocks")
    if comparer.ends:
        print("not compared, KVM alone has executed them: " + ", ".join(
            f"{ENDS[name]} ({count})" for name, count in comparer.ends.most_common()))
    if comparer.refused:
        print(f"not compared, executed where the guest was: states that can't be switched ({comparer.refused})")
    if comparer.registers_only:
        print(f"of {comparer.registers_only} instructions only the registers were compared")
    if comparer.undefined:
        print("what the manuals leave undefined differs after, or in: " + ", ".join(
            f"{name} ({count})" for name, count in comparer.undefined.most_common()))


def arguments(argv):
    parser = argparse.ArgumentParser(
        prog="./vas compare", usage="%(prog)s [SNAPSHOT] [OPTION…] [-- QEMU ARGUMENTS]",
        description="Execute a guest's instructions in TCG and, from the same state, under KVM by single steps;"
        " compare registers after each, and the vCPU and what was written to memory after some. Print the first"
        " difference. Port I/O, clocks and interrupts are no part of it: KVM alone goes over them."
        " The exit status is 1 if there is a difference.",
        epilog="example: ./vas compare --insns 20000; docs/compare.rst tells more")
    parser.add_argument("snapshot", nargs="?", metavar="SNAPSHOT",
                        help="begin at this snapshot (savevm) of your own guest's disk")
    parser.add_argument("--insns", type=paths.positive, default=10000, metavar="N",
                        help="compare N instructions (10000)")
    parser.add_argument("--boot", action="store_true",
                        help="begin at the Debian guest's first instruction, not at its shell")
    parser.add_argument("--process", metavar="NAME",
                        help="begin in a system call of the newest process of that name (Debian guest)")
    parser.add_argument("--after", type=float, default=0, metavar="S", help="let the guest run for S seconds first")
    parser.add_argument("--stretch", type=paths.positive, metavar="N",
                        help="compare N instructions at a time, and let the guest run under KVM in between")
    parser.add_argument("--between", type=float, default=0.1, metavar="S",
                        help="with --stretch: let it run for S seconds (0.1)")
    parser.add_argument("--all", action="store_true", help="go on after a difference, from what KVM has made")
    parser.add_argument("--show", type=paths.positive, default=20, metavar="N",
                        help="with --all: print N differences at most (20)")
    parser.add_argument("--wait", type=paths.positive, default=60, metavar="S",
                        help="give up if the guest does nothing that can be compared for so many seconds (60)")
    parser.add_argument("--json", metavar="FILE", type=paths.output_file,
                        help="write differences and figures there, too")
    add_arguments(parser)
    args = parse(parser, argv)
    if args.own is None and args.snapshot:
        parser.error("SNAPSHOT is for your own guest: give QEMU's arguments after --")
    if args.own is not None and (args.boot or args.process):
        parser.error("--boot and --process are for the Debian guest")
    if args.boot and args.process:
        parser.error("--boot is before there are processes: leave one of them out")
    if args.snapshot:
        args.own += ["-loadvm", args.snapshot]
    if args.smp != 1:
        parser.error("one CPU is compared while others stand still: leave out --smp")
    return args


def main():
    args = arguments(sys.argv[1:])
    paths.clear(args.json)
    say = Progress("compare")
    if not tracefile.capstone:
        say("without python3-capstone there is no disassembly, and undefined flags are differences")
    with reporting("compare", CompareError, SymbolError):
        with subject(args, "compare", say, probe=probe, login=not args.boot) as guest:
            result = run(guest, args, say)
    write_json(args.json, result)
    if result["error"]:
        sys.exit(f"vas compare: {result['error']}")
    sys.exit(1 if result["differences"] else 0)


if __name__ == "__main__":
    main()
