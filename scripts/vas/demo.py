# SPDX-License-Identifier: GPL-2.0-or-later
"""./vas demo: a Debian under load goes from KVM to TCG and back, again and again."""

import argparse
import sys
import time

from vas import image, paths
from vas.debian import Guest, disk_arguments, verdict_lines
from vas.front import Progress, guest_host, reporting, write_json
from vas.machine import Machine

PHASES = ("quiesce", "export", "convert", "import", "resume")


def arguments(host, smp):
    return ["-accel", "switch,initial=kvm", "-smp", str(smp), "-m", "256", "-nic", "none",
            *disk_arguments(host)]


def windows(guest, pairs, in_rig, say):
    """Switch there and back @pairs times while the load runs."""
    machine = guest.machine
    for number in range(1, pairs + 1):
        machine.switch("tcg", timeout=120)
        if in_rig:
            # TCG inside TCG: a report of the load may be a minute away.
            time.sleep(1)
        else:
            guest.wait_round()
        machine.switch("kvm", timeout=120)
        rounds, checks = guest.wait_round(120)
        say(f"{2 * number} switches done, the load is in round {rounds} with {checks} checks")


def run(host, smp, pairs, say):
    """Returns what --json writes."""
    in_rig = host.name == "rig"
    with Machine(arguments(host, smp), binary="i386", host=host, name="demo",
                 deadline=900) as machine:
        guest = Guest(machine)
        guest.skip_menu()
        say("GRUB's menu is there; booting Debian i386 under KVM" +
            (" (about 40 seconds in the rig)" if in_rig else ""))
        guest.wait_phase("login", 120)
        guest.login()
        say("logged in on the serial console")
        guest.start_load("--light" if in_rig else "")
        guest.wait_round()
        say(f"the self-checking load runs; now {2 * pairs} switches")
        windows(guest, pairs, in_rig, say)
        found = guest.judge()
        say("shutting the guest down")
        guest.poweroff()
        return {
            "host": "rig" if in_rig else "kvm",
            "switches": [report(s) for s in machine.switches],
            "guest": found,
        }


def report(switch):
    """One switch as --json has it."""
    return {"from": switch["from"], "to": switch["to"],
            "downtime_ns": switch["downtime-ns"],
            "phases": {name.replace("-", "_"): value
                       for name, value in switch["phases"].items()}}


def table(result):
    """The result for a person."""
    head = f"{'switch':>6}  {'direction':<10}  {'downtime':>9}" + \
        "".join(f"  {p:>8}" for p in PHASES) + "   (ms)"
    lines = [head, "-" * len(head)]
    for number, switch in enumerate(result["switches"], 1):
        phases = switch["phases"]
        lines.append(
            f"{number:>6}  {switch['from'] + ' → ' + switch['to']:<10}  "
            f"{switch['downtime_ns'] / 1e6:>9.3f}" +
            "".join(f"  {phases.get(p + '_ns', 0) / 1e6:>8.3f}" for p in PHASES))
    lines += ["", *verdict_lines(result["guest"])]
    if result["host"] == "rig":
        lines.append("(These times are an emulated host's: hardware is faster by far.)")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(
        prog="vas demo", description="Boot Debian i386 under KVM, start work in it that checks "
        "itself, switch KVM→TCG→KVM while it runs, shut down, and print each switch.")
    parser.add_argument("--json", metavar="FILE", type=paths.output_file,
                        help="write the result there, too")
    parser.add_argument("--smp", type=paths.positive, default=1, metavar="N", help="the guest's CPUs (1)")
    parser.add_argument("--pairs", type=paths.positive, default=10, metavar="N",
                        help="how often there and back (10)")
    parser.add_argument("--rig", action="store_true",
                        help="in the rig, even if this machine's KVM would do")
    args = parser.parse_args()
    paths.clear(args.json)
    say = Progress("demo")
    with reporting("demo"):
        disk = str(image.image_path())
        with guest_host(say, args.rig, disks=[disk]) as host:
            result = run(host, args.smp, args.pairs, say)
    print(table(result))
    write_json(args.json, result)
    if result["guest"]["verdict"] != "pass":
        sys.exit("vas demo: the guest's load found faults")


if __name__ == "__main__":
    main()
