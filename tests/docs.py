#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Each page of docs/ is well-formed reStructuredText: docutils has nothing to say of it."""

import os

from docutils.core import publish_doctree
from docutils.utils import Reporter

from vas import paths
from vas.testing import Failure, run_test

BROKEN_TABLE = "=  =\na  b\nab c\n=  =\n"


def complaints(text, name):
    """docutils' warnings and errors about a page."""
    page = publish_doctree(text, source_path=name, settings_overrides={
        "report_level": Reporter.SEVERE_LEVEL + 1, "halt_level": Reporter.SEVERE_LEVEL + 1})
    return [f"{name}:{m.get('line', '?')}: {m.children[0].astext()}" for m in page.parse_messages
            if m["level"] >= Reporter.WARNING_LEVEL]


def docs():
    if not complaints(BROKEN_TABLE, "control"):
        raise Failure("a broken table is not noticed")
    folder = os.path.join(paths.TOP, "docs")
    pages = sorted(os.path.relpath(os.path.join(path, name), folder)
                   for path, _, names in os.walk(folder) for name in names
                   if name.endswith(".rst"))
    found = []
    for name in pages:
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            found += complaints(file.read(), f"docs/{name}")
    if found:
        raise Failure("; ".join(found))
    print(f"{len(pages)} pages")


run_test(docs)
