# SPDX-License-Identifier: GPL-2.0-or-later
"""
./vas doctor: what this machine's KVM can do, and whether a switch works on it; a report to attach
to a bug.
"""

import argparse
import contextlib
import platform
import sys
import time

from vas import check, hostfacts, kvmprobe, oracle, paths, soakdebian, soakreport
from vas.front import Progress, reporting, write_json
from vas.host import HostError, LocalHost
from vas.machine import Machine, MachineError
from vas.qmp import QMPError, QMPLost
from vas.rig import KINDS, RigHost, boot_rig, kind
from vas.soak import soak
from vas.testing import PLAIN_KVM, Failure

FAILURES = (Failure, MachineError, QMPError, QMPLost, HostError, OSError)
SWITCHES, TRIPS = 500, 5
DEBIAN_SWITCHES = 50


class Section:
    """One part of the report: @name, @lines for a person, @data for --json, and a verdict."""

    def __init__(self, name):
        self.name, self.lines, self.data, self.problems = name, [], {}, []

    def say(self, line):
        self.lines.append(line)

    def problem(self, sentence):
        self.problems.append(sentence)


def host_facts(host, section):
    facts = hostfacts.facts(host)
    section.data.update(facts)
    section.say(f"kernel {facts['kernel']}, {facts['cpu']}, {facts['cpus']} CPUs")
    for module, parameters in sorted(facts["modules"].items()):
        shown = " ".join(f"{name}={value}" for name, value in sorted(parameters.items()))
        section.say(f"{module}: {shown}" if shown else module)
    if not any(name in facts["modules"] for name in ("kvm_intel", "kvm_amd")):
        section.say("neither kvm_intel nor kvm_amd is loaded: this KVM is another one")


def state(host, section):
    tries = "4" if host.name == "local" else "1"
    examine_answer(oracle.ask(host, ["--tries", tries]), section)


def examine_answer(answer, section):
    """What the oracle has said, as a part of the report."""
    section.data.update({"status": answer.status, "configurations": answer.rows,
                         "findings": answer.findings, "capabilities": answer.capabilities})
    if answer.unusable:
        section.problem(answer.unusable.group(1))
        return
    kept = sum(row.get("kept", 0) + row.get("other-form", 0) for row in answer.rows)
    section.say(f"{kept} legal values were kept in {len(answer.rows)} configurations")
    for sentence in answer.findings:
        section.say(sentence)
    missing = sorted(name for name, value in answer.capabilities.items() if value <= 0)
    section.say(f"capabilities that this KVM lacks: {', '.join(missing) or 'none'}")
    if answer.wrong or answer.status:
        section.problem(f"KVM does not keep {answer.wrong} legal values of a vCPU's state: a switch"
                        " is refused where a guest has them" if answer.wrong else
                        f"the oracle ended with status {answer.status}: {answer.last_line}")


def features(host, accel, cpu):
    """The names of the features that a CPU model has under an accelerator."""
    arguments = ["-accel", accel, "-M", "q35", "-nodefaults", "-S", "-cpu", "qemu64"]
    with Machine(arguments, host=host, name="doctor") as machine:
        model = machine.qmp("query-cpu-model-expansion",
                            {"type": "full", "model": {"name": cpu}})["model"]
    return {name for name, value in model["props"].items() if value is True}


def widest_cpu(host):
    """-cpu host, or max where KVM can't have it; and what plain KVM gives it."""
    for cpu in ("host", "max"):
        with contextlib.suppress(*FAILURES):
            return cpu, features(host, PLAIN_KVM, cpu)
    return None, set()


def lost_features(host, cpu, plain):
    """Those of the set @plain, which plain KVM gives the model @cpu, that -accel switch does not give it."""
    lost = plain - features(host, "switch", cpu) - {"ffxsr"}
    # Some have an alias with another sign between the words; ffxsr's is fxsr-opt.
    return sorted(name for name in lost if name.replace("_", "-") not in lost - {name})


def cpu_features(host, section):
    cpu, plain = widest_cpu(host)
    if cpu is None:
        section.problem("plain KVM runs neither -cpu host nor -cpu max")
        return
    lost = lost_features(host, cpu, plain)
    section.data.update({"cpu": cpu, "plain-kvm": sorted(plain), "lost": lost})
    section.say(f"-cpu {cpu} has {len(plain)} features under -accel kvm, and loses {len(lost)} of"
                " them under -accel switch:")
    section.say(", ".join(lost) or "none")


# What a finding, a capability that is missing or a module's parameter means for a guest.
CONSEQUENCES = (
    (lambda f: "this KVM takes a TSC offset and does not keep it" in f["findings"],
     "a guest that has set its TSC, or was loaded in TCG, can't move to KVM: KVM keeps no TSC"
     " offset"),
    (lambda f: "this KVM drops CR0's paging bit without a word" in f["findings"],
     "a guest with paging outside long mode can't move to KVM: KVM drops CR0.PG"),
    (lambda f: not f["capabilities"].get("X86_SMM"),
     "a machine with SMM does not start: this KVM has none"),
    (lambda f: not f["capabilities"].get("SREGS2"),
     "PDPTEs that a 32-bit guest has changed and not loaded take effect at a switch to TCG"),
    (lambda f: f["modules"].get("kvm_amd", {}).get("vnmi") in ("Y", "1"),
     "a switch waits while an NMI is pending: this KVM (vnmi) could not take it back"),
)


def limits(sections, section):
    """What is refused or different here; what is so everywhere, docs/usage.rst says."""
    facts = {"findings": [], "capabilities": {}, "modules": {}}
    for other in sections:
        facts.update((key, other.data[key]) for key in facts if key in other.data)
    if facts["capabilities"]:
        section.data["limits"] = [text for applies, text in CONSEQUENCES if applies(facts)]
        for text in section.data["limits"]:
            section.say(text)
    section.say("what every KVM refuses: docs/usage.rst, \"Refusals\"")


def switches(host, section):
    """A bare-metal payload that checks itself, and what a switch would be refused for."""
    record = soakreport.Record()
    count = SWITCHES if host.name == "local" else SWITCHES // 5
    try:
        soak("soak64", count, host=host, trips=TRIPS, record=record)
    except FAILURES as error:
        section.problem(f"the payload soak64, after {len(record.switches)} switches: {error}")
    section.data.update(soakreport.summary(record, payload="soak64", trips=count // TRIPS))
    for line in soakreport.text(soakreport.summary(record)).splitlines():
        section.say(line)
    section.say(f"{len(record.switches)} switches and {len(record.switches) // TRIPS} round trips"
                " of the payload soak64")


def debian(host, section, say):
    """A whole Debian i386, switched under load, where this KVM runs it."""
    record = soakreport.Record()
    if host.name == "local":
        usable, why = kvmprobe.probe()
        if not usable:
            section.data["skipped"] = why
            section.say(f"not run: {why}")
            return
    try:
        result = soakdebian.soak_debian(host, DEBIAN_SWITCHES, 1, 1, record, say)
    except FAILURES as error:
        section.problem(f"Debian i386, after {len(record.switches)} switches: {error}")
        return
    section.data.update(result)
    section.say(f"{len(record.switches)} switches under load; the guest's own verdict:"
                f" {result['verdict']}, {result['checks']} checks")
    if result["verdict"] != "pass":
        section.problem("Debian i386 has found faults: " + "; ".join(result["complaints"][:3]))


def examine(host, args, say):
    """Yields the report's sections, as they are done."""
    parts = [("host", lambda section: host_facts(host, section)),
             ("vCPU state", lambda section: state(host, section)),
             ("CPU features", lambda section: cpu_features(host, section)),
             ("switches", lambda section: switches(host, section))]
    if not args.quick:
        parts.append(("Debian i386", lambda section: debian(host, section, say)))
    sections = []
    parts.append(("limits", lambda section: limits(sections, section)))
    for name, part in parts:
        section = Section(name)
        sections.append(section)
        say(f"{name}…")
        try:
            part(section)
        except FAILURES as error:
            section.problem(str(error))
        yield section
        if name == "vCPU state" and "configurations" in section.data and \
                not section.data["configurations"]:
            return


def print_section(section):
    print(f"\n{section.name}")
    for line in section.lines:
        print(f"  {line}")
    for sentence in section.problems:
        print(f"  PROBLEM: {sentence}")
    sys.stdout.flush()


def verdict(sections):
    problems = [sentence for section in sections for sentence in section.problems]
    if not problems:
        return "pass", "A guest can be switched on this machine."
    if any("configurations" in s.data and not s.data["configurations"] for s in sections):
        return "unusable", problems[0][0].upper() + problems[0][1:] + "."
    return "fail", f"{len(problems)} problem(s): see above."


def report(args):
    start, say = time.monotonic(), Progress("doctor")
    with contextlib.ExitStack() as stack:
        if args.cpu:
            say(f"booting a host with kvm-{kind(args.cpu).vendor} in emulation")
            disks = [] if args.quick else [soakdebian.disk()]
            rig = stack.enter_context(boot_rig(cpu=args.cpu, kernel=args.kernel, disks=disks,
                                               deadline=3600))
            host = RigHost(rig)
        else:
            host = stack.enter_context(LocalHost())
        sections = []
        for section in examine(host, args, say):
            print_section(section)
            sections.append(section)
    word, sentence = verdict(sections)
    print(f"\nverdict: {word}. {sentence}")
    return {"verdict": word, "sentence": sentence,
            "seconds": round(time.monotonic() - start, 1),
            "userland": platform.freedesktop_os_release().get("PRETTY_NAME", ""),
            "sections": {s.name: {**s.data, "problems": s.problems} for s in sections}}


def main(argv):
    parser = argparse.ArgumentParser(
        prog="./vas doctor", description="Find out in about three minutes what this machine's KVM "
        "can do, prove a switch on it, and print a report to attach to a bug.  Exit status: 0 if "
        "all is well, 1 if something is wrong, 2 if KVM can't be used at all.")
    parser.add_argument("--json", metavar="FILE", type=paths.output_file,
                        help="write the whole report to FILE, too")
    parser.add_argument("--quick", action="store_true", help="without Debian i386")
    parser.add_argument("--cpu", choices=list(KINDS),
                        help="examine a kvm-amd or kvm-intel on an emulated host, see ./vas rig")
    parser.add_argument("--kernel", metavar="SUITE", help="with --cpu: that Debian suite's kernel")
    args = parser.parse_args(argv)
    if args.kernel and not args.cpu:
        parser.error("--kernel is for --cpu")
    paths.clear(args.json)
    with reporting("doctor", check.CheckError, OSError):
        check.build_outer()
        result = report(args)
        write_json(args.json, result)
    sys.exit({"pass": 0, "fail": 1, "unusable": 2}[result["verdict"]])


if __name__ == "__main__":
    main(sys.argv[1:])
