# SPDX-License-Identifier: GPL-2.0-or-later
"""./vas sample: short windows in TCG again and again while a guest runs under KVM, and their statistics."""

import argparse
import re
import sys
import time

from vas import benchplot, paths, sampleplot, samplestats
from vas.benchstats import INTERRUPT
from vas.front import ERRORS, Progress, reporting, write_json
from vas.symbols import SymbolError
from vas.windowguest import add_arguments, parse, plugin_option, subject
from vas.windowopener import Plugins, WindowError

TRIGGER = "sample"
UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
SHORTEST_PERIOD_NS = 100000
PROGRESS_SECONDS = 5
# How long a window may take to begin and to end, beyond its period.
PATIENCE_SECONDS = 60


def duration(text):
    """A type for argparse: "100ms" in seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(us|ms|s)", text)
    if not match or not float(match[1]):
        raise argparse.ArgumentTypeError(f"'{text}' is not a time such as 500us, 100ms or 2s")
    return float(match[1]) * UNITS[match[2]]


def length(text):
    """A type for argparse: a window's end, "1ms" or "100k" instructions."""
    match = re.fullmatch(r"(\d+)([kM]?)", text)
    if match and int(match[1]):
        return {"type": "instructions", "count": int(match[1]) * {"": 1, "k": 1000, "M": 1000000}[match[2]]}
    try:
        return {"type": "time", "ns": int(duration(text) * 1e9)}
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"'{text}' is neither a time such as 1ms nor a number of"
                                         " instructions such as 100k") from None


def seconds_of(event):
    stamp = event["timestamp"]
    return stamp["seconds"] + stamp["microseconds"] / 1e6


class Sampler:
    """Takes samples of @machine; what it has so far is in @samples and @windows."""

    def __init__(self, machine, plugins, args):
        self._machine, self._plugins, self._args = machine, plugins, args
        self.samples, self.windows = [], []
        self.begin = self.end = self._due = time.monotonic()
        self._clock = None

    def _on(self):
        period = max(SHORTEST_PERIOD_NS, int((self._due - time.monotonic()) * 1e9))
        return {"type": "timer", "period-ns": period, "clock": "host",
                "jitter-ns": min(int(self._args.jitter * self._args.every * 1e9), period - 1)}

    def take(self):
        """One sample: as many windows as a load of the plugins is for."""
        machine = self._machine
        ids = self._plugins.load()
        counted = 0
        for _ in range(self._args.batch):
            self._due = max(time.monotonic(), self._due + self._args.every)
            window = {"end": self._args.window} | ({"plugins": ids} if ids else {})
            machine.qmp("accel-trigger-add", {"id": TRIGGER, "on": self._on(), "count": 1, "window": window})
            counted += self._window()
            machine.qmp("accel-trigger-del", {"id": TRIGGER})
        numbers = {samplestats.INSTRUCTIONS: counted}
        for text in self._plugins.unload().values():
            numbers |= samplestats.quantities(text)
        self.samples.append(numbers)
        self.end = time.monotonic()

    def _window(self):
        patience = self._args.every + PATIENCE_SECONDS
        begin = self._machine.wait_event("ACCEL_WINDOW_BEGIN", patience)
        switches = [self._machine.qmp("query-accel")["last"]]
        end = self._machine.wait_event("ACCEL_WINDOW_END", patience)["data"]
        if self._clock is None:
            # QEMU's clock against ours: the first window began just now.
            self._clock = seconds_of(begin) - (begin["received"] - self.begin)
        entry = {"begin_s": round(seconds_of(begin) - self._clock, 6), "ns": end["ns"],
                 "instructions": end["instructions"], "rip": end["rip"], "downtime_ns": {}}
        # Events of triggers' switches come once a second at most. So ask; a short window is over by then.
        switches.append(self._machine.qmp("query-accel")["last"])
        for switch in switches:
            entry["downtime_ns"]["to " + switch["to"]] = switch["downtime-ns"]
        self.windows.append(entry)
        return end["instructions"]


def enough(sampler, args):
    if args.times:
        return len(sampler.samples) >= args.times
    return time.monotonic() - sampler.begin >= args.seconds


def sample(machine, args, say):
    """Until there are enough samples, or until Ctrl-C; returns the Sampler."""
    sampler = Sampler(machine, Plugins(machine, args.plugin), args)
    said = time.monotonic()
    try:
        while not enough(sampler, args):
            INTERRUPT.check()
            sampler.take()
            if time.monotonic() - said >= PROGRESS_SECONDS:
                said = time.monotonic()
                say(f"{len(sampler.samples)} samples" + (f" of {args.times}" if args.times else
                                                         f", {said - sampler.begin:.0f} s of {args.seconds:g}"))
    except KeyboardInterrupt:
        say(f"interrupted after {len(sampler.samples)} samples")
    except ERRORS:
        # Ctrl-C ends QEMU, too.
        if not INTERRUPT.came:
            raise
        say(f"interrupted after {len(sampler.samples)} samples")
    return sampler


def whole(machine, args, say):
    """The same quantities of one long window, all in TCG."""
    say(f"the same guest in TCG all the time, for {args.compare_full:g} s")
    plugins = Plugins(machine, args.plugin)
    machine.qmp("switch-accel", {"accel": "tcg", "window": {
        "end": {"type": "time", "ns": int(args.compare_full * 1e9)}, "plugins": plugins.load()}})
    end = machine.wait_event("ACCEL_WINDOW_END", args.compare_full + 10 * PATIENCE_SECONDS)["data"]
    numbers = {samplestats.INSTRUCTIONS: end["instructions"]}
    for text in plugins.unload().values():
        numbers |= samplestats.quantities(text)
    return numbers


def report(sampler, full, machine, args):
    """What --json writes."""
    if not sampler.samples:
        raise WindowError("there are no samples: it ended before the first window did")
    seconds = sampler.end - sampler.begin
    in_tcg = sum(window["ns"] for window in sampler.windows) / 1e9
    result = {"host": "rig" if machine.host.name == "rig" else "kvm", "every_s": args.every,
              "window": args.window, "batch": args.batch, "seconds": round(seconds, 3),
              "real_period_s": round(seconds / len(sampler.windows), 6),
              "kvm_share": round(max(0.0, 1 - in_tcg / seconds), 5),
              "quantities": samplestats.table(sampler.samples),
              "samples": sampler.samples, "windows": sampler.windows}
    if full:
        result["full"] = full
        for name, row in result["quantities"].items():
            row["full_share"] = full.get(name, 0) / max(1, full[samplestats.INSTRUCTIONS])
            row["within"] = row["share_half_interval"] is not None and \
                abs(row["full_share"] - row["share"]) <= row["share_half_interval"]
    return result


def show(result, most):
    """The result for a person."""
    full = "full" in result
    print(f"{'quantity':32}  {'mean':>12}  {'±':>10}  {'share':>8}  {'±':>7}" +
          (f"  {'all TCG':>8}" if full else ""))

    def half(value, scale, width, digits):
        return f"{'?':>{width}}" if value is None else f"{value * scale:>{width}.{digits}f}"

    for name, row in list(result["quantities"].items())[:most]:
        print(f"{name[:32]:32}  {row['mean']:>12.1f}  {half(row['mean_half_interval'], 1, 10, 1)}"
              f"  {100 * row['share']:>7.3f}%  {half(row['share_half_interval'], 100, 6, 3)}%" +
              (f"  {100 * row['full_share']:>7.3f}% {'' if row['within'] else ' outside'}" if full else ""))
    print(f"\n{len(result['samples'])} samples of {result['batch']} window(s); mean per sample; share of all"
          " instructions; ±: 95 % confidence (Student's t).")
    print(f"One window each {1000 * result['real_period_s']:.3f} ms, {100 * (1 - result['kvm_share']):.2f} % of"
          f" the time in TCG, {100 * result['kvm_share']:.2f} % in KVM.")


def arguments(argv):
    parser = argparse.ArgumentParser(
        prog="./vas sample", usage="%(prog)s [OPTION…] [-- QEMU ARGUMENTS]",
        description="Boot Debian i386 under KVM, or QEMU with the arguments after --, have it in TCG for a"
        " short window now and then, and print what plugins count there: means, and shares of all"
        " instructions. Ctrl-C ends it with the results so far.",
        epilog="example: ./vas sample --every 200ms --window 20k --plugin insn,match=mov,match=call --times 50")
    parser.add_argument("--every", type=duration, default=0.1, metavar="TIME",
                        help="from window to window (100ms)")
    parser.add_argument("--window", type=length, default=length("1ms"), metavar="TIME|N",
                        help="each window's length: 1ms of the guest's time, or 100k instructions (1ms)")
    parser.add_argument("--jitter", type=float, default=0.5, metavar="PART",
                        help="delay each window by a random part of --every, up to this, so that windows do"
                        " not fall in step with the guest; 0 to 0.9 (0.5)")
    parser.add_argument("--plugin", type=plugin_option, action="append", default=[],
                        metavar="NAME|FILE[,ARGUMENT…]",
                        help="what counts in the windows, such as insn, bb, mem, howvec; may be given more"
                        " than once")
    parser.add_argument("--batch", type=paths.positive, default=10, metavar="N",
                        help="so many windows make one sample (10): to load the plugins anew costs all"
                        " translations, and the first window is slow")
    end = parser.add_mutually_exclusive_group()
    end.add_argument("--for", dest="seconds", type=float, default=10, metavar="SECONDS",
                     help="take samples so long (10)")
    end.add_argument("--times", type=paths.positive, metavar="N", help="stop after N samples, of --batch windows each")
    parser.add_argument("--compare-full", type=float, metavar="SECONDS",
                        help="then have the guest in TCG for so long, and compare the shares")
    parser.add_argument("--most", type=paths.positive, default=20, metavar="N",
                        help="print so many quantities (20); --json has all")
    parser.add_argument("--json", metavar="FILE", type=paths.output_file, help="write all there, too")
    parser.add_argument("--svg", metavar="FILE", type=paths.output_file, help="draw a timeline there")
    add_arguments(parser)
    args = parse(parser, argv)
    if not 0 <= args.jitter <= 0.9:
        parser.error("--jitter must be from 0 to 0.9")
    if args.seconds <= 0 or (args.compare_full is not None and args.compare_full <= 0):
        parser.error("--for and --compare-full must be more than 0")
    if args.every * 1e9 < SHORTEST_PERIOD_NS:
        parser.error("--every must be 100us at least")
    names = [name for name, _, _ in args.plugin]
    if len(set(names)) < len(names):
        parser.error("each plugin can be loaded once: copy the file to load it twice")
    return args


def run(args, say):
    with subject(args, "sample", say, breakpoints=False) as guest:
        guest.start(args.run, say)
        INTERRUPT.watch()
        sampler = sample(guest.machine, args, say)
        full = None
        if args.compare_full and not INTERRUPT.came:
            full = whole(guest.machine, args, say)
        return report(sampler, full, guest.machine, args)


def main():
    args = arguments(sys.argv[1:])
    paths.clear(args.json, args.svg)
    with reporting("sample", WindowError, SymbolError, benchplot.PlotError):
        if args.svg:
            benchplot.available()
        result = run(args, Progress("sample"))
        show(result, args.most)
        write_json(args.json, result)
        if args.svg:
            with open(args.svg, "w", encoding="utf-8") as out:
                out.write(sampleplot.svg(result))


if __name__ == "__main__":
    main()
