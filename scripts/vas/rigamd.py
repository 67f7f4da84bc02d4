# SPDX-License-Identifier: GPL-2.0-or-later
"""The AMD rig: our QEMU emulates a host with AMD-V by TCG, on which kvm-amd is real."""

import os
import re
import socket
import sys

from vas import paths
from vas.host import HostError, Listener
from vas.qmp import QMPClient, QMPError, QMPLost
from vas.rigbase import Rig
from vas.rigtree import FIRMWARE, RigError


def outer_qemu():
    """The QEMU that plays the host: one with our fixes to TCG's SVM."""
    folder = os.environ.get("VAS_RIG_QEMU")
    binary = os.path.join(folder, "qemu-system-x86_64") if folder else paths.qemu("x86_64")
    if not os.access(binary, os.X_OK):
        raise RigError(f"{binary} is not there: ./vas build makes it")
    return binary


class AmdRig(Rig):
    """With two CPUs it hangs now and then (docs/testing.rst)."""

    cpu = "amd"
    vendor = "amd"
    usual_model = "EPYC,+svm,+npt,+umip,+pku,+pcid,+invpcid,+xsaves,+serialize"
    emulator = "QEMU"
    kernel_package = "linux-image-cloud-amd64"
    # halt_poll_ns: a host CPU that polls takes time from those that work.
    modules = ("kvm halt_poll_ns=0", "kvm-amd", "virtio_pci", "virtio_blk", "virtio_net")
    disk_prefix = "vd"
    laps_divisor = 2

    def __init__(self, *arguments, **keywords):
        self._qmp = None
        super().__init__(*arguments, **keywords)

    def _launch(self, smp, mem, cmdline):
        qmp = self.directory / "qmp"
        argv = [outer_qemu(), "-accel", "tcg,thread=multi,tb-size=512",
                "-M", "q35,vmport=off", "-cpu", self.model,
                "-smp", str(smp), "-m", str(mem), "-nodefaults", "-no-user-config",
                "-display", "none", "-no-reboot",
                "-kernel", str(self._vmlinuz), "-initrd", str(self.directory / "initrd"),
                *[o for f in FIRMWARE for o in ("-L", f)],
                "-append", f"console=ttyS0 {cmdline}",
                "-chardev", f"file,id=console,path={self.console}",
                "-serial", "chardev:console",
                "-qmp", f"unix:{qmp},server=on,wait=off",
                "-netdev", "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:0-:1",
                "-device", "virtio-net-pci,netdev=net,romfile="]
        drives = [f"file={d},format={'qcow2' if d.endswith('qcow2') else 'raw'},snapshot=on"
                  for d in self.disks]
        drives.append(f"file={self.directory}/files.raw,format=raw,cache=unsafe")
        for number, drive in enumerate(drives):
            argv += ["-drive", f"{drive},if=none,id=disk{number}",
                     "-device", f"virtio-blk-pci,drive=disk{number},addr={16 + number:#x}"]
        self._start(argv)
        self._connect_qmp(qmp)

    def _connect_qmp(self, path):
        listener = Listener("", socket.AF_UNIX, str(path))
        try:
            self._qmp = QMPClient(listener.connect(30, self.running),
                                  open(self.directory / "qmp.log", "ab"), 30)
            usernet = self._qmp.execute("human-monitor-command",
                                        {"command-line": "info usernet"}, 30)
        except (HostError, QMPLost, QMPError) as error:
            raise RigError(f"the rig's QEMU did not start: {self._last_words(error)}") from error
        line = next((l for l in usernet.splitlines() if "HOST_FORWARD" in l), "")
        if not line:
            raise RigError("the rig's QEMU forwards no port")
        self._port = int(line.split()[3])

    def _examine(self):
        super()._examine()
        if not self.running() or self._qmp is None:
            return
        try:
            text = self._qmp.execute("human-monitor-command",
                                     {"command-line": "info registers -a"}, 10)
        except (QMPLost, QMPError) as error:
            text = str(error)
        self.console.with_suffix(".state").write_text(text)
        for found in re.finditer(r"^CPU#\d+|\bRIP=.*", text, re.M):
            print(f"rig: {found.group().strip()}", file=sys.stderr)

    def close(self):
        super().close()
        if self._qmp is not None:
            self._qmp.close()
