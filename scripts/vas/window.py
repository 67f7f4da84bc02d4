# SPDX-License-Identifier: GPL-2.0-or-later
"""./vas window: have a guest run under KVM until it gets somewhere, and look at it in TCG."""

import argparse
import sys
import time

from vas import paths
from vas.front import Progress, reporting, write_json
from vas.symbols import SymbolError
from vas.windowguest import add_arguments, parse, plugin_option, subject
from vas.windowopener import Opener, Plugins, Process, WindowError


def trigger(args, symbols):
    """accel-trigger-add's "on" and "window"."""
    if args.syscall is not None:
        on = {"type": "syscall"}
        if args.syscall >= 0:
            on["number"] = args.syscall
    elif args.vector is not None:
        on = {"type": "interrupt", "vector": args.vector}
    elif args.at is not None:
        on = {"type": "address", "address": symbols.address(args.at)}
    else:
        on = {"type": "timer", "period-ns": 1000000}
    if args.to_return:
        end = {"type": "return"}
    elif args.until is not None:
        end = {"type": "address", "address": symbols.address(args.until)}
    elif args.ms is not None:
        end = {"type": "time", "ns": int(args.ms * 1e6)}
    else:
        end = {"type": "instructions", "count": args.insns}
    return on, {"end": end}


def show(entry, symbols):
    """A window for a person."""
    symbols.look_up([entry["begin"], entry["end"]])
    print(f"{entry['number']:>4}  {symbols.name(entry['begin']):32}  {entry['reason']:12}"
          f"  {symbols.name(entry['end']):32}  {entry['instructions']:>12}  {entry['ns'] / 1e6:>9.3f}"
          f"  {entry['cpu_index']:>3}  {entry['cr3']:#x}")
    for name, text in entry["plugins"].items():
        if len(entry["plugins"]) > 1:
            print(f"      {name}:")
        for line in symbols.annotate(text).splitlines():
            print("          " + line)
    sys.stdout.flush()


def run(guest, args, say):
    """Returns what --json writes."""
    machine, symbols = guest.machine, guest.symbols
    on, window = trigger(args, symbols)
    process = Process(guest, args.process, args.at is None) if args.process else None
    opener = Opener(machine, on, window, Plugins(machine, args.plugin), process, args.wait)

    def start():
        guest.start(args.run, say)

    if guest.guest or args.after:
        start()
        start = None
    if args.after:
        say(f"letting it run for {args.after:g} s")
        time.sleep(args.after)
    print(f"{'#':>4}  {'begins at':32}  {'ends by':12}  {'at':32}  {'instructions':>12}"
          f"  {'ms':>9}  {'CPU':>3}  CR3", flush=True)
    entries = []
    for number in range(1, args.times + 1):
        begin, end, printed = opener.open(start)
        start = None
        entries.append({"number": number, "begin": begin["rip"], "end": end["rip"], "cr3": begin["cr3"],
                        "cpu_index": end["cpu-index"], "reason": end["reason"],
                        "instructions": end["instructions"], "ns": end["ns"], "plugins": printed})
        show(entries[-1], symbols)
    say(f"{len(entries)} windows" + (f", and {opener.passed_over} of other processes passed over"
                                     if opener.passed_over else ""))
    return {"host": "rig" if machine.host.name == "rig" else "kvm", "on": on, "windows": entries}


def arguments(argv):
    parser = argparse.ArgumentParser(
        prog="./vas window", usage="%(prog)s PLACE [OPTION…] [-- QEMU ARGUMENTS]",
        description="Boot Debian i386 under KVM, or QEMU with the arguments after --, let the guest run"
        " until it gets to a place, look at it in TCG for a moment, and let it run on under KVM; print each"
        " of these windows.",
        epilog="example: ./vas window --at vfs_statx --insns 2000 --plugin hotblocks --times 3;"
        " docs/windows.rst has five tasks, as they were run")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--at", metavar="SYMBOL|ADDRESS", help="a function of the guest's kernel, or 0x…")
    where.add_argument("--syscall", type=int, nargs="?", const=-1, metavar="NUMBER",
                       help="a system call, of that number or any")
    where.add_argument("--vector", type=int, metavar="NUMBER", help="an interrupt or exception")
    parser.add_argument("--after", type=float, metavar="S",
                        help="let the guest run for S seconds first; without --at, --syscall or --vector the"
                        " window opens then")
    end = parser.add_mutually_exclusive_group()
    end.add_argument("--insns", type=paths.positive, default=1000, metavar="N",
                     help="each window is N instructions (1000)")
    end.add_argument("--ms", type=float, metavar="N", help="each window is N milliseconds of the guest's clock")
    end.add_argument("--return", dest="to_return", action="store_true",
                     help="each window ends when the function returns (with --at)")
    end.add_argument("--until", metavar="SYMBOL|ADDRESS", help="each window ends there")
    parser.add_argument("--process", metavar="NAME",
                        help="only in the newest process of that name, running or yet to start (Debian guest)")
    parser.add_argument("--plugin", type=plugin_option, action="append", default=[],
                        metavar="NAME|FILE[,ARGUMENT…]",
                        help="a TCG plugin that sees what is executed in each window, such as howvec,"
                        " execlog, hotblocks, insn; may be given more than once")
    parser.add_argument("--times", type=paths.positive, default=1, metavar="N", help="how many windows (1)")
    parser.add_argument("--wait", type=paths.positive, default=60, metavar="S",
                        help="give up if there is no window within so many seconds (60)")
    parser.add_argument("--json", metavar="FILE", type=paths.output_file,
                        help="write the windows there, too")
    add_arguments(parser)
    args = parse(parser, argv)
    check(parser, args)
    return args


def check(parser, args):
    """Complain of what does not go together."""
    if args.at is args.syscall is args.vector is args.after is None:
        parser.error("give a place: --at, --syscall, --vector or --after")
    if args.to_return and not args.at:
        parser.error("--return needs --at: only a function returns")
    for name in ("ms", "after"):
        if getattr(args, name) is not None and getattr(args, name) <= 0:
            parser.error(f"--{name} must be more than 0")
    if args.vector is not None and not 0 <= args.vector <= 255:
        parser.error("--vector must be from 0 to 255")
    if args.process and args.own is not None:
        parser.error("--process is for the Debian guest: QEMU does not know your guest's processes")
    if args.process and args.at is args.syscall is args.vector is None:
        parser.error("--process needs --at, --syscall or --vector: a moment has no process")
    names = [name for name, _, _ in args.plugin]
    if len(set(names)) < len(names):
        parser.error("each plugin can be loaded once: copy the file to load it twice")


def main():
    args = arguments(sys.argv[1:])
    paths.clear(args.json)
    say = Progress("window")
    places = args.at is not None or args.syscall is not None or args.vector is not None
    with reporting("window", WindowError, SymbolError):
        with subject(args, "window", say, breakpoints=places) as guest:
            write_json(args.json, run(guest, args, say))


if __name__ == "__main__":
    main()
