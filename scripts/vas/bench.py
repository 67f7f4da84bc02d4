# SPDX-License-Identifier: GPL-2.0-or-later
"""
./vas bench: measure.

Each measurement is a module bench*.py with HELP, MEANING, add_arguments(), check(), measure(),
tables(), notes() and draw(), and host() if it is not this machine.  This is their command line.
"""

import argparse
import json
import os
import sys
import time

from vas import (benchalternatives, benchdowntime, benchlinux, benchplot, benchreport, benchsampling,
                 benchspeed, benchunused, benchwindows, check, front, paths)
from vas.benchguest import ERRORS
from vas.benchload import Others
from vas.benchstats import INTERRUPT
from vas.host import LocalHost
from vas.rigbase import end_in_order
from vas.testing import Failure, Skip, need_kvm

MEASUREMENTS = {"downtime": benchdowntime, "windows": benchwindows, "speed": benchspeed,
                "sampling": benchsampling, "alternatives": benchalternatives}
# Measurements that "./vas bench all" leaves out: linux boots a Debian, and unused downloads Debian's QEMU.
APART = {"linux": benchlinux, "unused": benchunused}


def say(sentence):
    print(f"bench: {sentence}", file=sys.stderr, flush=True)


def write(path, content):
    with open(path, "w", encoding="utf-8") as file:
        file.write(content)


def write_json(path, result):
    write(path, json.dumps(result, indent=2) + "\n")


def host_of(arguments):
    """The host of a measurement, to be entered."""
    if hasattr(arguments.module, "host"):
        return arguments.module.host(arguments)
    need_kvm()
    return LocalHost()


def measure(arguments):
    """One measurement, with the place where it was made."""
    others = Others()
    with host_of(arguments) as arguments.host:
        place = benchreport.where(arguments.host)
        result = arguments.module.measure(arguments)
    return {"measurement": arguments.what, "quick": arguments.quick, "place": place,
            "others_cpus": others.cpus(), "others_of": os.cpu_count(), **result}


def run_one(arguments):
    result = measure(arguments)
    print(benchreport.text(arguments.module, result))
    if arguments.json:
        write_json(arguments.json, result)
    if arguments.svg:
        write(arguments.svg, benchplot.svg(arguments.module, result))


def run_all(arguments):
    """All measurements with their defaults, into a folder; one that fails does not stop others."""
    folder, start = arguments.report, time.monotonic()
    sections, failed = [], []
    for name, module in MEASUREMENTS.items():
        say(f"{time.monotonic() - start:5.0f} s  {name}: {module.HELP}")
        one = parse([name, *(["--quick"] if arguments.quick else [])])
        module.check(one)
        try:
            result = measure(one)
        except ERRORS as error:
            INTERRUPT.check()
            say(f"{name} failed: {error}")
            failed.append(name)
            sections.append((name, module, str(error), None))
            continue
        picture = benchplot.svg(module, result)
        write_json(os.path.join(folder, f"{name}.json"), result)
        write(os.path.join(folder, f"{name}.svg"), picture)
        sections.append((name, module, result, picture))
    with LocalHost() as host:
        place = benchreport.where(host)
    page = os.path.join(folder, "index.html")
    write(page, benchreport.page(place, sections, arguments.quick))
    print(f"{page}: {len(sections) - len(failed)} measurement(s)")
    if failed:
        raise Failure(f"{', '.join(failed)} failed: the report says why")


def folder_to_write(name):
    """A type for argparse: a folder, which is made if it isn't there."""
    try:
        os.makedirs(name, exist_ok=True)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{name}: {error.strerror}") from error
    if not os.access(name, os.W_OK):
        raise argparse.ArgumentTypeError(f"{name}: can't be written to")
    return name


def parse(argv):
    parser = argparse.ArgumentParser(prog="./vas bench", description="Measure.",
                                     epilog="docs/performance.rst says what each number means.")
    commands = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    for name, module in {**MEASUREMENTS, **APART}.items():
        command = commands.add_parser(name, help=module.HELP, description=module.__doc__,
                                      formatter_class=argparse.RawDescriptionHelpFormatter,
                                      epilog=module.MEANING)
        module.add_arguments(command)
        command.add_argument("--json", metavar="FILE", type=paths.output_file,
                             help="write the numbers to FILE")
        command.add_argument("--svg", metavar="FILE", type=paths.output_file,
                             help="draw them to FILE")
        command.set_defaults(module=module, run=run_one, report=None, parser=command)
    command = commands.add_parser("all", help="all of these but linux and unused, with a report",
                                  description="All measurements but linux and unused with their "
                                  "defaults, and a report: "
                                  "one page of HTML with pictures and tables, and the numbers as "
                                  "JSON. About 8 minutes.")
    command.add_argument("--report", metavar="DIR", type=folder_to_write, required=True,
                         help="write the report to DIR/index.html, and DIR/*.json and *.svg")
    command.set_defaults(module=None, run=run_all, json=None, svg=None)
    for command in commands.choices.values():
        command.add_argument("--quick", action="store_true",
                             help="a short run, whose numbers mean nothing")
    return parser.parse_args(argv)


def main(argv):
    arguments = parse(argv)
    end_in_order()
    INTERRUPT.watch()
    if arguments.module:
        try:
            arguments.module.check(arguments)
        except Failure as error:
            arguments.parser.error(str(error))
    try:
        if arguments.svg or arguments.report:
            benchplot.available()
        paths.clear(arguments.json, arguments.svg)
        check.build_outer()
        arguments.run(arguments)
    except Skip as reason:
        sys.exit(f"bench: {reason}")
    except (*ERRORS, *front.ERRORS, benchplot.PlotError, check.CheckError, OSError) as error:
        sys.exit("bench: interrupted" if INTERRUPT.came else f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit("bench: interrupted")


if __name__ == "__main__":
    main(sys.argv[1:])
