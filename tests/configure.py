# SPDX-License-Identifier: GPL-2.0-or-later
"""
./configure with a small source in QEMU's place: that it does only what changed, what it does with
flags, and the one sentence of each thing that a person must put right; ./vas, where packages are
missing.
"""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile

from vas import paths
from vas.testing import Failure, expect_equal, run_test

DSC = "qemu_10.0.0.dsc"
# In the place of QEMU's: leaves its flags, and what shows that it has run.
QEMU_CONFIGURE = """#!/bin/sh
case " $* " in *" --bogus "*) echo "ERROR: unknown option --bogus"; exit 1 ;; esac
printf '%s\\n' "$@" > flags
echo >> runs
mkdir -p pyvenv/lib/python3/site-packages
touch build.ninja
"""
PATCH = """Description: a test's
--- a/file.c
+++ b/file.c
@@ -1,3 +1,3 @@
 one
-two
+{}
 three
"""


class Clone:
    """A clone, its cache of downloads, and programs that stand before those in $PATH."""

    def __init__(self, folder):
        self.top = os.path.join(folder, "clone")
        self.programs = os.path.join(folder, "programs")
        self.cache = os.path.join(folder, "cache")
        os.makedirs(self.programs)
        for name in ("configure", "vas"):
            self.write(name, open(os.path.join(paths.TOP, name), encoding="utf-8").read(), 0o755)
        os.symlink(os.path.join(paths.TOP, "scripts"), os.path.join(self.top, "scripts"))
        self.write("patches/series", "hook.patch\n")
        self.write("patches/hook.patch", PATCH.format("zwei"))
        self.write("hw/ours.c", "ours\n")
        self.write("build/pristine/file.c", "one\ntwo\nthree\n")
        self.write("build/pristine/other.c", "other\n")
        self.write("build/pristine/configure", QEMU_CONFIGURE, 0o755)
        self.write("build/pristine.stamp", DSC + "\n")
        self.write("../cache/source/" + DSC, "a source\n")
        digest = hashlib.sha256(b"a source\n").hexdigest()
        self.write("../cache/source/SHA256SUMS", f"{digest}  {DSC}\n")
        meson = os.path.join(paths.BUILD, "meson")
        if os.path.isdir(meson):
            os.symlink(meson, os.path.join(self.top, "build/meson"))

    def write(self, name, text, mode=0o644):
        path = os.path.join(self.top, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, mode)

    def read(self, name):
        with open(os.path.join(self.top, name), encoding="utf-8") as file:
            return file.read()

    def time(self, name):
        return os.stat(os.path.join(self.top, name)).st_mtime_ns

    def program(self, name, text):
        self.write(os.path.join(self.programs, name), "#!/bin/sh\n" + text, 0o755)

    def run(self, *command, status=0):
        """Returns what it says; the last line of its error if it is to end with 1."""
        environment = dict(os.environ, VAS_CACHE=self.cache,
                           PATH=self.programs + ":" + os.environ["PATH"])
        environment.pop("PYTHONPATH", None)
        result = subprocess.run([os.path.join(self.top, command[0]), *command[1:]], text=True,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, env=environment, timeout=60, check=False)
        print(result.stdout + result.stderr)
        expect_equal(f"exit status of {' '.join(command)}", status, result.returncode)
        return (result.stderr if status else result.stdout).strip().splitlines()

    def configures(self):
        """How often QEMU's configure has run."""
        return len(self.read("build/qemu/runs"))

    def refused(self, sentence, *arguments):
        expect_sentence(sentence, self.run("configure", *arguments, status=1))


def expect_sentence(pattern, lines):
    """One line, that the regular expression @pattern matches."""
    if len(lines) != 1 or not re.fullmatch(pattern, lines[0]):
        raise Failure(f"expected one line {pattern!r}, got {lines!r}")


def only_what_changed(clone):
    clone.run("configure")
    expect_equal("the patched file", "one\nzwei\nthree\n", clone.read("build/src/file.c"))
    expect_equal("the overlay's file", "ours\n", clone.read("build/src/hw/ours.c"))
    files = ("build/src/file.c", "build/src/other.c")
    before = [clone.time(name) for name in files]
    expect_equal("a second run", ["build/src is up to date", "build/qemu is configured"],
                 clone.run("configure"))
    expect_equal("times", before, [clone.time(name) for name in files])
    clone.write("patches/hook.patch", PATCH.format("deux"))
    clone.run("configure")
    expect_equal("the patched file", "one\ndeux\nthree\n", clone.read("build/src/file.c"))
    expect_equal("changed", [True, False],
                 [clone.time(name) != time for name, time in zip(files, before)])
    os.unlink(os.path.join(clone.top, "hw/ours.c"))
    clone.run("configure")
    expect_equal("the overlay's file is gone", False,
                 os.path.lexists(os.path.join(clone.top, "build/src/hw/ours.c")))
    expect_equal("runs of QEMU's configure", 1, clone.configures())


def flags(clone):
    for arguments, given, runs in (
            (["--enable-gtk"], True, 2), ([], True, 2), (["--defaults"], False, 3), ([], False, 3)):
        clone.run("configure", *arguments)
        got = clone.read("build/qemu/flags").splitlines()
        expect_equal(f"flags after {arguments}", given, "--enable-gtk" in got)
        expect_equal("ours", True, "--enable-kvm" in got)
        expect_equal("runs of QEMU's configure", runs, clone.configures())


def flag_refused(clone):
    """QEMU's configure does not take it: it must not stick."""
    lines = clone.run("configure", "--bogus", status=1)
    expect_sentence("ERROR: unknown option --bogus", lines[:1])
    expect_sentence("configure: QEMU's configure failed, see build/configure.log", lines[1:])
    clone.run("configure")
    expect_equal("flags", False, "--bogus" in clone.read("build/qemu/flags"))


def source_refused(clone):
    clone.write("patches/hook.patch", PATCH.format("zwei").replace("-two", "-too"))
    clone.refused("configure: patches/hook.patch does not apply to this source: .*FAILED.*")
    expect_equal("the source", "one\ndeux\nthree\n", clone.read("build/src/file.c"))
    clone.write("patches/series", "gone.patch\n")
    clone.refused("configure: patches/series names gone.patch, which is not there")
    clone.write("patches/series", "hook.patch\n")
    clone.write("patches/hook.patch", PATCH.format("zwei"))
    clone.write("hw/../build/src/file.c", "by hand\n")
    clone.refused("configure: build/src/file.c was changed by hand: put the change into a patch, "
                  "or run ./configure --discard to lose it")
    clone.run("configure", "--discard")
    clone.write("build/pristine/hw/ours.c", "QEMU's\n")
    clone.write("hw/ours.c", "ours\n")
    clone.refused("configure: the overlay's file hw/ours.c exists in QEMU already")
    clone.write("build/src/configure", "#!/bin/sh\necho 'ERROR: no good'\nexit 1\n", 0o755)
    os.unlink(os.path.join(clone.top, "hw/ours.c"))
    lines = clone.run("configure", "--disable-kvm", status=1)
    expect_equal("QEMU's configure fails", "ERROR: no good", lines[0])
    expect_sentence("configure: QEMU's configure failed, see build/configure.log", lines[1:])


def download_refused(clone):
    clone.program("apt-get", "echo 'E: no network'; exit 100\n")
    clone.write("../cache/source/" + DSC, "another\n")
    clone.refused(f"configure: {DSC} in .* is broken and could not be fetched again: .*")
    shutil.rmtree(os.path.join(clone.cache, "source"))
    clone.refused("configure: Debian trixie offers no source package of QEMU 10.0.x here.*")


def package_refused(clone):
    clone.program("dpkg-query", "exit 1\n")
    clone.refused(r"configure: missing package\(s\): .*\bninja-build\b.*")
    clone.program("apt-get", "echo 'E: Unable to locate package'; exit 100\n")
    clone.program("sudo", 'exec "$@"\n')
    lines = clone.run("vas", "build", status=1)
    expect_sentence("vas: apt could not install the missing package.s.: E: Unable to locate package",
                    lines[1:])


def configure():
    with tempfile.TemporaryDirectory() as folder:
        clone = Clone(folder)
        for case in (only_what_changed, flags, flag_refused, source_refused, download_refused,
                     package_refused):
            print(f"{case.__name__}:")
            case(clone)


run_test(configure)
