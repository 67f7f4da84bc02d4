# SPDX-License-Identifier: GPL-2.0-or-later
"""
i386 programs on a kernel that runs none (no CONFIG_IA32_EMULATION, or a host that allows no 32-bit code).

The kernel is told to run them by QEMU's user emulation, for as long as they are needed.
"""

import contextlib
import os
import shutil
import subprocess

BINFMT = "/proc/sys/fs/binfmt_misc"
NAME = "vas-i386"
# An ELF file for i386; the flag F has the kernel open the interpreter now, so that it works in a chroot.
MAGIC = r"\x7fELF\x01\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x03\x00"
MASK = r"\xff\xff\xff\xff\xff\xfe\xfe\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"


def runs_i386():
    """Whether i386 programs run here, in whatever way."""
    return subprocess.run(["arch-test", "i386"], check=False, capture_output=True).returncode == 0


def _as_root(as_root, script):
    return subprocess.run([*as_root, "sh", "-c", script], check=False, capture_output=True).returncode == 0


@contextlib.contextmanager
def i386_programs(as_root):
    """
    Yields whether i386 programs run now.  @as_root: a prefix that runs a command as root.  What is registered is
    the whole machine's, and is taken back at the end.
    """
    if runs_i386():
        yield True
        return
    emulator = shutil.which("qemu-i386-static") or shutil.which("qemu-i386")
    if not emulator:
        yield False
        return
    mounted = os.path.exists(f"{BINFMT}/register") or \
        _as_root(as_root, f"mount -t binfmt_misc binfmt_misc {BINFMT}")
    line = f":{NAME}:M::{MAGIC}:{MASK}:{emulator}:F"
    registered = mounted and _as_root(as_root, f"[ ! -e {BINFMT}/{NAME} ] || echo -1 > {BINFMT}/{NAME};"
                                      f" printf %s '{line}' > {BINFMT}/register")
    try:
        yield runs_i386()
    finally:
        if registered:
            _as_root(as_root, f"echo -1 > {BINFMT}/{NAME}")
