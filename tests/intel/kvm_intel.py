#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
The bare-metal payloads under a real kvm-intel, or kvm-amd, in Bochs, switched: many of them in one
rig, as its boot takes longer than most.  A step that fails is no reason to leave the others out.
"""

import argparse
import os
import time

from lib import comparing, debugging, hostile, streams, traces, windows
from lib.faults import faults
from lib.rigtest import a_host, say, seconds
from lib.screen import screen
from lib.served import served
from lib.ways import all_ways, four_ways
from rig import payloads
from vas import oracle
from vas.rig import RigError, kind
from vas.soak import FAILURES, soak
from vas.testing import (LONG, Failure, Payload, Skip, expect_equal, run_test,
                         switch_must_wait)

# Payloads that run only if --only names them.  control64 and xsavec64 need protection keys, xsavec64
# XSAVES, and serialize64 SERIALIZE.  A Haswell has none of them.  On newer processors Bochs does not apply the keys at CPL0 (SDM vol. 3A,
# 4.6.2): control64 fails under KVM alone, too.
NOT_HERE = ("control64", "xsavec64", "serialize64")
# Those that are not run with an AMD processor in Bochs.  The payloads fail under KVM alone: Bochs stops
# ("3rd exception with no resolution"), or lets no second vCPU into long mode, as it has a 16-bit TSS
# after its INIT in kvm-amd.  Bochs keeps 32 bits of SFMASK at a VM exit, where hostile64 writes 64.  With
# NPT the processor holds no PDPTEs; IA32_FEATURE_CONTROL is Intel's.
NOT_ON_AMD = ("debug32", "events64", "smi64", "smp64", "modify64", "tscorder64", "hostile-registers",
              "hostile-refusals", "pdptes", "hostile-feature-control")
# Those that are run by ./vas check --long alone: nothing of theirs is Intel's.
LONG_WAYS = ("ticks64", "dma64", "shadow64", "modify64", "spans64", "fpu64")
# CPU models of either vendor's naming.  QEMU shows the host's vendor unless vendor= is given.
MODELS = ("Nehalem", "SandyBridge", "Haswell-noTSX", "Opteron_G3", "EPYC",
          "Haswell-noTSX,vendor=GenuineIntel", "EPYC,vendor=AuthenticAMD", "max", "host")


def four(name):
    return lambda host: four_ways(all_ways()[name], host)


def soaked(payload, switches, binary="x86_64"):
    """Switches with a round trip before every fourth."""
    return lambda host: soak(payload, switches * (10 if LONG else 1), host=host, trips=4,
                             binary=binary)


def models(host):
    """A guest with each CPU model is switched, and has found nothing wrong."""
    for model in MODELS:
        say(f"-cpu {model}")
        soak("soak64", 8, host=host, trips=2, arguments=["-cpu", model])


def pdptes(host):
    """
    With EPT the processor holds the page directory pointers in the VMCS: what the guest has changed
    in memory and not loaded is not to take effect at a switch.
    """
    with Payload("told32", "switch,initial=kvm", host=host, binary="i386",
                 name="intel-pdptes") as guest:
        guest.expect_laps(3)
        switch_must_wait(guest, "tcg", "p", "l", "page directory pointers")


def all_streams(host):
    """Streams and snapshots, in the short tests by two kinds, one of them with pages that are still written."""
    if LONG:
        streams.in_a_rig(host, rounds=10)
    else:
        streams.in_a_rig(host, ["precopy", "mapped-ram"], [all_ways()["events64"]])


WAYS = {name: four(name) for name in all_ways()}
OTHERS = {
    # Its ioctls take 200 s with the four values that it gives a field elsewhere.
    "oracle": lambda host: oracle.expect_right(host, tries=4 if LONG else 1),
    "soak64": soaked("soak64", 200),
    "soak16": soaked("soak16", 40),
    "idle16": soaked("idle16", 80),
    "pae32": soaked("pae32", 80, "i386"),
    "cross32": soaked("cross32", 20),
    "models": models,
    "pdptes": pdptes,
    "served": served,
    "smm": payloads.smm,
    "on-kvm-error": payloads.on_kvm_error,
    "on-kvm-error-waits": payloads.on_kvm_error_waits,
    "screen": screen,
    "faults": lambda host: faults("pae32", binary="i386", host=host, turns=1),
    "hostile-registers": lambda host: hostile.registers(host, xsave=True),
    "hostile-refusals": hostile.refusals,
    "hostile-fuzz": lambda host: hostile.fuzz(steps=200 if LONG else 20, host=host, xsave=True),
    "hostile-fuzz-refusals": lambda host: hostile.fuzz_refusals(steps=200 if LONG else 20,
                                                                host=host),
    "hostile-from-kvm": hostile.from_kvm,
    "hostile-without-tcg": hostile.without_tcg,
    "hostile-reset": hostile.reset_ends_it,
    "hostile-debugger": hostile.debugger,
    "hostile-feature-control": hostile.feature_control,
}
WINDOWS = {"windows": windows.all_of_them, "debugging": debugging.all_of_them}
TRACES = {"traces": lambda host: traces.all_of_them(host, ["modes32", "modes64"]),
          "compare": lambda host: comparing.all_of_them(
              host, ["modes16", "modes32", "modes64", "paging32", "fpu64", "xsave64"])}
STREAMS = {"streams": all_streams}
STEPS = WAYS | OTHERS | WINDOWS | TRACES | STREAMS
GROUPS = {"ways": WAYS, "others": OTHERS, "windows": WINDOWS, "traces": TRACES,
          "streams": STREAMS}


def group(name):
    """The steps of that group, but for what has a reason not to be run."""
    left_out = NOT_HERE + (() if LONG else LONG_WAYS)
    if kind().cpu == "amd-bochs":
        left_out += NOT_ON_AMD
    return [step for step in GROUPS[name] if step not in left_out]


def names(text):
    """--only's and --but's argument: steps, or a group of them."""
    try:
        found = [name for word in text.split(",")
                 for name in (group(word) if word in GROUPS else [word])]
    except RigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    unknown = set(found) - set(STEPS)
    if unknown:
        raise argparse.ArgumentTypeError(f"no such step: {', '.join(sorted(unknown))}")
    return found


def check_parameters(host):
    """The vendor's KVM must be there, and be as $VAS_RIG_KVM says."""
    vendor = kind().vendor
    paging = {"amd": "npt=1", "intel": "ept=1"}[vendor]
    for option in (paging, *os.environ.get("VAS_RIG_KVM", "").split()):
        name, _, value = option.partition("=")
        is_now = host.read(f"/sys/module/kvm_{vendor}/parameters/{name}").strip()
        say(f"kvm_{vendor}.{name} is {is_now}")
        if option in os.environ.get("VAS_RIG_KVM", ""):
            expect_equal(name, "NY"[int(value)], is_now)


def steps(args):
    failed = []
    with a_host(False, args.deadline, smp=args.host_cpus) as host:
        check_parameters(host)
        for name in args.only:
            if name in args.but:
                continue
            start = time.monotonic()
            try:
                STEPS[name](host)
                outcome = "passed"
            except Skip as reason:
                # Whoever named a step wants it to run.
                outcome = f"FAILED: it was skipped: {reason}"
            except FAILURES as error:
                outcome = f"FAILED: {error}"
            say(f"{name}: {outcome}, {time.monotonic() - start:.0f} s")
            if outcome != "passed":
                failed.append(f"{name}: {outcome}")
    if failed:
        raise Failure(f"{len(failed)} steps failed: " + "; ".join(failed))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host-cpus", type=int, default=1, help="the rig's CPUs")
    parser.add_argument("--only", type=names, default="ways,others",
                        help="comma-separated names of steps or of their groups: " + ", ".join(GROUPS))
    parser.add_argument("--but", type=names, default=[], help="the same; not these")
    parser.add_argument("--deadline", type=seconds, default=3600)
    run_test(steps, parser.parse_args())


if __name__ == "__main__":
    main()
