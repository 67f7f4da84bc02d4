# SPDX-License-Identifier: GPL-2.0-or-later
"""./vas window: have the Debian guest run under KVM until it gets somewhere, and look at it in TCG."""

import argparse
import json
import os
import re
import sys
import time

from vas import debs, image, kvmprobe, paths, rigtree
from vas.debian import Guest, disk_arguments
from vas.host import HostError, LocalHost
from vas.machine import Machine, MachineError
from vas.qmp import QMPError
from vas.rig import RigHost, boot_rig, end_in_order, kind

PLUGIN_FOLDERS = ("contrib/plugins", "tests/tcg/plugins")
# So many addresses of a plugin's text get names: each costs the guest a search.
NAMED = 64
# What keeps the guest busy unless --run says otherwise.
BUSY = "while :; do cat /etc/passwd /proc/loadavg; ls -l / /proc; done >/dev/null 2>&1"
ADDRESS = re.compile(r"0x([0-9a-f]{8})\b")


class WindowError(Exception):
    """One sentence that says why there are no windows."""


class Progress:
    """Lines with the time since the start, on standard error."""

    def __init__(self):
        self._start = time.monotonic()

    def __call__(self, text):
        print(f"window: {time.monotonic() - self._start:5.1f} s  {text}", file=sys.stderr, flush=True)


def plugin_file(name):
    """A plugin's file, by its path or by the name of one of QEMU's own."""
    if "/" in name:
        if not os.path.exists(name):
            raise argparse.ArgumentTypeError(f"there is no file {name}")
        return os.path.abspath(name)
    for folder in PLUGIN_FOLDERS:
        path = os.path.join(paths.QEMU, folder, f"lib{name}.so")
        if os.path.exists(path):
            return path
    known = sorted(entry[3:-3] for folder in PLUGIN_FOLDERS
                   for entry in _entries(os.path.join(paths.QEMU, folder)) if entry.endswith(".so"))
    raise argparse.ArgumentTypeError(f"there is no plugin {name}; QEMU's own are: {' '.join(known)}")


def _entries(folder):
    return os.listdir(folder) if os.path.isdir(folder) else []


def plugin_option(text):
    """--plugin's argument: (file, arguments)"""
    name, *arguments = text.split(",")
    return plugin_file(name), arguments


class Symbols:
    """The guest kernel's, asked of the guest: there is no other copy of what it has loaded where."""

    def __init__(self, guest):
        self._guest = guest
        self._names = {}

    def address(self, name):
        """The address of a function's first instruction."""
        if re.fullmatch(r"0x[0-9a-fA-F]+", name):
            return int(name, 16)
        if not re.fullmatch(r"[A-Za-z_][\w.]*", name):
            raise WindowError(f"'{name}' is neither a symbol nor an address (0x…)")
        _, text = self._guest.command(f"grep -E ' [tTwW] {re.escape(name)}$' /proc/kallsyms")
        found = re.findall(r"(?m)^([0-9a-f]+) [tTwW] ", text)
        if not found:
            _, text = self._guest.command(f"grep -i -m 8 -E ' [tTwW] .*{re.escape(name)}' /proc/kallsyms")
            similar = re.findall(r" [tTwW] (\S+)", text)
            raise WindowError(f"the guest's kernel has no function '{name}'"
                              + (f"; it has {', '.join(similar)}" if similar else ""))
        return int(found[0], 16)

    def look_up(self, addresses):
        """Find the names of @addresses, all at once."""
        wanted = sorted({f"{address:08x}" for address in addresses} - set(self._names))[:NAMED]
        if not wanted:
            return
        program = ("BEGIN { n = split(list, a, \" \") } $2 ~ /[tTwW]/ { for (i = 1; i <= n; i++)"
                   " if ($1 <= a[i] && $1 > best[a[i]]) { best[a[i]] = $1; name[a[i]] = $3 } }"
                   " END { for (i = 1; i <= n; i++) print \"N\", a[i], best[a[i]], name[a[i]] }")
        _, text = self._guest.command(
            f"awk -v list='{' '.join(wanted)}' '{program}' /proc/kallsyms", 300)
        for address, start, name in re.findall(r"(?m)^N ([0-9a-f]+) ([0-9a-f]+) (\S+)$", text):
            offset = int(address, 16) - int(start, 16)
            self._names[address] = name + (f"+{offset:#x}" if offset else "")

    def name(self, address):
        """The name of an address that was looked up, or the address."""
        return self._names.get(f"{address:08x}", f"{address:#x}")

    def annotate(self, text):
        """A plugin's @text with the names of the first addresses in it."""
        addresses = list(dict.fromkeys(ADDRESS.findall(text)))
        self.look_up(int(address, 16) for address in addresses[:NAMED]
                     if int(address, 16) >= 0xc0000000)
        return ADDRESS.sub(lambda match: match.group(0) + (
            f" <{self._names[match.group(1)]}>" if match.group(1) in self._names else ""), text)


def trigger(args, symbols):
    """accel-trigger-add's "on" and "window"."""
    if args.syscall is not None:
        on = {"type": "syscall"}
        if args.syscall >= 0:
            on["number"] = args.syscall
    elif args.vector is not None:
        on = {"type": "interrupt", "vector": args.vector}
    else:
        on = {"type": "address", "address": symbols.address(args.at)}
    if args.to_return:
        end = {"type": "return"}
    elif args.ms is not None:
        end = {"type": "time", "ns": int(args.ms * 1e6)}
    else:
        end = {"type": "instructions", "count": args.insns}
    return on, {"end": end}


def one_window(machine, number, on, window, args, host_plugin):
    """Open the next window, with a plugin of its own; returns its entry of --json."""
    output = machine.host.scratch(f"plugin{number}")
    if args.plugin:
        machine.qmp("plugin-add", {"id": "plugin", "file": host_plugin, "windows": True,
                                   "arguments": args.plugin[1], "output": output})
        window = window | {"plugins": ["plugin"]}
    machine.qmp("accel-trigger-add", {"id": "window", "on": on, "window": window, "count": 1})
    try:
        begin = machine.wait_event("ACCEL_WINDOW_BEGIN", args.wait)["data"]
    except MachineError as error:
        info = machine.qmp("query-accel-triggers")[0]
        raise WindowError(f"no window within {args.wait} s: {info['hits']} hits, {info['refused']}"
                          " refused; have the guest get there by --run COMMAND") from error
    try:
        end = machine.wait_event("ACCEL_WINDOW_END", args.wait)["data"]
    except MachineError as error:
        raise WindowError(f"a window has not ended within {args.wait} s: a function may wait for long"
                          " before it returns; use --insns or --ms, or a longer --wait") from error
    machine.qmp("accel-trigger-del", {"id": "window"})
    entry = {"number": number, "begin": begin["rip"], "end": end["rip"], "cr3": begin["cr3"],
             "cpu_index": end["cpu-index"], "reason": end["reason"],
             "instructions": end["instructions"], "ns": end["ns"]}
    if args.plugin:
        machine.qmp("plugin-del", {"id": "plugin"})
        entry["plugin"] = machine.host.read(output)
    return entry


def show(entry, symbols):
    """A window for a person."""
    symbols.look_up([entry["begin"], entry["end"]])
    print(f"{entry['number']:>4}  {symbols.name(entry['begin']):32}  {entry['reason']:12}"
          f"  {symbols.name(entry['end']):32}  {entry['instructions']:>12}  {entry['ns'] / 1e6:>9.3f}"
          f"  {entry['cpu_index']:>3}  {entry['cr3']:#x}")
    if "plugin" in entry:
        for line in symbols.annotate(entry["plugin"]).splitlines():
            print("          " + line)


def run(host, args, say):
    """Returns what --json writes."""
    in_rig = host.name == "rig"
    with Machine(["-accel", "switch,initial=kvm,plugins=on", "-smp", str(args.smp), "-m", "256", "-nic",
                  "none", *disk_arguments(host)],
                 binary="i386", host=host, name="window", deadline=900) as machine:
        guest = Guest(machine, pace=4 if in_rig else 1)
        guest.skip_menu()
        say("booting Debian i386 under KVM" + (" (about 40 seconds in the rig)" if in_rig else ""))
        guest.wait_phase("login", 120)
        guest.login()
        symbols = Symbols(guest)
        on, window = trigger(args, symbols)
        host_plugin = host.put(args.plugin[0]) if args.plugin else None
        guest.command(f"({args.run}) & echo", 30)
        say(f"the guest runs: {args.run}")
        print(f"{'#':>4}  {'begins at':32}  {'ends by':12}  {'at':32}  {'instructions':>12}"
              f"  {'ms':>9}  {'CPU':>3}  CR3")
        entries = []
        for number in range(1, args.times + 1):
            entries.append(one_window(machine, number, on, window, args, host_plugin))
            show(entries[-1], symbols)
        say(f"{len(entries)} windows")
        return {"host": "rig" if in_rig else "kvm", "on": on, "windows": entries}


def arguments():
    parser = argparse.ArgumentParser(
        prog="./vas window",
        description="Boot Debian i386 under KVM, let it run until it gets to the place that is asked for,"
        " look at it in TCG for a moment, and let it run on under KVM; print each of these windows.",
        epilog="example: ./vas window --at vfs_statx --return --plugin howvec --times 3")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--at", metavar="SYMBOL|ADDRESS", help="a function of the guest's kernel, or 0x…")
    where.add_argument("--syscall", type=int, nargs="?", const=-1, metavar="NUMBER",
                       help="a system call, of that number or any")
    where.add_argument("--vector", type=int, metavar="NUMBER", help="an interrupt or exception")
    end = parser.add_mutually_exclusive_group()
    end.add_argument("--insns", type=paths.positive, default=1000, metavar="N",
                     help="each window is N instructions (1000)")
    end.add_argument("--ms", type=float, metavar="N", help="each window is N milliseconds")
    end.add_argument("--return", dest="to_return", action="store_true",
                     help="each window ends when the function returns (with --at)")
    parser.add_argument("--plugin", type=plugin_option, metavar="NAME|FILE[,ARGUMENT…]",
                        help="a TCG plugin that sees what is executed in each window, such as howvec,"
                        " execlog, hotblocks, insn")
    parser.add_argument("--times", type=paths.positive, default=1, metavar="N", help="how many windows (1)")
    parser.add_argument("--run", default=BUSY, metavar="COMMAND",
                        help="what the guest runs meanwhile, in its shell (reads and lists files, for ever)")
    parser.add_argument("--wait", type=paths.positive, default=60, metavar="S",
                        help="give up if there is no window within so many seconds (60)")
    parser.add_argument("--smp", type=paths.positive, default=1, metavar="N", help="the guest's CPUs (1)")
    parser.add_argument("--json", metavar="FILE", type=paths.output_file,
                        help="write the windows there, too")
    parser.add_argument("--rig", action="store_true", help="in the rig, even if this machine's KVM would do")
    args = parser.parse_args()
    if args.to_return and not args.at:
        parser.error("--return needs --at: only a function returns")
    if args.ms is not None and args.ms <= 0:
        parser.error("--ms must be more than 0")
    if args.vector is not None and not 0 <= args.vector <= 255:
        parser.error("--vector must be from 0 to 255")
    return args


def main():
    args = arguments()
    paths.clear(args.json)
    end_in_order()
    say = Progress()
    try:
        result = window_run(args, say)
    except (WindowError, image.ImageError, debs.DebError, HostError, MachineError, QMPError,
            rigtree.RigError) as error:
        sys.exit(f"vas window: {error}")
    except KeyboardInterrupt:
        sys.exit("vas window: interrupted")
    if args.json:
        with open(args.json, "w", encoding="utf-8") as out:
            json.dump(result, out, indent=2)
            out.write("\n")


def window_run(args, say):
    usable, why = kvmprobe.probe()
    disk = str(image.image_path())
    if usable and not args.rig:
        say("running on this machine's KVM")
        with LocalHost() as host:
            return run(host, args, say)
    say(f"running in the rig, on a kvm-{kind().vendor} made by emulation, since " +
        ("--rig says so" if usable else why))
    with boot_rig(disks=[disk], deadline=1200) as rig:
        say(f"the rig is up after {rig.boot_seconds:.0f} s")
        return run(RigHost(rig), args, say)


if __name__ == "__main__":
    main()
