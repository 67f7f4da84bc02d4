# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/internals/state.rst is what the table of a vCPU's state prints of itself."""

import os
import subprocess

from vas import paths
from vas.testing import Failure, run_test


def docs():
    program = os.path.join(paths.QEMU, "tests/unit/test-x86-switch-state")
    printed = subprocess.run([program, "--rst"], check=True, text=True,
                             stdout=subprocess.PIPE).stdout
    with open(os.path.join(paths.TOP, "docs/internals/state.rst"), encoding="utf-8") as page:
        if page.read() != printed:
            raise Failure("the table has changed: run build/qemu/tests/unit/test-x86-switch-state"
                          " --rst > docs/internals/state.rst")


run_test(docs)
