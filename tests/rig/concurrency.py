# SPDX-License-Identifier: GPL-2.0-or-later
"""
Snapshots under a KVM that goes on from the TSC of one: in order, and with several clients of one
machine's monitors at once (lib.concurrency).
"""

import argparse
import time

from lib.concurrency import ask, concurrency
from lib.rigtest import a_host, seconds
from vas.testing import LONG, Payload, expect_equal, run_test, snapshot_disk


def tsc(host):
    """
    A snapshot's TSC is what it was, also if it is less than a second from what it is there: KVM takes
    that for an attempt to synchronize vCPUs, and leaves it.
    """
    with snapshot_disk(host) as drive:
        for initial in ("kvm", "tcg"):
            with Payload("soak64", f"switch,initial={initial}", host=host, name="concurrency-tsc",
                         arguments=["-smp", "2", *drive]) as guest:
                guest.expect_laps(3)
                expect_equal("savevm", "", guest.machine.hmp("savevm early"))
                # The load of it is no such attempt, that of the other is.
                time.sleep(1.5)
                guest.expect_laps(3)
                expect_equal("savevm", "", guest.machine.hmp("savevm late"))
                for name in ("early", "late"):
                    expect_equal("loadvm", "", guest.machine.hmp(f"loadvm {name}"))
                    guest.expect_laps(3)


def nmis(host):
    """
    kvm-amd steps a vCPU itself to inject an NMI behind another one.  With a debugger's breakpoint it makes
    an exit for such a step, which the guest must not see as its own.
    """
    listener = host.listener("gdb")
    with Payload("soak64", "switch", host=host, name="concurrency-nmis",
                 arguments=["-chardev", f"socket,id=gdb,{listener.options}", "-gdb", "chardev:gdb"]) as guest:
        guest.expect_laps(3)
        with listener.connect() as connection:
            connection.settimeout(5)
            for command in (b"$?#3f", b"$Z1,fff0,1#%02x" % (sum(b"Z1,fff0,1") % 256)):
                ask(connection, command)
            connection.sendall(b"$c#63")
            client = guest.machine.qmp_client
            for _ in range(40):
                sent = [client.send("inject-nmi", {}) for _ in range(20)]
                for number in sent:
                    client.answer(number, "inject-nmi", 30)
            guest.expect_laps(3)


def snapshots(deadline):
    with a_host(False, deadline) as host:
        nmis(host)
        tsc(host)
        for smp in (1, 2):
            concurrency(smp, True, host, 300 if LONG else 30)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--deadline", type=seconds, default=400)
run_test(snapshots, parser.parse_args().deadline)
