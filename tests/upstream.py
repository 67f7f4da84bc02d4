#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
./vas upstream's mails: git takes them, one after the other, on the pristine source, and makes of it
what the fix- patches make; without a sender's name there are none.  --build: each builds alone.
"""

import os
import subprocess
import sys
import tempfile

from vas import paths
from vas.testing import Failure, expect_equal, run_test
from vas.tree import patched_by
from vas.upstream import Repository, copy_pristine, fixes, upstream
from vas.upstreambuild import BuildError, build_each

AUTHOR = "A Tester <tester@example.org>"


def contents(folder):
    return {os.path.relpath(os.path.join(path, name), folder):
            open(os.path.join(path, name), "rb").read()
            for path, folders, names in os.walk(folder) if ".git" not in path.split(os.sep)
            for name in names}


def applied_mails(scratch):
    needing = upstream(os.path.join(scratch, "out"), AUTHOR, signoff=True)
    mails = os.path.join(scratch, "out/mails")
    names = sorted(os.listdir(mails))
    expect_equal("mails", len(fixes()) + 1, len(names))
    cover = open(os.path.join(mails, names[0]), encoding="utf-8").read()
    if "***" in cover:
        raise Failure("the cover letter still has git's own text")
    target = os.path.join(scratch, "target")
    repository = Repository(target, AUTHOR)
    copy_pristine(patched_by(fixes()), target)
    repository.commit("base")
    before = contents(target)
    repository.git("am", "-q", *(os.path.join(mails, name) for name in names[1:]))
    if contents(target) == before:
        raise Failure("the mails change nothing")
    if contents(target) != contents(os.path.join(scratch, "out/tree")):
        raise Failure("the mails make something else than the patches")
    if f"Signed-off-by: {AUTHOR}" not in repository.git("log", "--format=%b", "-1"):
        raise Failure("the last mail has no Signed-off-by")
    print(f"{len(names) - 1} mails, {len(needing)} of which need others")


def nameless(scratch):
    """git must not make up a name.  It knows none here, whatever this machine's git is set to."""
    environment = {name: value for name, value in os.environ.items()
                   if not name.startswith("GIT_") and name not in ("EMAIL", "XDG_CONFIG_HOME")}
    environment |= {"HOME": scratch, "GIT_CONFIG_NOSYSTEM": "1"}
    code = (f"from vas.upstream import *\ntry:\n    upstream({scratch + '/nameless'!r})\n"
            "except UpstreamError as error:\n    print(error)\n")
    said = subprocess.run([sys.executable, "-c", code], env=environment, check=True, text=True,
                          capture_output=True).stdout
    if "--author" not in said:
        raise Failure(f"without a name it says: {said!r}")


def mails():
    with tempfile.TemporaryDirectory() as scratch:
        applied_mails(scratch)
        nameless(scratch)


def builds():
    try:
        expect_equal("patches that do not build alone", [], build_each(fixes()))
    except BuildError as error:
        raise Failure(str(error)) from error


if not os.path.isdir(os.path.join(paths.BUILD, "pristine")):
    sys.exit("build/pristine is missing: ./configure makes it")
run_test(builds if "--build" in sys.argv else mails)
