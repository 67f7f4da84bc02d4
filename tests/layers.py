#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
The layers of the switch's code include each other one way (docs/design.rst, "The parts"): for each
folder, what its files may include beside the headers of QEMU that all have.
"""

import os
import re

from vas import paths
from vas.testing import Failure, run_test

INCLUDE = re.compile(r'^#include "(.*)"', re.M)
# A header that is named without a folder is one of the same folder.
PURE = r"qemu/.*|cpu\.h|hw/i386/apic_internal\.h|kvm/hyperv-proto\.h|standard-headers/.*|[a-z-]+\.h"
ANY_OF_X86 = r"target/.*|switch/.*|cpu-internal\.h|host-cpu\.h|hw/i386/.*|kvm/.*|tcg/helper.*"
# A folder, and a pattern: of all that its files may include (True), or of what they may not (False).
LAYERS = (
    ("target/i386/switch/state", True, PURE),
    ("target/i386/switch", False, r"switch/selftest/.*|accel/switch/internal\.h"),
    ("target/i386/switch/kvm", False, r"switch/(tcg|selftest)/.*|accel/switch/internal\.h"),
    ("target/i386/switch/tcg", False, r"switch/(kvm|selftest)/.*|accel/switch/internal\.h"),
    ("target/i386/switch/selftest", False, r"accel/switch/internal\.h"),
    ("accel/switch", False, ANY_OF_X86),
    ("accel/switch/selftest", False, ANY_OF_X86),
    ("cpus", False, ANY_OF_X86 + r"|accel/switch/(internal|selftest/.*)\.h"),
    ("migration", False, ANY_OF_X86 + r"|accel/switch/(internal|selftest/.*)\.h"),
    ("monitor", False, ANY_OF_X86 + r"|accel/switch/(arch|internal|selftest/.*)\.h"),
    ("hw/misc", False, ANY_OF_X86 + r"|accel/switch/(arch|internal|selftest/.*)\.h"),
)


def wrong(text, allowed, pattern):
    """The includes of a file with that @text that break its folder's rule."""
    return [name for name in INCLUDE.findall(text)
            if bool(re.fullmatch(pattern, name)) != allowed]


def control():
    """The rules can be broken."""
    for header, number in (("system/kvm.h", 0), ("switch/x86-switch.h", 0),
                           ("switch/selftest/clocks.h", 2), ("switch/kvm/vcpu.h", 3),
                           ("target/i386/cpu.h", 5), ("accel/switch/internal.h", 7)):
        folder, allowed, pattern = LAYERS[number]
        if wrong(f'#include "{header}"\n', allowed, pattern) != [header]:
            raise Failure(f"{folder} may include {header}, it seems")


def layers():
    control()
    count = 0
    for folder, allowed, pattern in LAYERS:
        for name in sorted(os.listdir(os.path.join(paths.TOP, folder))):
            if not name.endswith((".c", ".h")):
                continue
            count += 1
            with open(os.path.join(paths.TOP, folder, name), encoding="utf-8") as file:
                found = wrong(file.read(), allowed, pattern)
            if found:
                raise Failure(f"{folder}/{name} includes {', '.join(found)}")
    print(f"{count} files")


run_test(layers)
