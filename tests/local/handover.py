# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest is handed over to another QEMU on this machine, and its memory is not copied."""

import functools
import os
import signal
import statistics
import subprocess

from lib import handover, plain, streams
from lib.rigtest import say
from lib.ways import Way
from vas import paths
from vas.debianqemu import debian_qemu
from vas.handover import memory_arguments, memory_file, stop_and_cont
from vas.host import LocalHost
from vas.machine import MachineError
from vas.testing import LONG, Failure, Payload, expect_equal, main, make_qcow2, need_kvm, wait_until

SIZES = (256, 8192)
ROUNDS = 20 if LONG else 3


def pauses(relay, stops):
    """To and fro between the two @stops.  How long the guest stood still each time, and by stop and cont; in ms."""
    relay.begin(*stops[0])
    still = [stop_and_cont(relay.guest.machine) * 1000 for _ in range(9)]
    return [relay.go(*stop) * 1000 for stop in [*stops[1:], *stops[:1]] * ROUNDS], still


def by_way(way):
    """Between two of ours, and to and from Debian's own QEMU; with 256 MiB and 8 GiB."""
    need_kvm()
    with LocalHost() as host:
        handover.crosswise(way, host)
        cpu = plain.with_common_cpu(Way("soak64", "x86_64", 1, ""), "plain-kvm", host).arguments
        for name, stops in (("switch", [("switch", "x86_64")] * 2),
                            ("plain", [("kvm", debian_qemu("x86_64")), ("switch,streams=plain-kvm", "x86_64")])):
            medians = []
            for size in SIZES:
                with handover.Relay(host, way, size, cpu) as relay:
                    times, still = pauses(relay, stops)
                medians.append(statistics.median(times))
                say(f"{way}, {name}, {size} MiB: {medians[-1]:.1f} ms (median of {len(times)}), at most"
                    f" {max(times):.1f} ms; stop and cont {statistics.median(still):.1f} ms")
            say(f"{way}, {name}: 8 GiB to 256 MiB: {medians[1] / medians[0]:.2f}")


def qemu_io(machine, command):
    return machine.hmp(f'qemu-io disk "{command}"')


def killed():
    """
    The other QEMU is killed when the guest is stopped and is about to go: it runs on where it was, with its disk,
    which no other QEMU may open.
    """
    need_kvm()
    with LocalHost() as host:
        disk = host.scratch("disk")
        make_qcow2(disk)
        drive = ["-drive", f"file={disk},format=qcow2,if=none,id=disk", "-device", "virtio-blk-pci,drive=disk,romfile="]
        for accel in streams.ACCELS:
            kill_in_the_middle(host, accel, drive)
        # The other QEMU has had the guest's memory as its own, then.
        with memory_file(host) as ram:
            shared = memory_arguments("x-ignore-shared", 64, ram)
            kill_in_the_middle(host, "kvm", [*drive, *shared], "x-ignore-shared")
        done = subprocess.run([os.path.join(paths.QEMU, "qemu-img"), "check", disk], check=False, capture_output=True,
                              text=True)
        expect_equal("qemu-img check", 0, done.returncode)


def kill_in_the_middle(host, accel, arguments, *capabilities):
    path = "unix:" + host.scratch("stream-" + accel)
    with Payload("soak64", f"switch,initial={accel}", host=host, name="handover", memory=64,
                 arguments=arguments) as source:
        with Payload("soak64", "switch", host=host, name="handover", start=False, memory=64,
                     arguments=[*arguments, "-incoming", "defer"]) as other:
            for guest in (source, other):
                streams.set_capabilities(guest.machine, "pause-before-switchover", *capabilities)
            source.expect_laps(3)
            expect_equal("a write", "", without_times(qemu_io(source.machine, "write -P 1 0 64k")))
            other.machine.qmp("migrate-incoming", uri=path)
            source.machine.qmp("migrate", uri=path)
            wait_until(lambda: streams.status(source.machine) == "pre-switchover", "the guest does not stop")
            os.kill(other.machine.pid, signal.SIGKILL)
            wait_until(lambda: not other.machine.running(), "the other QEMU does not end")
        source.machine.qmp("migrate-continue", state="pre-switchover")
        wait_until(lambda: streams.status(source.machine) == "failed", "the migration does not fail")
        source.expect_laps(3)
        expect_equal("accelerator", accel, source.machine.accel())
        expect_equal("a write", "", without_times(qemu_io(source.machine, "write -P 2 64k 64k")))
        expect_equal("a read", "", without_times(qemu_io(source.machine, "read -P 1 0 64k")))
        try:
            Payload("soak64", "switch", host=host, name="handover", memory=64,
                    arguments=arguments).machine.close()
        except MachineError as error:
            if "lock" not in str(error):
                raise
        else:
            raise Failure("another QEMU may open the disk")
        streams.go_on(source)
        say(f"{' '.join([accel, *capabilities])}: the guest runs on with its disk")


def without_times(said):
    """What qemu-io complains of; else it tells how much it did, and how fast."""
    return "" if "65536/65536 bytes" in said and "failed" not in said.lower() else said


main({"cpr-transfer": functools.partial(by_way, "cpr-transfer"),
      "x-ignore-shared": functools.partial(by_way, "x-ignore-shared"), "killed": killed})
