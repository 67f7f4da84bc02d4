# SPDX-License-Identifier: GPL-2.0-or-later
"""
./vas rebase: try our patches and overlay on another QEMU tree, and list what does not fit.

The tree is not changed: patches are applied to copies of the files that they name.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

from vas import paths
from vas.tree import overlay_files, patched_by, series


def _patch(path, work, fuzz, dry_run):
    return subprocess.run(["patch", "-p1", f"--fuzz={fuzz}", "--batch", "--forward",
                           "--no-backup-if-mismatch", "--reject-file=-",
                           *(["--dry-run"] if dry_run else []), "-d", work, "-i", path],
                          check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def _complaints(output):
    """What patch says of hunks that do not fit, each with its file."""
    found, name = [], None
    for line in output.splitlines():
        match = re.match(r"(?:checking|patching) file '?([^']*)'?$", line)
        if match:
            name = match.group(1)
        elif re.search(r"FAILED|No file to patch|ignored -- ", line):
            found.append(f"{name}: {line}" if name and "FAILED" in line else line)
    return found or output.splitlines()[-1:]


def try_patch(path, work):
    """("applies" | "applies with fuzz" | "does not apply", complaints); applied if it does."""
    for fuzz, verdict in ((0, "applies"), (2, "applies with fuzz")):
        tried = _patch(path, work, fuzz, True)
        if tried.returncode == 0:
            _patch(path, work, fuzz, False)
            return verdict, []
    return "does not apply", _complaints(tried.stdout)


def examine(tree):
    """What of ours fits into @tree, for JSON."""
    paths_of = {name: os.path.join(paths.TOP, "patches", name) for name in series(paths.TOP)}
    result = {"version": None, "patches": [], "overlay": []}
    version = os.path.join(tree, "VERSION")
    if os.path.exists(version):
        with open(version, encoding="utf-8") as file:
            result["version"] = file.read().strip()
    with tempfile.TemporaryDirectory() as work:
        for name in patched_by(paths_of.values()):
            origin = os.path.join(tree, name)
            if os.path.isfile(origin):
                os.makedirs(os.path.dirname(os.path.join(work, name)), exist_ok=True)
                shutil.copy(origin, os.path.join(work, name))
        for name, path in paths_of.items():
            verdict, complaints = try_patch(path, work)
            result["patches"].append({"patch": name, "verdict": verdict, "hunks": complaints})
    result["overlay"] = [name for name in overlay_files(paths.TOP)
                         if os.path.exists(os.path.join(tree, name))]
    return result


def fits(result):
    return not result["overlay"] and all(p["verdict"] == "applies" for p in result["patches"])


def print_result(result):
    print(f"QEMU {result['version'] or 'of an unknown version'}")
    for patch in result["patches"]:
        if patch["verdict"] != "applies":
            print(f"{patch['patch']} {patch['verdict']}")
            for line in patch["hunks"]:
                print(f"    {line}")
    for name in result["overlay"]:
        print(f"the overlay's {name} exists there already")
    count = sum(p["verdict"] == "applies" for p in result["patches"])
    print(f"{count} of {len(result['patches'])} patches apply as they are")


def main(argv):
    parser = argparse.ArgumentParser(
        prog="./vas rebase", description="Try our patches and overlay on another QEMU source tree, "
        "and list what does not fit.  TREE is not changed.  A patch that does not apply is left "
        "out, so later ones that need it fail, too.  docs/rebase.rst says what comes next.  Exit "
        "status: 0 if all fits, 1 if not.")
    parser.add_argument("tree", metavar="TREE", help="an unpacked QEMU source")
    parser.add_argument("--json", metavar="FILE", type=paths.output_file,
                        help="write the whole result to FILE, too")
    arguments = parser.parse_args(argv)
    if not os.path.isfile(os.path.join(arguments.tree, "qapi/qapi-schema.json")):
        parser.error(f"{arguments.tree} is no QEMU source tree: it has no qapi/qapi-schema.json")
    result = examine(arguments.tree)
    print_result(result)
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=2)
            file.write("\n")
    sys.exit(0 if fits(result) else 1)


if __name__ == "__main__":
    main(sys.argv[1:])
