# SPDX-License-Identifier: GPL-2.0-or-later
"""
./vas check: build what the tests need, run them with "meson test", say what came out.

The last line is always "N passed, N failed, N skipped".
"""

import argparse
import json
import os
import re
import subprocess
import sys

from vas import debs, image, paths, registry, rigbochs, rigtree

# How much longer each test may take with --long.
LONG_TIMES = 5
# How many are named at the end of a run.
SLOWEST = 10

# Of those tests that may run at the same time, each may have a rig: its memory, in bytes.
RIG_MEMORY = 3 << 30

# Which share of all that it wanted to judge a run may leave unjudged, by the kind of excuse
# (vas.testing.excuse()): beyond it, what is green proves too little.
BUDGETS = {
    "late": 0.75,       # series of a timer's ticks, when the host ran its own timers late
    "awake": 0.1,       # HLTs that a KVM without hardware has ended
    "again": 0.7,       # attempts that came to nothing, and were made again
    "refused": 0.9,     # states that a KVM without hardware does not hold
}
# A budget counts from so many things to judge on: a run of a few tests has no share.
LEAST_TO_JUDGE = 20
EXCUSE = re.compile(r"(?m)^EXCUSE: (\w+) (\d+) of (\d+): ")

TIERS = ["unit", "qtest", "local", "rig", "intel"]
TAIL = 25


# What --sanitize runs the tests with.  QEMU ends with memory that it has not freed; memory that is
# kept to find its use after free must not look like growth in a soak (soakreport.GROWTH_KIB).
SANITIZED = {
    "VAS_QEMU": os.path.join(paths.BUILD, "qemu-sanitize"),
    "VAS_RIG_QEMU": os.path.join(paths.BUILD, "qemu"),
    "ASAN_OPTIONS": "detect_leaks=0:halt_on_error=1:abort_on_error=1:quarantine_size_mb=16",
    "UBSAN_OPTIONS": "halt_on_error=1:abort_on_error=1:print_stacktrace=1",
    "VAS_PATIENCE": "4",
}


class CheckError(Exception):
    """One sentence that says why the tests could not be run."""


def _meson_environment():
    """Where a meson of our own is in the build folder, it's used."""
    environment = dict(os.environ)
    environment.pop("PYTHONPATH", None)
    own = os.path.join(paths.BUILD, "meson/usr/lib/python3/dist-packages")
    if os.path.isdir(own):
        environment["PYTHONPATH"] = own
    return environment


def _run(command, what, environment=None):
    result = subprocess.run(command, check=False, env=environment)
    if result.returncode:
        raise CheckError(f"{what} failed: its messages are above")


def _run_quietly(command, what, environment):
    """For what takes a second or two: its messages are of interest only if it fails."""
    result = subprocess.run(command, check=False, env=environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if result.returncode:
        sys.stderr.write(result.stdout)
        raise CheckError(f"{what} failed: its messages are above")


def _meson(*arguments):
    return ["/usr/bin/python3", "-m", "mesonbuild.mesonmain", *arguments]


def build_targets(folder, targets, what):
    """Build the @targets in QEMU's build folder @folder, with ccache's hits shared among clones."""
    _run(["ninja", "-C", folder, *targets], what,
         dict(os.environ, CCACHE_BASEDIR=paths.TOP, CCACHE_NOHASHDIR="1"))


def build_outer():
    """Configure and build the outer project, whose products are the payloads."""
    environment = _meson_environment()
    if not os.path.exists(os.path.join(paths.OUTER, "build.ninja")):
        _run_quietly(_meson("setup", paths.OUTER, paths.TOP),
                     "configuring the outer project in build/outer", environment)
    _run_quietly(["ninja", "-C", paths.OUTER], "building the tests' payloads", environment)


def prepare_rigs(tiers):
    """
    What the tests in the rigs of these @tiers boot is made before their time runs.  Where it can't
    be made, the tests that need it fail and say so.
    """
    try:
        if "rig" in tiers:
            rigtree.kernel()
        if "intel" in tiers:
            rigbochs.prepare()
        image.image_path()
    except (debs.DebError, image.ImageError, rigtree.RigError) as error:
        print(f"check: {error}", file=sys.stderr)


def rig_tiers(arguments):
    """Those of the tiers with a rig of which there are tests to run."""
    return [tier for tier in ("rig", "intel")
            if (not arguments.tier or tier in arguments.tier)
            and (not arguments.name or any(f"{tier}-" in name for name in arguments.name))]


def _at_once():
    """How many tests may run at the same time: one for each CPU, but memory must be there for all."""
    with open("/proc/meminfo", encoding="ascii") as file:
        available = int(re.search(r"MemAvailable: *(\d+) kB", file.read()).group(1)) << 10
    return max(1, min(len(os.sched_getaffinity(0)), available // RIG_MEMORY))


def results():
    """The entries of meson's log, each with a list of skipped subtests in "skipped"."""
    with open(os.path.join(paths.OUTER, "meson-logs/testlog.json"), encoding="utf-8") as file:
        entries = [json.loads(line) for line in file if line.strip()]
    for entry in entries:
        entry["output"] = entry.get("stdout", "") + entry.get("stderr", "")
        entry["subtests"] = [
            (match.group(1), match.group(2))
            for match in re.finditer(r"(?m)^ok \d+ (\S+) # SKIP *(.*)$", entry.get("stdout", ""))]
    return entries


def _name(entry):
    return entry["name"].split(" / ")[-1].split(":")[-1]


def _why(output):
    """The sentence of a test's @output that says what failed, or its last line."""
    lines = output.splitlines() or ["no output"]
    return ([line for line in lines if line.startswith("FAIL: ")] or lines)[-1]


def print_slowest(entries):
    """Where the time went, and how long all would have taken one after the other."""
    print(f"the {SLOWEST} slowest of {len(entries)} tests, which took "
          f"{sum(e['duration'] for e in entries) / 60:.1f} min in all:")
    for entry in sorted(entries, key=lambda e: e["duration"], reverse=True)[:SLOWEST]:
        print(f"  {entry['duration']:5.0f} s  {_name(entry)}")


def excuses(entries):
    """Print what the tests could not judge, added up; returns those of BUDGETS that are exceeded."""
    sums = {}
    for entry in entries:
        for kind, count, total in EXCUSE.findall(entry["output"]):
            sums[kind] = [sums.get(kind, [0, 0])[0] + int(count),
                          sums.get(kind, [0, 0])[1] + int(total)]
    beyond = []
    for kind, (count, total) in sorted(sums.items()):
        if count:
            print(f"EXCUSED {kind}: {count} of {total} (budget: {BUDGETS[kind]:.0%})")
        if total >= LEAST_TO_JUDGE and count > BUDGETS[kind] * total:
            beyond.append(kind)
    return beyond


def summarize(entries):
    """Print what came out; returns whether nothing failed."""
    passed = [e for e in entries if e["result"] in ("OK", "EXPECTEDFAIL")]
    skipped = [e for e in entries if e["result"] == "SKIP"]
    failed = [e for e in entries if e not in passed and e not in skipped]
    # First what matters, whoever keeps a part of the output alone.
    for entry in failed:
        print(f"FAILED {_name(entry)} ({entry['result'].lower()}, "
              f"{entry['duration']:.0f} s): {_why(entry['output'])}")
    for entry in failed:
        print(f"\n{_name(entry)}:")
        for line in entry["output"].splitlines()[-TAIL:]:
            print("    " + line)
    lines = []
    for entry in skipped:
        reason = re.search(r"(?m)^SKIP: (.*)$|# SKIP *(.*)$", entry["output"])
        lines.append((_name(entry), reason and (reason.group(1) or reason.group(2))))
    for entry in passed:
        lines += [(f"{_name(entry)} {name}", reason) for name, reason in entry["subtests"]]
    print()
    for name, reason in lines:
        print(f"SKIPPED {name}: {reason or 'no reason given, which counts as failed'}")
    failed += [name for name, reason in lines if not reason]
    for kind in excuses(entries):
        print(f"FAILED: more is excused as {kind} than its budget: the run proves too little;"
              " run it on an idle host (scripts/vas/check.py, BUDGETS)")
        failed.append(kind)
    lines = [line for line in lines if line[1]]
    if len(entries) > SLOWEST:
        print_slowest(entries)
    print(f"{len(passed)} passed, {len(failed)} failed, {len(lines)} skipped")
    return not failed


def list_tests(tiers):
    """Print the tests of @tiers, each with what it proves."""
    rows = [(test.tier, test.name, test.proves) for test in registry.tests()]
    rows += [("local", f"ways-{payload.name}", payload.proves) for payload in registry.in_four_ways()]
    for tier in tiers:
        for _, name, proves in (row for row in rows if row[0] == tier):
            print(f"{tier:5}  {name:32}  {proves}")


def main(argv):
    parser = argparse.ArgumentParser(
        prog="./vas check", description="Build and run the tests.",
        epilog="Full logs are in build/outer/meson-logs and build/logs.")
    parser.add_argument("--tier", action="append", choices=TIERS,
                        help="only this tier; may be given more than once")
    parser.add_argument("--long", action="store_true",
                        help="also run the long tests, and raise the counts of the others")
    parser.add_argument("--sanitize", action="store_true",
                        help="run a QEMU built with ASan and UBSan, without the rigs' tests; with "
                        "--tier rig or --tier intel run those, too, which takes hours")
    parser.add_argument("--list", action="store_true", help="list the tests with what each proves; run none")
    parser.add_argument("name", nargs="*", help="only these tests")
    arguments = parser.parse_args(argv)
    if arguments.list:
        list_tests(arguments.tier or TIERS)
        return
    try:
        build_targets(SANITIZED["VAS_QEMU"] if arguments.sanitize else paths.QEMU,
                      registry.qemu_targets(), "building QEMU's tests")
        build_outer()
        if rig_tiers(arguments):
            prepare_rigs(rig_tiers(arguments))
    except CheckError as error:
        sys.exit(f"check: {error}")
    command = _meson("test", "-C", paths.OUTER, "--no-rebuild",
                     "--num-processes", str(_at_once()))
    for tier in arguments.tier or []:
        command += ["--suite", tier]
    if arguments.long:
        command += ["--timeout-multiplier", str(LONG_TIMES)]
    elif not arguments.name:
        command += ["--no-suite", "long"]
    environment = dict(_meson_environment(), VAS_LONG="1" if arguments.long else "0")
    if arguments.sanitize:
        environment.update(SANITIZED)
        command += ["--timeout-multiplier", "8"]
        if not arguments.tier and not arguments.name:
            command += ["--no-suite", "rig", "--no-suite", "intel"]
    log = os.path.join(paths.OUTER, "meson-logs/testlog.json")
    if os.path.exists(log):
        os.unlink(log)
    try:
        result = subprocess.run(command + arguments.name, check=False, env=environment)
    except KeyboardInterrupt:
        sys.exit("check: interrupted")
    if not os.path.exists(log):
        sys.exit("check: no test ran: is there one of that name? (./vas check --list)")
    good = summarize(results())
    sys.exit(0 if good and result.returncode == 0 else 1)


if __name__ == "__main__":
    main(sys.argv[1:])
