# SPDX-License-Identifier: GPL-2.0-or-later
"""./vas upstream --build: each of the fix- patches builds alone on the pristine source."""

import os
import shutil
import subprocess

from vas import paths

FOLDER = os.path.join(paths.BUILD, "upstream-qemu")
PROGRAMS = os.path.join(FOLDER, "build")
# As much of QEMU as the patches change.
FLAGS = ["--python=/usr/bin/python3", "--target-list=x86_64-softmmu", "--disable-download",
         "--disable-docs", "--disable-install-blobs", "--without-default-features",
         "--enable-system", "--enable-kvm", "--enable-tcg", "--enable-fdt=disabled",
         "--enable-werror", "--cc=ccache gcc"]


class BuildError(Exception):
    """One sentence that says why nothing could be built."""


def _run(command, log, folder, environment):
    with open(log, "a", encoding="utf-8") as output:
        return subprocess.run(command, cwd=folder, check=False, stdout=output, env=environment,
                              stderr=subprocess.STDOUT).returncode == 0


class Builder:
    """A pristine tree, and a build folder in which no more is built anew than a patch changes."""

    def __init__(self):
        self._tree = os.path.join(FOLDER, "src")
        self._folder = PROGRAMS
        self._log = os.path.join(FOLDER, "build.log")
        self._environment = dict(os.environ, CCACHE_BASEDIR=FOLDER, CCACHE_NOHASHDIR="1")
        own = os.path.join(paths.BUILD, "meson/usr/lib/python3/dist-packages")
        if os.path.isdir(own):
            self._environment["PYTHONPATH"] = own
        shutil.rmtree(FOLDER, ignore_errors=True)
        os.makedirs(self._folder)
        subprocess.run(["cp", "-a", "--reflink=auto", os.path.join(paths.BUILD, "pristine"),
                        self._tree], check=True)
        if not self._run(["../src/configure", *FLAGS]) or not self.build():
            raise BuildError(f"the pristine source does not build, see {self._log}")

    def _run(self, command):
        return _run(command, self._log, self._folder, self._environment)

    def build(self):
        return self._run(["ninja", "qemu-system-x86_64"])

    def patch(self, path, *options):
        """Apply the patch at @path, or with -R take it back."""
        if not _run(["patch", "-p1", "-F0", "-s", "-f", "--no-backup-if-mismatch", "-r", "-",
                     "-i", path, *options], self._log, self._tree, self._environment):
            raise BuildError(f"{os.path.basename(path)} does not apply, see {self._log}")


def build_each(patches, say=print, proves=None):
    """
    Build each of the @patches, paths, alone; returns a dict of what went wrong with which.

    @proves: called with a patch's name while paths.QEMU is without any patch, and again when it has
    that one alone: whether what the patch mends works; None if it does not say.
    """
    say("building the pristine source (about 3 minutes on 2 cores)")
    builder = Builder()
    names = [os.path.basename(path) for path in patches]
    before = {name: proves(name) for name in names} if proves else {}
    wrong = {}
    for number, (name, path) in enumerate(zip(names, patches), 1):
        builder.patch(path)
        good = builder.build()
        outcome = "builds" if good else "does not build"
        if good and before.get(name) is not None:
            after = proves(name)
            good = after and not before[name]
            outcome += (f", and its payload {'passes' if after else 'fails'} with it and "
                        f"{'passes' if before[name] else 'fails'} without it")
        builder.patch(path, "-R")
        say(f"{number} of {len(names)}: {name}: {outcome}")
        if not good:
            wrong[name] = outcome
    return wrong
