# SPDX-License-Identifier: GPL-2.0-or-later
"""
Bochs, the emulator of two rigs: Debian's source of it, built once and kept in the cache.

Debian's own binaries are no help: that of Debian 12 is too old (its VM exits save a pending #DB that
there is not), and all of them have a debugger and several processors, which make them slow.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile

from pathlib import Path

from vas.apt import AptError, PrivateApt
from vas.debs import cache_dir, cache_lock
from vas.rigtree import RigError

# Any of its versions 3 will do; the first that can be had.
SUITES = ("trixie", "sid")
VERSION = "3."
FLAGS = ("--with-nogui --enable-cpu-level=6 --enable-x86-64 --enable-vmx=2 --enable-svm "
         "--enable-avx --enable-evex --enable-memtype --enable-protection-keys --enable-cet "
         "--enable-e1000 --enable-pci --enable-all-optimizations --enable-monitor-mwait "
         "--enable-repeat-speedups --enable-fast-function-calls --enable-large-ramfile "
         "--disable-docbook --disable-debugger").split()
# Bochs can't have both.
ONE_CPU, MORE_CPUS = "--enable-handlers-chaining", "--enable-smp"
COMPILER_FLAGS = "-O3 -fno-plt"
# What its VMX and SVM get wrong, mended.
PATCHES = sorted((Path(__file__).resolve().parents[1] / "rig/bochs").glob("*.patch"))


def _flags(smp):
    return [*FLAGS, MORE_CPUS if smp else ONE_CPU]


def _say(text):
    print(text, file=sys.stderr, flush=True)


def _tarball(folder):
    """The source in @folder, fetched if it is not there yet."""
    found = sorted(folder.glob("bochs_*.orig.tar.*"))
    if found:
        return found[0]
    folder.mkdir(parents=True, exist_ok=True)
    complaints = []
    for suite in SUITES:
        _say(f"Fetching the source of Bochs from Debian {suite} (4 MB)…")
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            try:
                apt = PrivateApt(os.path.join(scratch, "apt"), "deb-src", [suite])
                apt.update()
                versions = [v for v in apt.source_versions("bochs") if v.startswith(VERSION)]
                if not versions:
                    raise AptError(f"Debian {suite} offers no source of Bochs {VERSION}x here"
                                   + (f" ({apt.complaint})" if apt.complaint else ""))
                path = Path(apt.source_tarball("bochs", versions[-1], scratch))
            except AptError as error:
                complaints.append(str(error))
                continue
            # Complete, or not there at all.
            return path.rename(folder / path.name)
    raise RigError("Bochs, which emulates the rig, can't be had: " + "; ".join(complaints)
                   + f".  Try again later, or put bochs_{VERSION}*.orig.tar.xz into {folder}")


def _run(command, folder, log, what, environment=None):
    with open(log, "ab") as output:
        status = subprocess.run(command, cwd=folder, env=environment, check=False,
                                stdin=subprocess.DEVNULL, stdout=output,
                                stderr=subprocess.STDOUT).returncode
    if status:
        raise RigError(f"{what} failed, see {log}; the next run tries it again")


def _build(tarball, target, smp):
    work = cache_dir() / "bochs/build"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    log = cache_dir() / "bochs/build.log"
    log.unlink(missing_ok=True)
    _say(f"Building {tarball.name.split('+')[0].replace('_', ' ')} (3 to 5 minutes on 2 cores, "
         "once)…")
    _run(["tar", "-xf", tarball, "--strip-components=1"], work, log, f"unpacking {tarball}")
    for patch in PATCHES:
        _run(["patch", "-p1", "-F0", "-i", patch], work, log, f"patching Bochs by {patch.name}")
    environment = dict(os.environ, CFLAGS=COMPILER_FLAGS, CXXFLAGS=COMPILER_FLAGS)
    _run(["./configure", *_flags(smp)], work, log, "configuring Bochs", environment)
    _run(["make", f"-j{len(os.sched_getaffinity(0))}", "bochs"], work, log, "building Bochs",
         environment)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(work / "bochs", target.with_suffix(".new"))
    target.with_suffix(".new").rename(target)
    shutil.rmtree(work)


def bochs(smp=False):
    """The path of Bochs, which is built if need be; @smp: one that can have several CPUs."""
    recipe = [VERSION, COMPILER_FLAGS, *_flags(smp), *(patch.read_text() for patch in PATCHES)]
    key = hashlib.sha256(" ".join(recipe).encode()).hexdigest()
    target = cache_dir() / "bochs" / key[:12] / "bochs"
    with cache_lock("bochs"):
        if not os.access(target, os.X_OK):
            _build(_tarball(cache_dir() / "bochs/source"), target, smp)
    return target
