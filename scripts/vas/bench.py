# SPDX-License-Identifier: GPL-2.0-or-later
"""
./vas bench: measure.

"bench downtime" switches a bare-metal guest with one vCPU and 256 MiB to and fro, and interleaves
"stop" and "cont" of the same process: the least that anything which pauses the guest can take.
"""

import argparse
import json
import random
import statistics
import sys
import time

from vas import check, paths
from vas.host import HostError
from vas.machine import MachineError, QMPError
from vas.testing import Failure, Payload, Skip, need_kvm

SEED = 11


def percentile(values, part):
    """The smallest of @values that @part percent of them don't exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * part // 100) - 1)]


def measure_downtime(count):
    """
    Switch @count times in each direction.  Returns three dicts of lists of microseconds: downtimes
    by direction, times from command to answer by direction, and those of stop and cont together.
    """
    generator = random.Random(SEED)
    downtime = {"tcg": [], "kvm": []}
    command = {"tcg": [], "kvm": []}
    stop_cont = []
    with Payload("soak64", "switch,initial=kvm", memory=256,
                 name="bench-downtime", deadline=count * 0.2 + 300) as guest:
        machine = guest.machine
        guest.expect_laps(3)
        for number in range(count):
            for accel in ("tcg", "kvm"):
                start = time.monotonic()
                result = machine.switch(accel)
                command[accel].append((time.monotonic() - start) * 1e6)
                downtime[accel].append(result["downtime-ns"] / 1e3)
                guest.expect_laps(3)
                time.sleep(generator.random() * 0.005)
                start = time.monotonic()
                machine.stop()
                machine.cont()
                stop_cont.append((time.monotonic() - start) * 1e6)
                guest.expect_laps(3)
            if (number + 1) % 100 == 0:
                print(f"{2 * (number + 1)} switches", file=sys.stderr, flush=True)
    return downtime, command, stop_cont


def downtime(arguments):
    if arguments.count < 500:
        raise Failure("--count must be 500 at least, for the percentiles to mean something")
    times, command, stop_cont = measure_downtime(arguments.count)
    base = statistics.median(stop_cont)
    result = {}
    for accel, values in times.items():
        middle = percentile(values, 50)
        result[f"to_{accel}"] = {
            "p50_us": round(middle, 1),
            "p99_us": round(percentile(values, 99), 1),
            "ratio_to_stop_cont": round(middle / base, 3),
        }
    extra = {"stop_cont": stop_cont, "command_to_tcg": command["tcg"],
             "command_to_kvm": command["kvm"]}
    for name, values in extra.items():
        result[name] = {"p50_us": round(percentile(values, 50), 1),
                        "p99_us": round(percentile(values, 99), 1)}
    print(f"{'':16}{'p50':>12}{'p99':>12}{'p50 / stop+cont':>18}")
    for name, label in (("to_tcg", "switch to TCG"), ("to_kvm", "switch to KVM"),
                        ("stop_cont", "stop + cont")):
        row = result[name]
        print(f"{label:16}{row['p50_us']:9.0f} us{row['p99_us']:9.0f} us"
              f"{row['p50_us'] / base:18.2f}")
    print(f"Switches: downtime, {arguments.count} in each direction (command to answer: "
          f"{result['command_to_tcg']['p50_us']:.0f} and "
          f"{result['command_to_kvm']['p50_us']:.0f} us).")
    print("stop + cont: from the first command to the second's answer, between the switches.")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=2)
            file.write("\n")


def main(argv):
    parser = argparse.ArgumentParser(prog="./vas bench", description="Measure.")
    commands = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    command = commands.add_parser("downtime", help="how long the guest stands still",
                                  description=__doc__)
    command.add_argument("--count", type=paths.positive, default=500, metavar="N",
                         help="switches in each direction (500)")
    command.add_argument("--json", metavar="FILE", type=paths.output_file,
                         help="write the numbers to FILE")
    command.set_defaults(function=downtime)
    arguments = parser.parse_args(argv)
    paths.clear(arguments.json)
    try:
        check.build_outer()
        need_kvm()
        arguments.function(arguments)
    except Skip as reason:
        sys.exit(f"bench: {reason}")
    except (Failure, MachineError, QMPError, HostError, check.CheckError, OSError) as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit("bench: interrupted")


if __name__ == "__main__":
    main(sys.argv[1:])
