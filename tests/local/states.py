# SPDX-License-Identifier: GPL-2.0-or-later
"""
Switches in every state that a machine can be in, and what is refused: an error then, and nothing
changed.
"""

import array
import glob
import os
import re
import socket
import tempfile
import threading

from lib.switchable import SWITCH, expect_untouched, switchable
from vas import doctor, kvmprobe, paths
from vas.machine import Machine, MachineError
from vas.testing import (PLAIN_KVM, Failure, Payload, Skip, expect_equal, expect_error,
                         gdb_command, main, need_kvm)


def status(machine):
    return machine.qmp("query-status")["status"]


def cpu_model(machine):
    """What a management program is told of qemu64, but for KVM's own features."""
    props = machine.qmp("query-cpu-model-expansion", type="full",
                        model={"name": "qemu64"})["model"]["props"]
    return {name: value for name, value in props.items() if not name.startswith("kvm")}


def surface():
    """What query-accel, switch-accel, ACCEL_SWITCHED and the HMP commands say."""
    with switchable() as guest:
        machine = guest.machine
        guest.expect_laps(3)
        info = machine.qmp("query-accel")
        expect_equal("active", "kvm", info["active"])
        expect_equal("available", ["kvm", "tcg"], sorted(info["available"]))
        expect_equal("switches", 0, info["switches"])
        expect_equal("blockers", [], info["blockers"])
        expect_equal("last", False, "last" in info)
        machine.qmp("trace-event-set-state", name="accel_switch_*", enable=True)
        result = machine.switch("tcg")
        machine.qmp("trace-event-set-state", name="accel_switch_*", enable=False)
        for phase in ("begin", "quiesced", "exported", "converted", "imported", "resumed"):
            expect_equal(f"trace event {phase}", 1,
                         machine.output().count(f"accel_switch_{phase} "))
        expect_equal("keys", ["downtime-ns", "from", "phases", "to"], sorted(result))
        expect_equal("phases", ["convert-ns", "export-ns", "import-ns", "quiesce-ns", "resume-ns"],
                     sorted(result["phases"]))
        expect_equal("from, to", ("kvm", "tcg"), (result["from"], result["to"]))
        if not 0 < result["downtime-ns"] < 10e9:
            raise Failure(f"downtime of {result['downtime-ns']} ns")
        expect_equal("event", result, machine.wait_event("ACCEL_SWITCHED", 10)["data"])
        info = machine.qmp("query-accel")
        expect_equal("last", result, info["last"])
        expect_untouched(machine, "tcg", 1)
        guest.expect_laps(3)
        machine.hmp("switch_accel")
        expect_untouched(machine, "kvm", 2)
        machine.hmp("switch_accel tcg")
        expect_untouched(machine, "tcg", 3)
        if "tcg" not in machine.hmp("info accel"):
            raise Failure("info accel does not name tcg: " + machine.hmp("info accel"))
        guest.expect_laps(3)
        # What is said of the machine does not depend on what runs.
        told = [(machine.hmp("info mtree -f"), cpu_model(machine))
                for accel in ("tcg", "kvm") if machine.switch(accel)]
        expect_equal("memory and CPU model", *told)
        if not re.search(r"ram.* switch$", told[0][0].replace("\r", ""), re.M):
            raise Failure("info mtree -f names no accelerator: " + told[0][0])


def same():
    """To the accelerator that runs already: a success that changes nothing."""
    with switchable() as guest:
        machine = guest.machine
        guest.expect_laps(3)
        result = machine.switch("kvm")
        expect_equal("from, to", ("kvm", "kvm"), (result["from"], result["to"]))
        expect_untouched(machine)
        expect_equal("events", [], machine.events("ACCEL_SWITCHED"))
        guest.expect_laps(3)


def unknown():
    with switchable() as guest:
        machine = guest.machine
        expect_error("'xen'", machine.qmp, "switch-accel", {"accel": "xen"})
        expect_error("accel", machine.qmp, "switch-accel")
        expect_untouched(machine)
        if not machine.hmp("switch_accel xen").strip():
            raise Failure("switch_accel xen says nothing")
        expect_untouched(machine)
        guest.expect_laps(3)


def plain():
    """Without -accel switch."""
    need_kvm()
    for accel, name in ((PLAIN_KVM, "kvm"), ("tcg", "tcg")):
        with Payload("soak64", accel, name="states") as guest:
            machine = guest.machine
            for target in ("kvm", "tcg"):
                expect_error("-accel switch", machine.qmp, "switch-accel", {"accel": target})
            expect_equal("active", name, machine.qmp("query-accel")["active"])
            guest.expect_laps(3)


CF_ZF_DF = 0x441


def gdb_eflags(connection, value=None):
    """Number 17 of x86-64's registers, as gdb counts: write @value, or read it."""
    # It is only then that QEMU asks KVM.
    gdb_command(connection, b"g")
    if value is not None:
        text = value.to_bytes(4, "little").hex().encode()
        expect_equal("write", b"OK", gdb_command(connection, b"P11=" + text))
    return int.from_bytes(bytes.fromhex(gdb_command(connection, b"p11").decode()), "little")


def debugger():
    """
    A debugger's breakpoints go along with a switch and a round trip, also of the stopped guest.  What
    it writes into EFLAGS is written.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "gdb")
        with switchable(arguments=["-gdb", f"unix:{path},server=on,wait=off"]) as guest, \
                socket.socket(socket.AF_UNIX) as connection:
            machine = guest.machine
            guest.expect_laps(3)
            connection.connect(path)
            gdb_command(connection, b"?")
            for accel, other in (("kvm", "tcg"), ("tcg", "kvm")):
                for kind in (b"0", b"1", b"2", b"4"):
                    expect_equal("insert", b"OK", gdb_command(connection, b"Z%s,fff0,1" % kind))
                    expect_equal("active", accel, machine.accel())
                    machine.qmp("x-accel-roundtrip")
                    machine.switch(other)
                    machine.qmp("x-accel-roundtrip")
                    expect_equal("remove", b"OK", gdb_command(connection, b"z%s,fff0,1" % kind))
                    machine.switch(accel)
                machine.switch(other)
            before = gdb_eflags(connection)
            for value in (before | CF_ZF_DF, before & ~CF_ZF_DF):
                gdb_eflags(connection, value)
                machine.switch("tcg")
                gdb_eflags(connection, value ^ CF_ZF_DF)
                machine.switch("kvm")
                expect_equal("EFLAGS", value ^ CF_ZF_DF, gdb_eflags(connection))
            gdb_eflags(connection, before)
            connection.close()
            machine.cont()
            guest.expect_laps(3)


def before_start():
    """Before cont of -S, under either accelerator."""
    for initial, other in (("kvm", "tcg"), ("tcg", "kvm")):
        with switchable(f"switch,initial={initial}", start=False) as guest:
            machine = guest.machine
            machine.switch(other)
            expect_equal("status", "prelaunch", status(machine))
            machine.switch(initial)
            machine.switch(other)
            machine.cont()
            guest.expect_laps(3)
            machine.switch(initial)
            guest.expect_laps(3)


def stopped():
    """A stopped guest stays stopped, and there and back its registers are what they were."""
    with switchable() as guest:
        machine = guest.machine
        for _ in range(50):
            guest.expect_laps(3)
            machine.stop()
            before = machine.hmp("info registers")
            machine.switch("tcg")
            expect_equal("status", "paused", status(machine))
            in_tcg = machine.hmp("info registers")
            machine.switch("kvm")
            expect_equal("status", "paused", status(machine))
            expect_equal("registers", before, machine.hmp("info registers"))
            machine.switch("tcg")
            expect_equal("registers in TCG", in_tcg, machine.hmp("info registers"))
            machine.cont()
            guest.expect_laps(3)
            machine.switch("kvm")


def dumped():
    """A dump of the registers under KVM changes none, whatever TCG has left in CPUX86State."""
    with switchable() as guest:
        machine = guest.machine
        for _ in range(50):
            machine.switch("tcg")
            guest.expect_laps(2)
            machine.switch("kvm")
            guest.expect_laps(1)
            machine.stop()
            machine.hmp("info registers")
            machine.qmp("x-accel-roundtrip")
            machine.cont()


def plugin():
    """A plugin sees what runs in TCG, and nothing of what runs in KVM."""
    library = os.path.join(paths.QEMU, "contrib/plugins/libhotblocks.so")
    if not os.path.exists(library):
        raise Skip("this QEMU was built without plugins")
    for windows in (0, 10):
        with switchable(arguments=["-smp", "2", "-plugin", library, "-d", "plugin"]) as guest:
            machine = guest.machine
            guest.expect_laps(3)
            # Without an instruction in between
            machine.qmp("x-accel-roundtrip")
            for _ in range(windows):
                for accel in ("tcg", "kvm"):
                    machine.switch(accel)
                    guest.expect_laps(3)
            machine.qmp("quit")
            machine.wait(20)
            blocks = int(re.search(r"collected (\d+) entries", machine.output()).group(1))
            print(f"{windows} windows: {blocks} blocks")
            if (blocks > 0) != (windows > 0):
                raise Failure(f"the plugin has seen {blocks} blocks in {windows} windows")


def null_segment():
    """
    A segment that was null in protected mode is used in real mode, where TCG looks at its base
    alone, and hardware at all of it.
    """
    need_kvm()
    with Payload("told16", "switch,initial=tcg", name="states") as guest:
        guest.expect_laps(3)
        guest.tell("n")
        for accel in ("kvm", "tcg") * 5:
            guest.machine.switch(accel)
            guest.expect_laps(3)


def foreign_features():
    """
    A KVM that doesn't hide what the guest's CPU model lacks: a guest that uses it can't be switched,
    as QEMU wouldn't carry its registers over.
    """
    need_kvm()
    with Payload("xsave64", SWITCH, name="states", arguments=["-no-reboot"]) as guest:
        try:
            guest.expect_laps(3)
        except Failure as error:
            raise Skip("this machine's KVM has no XSAVE for a CPU model without it") from error
        expect_error("that its model lacks: xsave, avx (CR4", guest.machine.switch, "tcg")
        expect_untouched(guest.machine)
        guest.expect_laps(3)


# Where CPUID mirrors the guest's own state: OSXSAVE, APIC, OSPKE.
MIRRORS = {(1, "ECX"): 1 << 27, (1, "EDX"): 1 << 9, (7, "ECX"): 1 << 4}


def expect_model_features(guest):
    """The guest, which is in TCG and runs hostile64, must see its model's features and no others."""
    machine = guest.machine
    cpu, = machine.qmp("query-cpus-fast")
    words = machine.qmp("qom-get", path=cpu["qom-path"], property="feature-words")
    limits = {}
    for word in words:
        leaf, subleaf = word["cpuid-input-eax"], word.get("cpuid-input-ecx", 0)
        if leaf & 0xf0000000 not in limits:
            limits[leaf & 0xf0000000] = cpuid(guest, leaf & 0xf0000000, 0)["EAX"]
        # Beyond the last leaf there is another one's.
        if leaf > limits[leaf & 0xf0000000]:
            continue
        register = word["cpuid-register"]
        # TCG shows a feature only if KVM shows it.
        mirrors = MIRRORS.get((leaf, register), 0) | kvmprobe.takes_away(leaf, subleaf, register, word["features"])
        expect_equal(f"CPUID {leaf:#x}.{subleaf} {register}",
                     f"{word['features'] & ~mirrors:#x}",
                     f"{cpuid(guest, leaf, subleaf)[register] & ~mirrors:#x}")


def cpuid(guest, leaf, subleaf):
    guest.machine.serial.send(f"q= {leaf:x} {subleaf:x}\n")
    match = guest.machine.debugcon.expect(r"^done: cpuid (\w+) (\w+) (\w+) (\w+)\n", 20)
    return {f"E{letter}X": int(text, 16) for letter, text in zip("ABCD", match.groups())}


def model_features():
    """In TCG CPUID shows the features of the guest's CPU model, whatever KVM's table has."""
    need_kvm()
    for model in ("qemu64", "max"):
        for initial in ("tcg", "kvm"):
            with Payload("hostile64", f"switch,initial={initial}", name="states",
                         arguments=["-cpu", model]) as guest:
                guest.expect_laps(3)
                if initial == "kvm":
                    guest.machine.switch("tcg")
                expect_model_features(guest)
                says = "KVM shows the guest CPU features" in guest.machine.output()
                expect_equal("warning of features that TCG hides", kvmprobe.shows_more(), says)


def unplug():
    """No vCPU can be taken away."""
    with switchable(arguments=["-smp", "2"]) as guest:
        for accel in ("tcg", "kvm"):
            guest.machine.switch(accel)
            for cpu in guest.machine.qmp("query-hotpluggable-cpus"):
                expect_error("hot-unplug", guest.machine.qmp, "device_del", id=cpu["qom-path"])
            guest.expect_laps(3)


def shut_down():
    """After the guest's end, as -no-shutdown keeps it."""
    need_kvm()
    with Machine(["-accel", SWITCH, "-m", "64", "-nodefaults", "-no-reboot", "-no-shutdown"],
                 name="states") as machine:
        machine.qmp("system_reset")
        machine.wait_event("SHUTDOWN", 20)
        expect_error("shut down", machine.qmp, "switch-accel", {"accel": "tcg"})
        expect_untouched(machine)


def panicked():
    """A guest that has panicked, as -action panic=pause keeps it."""
    with switchable(arguments=["-device", "pvpanic", "-action", "panic=pause"]) as guest:
        machine = guest.machine
        guest.expect_laps(3)
        expect_equal("HMP's answer", "", machine.hmp("o /b 0x505 1"))
        machine.wait_event("GUEST_PANICKED", 20)
        expect_error("the guest has panicked", machine.qmp, "switch-accel", {"accel": "tcg"})
        expect_untouched(machine)
        machine.qmp("system_reset")
        machine.cont()
        machine.switch("tcg")
        guest.expect_laps(3)


def suspended():
    """A guest in ACPI's S3 is switched, sleeps on, and wakes up."""
    with switchable() as guest:
        machine = guest.machine
        for switches, accel in enumerate(("tcg", "kvm"), 1):
            guest.expect_laps(3)
            # The PIIX4's power management at 0xb000, as firmware has it, and SLP_EN with S3.
            for write in ("/w 0xcf8 0x80000b40", "/w 0xcfc 0xb001", "/w 0xcf8 0x80000b80",
                          "/b 0xcfc 1", "/h 0xb004 0x2400"):
                expect_equal("HMP's answer", "", machine.hmp("o " + write))
            machine.wait_event("SUSPEND", 20)
            machine.switch(accel)
            expect_equal("status", "suspended", status(machine))
            expect_untouched(machine, accel, switches)
            machine.qmp("system_wakeup")
            machine.debugcon.expect("soak64\n", 20)


def properties():
    """The options of both accelerators can be given, and reach them."""
    with switchable(SWITCH + ",kernel-irqchip=split,tb-size=24,kvm-shadow-mem=1048576") as guest:
        machine = guest.machine
        machine.switch("tcg")
        guest.expect_laps(3)
        size = re.search(r"gen code size +\d+/(\d+)", machine.hmp("info jit"))
        # What is not for code is a guard page or so.
        expect_equal("tb-size in MiB", 24, round(int(size.group(1)) / 2 ** 20))
        machine.switch("kvm")
        guest.expect_laps(3)
    said = refusal([], SWITCH + ",tb-size=few")
    if "tb-size" not in (said or ""):
        raise Failure(f"tb-size=few: {said}")


# The filter of system calls that libvirt runs QEMU with.
SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"


def expect_filtered(machine):
    """Each of the threads has the filter (proc(5): Seccomp is 2)."""
    for path in glob.glob(f"/proc/{machine.pid}/task/*/status"):
        with open(path, encoding="ascii") as file:
            expect_equal(path, "2", re.search(r"(?m)^Seccomp:\s*(\d)$", file.read()).group(1))


def sandboxed():
    """A switch needs nothing that the filter denies; the control is that it denies something."""
    with switchable(arguments=["-smp", "8", "-sandbox", SANDBOX]) as guest:
        machine = guest.machine
        for accel in ("tcg", "kvm") * 20:
            machine.switch(accel)
            guest.expect_laps(3)
        expect_filtered(machine)
        expect_error("Setting CPU affinity failed", machine.qmp, "object-add",
                     {"qom-type": "thread-context", "id": "control", "cpu-affinity": [0]})


def reset():
    """A reset in each accelerator: the payload begins again and finds nothing wrong."""
    with switchable() as guest:
        machine = guest.machine
        for accel in ("kvm", "tcg", "kvm", "tcg"):
            machine.switch(accel)
            guest.expect_laps(3)
            machine.qmp("system_reset")
            machine.debugcon.expect("soak64\n", 20)
            guest.expect_laps(3)


def ivshmem_server(path):
    """What serves one ivshmem-doorbell at @path (QEMU's docs/specs/ivshmem-spec.rst)."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen(1)

    def serve():
        with server, server.accept()[0] as client, tempfile.TemporaryFile() as memory:
            memory.truncate(1 << 20)
            for number in (0, 1):           # the version, the device's ID
                client.sendall(number.to_bytes(8, "little"))
            client.sendmsg([b"\xff" * 8], [(socket.SOL_SOCKET, socket.SCM_RIGHTS,
                                            array.array("i", [memory.fileno()]))])
            client.recv(1)                  # until QEMU ends

    threading.Thread(target=serve, daemon=True).start()


def refusal(arguments, accel=SWITCH):
    """What QEMU says when it ends at the start, or None."""
    try:
        with Machine(["-m", "64", "-nodefaults", "-accel", accel, *arguments], name="states",
                     start=False) as machine:
            print(f"{' '.join(arguments)}: accepted ({status(machine)})")
    except MachineError as error:
        return str(error)
    return None


# What no switch can carry, and the end of the sentence that says so.  Those that need no KVM to be
# refused are tests/qtest/accel-switch-options-test.c's.
Q35 = ["-M", "q35"]
LACKS = "KVM or TCG lacks the CPU feature "
REFUSED = [
    ([*Q35, "-device", "intel-iommu"], "does not work with device 'intel-iommu'"),
    ([*Q35, "-device", "amd-iommu"], "does not work with device 'amd-iommu'"),
    ([*Q35, "-device", "virtio-iommu-pci"], "does not work with device 'virtio-iommu-device'"),
    (["-cpu", "qemu64,tsc-frequency=1000000000"],
     "does not work with TSC scaling (tsc-frequency=)"),
    (["-cpu", "qemu64,hv-relaxed=on"], "does not work with Hyper-V enlightenments (hv-*)"),
    (["-cpu", "qemu64,hv-passthrough=on"],
     "does not work with Hyper-V enlightenments (hv-*)"),
    (["-cpu", "qemu64,pmu=on"], "does not work with a PMU (pmu=on)"),
    (["-cpu", "qemu64,lmce=on"], "does not work with LMCE (lmce=on)"),
    (["-global", "apic-common.vapic=on"], "does not work with kvmvapic (apic-common.vapic=on)"),
    (["-cpu", "486"], "does not work with a CPU without 'apic'"),
    (["-cpu", "qemu64,+svm"], LACKS + "'svm'"),
    (["-cpu", "qemu64,+vmx"], LACKS + "'vmx'"),
    (["-cpu", "max,+avx512f"], LACKS + "'avx512f'"),
    (["-cpu", "qemu64,kvm-asyncpf=on"], LACKS + "'kvm-asyncpf'"),
]


def options():
    """What can't work is refused at the start, by a sentence that names the option."""
    need_kvm()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "ivshmem")
        ivshmem_server(path)
        doorbell = (["-chardev", f"socket,id=doorbell,path={path}", "-device",
                     "ivshmem-doorbell,chardev=doorbell,vectors=1"],
                    "does not work with device 'ivshmem-doorbell'")
        wrong = []
        for arguments, sentence in (*REFUSED, doorbell):
            said = refusal(arguments) or "accepted"
            print(f"{' '.join(arguments)}: {said.splitlines()[-1]}")
            if sentence not in said:
                wrong.append(f"{' '.join(arguments)}: {said}")
    if wrong:
        raise Failure("not refused as it should be:\n  " + "\n  ".join(wrong))


# Of its means against speculative execution a guest loses none.
MITIGATIONS = ("spec-ctrl", "ibrs", "ibpb", "stibp", "amd-stibp", "ssbd", "amd-ssbd", "virt-ssbd", "md-clear",
               "flush-l1d", "pcid", "invpcid", "tsc-adjust")


def widest():
    """Of all that the host has, a guest sees what both accelerators have; and no AVX-512 nor AMX."""
    need_kvm()
    plain = doctor.features(None, PLAIN_KVM, "max")
    with switchable(arguments=["-cpu", "max"]) as guest:
        cpu, = guest.machine.qmp("query-cpus-fast")
        expected = {feature: feature in plain for feature in MITIGATIONS}
        print(expected)
        lost = guest.machine.qmp("query-accel")["features-lost"]
        expect_equal("features lost", doctor.lost_features(None, "max", plain), sorted(lost))
        expect_equal("info accel", f"features lost: {' '.join(lost)}", re.search(
            "features lost: .*", guest.machine.hmp("info accel")).group().strip())
        expected |= dict.fromkeys(("avx512f", "amx-tile", "mpx", "vme", "vmx", "svm", "invtsc"), False)
        for feature, there in expected.items():
            expect_equal(feature, there, guest.machine.qmp("qom-get", path=cpu["qom-path"], property=feature))
        for accel in ("tcg", "kvm") * 10:
            guest.machine.switch(accel)
            guest.expect_laps(3)


main({"surface": surface, "same": same, "unknown": unknown, "plain": plain,
      "before-start": before_start, "stopped": stopped, "dumped": dumped, "plugin": plugin,
      "widest": widest, "null-segment": null_segment, "foreign-features": foreign_features,
      "model-features": model_features,
      "unplug": unplug, "shut-down": shut_down, "panicked": panicked, "suspended": suspended,
      "properties": properties, "sandboxed": sandboxed, "reset": reset, "options": options,
      "debugger": debugger})
