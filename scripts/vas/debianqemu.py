# SPDX-License-Identifier: GPL-2.0-or-later
"""
Debian's own QEMU of the release that we build from, unmodified, with the libraries that it was built with:
it runs on an older Debian, too, and nothing is installed.
"""

import os
import shutil
import subprocess

from vas.debs import Apt, DebError, cache_dir, cache_lock

SUITE = "trixie"
PACKAGE = "qemu-system-x86"
LIBRARIES = ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu/pulseaudio")
LOADER = "usr/lib64/ld-linux-x86-64.so.2"


def _unpack(apt, root):
    """All that QEMU's package needs, of which nothing counts as installed yet, below @root."""
    apt.update()
    apt.run("apt-get", "install", "--yes", "--download-only", "--no-install-recommends", PACKAGE)
    archives = apt.root / "cache/archives"
    for deb in sorted(archives.glob("*.deb")):
        if subprocess.run(["dpkg-deb", "-x", deb, root], check=False).returncode:
            raise DebError(f"{deb.name} could not be unpacked: see dpkg-deb's message above")
        deb.unlink()


def _wrapper(root, target):
    """A program that starts it with its own loader, libraries and firmware."""
    program = root / f"qemu-debian-{target}"
    libraries = ":".join(str(root / folder) for folder in LIBRARIES)
    program.write_text("#!/bin/sh\n"
                       f"exec {root / LOADER} --library-path {libraries}"
                       f" {root}/usr/bin/qemu-system-{target}"
                       f" -L {root}/usr/share/seabios -L {root}/usr/share/qemu"
                       f" -L {root}/usr/lib/ipxe/qemu \"$@\"\n")
    program.chmod(0o755)


def debian_qemu(target):
    """
    The path of a program that is Debian's qemu-system-@target ("i386" or "x86_64").  The first call takes
    half a minute; the result stays in the cache.
    """
    base = cache_dir() / "debian-qemu"
    root = base / SUITE
    with cache_lock("debian-qemu"):
        if not root.is_dir():
            unpacked = base / "unpacking"
            shutil.rmtree(unpacked, ignore_errors=True)
            unpacked.mkdir(parents=True)
            _unpack(Apt("amd64", SUITE), unpacked)
            os.rename(unpacked, root)
        _wrapper(root, target)
    return str(root / f"qemu-debian-{target}")
