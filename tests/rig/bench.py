# SPDX-License-Identifier: GPL-2.0-or-later
"""./vas bench linux: a Debian in the rig, under plain KVM and under -accel switch."""

import argparse
import json
import os
import tempfile
import xml.etree.ElementTree

from lib.rigtest import say, seconds
from vas import benchplot, paths
from vas.testing import Failure, expect_equal, run_command, run_test

# What --json has beside what all measurements have, as docs/performance.rst says.
MEMBERS = ("features_lost", "host", "rates")


def linux(deadline):
    with open(os.path.join(paths.TOP, "docs/performance.rst"), encoding="utf-8") as file:
        page = file.read()
    try:
        benchplot.available()
        picture = ["--svg", "picture"]
    except benchplot.PlotError as error:
        say(f"no picture: {error}")
        picture = []
    with tempfile.TemporaryDirectory() as folder:
        said = run_command("bench", "linux", "--rig", "--quick", "--json", "result", *picture,
                           timeout=deadline - 20, folder=folder)
        with open(os.path.join(folder, "result"), encoding="utf-8") as file:
            result = json.load(file)
        if picture:
            root = xml.etree.ElementTree.parse(os.path.join(folder, "picture")).getroot()
            expect_equal("picture", "svg", root.tag.split("}")[-1])
    expect_equal("members", sorted([*MEMBERS, "measurement", "others_cpus", "others_of", "parameters", "place", "quick"]),
                 sorted(result))
    expect_equal("undocumented", [], [member for member in MEMBERS if f"``{member}``" not in page])
    expect_equal("host", "rig", result["host"])
    for name, row in result["rates"].items():
        if not (row["ratio"] > 0 and all(spread["min"] > 0 for spread in row["per_second"].values())):
            raise Failure(f"{name}: {row}")
    expect_equal("lines of the table", 3, sum(line.startswith(("getpid()", "context", "page faults"))
                                              for line in said.splitlines()))


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--deadline", type=seconds, default=900)
run_test(linux, parser.parse_args().deadline)
