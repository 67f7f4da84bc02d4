#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
./vas rebase on QEMU's own source, which all of ours fits, and on one in which a line that a patch
changes is another, and a file of the overlay is there already.
"""

import os
import re
import tempfile

from vas import paths
from vas.rebase import examine, fits
from vas.testing import Failure, expect_equal, run_test
from vas.tree import overlay_files, patched_by, series
from vas.upstream import copy_pristine

VICTIM = "fix-tcg-halt-poll.patch"


def a_tree(folder):
    """The files of the pristine source that matter."""
    names = patched_by(os.path.join(paths.TOP, "patches", name) for name in series(paths.TOP))
    copy_pristine([*names, "VERSION", "qapi/qapi-schema.json"], folder)


def removed_line(patch):
    """A line that @patch takes out, and the file that has it."""
    with open(os.path.join(paths.TOP, "patches", patch), encoding="utf-8") as file:
        text = file.read()
    name = re.search(r"(?m)^--- a/(\S+)", text).group(1)
    return name, re.search(r"(?m)^-(?!--)(.*\S.*)$", text).group(1)


def modify(folder):
    """Change the victim's line, and put a file where one of the overlay's goes."""
    name, line = removed_line(VICTIM)
    path = os.path.join(folder, name)
    with open(path, encoding="utf-8") as file:
        text = file.read()
    if line not in text:
        raise Failure(f"{name} has no line {line!r}")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text.replace(line, line + " /* another */"))
    clash = overlay_files(paths.TOP)[0]
    os.makedirs(os.path.dirname(os.path.join(folder, clash)), exist_ok=True)
    with open(os.path.join(folder, clash), "w", encoding="utf-8"):
        pass
    return name, clash


def rebase():
    with tempfile.TemporaryDirectory() as folder:
        a_tree(folder)
        result = examine(folder)
        if not fits(result):
            raise Failure(f"QEMU's own source does not fit: {result}")
        name, clash = modify(folder)
        result = examine(folder)
        failed = {p["patch"]: p["hunks"] for p in result["patches"] if p["verdict"] != "applies"}
        if VICTIM not in failed or name not in " ".join(failed[VICTIM]):
            raise Failure(f"{VICTIM} and {name} should not fit: {failed}")
        expect_equal("files of the overlay that are there", [clash], result["overlay"])
        print(f"{len(failed)} of {len(result['patches'])} patches do not apply to the changed tree")


run_test(rebase)
