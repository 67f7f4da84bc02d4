# SPDX-License-Identifier: GPL-2.0-or-later
"""
./vas soak: switch a guest that checks itself, thousands of times, with its verdict after each
switch.  The tests of the local tier are made of the same function.
"""

import argparse
import contextlib
import json
import random
import statistics
import sys
import time

from vas import check, debs, image, kvmprobe, paths, soakdebian, soakreport
from vas.host import HostError, LocalHost
from vas.machine import MachineError, QMPError
from vas.rig import Rig, RigHost, end_in_order
from vas.rigtree import RigError
from vas.testing import Failure, Payload, Skip, expect_equal, need_kvm

SEED = 20


def report(machine):
    """Print how many switches there were, and their downtimes."""
    for target in ("tcg", "kvm"):
        times = soakreport.downtimes(machine.switches, target)
        if times:
            print(f"to {target}: {len(times)} switches, downtime median "
                  f"{statistics.median(times):.0f} us, longest {max(times):.0f} us")


def soak(payload, count, initial="kvm", laps=3, arguments=(), binary="x86_64", seed=SEED,
         options="", quiet=60, host=None, jitter=False, trips=0):
    """
    Switch @count times, to and fro; after each the payload does @laps laps without an error, within
    @quiet seconds.  @options: more of -accel switch's.  @host: where, if not on this machine.
    @jitter: wait for a random time before every switch, not before every fourth only.  @trips: make
    a round trip before each so many switches.  Returns the switches, and the process's memory in KiB at the beginning and at the end.
    """
    generator = random.Random(seed)
    with Payload(payload, f"switch,initial={initial}{options}", arguments=arguments, binary=binary,
                 host=host, name=f"soak-{payload}", deadline=count * 0.2 + 300) as guest:
        machine = guest.machine
        guest.expect_laps(laps)
        accel = initial
        begin = None
        for number in range(1, count + 1):
            if jitter:
                time.sleep(generator.random() * 0.005)
            if trips and number % trips == 0:
                machine.qmp("x-accel-roundtrip")
            accel = "tcg" if accel == "kvm" else "kvm"
            result = machine.switch(accel)
            expect_equal("switch to", accel, result["to"])
            guest.expect_laps(laps, quiet)
            # The laps end at the same point of the payload's work: don't always switch there.
            if number % 4 == 0:
                time.sleep(generator.random() * 0.01)
            # The first switches make TCG's buffers.
            if number == max(2, count // 20):
                begin = machine.memory_kib()
            if number % max(500, count // 20 // 500 * 500) == 0:
                print(f"{number} switches", flush=True)
        expect_equal("active accelerator", accel, machine.accel())
        expect_equal("switches counted", count, machine.qmp("query-accel")["switches"])
        end = machine.memory_kib()
        memory = (begin or end, end)
        print(soakreport.text(soakreport.summary(machine.switches, memory)))
        return machine.switches, memory


def soak_payload(arguments):
    """On this machine's KVM."""
    need_kvm()
    print(f"{arguments.switches} switches, about {arguments.switches // 150 + 1} s")
    switches, memory = soak(arguments.payload, arguments.switches, seed=arguments.seed,
                            arguments=["-smp", str(arguments.smp)])
    return switches, soakreport.summary(switches, memory, payload=arguments.payload,
                                        smp=arguments.smp, seed=arguments.seed, verdict="pass")


def soak_debian(arguments):
    """On this machine's KVM if it runs 32-bit guests, else in the rig."""
    disk = soakdebian.disk()
    usable, why = kvmprobe.probe()
    with contextlib.ExitStack() as stack:
        if usable and not arguments.rig:
            host = stack.enter_context(LocalHost())
        else:
            print(f"in the rig, since {'--rig says so' if usable else why}", flush=True)
            host = RigHost(stack.enter_context(
                Rig(disks=[disk], deadline=arguments.switches * 3 + 1200)))
        switches, memory, verdict, control = soakdebian.soak_debian(
            host, arguments.switches, arguments.smp, arguments.seed,
            lambda text: print(text, flush=True))
    result = soakreport.summary(switches, memory, payload="debian", smp=arguments.smp,
                                seed=arguments.seed, host=host.name, **verdict)
    print(soakreport.text(result))
    print(f"the load says: {verdict['verdict']}, {verdict['checks']} checks")
    if control:
        print(f"the guest under TCG alone says: {control['verdict']}, {control['checks']} checks")
        result["control"] = control
    return switches, result


def main(argv):
    parser = argparse.ArgumentParser(
        prog="./vas soak", description="Switch a guest that checks itself, thousands of times: a "
        "bare-metal payload, or Debian i386 under its load (in the rig, where this machine's KVM "
        "can't run it).  With more than one vCPU, Debian runs beside it under TCG alone, too.")
    parser.add_argument("--payload", choices=["soak64", "soak16", "idle16", "debian"],
                        default="soak64", help="see docs/testing.rst (soak64)")
    parser.add_argument("--switches", type=int, default=10000, metavar="N")
    parser.add_argument("--smp", type=int, default=1, metavar="M", help="vCPUs (1)")
    parser.add_argument("--seed", type=int, default=SEED, metavar="S",
                        help="of the random delays between switches")
    parser.add_argument("--rig", action="store_true",
                        help="debian: in the rig, even if this machine's KVM would do")
    parser.add_argument("--json", metavar="FILE", type=paths.output_file,
                        help="write the figures to FILE")
    parser.add_argument("--svg", metavar="FILE", type=paths.output_file,
                        help="draw the downtimes into FILE")
    arguments = parser.parse_args(argv)
    end_in_order()
    try:
        check.build_outer()
        run = soak_debian if arguments.payload == "debian" else soak_payload
        switches, result = run(arguments)
        for name, content in ((arguments.json, json.dumps(result, indent=2) + "\n"),
                              (arguments.svg, soakreport.svg(switches))):
            if name:
                with open(name, "w", encoding="utf-8") as file:
                    file.write(content)
    except Skip as reason:
        sys.exit(f"soak: {reason}")
    except (Failure, MachineError, QMPError, HostError, check.CheckError, debs.DebError,
            image.ImageError, RigError, OSError) as error:
        sys.exit(f"soak: {error}")
    if result["verdict"] != "pass":
        sys.exit("soak: the guest has found faults: " + "; ".join(result["complaints"][:5]))


if __name__ == "__main__":
    main(sys.argv[1:])
