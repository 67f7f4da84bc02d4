# SPDX-License-Identifier: GPL-2.0-or-later
"""
What the patches called fix-... are for, where payload.py doesn't have it, and what happens when KVM
can't execute an instruction.
"""

import contextlib
import os
import re
import socket
import tempfile
import threading
import time

from lib.faults import fail_each_ioctl
from lib.gdb import Stub
from lib.hostile import GP, restore, write
from lib.ways import ENDED
from vas.machine import Machine, MachineError, QMPError
from vas.testing import (Failure, Payload, expect_equal, expect_error, gdb_command, main, need_kvm,
                         wait_until)

# That a debugger makes
STEPS = 10000


def tcg_busy_tss():
    """
    KVM leaves TR busy, and TCG must take an interrupt at CPL3 with it, and allow the ports of its
    bitmap.  The switch makes it available; a migration stream wouldn't.
    """
    need_kvm()
    for binary in ("x86_64", "i386"):
        with Payload("told32", "switch,initial=kvm,x-omit=descriptors", binary=binary,
                     arguments=["-no-reboot"],
                     name="fixes-busy-tss") as guest:
            guest.expect_laps(3)
            for _ in range(50):
                guest.machine.switch("tcg")
                guest.tell("r")
                guest.machine.switch("kvm")
                guest.expect_laps(3)


def tcg_step_atomic():
    """A fault in what TCG executes apart from other vCPUs leaves the flags alone."""
    with Payload("fault64", "tcg,thread=multi", arguments=["-smp", "2"],
                 name="fixes-atomic") as guest:
        guest.expect_laps(100)
    need_kvm()
    with Payload("fault64", "switch,initial=tcg", arguments=["-smp", "2"],
                 name="fixes-atomic") as guest:
        guest.expect_laps(100)
        for accel in ("kvm", "tcg") * 50:
            guest.machine.switch(accel)
            guest.expect_laps(3)


def tcg_step_kick():
    """A vCPU that is kicked just as a debugger steps it executes an instruction all the same."""
    with contextlib.closing(Stub()) as stub, \
            Payload("window64", "tcg", arguments=stub.arguments, name="fixes-step") as guest:
        guest.expect_laps(3)
        guest.machine.stop()
        with stub.connect() as connection:
            over, kicks = threading.Event(), [0]

            def kick():
                # A step holds interrupts back.
                while not over.is_set():
                    guest.machine.qmp("inject-nmi")
                    kicks[0] += 1

            thread = threading.Thread(target=kick)
            thread.start()
            try:
                place = gdb_command(connection, b"p10")
                for number in range(STEPS):
                    # With a breakpoint, as one goes on from it: the step's code is translated anew.
                    for command in (b"Z0,%x,1", b"z0,%x,1"):
                        gdb_command(connection, command % int.from_bytes(bytes.fromhex(place.decode()), "little"))
                    gdb_command(connection, b"s")
                    before, place = place, gdb_command(connection, b"p10")
                    if place == before:
                        raise Failure(f"step {number} has stayed at {place}")
            finally:
                over.set()
                thread.join()
            print(f"{STEPS} steps, {kicks[0]} kicks")


def tcg_svm_event():
    """
    What VMRUN injects comes once, also when the vCPU is then asked to stop: the second time, the
    stop was forgotten, too.
    """
    with Payload("svm64", "tcg", arguments=["-cpu", "EPYC,+svm,+invpcid"], name="fixes-svm") as guest:
        for _ in range(20):
            guest.expect_laps(3)
            guest.machine.stop()
            guest.machine.cont()
            guest.expect_laps(3)
            guest.tell("v")


def monitor_end():
    """
    QEMU ends in order while QMP's commands come in: some of these come just as the dispatcher has
    ended.
    """
    clients = 40
    for _ in range(100):
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            sockets = [os.path.join(folder, str(number)) for number in range(clients)]
            options = [o for s in sockets for o in ("-qmp", f"unix:{s},server=on,wait=off")]
            machine = stack.enter_context(
                Machine(["-M", "none", "-nodefaults", "-accel", "tcg", *options], name="fixes-end",
                        start=False))
            others = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in sockets]
            for client, path in zip(others, sockets):
                client.connect(path)
                # With out-of-band commands a monitor takes in several before the first is done.
                client.sendall(b'{"execute": "qmp_capabilities",'
                               b' "arguments": {"enable": ["oob"]}}')
                received = b""
                while b'"return"' not in received:
                    received += client.recv(4096)
            machine.qmp_client.send("quit", {})
            with contextlib.suppress(OSError):
                for client in others * 7:
                    client.sendall(b'{"execute": "query-name"}')
            expect_equal("QEMU's exit status", 0, machine.wait(20))


def tcg_halt_poll():
    """
    A vCPU in HLT with interrupts off sleeps on in TCG, whoever has it look at its LAPIC: the other
    vCPU, which interrupts it all the time, and the end of a round trip.
    """
    need_kvm()
    with Payload("smp64", "switch,initial=tcg", laps=80, arguments=["-smp", "2"],
                 name="fixes-halt") as guest:
        trips = 0
        while "DIGEST" not in guest.machine.debugcon.text():
            try:
                guest.machine.qmp("x-accel-roundtrip")
            except (MachineError, QMPError) as error:
                # the payload's end
                if isinstance(error, QMPError) and not ENDED.search(error.description):
                    raise
                break
            trips += 1
        guest.finish()
        print(f"{trips} round trips")
        expect_equal("HLTs that ended for nothing", 0,
                     guest.machine.debugcon.text().count("AWAKE"))
        if trips < 20:
            raise Failure("not enough round trips")


def kvm_set_msrs_error():
    """What KVM_SET_MSRS refuses is the switch's error, and the guest goes on in TCG."""
    need_kvm()
    # With guest-values, TCG refuses it first: tests/local/hostile.py.
    with Payload("msr64", "switch,initial=tcg,x-omit=guest-values", name="fixes-msrs") as guest:
        machine = guest.machine
        guest.expect_laps(3)
        guest.tell("b")
        for _ in range(10):
            expect_error("0xc0000082", machine.switch, "kvm")
            expect_equal("accelerator", "tcg", machine.accel())
            expect_equal("status", "running", machine.qmp("query-status")["status"])
            guest.expect_laps(3)
        guest.tell("g")
        for accel in ("kvm", "tcg") * 5:
            machine.switch(accel)
            guest.expect_laps(3)
        expect_equal("switches", 10, machine.qmp("query-accel")["switches"])


def kvm_get_msrs_error():
    """What KVM_GET_MSRS does not give is the switch's error, and the guest goes on in KVM."""
    need_kvm()
    with Payload("soak64", "switch,initial=kvm,x-fail-ioctls=on", name="fixes-get-msrs") as guest:
        guest.expect_laps(3)
        errors = fail_each_ioctl("tcg", guest)
    if not any(re.search("KVM_GET_MSRS of .*MSR 0x", error) for error in errors):
        raise Failure(f"no MSR was missing: {errors}")


def tcg_base():
    """Whether the base of GDT or IDT is canonical goes by the CPU's width, whatever CR4.LA57 is."""
    for cpu, accepted, refused in (("qemu64", (1 << 47) - 16, 1 << 55),
                                   ("qemu64,+la57", 1 << 55, 1 << 56)):
        with Payload("hostile64", "tcg", name="fixes-base", arguments=["-cpu", cpu]) as guest:
            guest.expect_laps(3)
            for name in ("GDT", "IDT"):
                for value, vector in ((accepted, None), (refused, GP)):
                    expect_equal(f"exception for {name} {value:#x} of {cpu}", vector,
                                 write(guest, name, "=", value))
                    restore(guest)
            guest.expect_laps(3)


def tcg_amd_sysenter():
    """What an AMD CPU does not keep of SYSENTER_ESP, TCG does not keep, as KVM doesn't."""
    need_kvm()
    with Payload("msr64", "switch,initial=tcg", name="fixes-amd-sysenter",
                 # as under KVM, a model's vendor is the host's if it isn't given
                 arguments=["-cpu", "qemu64,vendor=AuthenticAMD"]) as guest:
        guest.expect_laps(3)
        guest.tell("s")
        for accel in ("kvm", "tcg") * 5:
            guest.machine.switch(accel)
            guest.expect_laps(3)


def on_kvm_error_tcg():
    """The guest goes on in TCG, without a word from us, and can come back."""
    need_kvm()
    with Payload("told32", "switch,initial=kvm,on-kvm-error=tcg", name="fixes-on-error",
                 arguments=["-no-reboot"]) as guest:
        machine = guest.machine
        guest.expect_laps(3)
        for _ in range(50):
            guest.tell("x")
            event = machine.wait_event("ACCEL_SWITCHED", 10)["data"]
            expect_equal("from, to", ("kvm", "tcg"), (event["from"], event["to"]))
            expect_equal("accelerator", "tcg", machine.accel())
            expect_equal("status", "running", machine.qmp("query-status")["status"])
            guest.expect_laps(3)
            machine.switch("kvm")
            machine.wait_event("ACCEL_SWITCHED", 10)
            guest.expect_laps(3)


def on_kvm_error_waits():
    """
    While a migration runs, the vCPU stands at the instruction, and the guest is not lost: it goes on
    in TCG when the migration was cancelled.
    """
    need_kvm()
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as destination, \
            Payload("told32", "switch,initial=kvm,on-kvm-error=tcg,x-wait=1",
                    name="fixes-on-error",
                    arguments=["-trace", "accel_switch_kvm_error"]) as guest:
        machine = guest.machine
        guest.expect_laps(3)
        # It takes nothing: the migration does not end by itself.
        destination.bind(os.path.join(folder, "destination"))
        destination.listen(1)
        machine.qmp("migrate", {"uri": "unix:" + os.path.join(folder, "destination")})
        machine.serial.send("x")
        start = time.monotonic()
        # For longer than a switch waits, and more than one attempt.
        wait_until(lambda: (time.monotonic() > start + 2 and
                            machine.output().count("accel_switch_kvm_error ") > 2),
                   "the vCPU does not meet the instruction again")
        expect_equal("status", "running", machine.qmp("query-status")["status"])
        expect_equal("accelerator", "kvm", machine.accel())
        machine.qmp("migrate_cancel")
        machine.wait_event("ACCEL_SWITCHED", 10)
        machine.debugcon.expect("^done: x", 10)
        expect_equal("accelerator", "tcg", machine.accel())
        guest.expect_laps(3)
        machine.switch("kvm")
        guest.expect_laps(3)
        if "could not execute" in machine.output():
            raise Failure(f"QEMU says: {machine.output()}")


def on_kvm_error_refused():
    """Where the guest can't be switched it stops as without the switch, and QEMU says why."""
    need_kvm()
    with Payload("told32", "switch,initial=kvm,on-kvm-error=tcg,x-fail-ioctls=on",
                 name="fixes-on-error") as guest:
        machine = guest.machine
        guest.expect_laps(3)
        machine.serial.send("x")
        machine.wait_event("STOP", 30)
        expect_equal("status", "internal-error", machine.qmp("query-status")["status"])
        expect_equal("accelerator", "kvm", machine.accel())
        said = ("KVM could not execute an instruction, so the guest is stopped (system_reset"
                " revives it): can't switch: vCPU 0: KVM_")
        if said not in machine.output():
            raise Failure(f"QEMU says: {machine.output()}")
        machine.qmp("system_reset")
        machine.cont()
        guest.expect_laps(3)


def on_kvm_error_report():
    """The default: the guest stops as without the switch, and is lost until a reset."""
    need_kvm()
    with Payload("told32", "switch,initial=kvm", name="fixes-on-error") as guest:
        machine = guest.machine
        guest.expect_laps(3)
        machine.serial.send("x")
        machine.wait_event("STOP", 30)
        expect_equal("status", "internal-error", machine.qmp("query-status")["status"])
        expect_error("internal error", machine.switch, "tcg")
        expect_equal("accelerator", "kvm", machine.accel())
        machine.qmp("system_reset")
        machine.cont()
        machine.switch("tcg")
        guest.expect_laps(3)


main({"tcg-busy-tss": tcg_busy_tss, "tcg-amd-sysenter": tcg_amd_sysenter,
      "tcg-base": tcg_base, "tcg-step-atomic": tcg_step_atomic,
      "tcg-step-kick": tcg_step_kick, "tcg-svm-event": tcg_svm_event,
      "tcg-halt-poll": tcg_halt_poll, "monitor-end": monitor_end,
      "kvm-get-msrs-error": kvm_get_msrs_error, "kvm-set-msrs-error": kvm_set_msrs_error,
      "on-kvm-error-tcg": on_kvm_error_tcg, "on-kvm-error-report": on_kvm_error_report,
      "on-kvm-error-waits": on_kvm_error_waits, "on-kvm-error-refused": on_kvm_error_refused})
