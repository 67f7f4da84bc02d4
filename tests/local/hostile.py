# SPDX-License-Identifier: GPL-2.0-or-later
"""Values that hardware or KVM refuses, in a guest's registers: see lib.hostile."""

from lib import hostile
from vas.testing import main

main({"registers": hostile.registers, "refusals": hostile.refusals, "fuzz": hostile.fuzz,
      "fuzz-refusals": hostile.fuzz_refusals, "debugger": hostile.debugger,
      "feature-control": hostile.feature_control, "reset": hostile.reset_ends_it,
      "without-tcg": hostile.without_tcg, "without-syscall": hostile.without_syscall})
