# SPDX-License-Identifier: GPL-2.0-or-later
"""Where things are in this clone."""

import argparse
import os

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(TOP, "build")
SOURCE = os.path.join(BUILD, "src")
# $VAS_QEMU: a folder with other binaries than ours, to compare with or to try a change with.
QEMU = os.environ.get("VAS_QEMU") or os.path.join(BUILD, "qemu")
OUTER = os.path.join(BUILD, "outer")
GUEST = os.path.join(OUTER, "tests", "guest")
LOGS = os.environ.get("VAS_LOGS") or os.path.join(BUILD, "logs")


def qemu(target):
    """The built binary for @target, "i386" or "x86_64"."""
    return os.path.join(QEMU, f"qemu-system-{target}")


def guest(name):
    """A built bare-metal payload of tests/guest."""
    return os.path.join(GUEST, name)


def positive(text):
    """A type for argparse: a count."""
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of 1 or more")
    return number


def output_file(name):
    """A type for argparse: the name of a file that can be written, which is found out at once."""
    try:
        with open(name, "a", encoding="utf-8"):
            return name
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{name}: {error.strerror}") from error


def clear(*files):
    """Empty the output @files that are given: nothing of an earlier run is to be taken for this."""
    for name in filter(None, files):
        with open(name, "w", encoding="utf-8"):
            pass
