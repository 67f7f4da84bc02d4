# SPDX-License-Identifier: GPL-2.0-or-later
"""
The rigs that Bochs emulates: a host with VMX and EPT, on which kvm-intel is real, as TCG has no VMX;
and one with SVM, a second opinion on kvm-amd.

Bochs boots from an ISO image, has IDE disks and an e1000 network interface, whose user-mode network
forwards a port of this machine to the rig's agent.
"""

import os
import re
import shutil
import socket
import subprocess

from pathlib import Path

from vas import paths
from vas.bochs import bochs
from vas.rigbase import Rig
from vas.rigtree import RigError, kernel

# Files of the packages in scripts/packages/bochs.list.
ISOLINUX = Path("/usr/lib/ISOLINUX/isolinux.bin")
LDLINUX = Path("/usr/lib/syslinux/modules/bios/ldlinux.c32")
BIOS = Path("/usr/share/bochs/BIOS-bochs-latest")
VGA_BIOS = Path("/usr/share/vgabios/vgabios.bin")

# Bochs takes a disk's size for whole cylinders of so many heads and sectors.
CYLINDER = 16 * 63 * 512
# The fourth place of the two IDE channels is the CD's.
PLACES = ("ata0-master", "ata0-slave", "ata1-slave")
MAC = "52:54:00:12:34:56"

IPS = 100000000
# ips: instructions a second, and the TSC's frequency; the emulated time is as fast as this machine's
# at most, and slower where it does not reach that.
CONFIGURATION = """\
display_library: nogui
romimage: file={bios}
vgaromimage: file={vga_bios}
memory: guest={mem}, host={mem}
cpu: model={model}, count={smp}, ips={ips}, reset_on_triple_fault=0, ignore_bad_msrs=1
clock: sync=slowdown, rtc_sync=0, time0=utc
pci: enabled=1, chipset=i440fx, slot1=e1000
e1000: enabled=1, mac={mac}, ethmod=slirp, ethdev={directory}, script={directory}/slirp.conf
boot: cdrom
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata1: enabled=1, ioaddr1=0x170, ioaddr2=0x370, irq=15
ata1-master: type=cdrom, path={directory}/boot.iso, status=inserted
{disks}
com1: enabled=1, mode=file, dev={console}
log: {log}
panic: action=report
error: action=report
info: action=ignore
debug: action=ignore
"""
# Bochs wants the first line.
SLIRP = """\
# slirp config
restricted = 1
hostfwd = tcp:127.0.0.1:{port}-10.0.2.15:1
"""
ISOLINUX_CONFIGURATION = """\
DEFAULT rig
PROMPT 0
LABEL rig
  KERNEL /vmlinuz
  INITRD /initrd
  APPEND {cmdline}
"""


def prepare():
    """Fetch and build what takes long: Bochs and the kernel."""
    bochs()
    kernel(BochsRig.kernel_package)


def reserved_port():
    """
    A socket whose port no other program is given, but that Bochs can listen at: both have
    SO_REUSEADDR, and this one does not listen.
    """
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    return sock


class BochsRig(Rig):
    """What differs between the vendors is for a subclass to say."""

    emulator = "Bochs"
    # The cloud kernel lacks the drivers.
    kernel_package = "linux-image-amd64"
    boot_timeout = 600
    disk_prefix = "sd"
    # CPUID 15h of newer models tells another TSC frequency than Bochs's.
    console_options = f"console=ttyS0,115200 nomodeset noresume tsc_early_khz={IPS // 1000}"
    slowness = 6
    laps_divisor = 8

    def __init__(self, *arguments, **keywords):
        self._reserved = None
        super().__init__(*arguments, **keywords)

    @staticmethod
    def _modules(kvm):
        return ("kvm halt_poll_ns=0", kvm, "crc32c_generic", "ata_piix", "sd_mod", "ext4", "e1000")

    def _prepare(self, files, suite):
        if len(self.disks) >= len(PLACES):
            raise RigError(f"a rig in Bochs takes {len(PLACES) - 1} disks at most, and "
                           f"{len(self.disks)} were given")
        for file in (ISOLINUX, LDLINUX, BIOS, VGA_BIOS):
            if not file.exists():
                raise RigError(f"{file} is missing: './vas rig --cpu {self.cpu}' installs its package")
        super()._prepare(files, suite)

    def _boot_image(self, cmdline):
        """An ISO image with the kernel, its initramfs and a boot loader."""
        folder = self.directory / "iso"
        folder.mkdir()
        for file in (ISOLINUX, LDLINUX):
            shutil.copy(file, folder)
        shutil.copy(self._vmlinuz, folder / "vmlinuz")
        (self.directory / "initrd").rename(folder / "initrd")
        (folder / "isolinux.cfg").write_text(ISOLINUX_CONFIGURATION.format(cmdline=cmdline))
        done = subprocess.run(
            ["xorriso", "-as", "mkisofs", "-quiet", "-o", self.directory / "boot.iso",
             "-b", "isolinux.bin", "-c", "boot.cat", "-no-emul-boot", "-boot-load-size", "4",
             "-boot-info-table", folder], check=False, capture_output=True, text=True)
        if done.returncode:
            raise RigError(f"xorriso failed: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
        shutil.rmtree(folder)

    def _flat_disk(self, number, image):
        """A copy of @image as Bochs wants its disks; returns its line of the configuration."""
        flat = self.directory / f"disk{number}.raw"
        done = subprocess.run([os.path.join(paths.QEMU, "qemu-img"), "convert", "-O", "raw",
                               image, flat], check=False, capture_output=True, text=True)
        if done.returncode:
            raise RigError(f"{image} could not be copied: {done.stderr.strip()}")
        size = os.path.getsize(flat)
        os.truncate(flat, -(-size // CYLINDER) * CYLINDER)
        return f"{PLACES[number]}: type=disk, path={flat}, mode=flat, cylinders=0"

    def _check_model(self, program):
        done = subprocess.run([program, "--help", "cpu"], check=False, capture_output=True, text=True)
        known = re.findall(r"^\w+$", done.stdout + done.stderr, re.M)
        if self.model not in known:
            raise RigError(f"Bochs has no processor '{self.model}'; it has: "
                           f"{', '.join(known)}")

    def _launch(self, smp, mem, cmdline):
        program = bochs(smp > 1)
        self._check_model(program)
        self._boot_image(f"{self.console_options} {cmdline}")
        disks = [self._flat_disk(number, image) for number, image in
                 enumerate([*self.disks, self.directory / "files.raw"])]
        (self.directory / "files.raw").unlink()
        self._reserved = reserved_port()
        self._port = self._reserved.getsockname()[1]
        (self.directory / "slirp.conf").write_text(SLIRP.format(port=self._port))
        self._log = self.console.with_suffix(".bochs")
        configuration = self.directory / "bochsrc"
        configuration.write_text(CONFIGURATION.format(
            bios=BIOS, vga_bios=VGA_BIOS, mem=mem, smp=smp, mac=MAC, directory=self.directory,
            model=self.model, ips=IPS,
            disks="\n".join(disks), console=self.console, log=self._log))
        self._start([program, "-q", "-f", configuration])

    def _last_words(self, otherwise="no message"):
        """Bochs says in its log why it ends, and draws its banner in what it prints."""
        try:
            lines = self._log.read_text(errors="replace").splitlines()
        except (AttributeError, OSError):
            lines = []
        said = [line for line in lines if "PANIC" in line] or lines
        return said[-1].strip() if said else super()._last_words(otherwise)

    def close(self):
        super().close()
        if self._reserved is not None:
            self._reserved.close()


class IntelRig(BochsRig):
    """A Core i7-4770 (Haswell) with EPT, VPID and unrestricted guest, if no other is asked for."""

    cpu = "intel"
    vendor = "intel"
    usual_model = "corei7_haswell_4770"
    modules = BochsRig._modules("kvm-intel")


class BochsAmdRig(BochsRig):
    """A Ryzen with SVM and nested paging."""

    cpu = "amd-bochs"
    vendor = "amd"
    usual_model = "ryzen"
    modules = BochsRig._modules("kvm-amd")
