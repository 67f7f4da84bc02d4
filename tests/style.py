# SPDX-License-Identifier: GPL-2.0-or-later
"""
The form of what is in the repository: QEMU's own checkpatch.pl over the C files, pyflakes over the
Python files, comments that say more than the number of a hazard, and what is asked of a patch: one
line of context at most, and a DEP-3 header, in which a fix names the tests that fail without it.
"""

import os
import re
import subprocess

from vas import paths, registry
from vas.testing import Failure, Skip, run_test
from vas.tree import overlay_files, series

HEADER = ("Description", "Forwarded", "Last-Update")
NO_TEST = "none: "

# What checkpatch.pl says about a file and we don't mind, by the path's start.
EXCUSED = [
    # Bare-metal code has devices and interrupts, and is for one architecture.
    ("tests/guest/", "Use of volatile is usually wrong"),
    # As checkpatch has it itself for paths that begin with tests/.
    ("tests/unit/", "Use g_assert or g_assert_not_reached"),
    ("tests/qtest/", "Use g_assert or g_assert_not_reached"),
    ("tests/guest/", "architecture specific defines should be avoided"),
    # Linked with nothing of QEMU.
    ("scripts/image/load/", "consider using qemu_"),
]

# Strings and character constants, which may look like comments, and comments.
C_TOKEN = re.compile(r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|/\*.*?\*/|//[^\n]*', re.S)
# A number of docs/internals/hazards.rst; A20 is an address line.
HAZARD = re.compile(r"\b(?!A20\b)[A-G][0-9]{1,2}(?:-[0-9]{1,2})?\b")
CITATION = re.compile(r"\b(?:hazards?|see|also|and|to|docs|rst)\b|[\W_]", re.I)


def other_files():
    """What is not for QEMU: the payloads, the guest's load, the rig's agent."""
    return [os.path.relpath(os.path.join(path, name), paths.TOP)
            for folder in ("tests/guest", "scripts/image", "scripts/rig")
            for path, _, names in os.walk(os.path.join(paths.TOP, folder)) for name in names]


def check_hazards(name, text, complaints):
    """The reason stands in the comment; the number only says where more is to be found."""
    for token in C_TOKEN.finditer(text):
        comment = token.group()
        if comment.startswith("/") and HAZARD.search(comment) and \
                not CITATION.sub("", HAZARD.sub("", comment)):
            line = text.count("\n", 0, token.start()) + 1
            complaints.append(f"{name}:{line}: '{' '.join(comment.split())}' cites a hazard and"
                              " gives no reason: say why, then the number, as in (hazard E2)")


def check_sources(complaints):
    files = [name for name in overlay_files(paths.TOP) + other_files()
             if name.endswith((".c", ".h", ".S", ".inc"))]
    script = os.path.join(paths.SOURCE, "scripts/checkpatch.pl")
    for name in sorted(files):
        result = subprocess.run(["perl", script, "--no-tree", "--terse", "--no-summary", "-q",
                                 "-f", os.path.join(paths.TOP, name)],
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                check=False, cwd=paths.SOURCE)
        for line in result.stdout.splitlines():
            if not any(name.startswith(start) and text in line for start, text in EXCUSED):
                complaints.append(line.replace(paths.TOP + "/", ""))
        with open(os.path.join(paths.TOP, name), encoding="utf-8") as file:
            check_hazards(name, file.read(), complaints)
    print(f"{len(files)} source files")


def hunks_context(lines):
    """Yield, for each hunk of a patch, (its first line, its longest run of context)."""
    head, run, longest = None, 0, 0
    for line in [*lines, "@@"]:
        if line.startswith("@@"):
            if head is not None:
                yield head, longest
            head, run, longest = line, 0, 0
        elif line.startswith(("diff ", "--- ", "index ")):
            if head is not None:
                yield head, longest
            head = None
        elif line.startswith(" ") or line == "":
            run += 1
            longest = max(longest, run)
        else:
            run = 0


def check_test(name, header, registered, complaints):
    """A fix's "Test: NAME[, NAME]", or "Test: none: REASON"."""
    match = re.search(r"(?m)^Test: *(\S.*)$", header)
    if not match:
        complaints.append(f"patches/{name}: no field Test in its header")
    elif not match.group(1).startswith(NO_TEST):
        complaints += [f"patches/{name}: there is no test {test}"
                       for test in re.split(", *", match.group(1))
                       if test not in registered]


def check_python(complaints):
    """A name that is not defined, an import that is not used: pyflakes finds them in any branch."""
    found = subprocess.run(["pyflakes3", "scripts", "tests"], check=False, cwd=paths.TOP, text=True,
                           capture_output=True)
    complaints += found.stdout.splitlines() + found.stderr.splitlines()


def check_patches(complaints):
    patches = series(paths.TOP)
    registered = set(registry.names())
    for name in patches:
        with open(os.path.join(paths.TOP, "patches", name), encoding="utf-8") as file:
            text = file.read()
        header = re.split(r"(?m)^(?:---|diff) ", text)[0]
        for field in HEADER:
            if not re.search(rf"(?m)^{field}: *\S", header):
                complaints.append(f"patches/{name}: no field {field} in its header")
        if not re.match(r"(?:\w+/)*(fix|feature|switch)-", name):
            complaints.append(f"patches/{name}: is not called fix-..., feature-... or switch-...")
        if not os.path.basename(name).startswith("switch-"):
            check_test(name, header, registered, complaints)
        for hunk, context in hunks_context(text[len(header):].splitlines()):
            # Two changes of one hunk may have one line after the first and one before the second.
            if context > 2:
                complaints.append(f"patches/{name}: {context} lines of context in {hunk}")
    folder = os.path.join(paths.TOP, "patches")
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        if name.endswith((".patch", ".diff")) and name not in patches:
            complaints.append(f"patches/{name}: not in patches/series")
    print(f"{len(patches)} patches")


def style():
    if not os.path.isdir(paths.SOURCE):
        raise Skip("build/src with checkpatch.pl is not there: run ./configure")
    complaints = []
    check_sources(complaints)
    check_patches(complaints)
    check_python(complaints)
    if complaints:
        raise Failure("\n  ".join([f"{len(complaints)} complaint(s)", *complaints]))


if __name__ == "__main__":
    run_test(style)
