# SPDX-License-Identifier: GPL-2.0-or-later
"""
./vas soak: switch a guest that checks itself, thousands of times, with its verdict after each
switch.  The tests of the local tier are made of the same function.
"""

import argparse
import contextlib
import json
import math
import random
import statistics
import sys
import time

from vas import check, debs, image, kvmprobe, paths, soakdebian, soakreport
from vas.host import HostError, LocalHost
from vas.machine import MachineError
from vas.qmp import QMPError, QMPLost
from vas.rig import RigHost, boot_rig, end_in_order
from vas.rigtree import RigError
from vas.testing import Failure, Payload, Skip, expect_equal, need_kvm

SEED = 20
# What a guest that is lost, or has found something, ends a soak with.
FAILURES = (Failure, MachineError, QMPError, QMPLost, HostError)


def report(machine):
    """Print how many switches there were, and their downtimes."""
    for target in ("tcg", "kvm"):
        times = soakreport.downtimes(machine.switches, target)
        if times:
            print(f"to {target}: {len(times)} switches, downtime median "
                  f"{statistics.median(times):.0f} us, longest {max(times):.0f} us")


def soak(payload, count, initial="kvm", laps=3, arguments=(), binary="x86_64", seed=SEED,
         options="", quiet=60, host=None, jitter=False, trips=0, record=None):
    """
    Switch @count times, to and fro; after each the payload does @laps laps without an error, within
    @quiet seconds.  @options: more of -accel switch's.  @host: where, if not on this machine.
    @jitter: wait for a random time before every switch, not before every fourth only.  @trips: make
    a round trip before each so many switches.  @record: where to leave what was seen, which is
    printed otherwise.
    """
    printed, record = not record, record or soakreport.Record()
    generator = random.Random(seed)
    with Payload(payload, f"switch,initial={initial}{options}", arguments=arguments, binary=binary,
                 host=host, name=f"soak-{payload}", deadline=count * 0.2 + 300) as guest:
        machine = guest.machine
        record.switches = machine.switches
        guest.expect_laps(laps)
        accel = initial
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
            record.remember_memory(machine, number, count)
            if number % max(500, count // 20 // 500 * 500) == 0:
                print(f"{number} switches", flush=True)
        expect_equal("active accelerator", accel, machine.accel())
        expect_equal("switches counted", count, machine.qmp("query-accel")["switches"])
    if printed:
        print(soakreport.text(soakreport.summary(record)))
    for complaint in record.complaints():
        raise Failure(complaint)


def payload_under_tcg(payload, smp, seconds):
    """The same payload under TCG alone for so many @seconds; returns a verdict."""
    with Payload(payload, "tcg", arguments=["-smp", str(smp)], name="soak-control",
                 deadline=seconds + 600) as guest:
        end = time.monotonic() + seconds
        guest.expect_laps(3, 300)
        while time.monotonic() < end:
            guest.expect_laps(3, 300)
    return {"verdict": "pass", "complaints": []}


def under_tcg(arguments, checks, seconds):
    """What the same guest finds wrong under TCG alone is QEMU's, and no fault of a switch."""
    print("now the same guest under TCG alone", flush=True)
    try:
        if arguments.payload == "debian":
            result = soakdebian.under_tcg(arguments.smp, checks, seconds)
        else:
            result = payload_under_tcg(arguments.payload, arguments.smp, seconds)
    except FAILURES as error:
        result = {"verdict": "fail", "complaints": [str(error)]}
    except KeyboardInterrupt:
        result = {"verdict": "fail", "complaints": ["interrupted"]}
    print("it says:", "; ".join([result["verdict"], *result["complaints"]]))
    return result


def soak_payload(arguments, record):
    """On this machine's KVM."""
    print(f"{arguments.switches} switches, about {arguments.switches // 150 + 1} s", flush=True)
    soak(arguments.payload, arguments.switches, seed=arguments.seed,
         arguments=["-smp", str(arguments.smp)], record=record)
    return {"verdict": "pass", "complaints": []}


def soak_debian(arguments, record):
    """On this machine's KVM if it runs 32-bit guests, else in the rig."""
    disk = soakdebian.disk()
    usable, why = kvmprobe.probe()
    with contextlib.ExitStack() as stack:
        if usable and not arguments.rig:
            host = stack.enter_context(LocalHost())
        else:
            print(f"in the rig, since {'--rig says so' if usable else why}", flush=True)
            host = RigHost(stack.enter_context(
                boot_rig(disks=[disk], deadline=arguments.switches * 3 + 1200)))
        result = soakdebian.soak_debian(host, arguments.switches, arguments.smp, arguments.seed,
                                        record, lambda text: print(text, flush=True))
    print(f"the load says: {result['verdict']}, {result['checks']} checks")
    result["host"] = host.name
    result["complaints"] += record.complaints()
    return result


def run(arguments, record):
    """Returns the verdict, also of a guest that was lost; with more than one vCPU also TCG's."""
    started = time.monotonic()
    interrupted = False
    try:
        result = (soak_debian if arguments.payload == "debian" else soak_payload)(arguments, record)
    except FAILURES as error:
        result = {"verdict": "fail", "complaints": [str(error)]}
    except KeyboardInterrupt:
        interrupted = True
        result = {"verdict": "fail", "complaints": ["interrupted"]}
    if result["complaints"]:
        result["verdict"] = "fail"
    if arguments.smp > 1 and not interrupted:
        result["control"] = under_tcg(arguments, result.get("checks", math.inf), time.monotonic() - started)
    return result


def run_and_write(arguments):
    """Returns what --json writes."""
    record = soakreport.Record()
    verdict = run(arguments, record)
    result = soakreport.summary(record, payload=arguments.payload, smp=arguments.smp,
                                seed=arguments.seed, **verdict)
    print(soakreport.text(result) or "no switch was made")
    for name, content in ((arguments.json, json.dumps(result, indent=2) + "\n"),
                          (arguments.svg, record.switches and soakreport.svg(record.switches))):
        if name and content:
            with open(name, "w", encoding="utf-8") as file:
                file.write(content)
    return result


def main(argv):
    parser = argparse.ArgumentParser(
        prog="./vas soak", description="Switch a guest that checks itself, thousands of times: a "
        "bare-metal payload, or Debian i386 under its load (in the rig, where this machine's KVM "
        "can't run it).  With more than one vCPU the same guest runs under TCG alone afterwards.")
    parser.add_argument("--payload", choices=["soak64", "soak16", "idle16", "smp64", "debian"],
                        help="see docs/testing.rst (soak64; smp64 with --smp 2, debian with more)")
    parser.add_argument("--switches", type=paths.positive, default=10000, metavar="N")
    parser.add_argument("--smp", type=paths.positive, default=1, metavar="M", help="vCPUs (1)")
    parser.add_argument("--seed", type=int, default=SEED, metavar="S",
                        help="of the random delays between switches")
    parser.add_argument("--rig", action="store_true",
                        help="debian: in the rig, even if this machine's KVM would do")
    parser.add_argument("--json", metavar="FILE", type=paths.output_file,
                        help="write the figures to FILE")
    parser.add_argument("--svg", metavar="FILE", type=paths.output_file,
                        help="draw the downtimes into FILE")
    arguments = parser.parse_args(argv)
    # The payloads but smp64 leave all vCPUs but one waiting for their startup.
    arguments.payload = arguments.payload or {1: "soak64", 2: "smp64"}.get(arguments.smp, "debian")
    if arguments.smp != {"debian": arguments.smp, "smp64": 2}.get(arguments.payload, 1):
        parser.error(f"{arguments.payload} does not work on {arguments.smp} vCPU(s)")
    if arguments.rig and arguments.payload != "debian":
        parser.error("--rig is for --payload debian")
    paths.clear(arguments.json, arguments.svg)
    end_in_order()
    try:
        check.build_outer()
        if arguments.payload != "debian":
            need_kvm()
        result = run_and_write(arguments)
    except Skip as reason:
        sys.exit(f"soak: {reason}")
    except (*FAILURES, check.CheckError, debs.DebError, image.ImageError, RigError,
            OSError) as error:
        sys.exit(f"soak: {error}")
    except KeyboardInterrupt:
        sys.exit("soak: interrupted")
    if result["verdict"] != "pass":
        sys.exit("soak: " + "; ".join(result["complaints"][:5]))


if __name__ == "__main__":
    main(sys.argv[1:])
