# SPDX-License-Identifier: GPL-2.0-or-later
"""
What a host's KVM does with each field of a vCPU's state: runs tests/unit/test-x86-kvm-oracle there,
and reads what it says.
"""

import os
import re
import tempfile

from vas import paths
from vas.host import LocalHost
from vas.patience import patiently
from vas.testing import Failure

PROGRAM = os.path.join(paths.QEMU, "tests/unit/test-x86-kvm-oracle")
LINE = re.compile(r"^(not ok|ok) \d+ - (.*?)(?: # SKIP (.*)|: legal values: (\d+) kept, (\d+) in"
                  r" another form, (\d+) wrong; others: (\d+) refused, (\d+) kept, (\d+) changed)$",
                  re.MULTILINE)
COUNTS = ("kept", "other-form", "wrong", "illegal-refused", "illegal-kept", "illegal-changed")


class Answer:
    """What the oracle said: @status of the program, its @text, and what is in it."""

    def __init__(self, status, text):
        self.status, self.text = status, text
        self.rows = []
        for result, name, skipped, *counts in LINE.findall(text):
            row = {"configuration": name, "ok": result == "ok"}
            if skipped:
                row["skipped"] = skipped
            else:
                row.update(zip(COUNTS, map(int, counts)))
            self.rows.append(row)
        #: What is particular to this KVM, each sentence once
        self.findings = sorted(set(re.findall(r"^# (?!VAS_SEED|capability)(.*)$", text, re.MULTILINE)) |
                               {row["skipped"] for row in self.rows if "skipped" in row})
        self.capabilities = {name: int(value) for name, value in
                             re.findall(r"^# capability (\w+): (-?\d+)$", text, re.MULTILINE)}
        self.unusable = re.search(r"^1\.\.0 # SKIP (.*)$", text, re.MULTILINE)

    @property
    def last_line(self):
        return (self.text.strip().splitlines() or ["it said nothing"])[-1]

    @property
    def wrong(self):
        return sum(row.get("wrong", 0) for row in self.rows)


def expect_right(host=None, tries=4):
    """The table must be what this KVM does; @tries: for each word, on a slow host fewer."""
    answer = ask(host, ["--tries", str(tries)])
    print(answer.text)
    if answer.unusable or answer.status or answer.wrong:
        raise Failure(f"the oracle: {answer.wrong} wrong; {'; '.join(answer.findings)}")


def ask(host=None, options=()):
    """Run it on @host, or here."""
    with tempfile.NamedTemporaryFile("rb") as log:
        with LocalHost() as here:
            host = host or here
            process = host.spawn([host.put(PROGRAM), *options], log.name)
            status = process.wait(patiently(300))
        return Answer(status, log.read().decode(errors="replace"))
