# SPDX-License-Identifier: GPL-2.0-or-later
"""
QEMU as a package has it, without -Daccel_switch_selftest: it switches, and knows nothing of what only
tests ask for.
"""

import os
import subprocess

from vas import paths
from vas.machine import QMPError
from vas.testing import Failure, Payload, expect_equal, main, need_kvm

PACKAGE = os.path.join(paths.BUILD, "qemu-package")
LEFT_OUT = ("x-omit", "x-fail-ioctls", "x-wait", "x-accel-roundtrip", "x_accel_roundtrip")


def build():
    subprocess.run([os.path.join(paths.TOP, "configure"), "--package"], check=True)
    subprocess.run(["ninja", "-C", PACKAGE, "qemu-system-i386", "qemu-system-x86_64"], check=True,
                   env=dict(os.environ, CCACHE_BASEDIR=paths.TOP, CCACHE_NOHASHDIR="1"))
    paths.QEMU = PACKAGE


def without_selftest():
    build()
    with open(os.path.join(PACKAGE, "qemu-system-x86_64"), "rb") as file:
        program = file.read()
    found = [name for name in LEFT_OUT if name.encode() in program]
    if found:
        raise Failure("the program has " + ", ".join(found))
    if b"on-kvm-error" not in program:
        raise Failure("the program has no -accel switch")
    need_kvm()
    with Payload("soak64", "switch", name="package") as guest:
        machine = guest.machine
        try:
            machine.qmp("x-accel-roundtrip")
        except QMPError as error:
            print(f"x-accel-roundtrip: {error}")
        else:
            raise Failure("there is x-accel-roundtrip")
        for number in range(20):
            guest.expect_laps(3)
            machine.switch("kvm" if number % 2 else "tcg")
        expect_equal("switches", 20, machine.qmp("query-accel")["switches"])


main({"without-selftest": without_selftest})
