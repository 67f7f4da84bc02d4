# SPDX-License-Identifier: GPL-2.0-or-later
"""Switches before, during and after a migration, and other users of dirty logging."""

import contextlib
import os

from lib.streams import wait_completed
from lib.switchable import SWITCH, expect_untouched, switchable
from vas.machine import Machine
from vas.testing import (Failure, Skip, expect_equal, expect_error, main, need_kvm, payload_arguments,
                         snapshot_disk, wait_until)


def incoming():
    need_kvm()
    with Machine([*payload_arguments("soak64", SWITCH), "-incoming", "defer"], start=False,
                 name="migration") as machine:
        why = "the guest is still to come in by migration (-incoming)"
        expect_error(why, machine.qmp, "switch-accel", {"accel": "tcg"})
        expect_equal("blockers", [{"id": "run-state", "reason": why}],
                     machine.qmp("query-accel")["blockers"])
        expect_untouched(machine)


def refused():
    with switchable() as guest:
        machine = guest.machine
        guest.expect_laps(3)
        machine.qmp("migrate-set-parameters", {"max-bandwidth": 4096})
        machine.qmp("migrate", {"uri": "file:" + os.path.join(machine.logs, "stream")})
        expect_error("a migration is running", machine.qmp, "switch-accel", {"accel": "tcg"})
        expect_equal("blockers", [{"id": "migration", "reason": "a migration is running"}],
                     machine.qmp("query-accel")["blockers"])
        # where the guest is already
        expect_equal("from", "kvm", machine.switch("kvm")["from"])
        expect_untouched(machine)
        guest.expect_laps(3)
        machine.qmp("migrate_cancel")
        while machine.qmp("query-migrate").get("status") != "cancelled":
            guest.expect_laps(3)
        machine.switch("tcg")
        guest.expect_laps(3)


def in_tcg():
    """
    KVM's dirty logs, which a migration reads, say nothing of TCG's code: the payload modifies its
    own, and would run what it was.
    """
    for accel in (SWITCH, "switch,initial=tcg"):
        with switchable(accel) as guest:
            machine = guest.machine
            guest.expect_laps(3)
            machine.switch("tcg")
            guest.expect_laps(20)
            machine.qmp("migrate-set-parameters", {"max-bandwidth": 4096})
            for number in range(3):
                stream = os.path.join(machine.logs, f"stream{number}")
                machine.qmp("migrate", {"uri": "file:" + stream})
                guest.expect_laps(200)
                machine.qmp("migrate_cancel")
                while machine.qmp("query-migrate").get("status") != "cancelled":
                    guest.expect_laps(3)
                guest.expect_laps(20)


def dirty_rate():
    """A measurement of the dirty rate goes on while the guest is switched, and harms no code."""
    with switchable() as guest:
        machine = guest.machine
        for mode in ("page-sampling", "dirty-bitmap"):
            for number in range(4):
                machine.switch("kvm" if number % 2 else "tcg")
                machine.qmp("calc-dirty-rate", {"calc-time": 1, "mode": mode})
                switches = 0
                while machine.qmp("query-dirty-rate")["status"] != "measured":
                    guest.expect_laps(3)
                    machine.switch("tcg" if switches % 2 else "kvm")
                    switches += 1
                guest.expect_laps(20)
                if not switches:
                    raise Failure("no switch came within the measurement")


def set_tsc_khz(stream, factor):
    """Give the stream's vCPUs a TSC of @factor times the rate that it has."""
    with open(stream, "rb") as file:
        data = file.read()
    # The subsection's name, its version, and a 64-bit number
    at = data.find(b"cpu/tsc_khz")
    if at < 0:
        raise Failure("the stream has no rate of the TSC")
    at += len("cpu/tsc_khz") + 4
    khz = int(int.from_bytes(data[at:at + 8], "big") * factor)
    with open(stream, "wb") as file:
        file.write(data[:at] + khz.to_bytes(8, "big") + data[at + 8:])
    return khz


@contextlib.contextmanager
def loaded_with_rate(factor, accel="kvm"):
    """
    A guest that was saved under @accel and loaded there, from a stream whose TSC has @factor times the
    rate; and that rate, in kHz.
    """
    with switchable(f"switch,initial={accel}") as guest:
        machine = guest.machine
        guest.expect_laps(3)
        stream = os.path.join(machine.logs, "stream")
        machine.qmp("migrate", {"uri": "file:" + stream})
        wait_completed(machine)
        khz = set_tsc_khz(stream, factor)
        with switchable(f"switch,initial={accel}", start=False,
                        arguments=["-incoming", "file:" + stream]) as copy:
            copy.machine.cont()
            copy.expect_laps(3)
            yield copy, khz


def switch_to_and_fro(guest):
    for accel in ("tcg", "kvm") * 5:
        guest.machine.switch(accel)
        guest.expect_laps(3)


def scaled():
    """
    A stream from a host whose TSC is faster: a KVM that can scales the guest's, and a switch is
    refused by the two rates.  Where KVM can't, the guest has the host's TSC, as QEMU warns, which
    can be switched.
    """
    with loaded_with_rate(1.5) as (copy, khz):
        if "TSC frequency mismatch" in copy.machine.output():
            switch_to_and_fro(copy)
            raise Skip("this KVM does not scale a guest's TSC; the guest was switched")
        expect_error(f"the migrated guest's TSC runs at {khz} kHz", copy.machine.qmp,
                     "switch-accel", {"accel": "tcg"})
        expect_untouched(copy.machine)
        copy.expect_laps(3)


def rate_in_tcg():
    """TCG can't scale a TSC: QEMU warns of a stream with another rate, and the guest has the host's."""
    with loaded_with_rate(1.5, "tcg") as (copy, khz):
        said = f"the guest was saved with a TSC of {khz} kHz"
        wait_until(lambda: said in copy.machine.output(), copy.machine.output)
        copy.expect_laps(10)
    with loaded_with_rate(1.0001, "tcg") as (copy, _):
        expect_equal("warned", False, "the guest was saved with a TSC" in copy.machine.output())


def measured_anew():
    """
    A stream from the same host, which has measured its TSC's frequency a little differently since:
    KVM does not scale within its tolerance, and the guest is switched.
    """
    with loaded_with_rate(1.0001) as (copy, _):
        switch_to_and_fro(copy)


def render_memory(machine):
    """Have QEMU render the memory's layout anew, by a PAM register of the 440FX for 0xc0000."""
    for value in (0x33, 0):
        for write in ("/w 0xcf8 0x80000058", f"/b 0xcfe {value:#x}"):
            expect_equal("HMP's answer", "", machine.hmp("o " + write))


def logging():
    """
    KVM logs the pages that a guest makes dirty while it is migrated, though the memory's layout was
    rendered in TCG, for which all of it is logged.
    """
    with snapshot_disk() as drive:
        with switchable("switch,initial=tcg", arguments=drive) as guest:
            machine = guest.machine
            stream = os.path.join(machine.logs, "stream")
            for accel in ("tcg", "kvm"):
                machine.switch("tcg")
                render_memory(machine)
                machine.switch(accel)
                expect_equal("savevm", "", machine.hmp("savevm one"))
                guest.expect_laps(3)
            # Not all of it at once: the guest goes on writing.
            machine.qmp("migrate-set-parameters", {"max-bandwidth": 1 << 20})
            machine.qmp("migrate", {"uri": "file:" + stream})
            guest.expect_laps(20)
            machine.qmp("migrate-set-parameters", {"max-bandwidth": 1 << 30})
            wait_completed(machine)
        with switchable(start=False, arguments=[*drive, "-incoming", "file:" + stream]) as copy:
            copy.machine.cont()
            copy.expect_laps(10)


main({"incoming": incoming, "refused": refused, "in-tcg": in_tcg,
      "dirty-rate": dirty_rate, "logging": logging, "scaled": scaled,
      "measured-anew": measured_anew, "rate-in-tcg": rate_in_tcg})
