# SPDX-License-Identifier: GPL-2.0-or-later
"""Streams and snapshots of either accelerator are loaded under either, with a KVM that keeps a TSC."""

import argparse

from lib import streams
from lib.rigtest import a_host, seconds
from vas.testing import LONG, run_test

# A descriptor does not go into a rig.
KINDS = [name for name in streams.KINDS if name != "fd"]
ROUNDS = 50 if LONG else 1


def test(deadline):
    with a_host(False, deadline) as host:
        for _ in range(ROUNDS):
            for name in KINDS:
                streams.by_kind(name, host)
            streams.snapshots(host)
        streams.digests([way.on(host) for way in streams.digest_ways()], host)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--deadline", type=seconds, default=900)
run_test(test, parser.parse_args().deadline)
