# SPDX-License-Identifier: GPL-2.0-or-later
"""
The second step of ./configure: build/src, the tree that QEMU is built from.

It is the pristine source with our patch series applied and our overlay's files linked in.  Running
it again touches only what differs, so that ninja rebuilds no more than that: patches are applied to
copies of the files that they name, and a file whose text comes out the same keeps its time.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

# The folders whose files stand at the same path in QEMU's tree.
OVERLAY = ["accel", "cpus", "hw", "include", "migration", "monitor", "plugins", "qapi", "target",
           "tests/qtest", "tests/unit"]


class TreeError(Exception):
    """One sentence that says why the tree could not be made."""


def overlay_files(top):
    """The overlay's files, as paths below @top: those that git tracks or doesn't ignore."""
    folders = [folder for folder in OVERLAY if os.path.isdir(os.path.join(top, folder))]
    if not folders:
        return []
    listing = subprocess.run(["git", "-C", top, "-c", f"safe.directory={top}", "ls-files", "-z",
                              "--cached", "--others", "--exclude-standard", "--", *folders],
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False) \
        if shutil.which("git") else None
    if listing is not None and listing.returncode == 0:
        names = [os.fsdecode(name) for name in listing.stdout.split(b"\0") if name]
    else:
        # Not a clone, but an unpacked archive of one: all files are ours.
        names = [os.path.relpath(os.path.join(path, name), top)
                 for folder in folders
                 for path, _, found in os.walk(os.path.join(top, folder)) for name in found]
    return sorted(n for n in set(names) if os.path.isfile(os.path.join(top, n)))


def series(top):
    """The names of the patches, in order."""
    try:
        with open(os.path.join(top, "patches/series"), encoding="utf-8") as file:
            lines = [line.split("#", 1)[0].strip() for line in file]
    except FileNotFoundError:
        return []
    return [line for line in lines if line]


def patched_by(patches):
    """The names of the files that the patches at these paths change, sorted."""
    return sorted({name for path in patches for name in patched_files(path)})


def patched_files(path):
    """The names of the files that the patch at @path changes."""
    names = []
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            match = re.match(r"(?:---|\+\+\+) [^/\s]+/([^\t\n]+)", line)
            if match and match.group(1) not in names:
                names.append(match.group(1))
    return names


def _digest(path):
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except FileNotFoundError:
        return None


def _place(origin, target):
    """Make @target a copy of @origin, at once or not at all, with the time of now."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    shutil.copy(origin, target + ".vas-new")
    os.rename(target + ".vas-new", target)


class Tree:
    """build/src with its record of what was done to it (build/src.json)."""

    def __init__(self, top, build):
        self._top = os.path.abspath(top)
        self._pristine = os.path.join(os.path.abspath(build), "pristine")
        self._src = os.path.join(os.path.abspath(build), "src")
        self._record_path = self._src + ".json"
        try:
            with open(self._record_path, encoding="utf-8") as file:
                self._record = json.load(file)
        except (OSError, ValueError):
            self._record = {}
        self.changed = 0

    def _write_record(self):
        with open(self._record_path, "w", encoding="utf-8") as file:
            json.dump(self._record, file, indent=1)

    def make(self, force):
        with open(self._pristine + ".stamp", encoding="utf-8") as file:
            source = file.read().strip()
        if self._record.get("source") != source or not os.path.isdir(self._src):
            print("Copying the source to build/src…", flush=True)
            shutil.rmtree(self._src, ignore_errors=True)
            # The copy's record is written last: a copy that was cut short is made anew.
            if os.path.exists(self._record_path):
                os.unlink(self._record_path)
            if subprocess.run(["cp", "-a", "--reflink=auto", self._pristine, self._src],
                              check=False).returncode:
                raise TreeError("the source could not be copied: see cp's message above")
            self._record = {"source": source, "overlay": [], "patched": {}}
            self._write_record()
        # In this order: a hook may need the overlay's file, and a file that is taken out of the
        # overlay may come back as one that a patch makes.
        patched = self._apply(force)
        self._lay(patched)

    def _lay(self, patched):
        """Link the overlay's files in, take out links to files that are gone."""
        files = overlay_files(self._top)
        for name in files:
            if os.path.lexists(os.path.join(self._pristine, name)) or name in patched:
                raise TreeError(f"the overlay's file {name} exists in QEMU already")
        for name in self._record["overlay"]:
            path = os.path.join(self._src, name)
            if name not in files and os.path.islink(path):
                os.unlink(path)
                self.changed += 1
        # Recorded before they are made, so that links of a run that is cut short are known.
        self._record["overlay"] = files
        self._write_record()
        for name in files:
            path = os.path.join(self._src, name)
            target = os.path.relpath(os.path.join(self._top, name), os.path.dirname(path))
            if os.path.islink(path) and os.readlink(path) == target:
                continue
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if os.path.lexists(path):
                os.unlink(path)
            os.symlink(target, path)
            self.changed += 1

    def _apply(self, force):
        """Have the series applied to build/src.  Returns the names of the files it changes."""
        patches = series(self._top)
        names = set()
        for patch in patches:
            path = os.path.join(self._top, "patches", patch)
            if not os.path.isfile(path):
                raise TreeError(f"patches/series names {patch}, which is not there")
            names.update(patched_files(path))
        with tempfile.TemporaryDirectory(dir=os.path.dirname(self._src)) as work:
            for name in names:
                if os.path.isfile(os.path.join(self._pristine, name)):
                    _place(os.path.join(self._pristine, name), os.path.join(work, name))
            for patch in patches:
                self._apply_one(patch, work)
            wanted = {name: _digest(os.path.join(work, name)) for name in names}
            before = self._record["patched"]
            todo = []
            for name in sorted(names | set(before)):
                target = os.path.join(self._src, name)
                pristine = os.path.join(self._pristine, name)
                want = wanted[name] if name in names else _digest(pristine)
                have = _digest(target)
                if want == have:
                    continue
                # What stands there should be what was put there, or else a person's work.
                known = [before.get(name), _digest(pristine)]
                if have is not None and have not in known and not force:
                    raise TreeError(f"build/src/{name} was changed by hand: put the change into a "
                                    "patch, or run ./configure --discard to lose it")
                todo.append((name, target, pristine, want))
            # Recorded file by file, so that a run that is cut short can be repeated.
            for name, target, pristine, want in todo:
                origin = os.path.join(work, name) if name in names else pristine
                if want is None:
                    os.unlink(target)
                else:
                    _place(origin, target)
                if name in names:
                    self._record["patched"][name] = want
                else:
                    self._record["patched"].pop(name, None)
                self._write_record()
                self.changed += 1
            self._record["patched"] = wanted
            self._write_record()
        return names

    def _apply_one(self, patch, work):
        path = os.path.join(self._top, "patches", patch)
        with open(path, "rb") as file:
            result = subprocess.run(["patch", "-p1", "--fuzz=0", "--batch", "--forward",
                                     "--no-backup-if-mismatch", "--reject-file=-"],
                                    cwd=work, stdin=file, text=True, check=False,
                                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if result.returncode:
            where = [line for line in result.stdout.splitlines()
                     if re.search(r"FAILED|can't find|malformed|Reversed|garbage", line)]
            raise TreeError(f"patches/{patch} does not apply to this source: "
                            + (where or result.stdout.splitlines() or ["patch failed"])[0])


def main(argv):
    parser = argparse.ArgumentParser(prog="vas.tree", description=__doc__)
    parser.add_argument("--top", required=True, help="this repository's folder")
    parser.add_argument("--build", required=True, help="the build folder")
    parser.add_argument("--discard", action="store_true",
                        help="overwrite files in build/src that were changed by hand")
    arguments = parser.parse_args(argv)
    try:
        tree = Tree(arguments.top, arguments.build)
        tree.make(arguments.discard)
    except TreeError as error:
        sys.exit(f"configure: {error}")
    except OSError as error:
        sys.exit(f"configure: {error.filename}: {error.strerror}")
    print(f"build/src: {tree.changed} file(s) changed" if tree.changed else
          "build/src is up to date", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
