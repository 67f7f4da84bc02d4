#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
./vas upstream's mails: git takes them, one after the other, on the pristine source, and makes of it
what the fix- patches make; without a sender's name there are none.  --build: each builds alone, and
a payload that meets it under TCG alone fails without it and passes with it.
"""

import os
import subprocess
import sys
import tempfile

from vas import paths
from vas.machine import MachineError
from vas.testing import Failure, Payload, expect_equal, run_test
from vas.tree import patched_by
from vas.upstream import Repository, copy_pristine, fixes, upstream
from vas.upstreambuild import PROGRAMS, BuildError, build_each

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


# The fixes that a payload meets without -accel switch: the payload, its laps, QEMU's arguments.
PROOFS = {
    "fix-tcg-pdpte-accessed.patch": ("pae32", 1000, []),
    "fix-tcg-access-page-crossing.patch":
        ("cross32", 50, ["-device", "loader,addr=0x504,data=1,data-len=4"]),
    "fix-tcg-reserved-fault.patch": ("paging32", 30, []),
    "fix-tcg-lapic-divide.patch": ("timer64", 2, []),
    "fix-tcg-x2apic.patch": ("x2apic64", 60, ["-cpu", "qemu64,-pni,+x2apic,enforce"]),
    "fix-tcg-halt-step.patch": ("events64", 4, []),
    "fix-tcg-osxsave.patch": ("xsave64", 10, ["-cpu", "qemu64,-pni,+xsave,+avx,enforce"]),
}


def proves(name):
    """Whether the payload of the patch @name passes under TCG alone with the QEMU of paths.QEMU."""
    if name not in PROOFS:
        return None
    payload, laps, arguments = PROOFS[name]
    paths.QEMU = PROGRAMS
    try:
        with Payload(payload, "tcg", laps=laps, arguments=arguments, name="upstream") as guest:
            guest.finish(30)
    except (Failure, MachineError) as error:
        print(f"{payload}: {str(error).splitlines()[0]}")
        return False
    return True


def builds():
    try:
        wrong = build_each(fixes(), proves=proves)
    except BuildError as error:
        raise Failure(str(error)) from error
    expect_equal("patches that are wrong alone", {}, wrong)


if not os.path.isdir(os.path.join(paths.BUILD, "pristine")):
    sys.exit("build/pristine is missing: ./configure makes it")
run_test(builds if "--build" in sys.argv else mails)
