# SPDX-License-Identifier: GPL-2.0-or-later
"""
QEMU as a package has it, without -Daccel_switch_selftest: it switches, and knows nothing of what only
tests ask for; ./vas install and ./vas deb.
"""

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
import textwrap

from vas import debs, paths
from vas.check import CheckError, build_targets
from vas.machine import QMPError
from vas.patience import patiently
from vas.testing import Failure, Payload, Skip, expect_equal, main, need_kvm, run_command

PACKAGE = os.path.join(paths.BUILD, "qemu-package")
# QEMU has trace events of all of QMP's commands: x_accel_roundtrip is not among these.
LEFT_OUT = ("x-omit", "x-fail-ioctls", "x-slow", "x-wait", "x-accel-roundtrip")


def build():
    # As ./vas build takes it, whose folders and log ./configure writes.
    with open(os.path.join(paths.BUILD, "lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        configure_and_build()


def configure_and_build():
    subprocess.run([os.path.join(paths.TOP, "configure"), "--package"], check=True)
    try:
        build_targets(PACKAGE, ["qemu-system-i386", "qemu-system-x86_64"], "building QEMU")
    except CheckError as error:
        raise Failure(str(error)) from error
    paths.QEMU = PACKAGE


def names_in_program():
    """Those of LEFT_OUT that the program has."""
    with open(paths.qemu("x86_64"), "rb") as file:
        program = file.read()
    if b"on-kvm-error" not in program:
        raise Failure("the program has no -accel switch")
    return [name for name in LEFT_OUT if name.encode() in program]


def without_selftest():
    # The control: they can be seen in a program that has them.
    expect_equal("names in the usual program", list(LEFT_OUT), names_in_program())
    build()
    expect_equal("names in the package's program", [], names_in_program())
    need_kvm()
    with Payload("soak64", "switch", name="package") as guest:
        machine = guest.machine
        try:
            machine.qmp("x-accel-roundtrip")
        except QMPError as error:
            print(f"x-accel-roundtrip: {error}")
        else:
            raise Failure("there is x-accel-roundtrip")
        said = machine.hmp("x_accel_roundtrip")
        if "unknown command" not in said:
            raise Failure(f"HMP's x_accel_roundtrip says {said!r}")
        for number in range(20):
            guest.expect_laps(3)
            machine.switch("kvm" if number % 2 else "tcg")
        expect_equal("switches", 20, machine.qmp("query-accel")["switches"])


def files_below(folder):
    return sorted(os.path.relpath(os.path.join(where, name), folder)
                  for where, _, names in os.walk(folder) for name in names)


def completed(program, word, previous):
    """What bash's completion of @program offers for @word after @previous."""
    share = os.path.join(os.path.dirname(program), "../share/bash-completion/completions")
    script = (f". {share}/{os.path.basename(program)}; _qemu_vas {program} '{word}' '{previous}';"
              " printf '%s\\n' \"${COMPREPLY[@]}\"")
    return subprocess.run(["bash", "-c", script], check=True, capture_output=True,
                          text=True).stdout.split()


def expect_switches(program):
    """The installed @program switches its own firmware, if there is a KVM."""
    need_kvm()
    said = subprocess.run([program, "-accel", "switch", "-display", "none", "-monitor", "stdio", "-m", "64"],
                          input="switch_accel tcg\nswitch_accel kvm\nquit\n", text=True, check=True,
                          capture_output=True, timeout=patiently(60)).stdout
    for way in ("kvm -> tcg: downtime", "tcg -> kvm: downtime"):
        expect_equal(f"'{way}'", True, way in said)


def install():
    """./vas install puts programs there that switch, and takes all away again."""
    build()
    with tempfile.TemporaryDirectory() as folder:
        prefix = os.path.join(folder, "a prefix")
        os.mkdir(prefix)
        mine = os.path.join(prefix, "bin/mine")
        os.makedirs(os.path.dirname(mine))
        with open(mine, "w", encoding="utf-8"):
            pass
        said = run_command("install", "--no-build", "--prefix", prefix)
        program = os.path.join(prefix, "bin/qemu-vas-x86_64")
        expect_equal("its word", True, f"{program}" in said)
        expect_equal("-accel sw", ["switch", "switch,initial=kvm", "switch,initial=tcg"],
                     completed(program.replace(" ", "\\ "), "sw", "-accel"))
        expect_equal("-device isa-acc", ["isa-accel-switch"],
                     completed(program.replace(" ", "\\ "), "isa-acc", "-device"))
        expect_switches(program)
        said = run_command("install", "--remove", "--prefix", prefix)
        expect_equal("what is left", ["bin/mine"], files_below(prefix))
        expect_equal("its word", True, "files removed" in said)
        said = run_command("install", "--remove", "--prefix", prefix)
        expect_equal("the second time", True, "nothing of qemu-vas" in said)
    expect_equal("an unwritable prefix", True, "vas install: " in
                 run_command("install", "--no-build", "--prefix", "/proc/none", status=1, errors=True))


def codename():
    with open("/etc/os-release", encoding="utf-8") as file:
        return dict(line.rstrip().split("=", 1) for line in file if "=" in line)["VERSION_CODENAME"]


def deb():
    """The package is made, lintian finds no fault, and a minimal Debian installs it, runs it and removes it."""
    for tool, package in (("dh", "debhelper"), ("lintian", "lintian"), ("mmdebstrap", "mmdebstrap")):
        if not shutil.which(tool):
            raise Skip(f"{package} is not installed (scripts/packages/deb.list)")
    if os.geteuid():
        raise Skip("mmdebstrap needs root")
    build()
    said = run_command("deb", "--maintainer", "nobody", status=2, errors=True)
    expect_equal("no address", True, "--maintainer 'NAME <MAIL>'" in said)
    with tempfile.TemporaryDirectory() as folder:
        path = run_command("deb", "--maintainer", "qemu-vas packagers <packages@qemu-vas.org>", "--output",
                           folder, timeout=600).split()[-1]
        hook = os.path.join(paths.TOP, "tests/local/package-chroot.sh")
        done = subprocess.run(["mmdebstrap", "--mode=root", "--variant=minbase", "--format=null",
                               "--aptopt=APT::Install-Recommends false",
                               f"--customize-hook={hook} \"$1\" {path}", codename(), "-",
                               debs.sources_line("amd64", codename())],
                              check=False, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=patiently(600))
        print(done.stdout)
        expect_equal("mmdebstrap's status", 0, done.returncode)
        expect_equal("it has run", True, "QEMU emulator version" in done.stdout)
        expect_equal("what is left", True, "left: none" in done.stdout)


def domain_of_docs():
    """The domain that docs/libvirt.rst has."""
    with open(os.path.join(paths.TOP, "docs/libvirt.rst"), encoding="utf-8") as file:
        return textwrap.dedent(re.search(r"(?s)\n    <domain.*?</domain>\n", file.read()).group(0))


def libvirt():
    """A domain of libvirt is switched, tells of it, is saved in TCG and restored."""
    need_kvm()
    for tool, package in (("libvirtd", "libvirt-daemon"), ("virsh", "libvirt-clients")):
        if not shutil.which(tool):
            raise Skip(f"{package} is not installed (scripts/packages/libvirt.list)")
    if os.geteuid():
        raise Skip("libvirt's system daemon needs root")
    build()
    with tempfile.TemporaryDirectory() as folder:
        # libvirt's user is to get there.
        os.chmod(folder, 0o755)
        run_command("install", "--no-build", "--prefix", f"{folder}/prefix")
        with open(f"{folder}/vas.xml", "w", encoding="utf-8") as file:
            file.write(domain_of_docs().replace("/usr/local", f"{folder}/prefix"))
        script = os.path.join(paths.TOP, "tests/local/libvirt.sh")
        done = subprocess.run(["unshare", "--mount", "--propagation", "private", script, f"{folder}/vas.xml",
                               folder], check=False, text=True, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=patiently(280))
        print(done.stdout)
        expect_equal("status", 0, done.returncode)
        for said in ("user: libvirt-qemu", "kvm -> tcg: downtime", '"to":"kvm"', "event ACCEL_SWITCHED",
                     "restored from", "-sandbox on", "all done"):
            expect_equal(f"'{said}' in what it says", True, said in done.stdout)
        # Not every KVM goes on from the TSC of a stream.
        expect_equal("restored to", True, "active: kvm" in done.stdout or "the guest stays in tcg" in done.stdout)


main({"without-selftest": without_selftest, "install": install, "deb": deb, "libvirt": libvirt})
