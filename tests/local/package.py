# SPDX-License-Identifier: GPL-2.0-or-later
"""
QEMU as a package has it, without -Daccel_switch_selftest: it switches, and knows nothing of what only
tests ask for.
"""

import fcntl
import os
import subprocess

from vas import paths
from vas.check import CheckError, build_targets
from vas.machine import QMPError
from vas.testing import Failure, Payload, expect_equal, main, need_kvm

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


main({"without-selftest": without_selftest})
