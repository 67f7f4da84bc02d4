# SPDX-License-Identifier: GPL-2.0-or-later
"""What the rig boots: Debian's cloud kernel, an initramfs, and a disk of files.

Programs are put on the disk under the path that they have here, each with its
libraries, so that a command line means the same on both sides.
"""

import os
import re
import shutil
import stat
import subprocess

from pathlib import Path

from vas import debs

RIG = Path(__file__).resolve().parents[2] / "rig"
FIRMWARE = ("/usr/share/qemu", "/usr/share/seabios", "/usr/lib/ipxe/qemu")
KERNEL = "linux-image-cloud-amd64"

# In this order, each after what it depends on: KVM first, for vas.kvm=early.
# Names are of modules, options follow.  halt_poll_ns: a host CPU that polls takes
# time from those that work.
MODULES = ("kvm halt_poll_ns=0", "kvm-amd", "virtio_pci", "virtio_blk", "virtio_net")


class RigError(Exception):
    """One sentence that says what the rig could not do."""


def cpio_entry(name, mode, data=b""):
    """One file of a newc archive."""
    encoded = name.encode() + b"\0"
    fields = [0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0]
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)


def cpio(files):
    """A newc archive of (name, mode, data) in that order."""
    return b"".join(cpio_entry(*f) for f in files) + cpio_entry("TRAILER!!!", 0)


def module_files(modules):
    """Map of module names, with "_" for "-", to their files below @modules."""
    return {p.stem.replace("-", "_"): p for p in modules.rglob("*.ko")}


def module_depends(path):
    """The names that a module's .modinfo says must be loaded before."""
    match = re.search(rb"\0depends=([^\0]*)\0", path.read_bytes())
    text = match.group(1).decode() if match else ""
    return [name.replace("-", "_") for name in text.split(",") if name]


def load_order(wanted, files):
    """[(file, options)] for the modules @wanted and all that they depend on."""
    order = []

    def add(name, options):
        name = name.replace("-", "_")
        if name not in files:
            return               # built in
        if any(path == files[name] for path, _ in order):
            return
        for other in module_depends(files[name]):
            add(other, "")
        order.append((files[name], options))

    for entry in wanted:
        name, _, options = entry.partition(" ")
        add(name, options)
    return order


def busybox():
    for path in ("/bin/busybox", "/usr/bin/busybox"):
        if os.path.exists(path):
            return Path(path)
    raise RigError("busybox is missing (package busybox-static)")


def modules_archive(wanted, modules_root):
    """Files of an initramfs that hold the modules @wanted and their order."""
    files, lines = [("modules", stat.S_IFDIR | 0o755)], []
    for path, options in load_order(wanted, module_files(modules_root)):
        files.append((f"modules/{path.name}", stat.S_IFREG | 0o644, path.read_bytes()))
        lines.append(f"{path.name} {options}".rstrip())
    files.append(("modules/order", stat.S_IFREG | 0o644,
                  ("\n".join(lines) + "\n").encode()))
    return files


def initramfs(kernel_root, release):
    """The rig's initramfs as bytes."""
    folder = stat.S_IFDIR | 0o755
    files = [(name, folder) for name in ("bin", "proc", "sys", "dev", "root")]
    files.append(("bin/busybox", stat.S_IFREG | 0o755, busybox().read_bytes()))
    files.append(("init", stat.S_IFREG | 0o755, (RIG / "init").read_bytes()))
    files += modules_archive(MODULES, kernel_root / "lib/modules" / release)
    return cpio(files)


def libraries(program):
    """The shared libraries of @program, as ldd finds them."""
    out = subprocess.run(["ldd", program], check=False, capture_output=True,
                         text=True).stdout
    return re.findall(r"^\s*(?:\S+ => )?(/\S+) \(0x", out, re.M)


def is_elf(path):
    with open(path, "rb") as file:
        return file.read(4) == b"\x7fELF"


class Tree:
    """The folder that becomes the rig's root disk."""

    def __init__(self, root):
        self.root = Path(root)
        for name in ("bin", "dev", "etc", "proc", "root", "run", "sys", "tmp",
                     "var/tmp"):
            (self.root / name).mkdir(parents=True)
        (self.root / "tmp").chmod(0o1777)
        (self.root / "etc/passwd").write_text("root::0:0:root:/root:/bin/sh\n")
        self._busybox()
        self._agent()
        shutil.copy(RIG / "start", self.root / "rig-start")
        for folder in FIRMWARE:
            if os.path.isdir(folder):
                shutil.copytree(folder, self.inside(folder), symlinks=False,
                                dirs_exist_ok=True, ignore_dangling_symlinks=True)

    def inside(self, path):
        return self.root / str(path).lstrip("/")

    def _busybox(self):
        shutil.copy(busybox(), self.root / "bin/busybox")
        out = subprocess.run([busybox(), "--list"], check=True, capture_output=True,
                             text=True).stdout
        for applet in out.split():
            link = self.root / "bin" / applet
            if not link.exists():
                link.symlink_to("busybox")

    def _agent(self):
        command = ["gcc", "-O1", "-Wall", "-static", "-o", self.root / "rig-agent",
                   RIG / "agent.c"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise RigError("compiling rig/agent.c failed: " +
                           (done.stderr.strip().splitlines() or ["gcc"])[0])

    def add(self, path):
        """Copy the file @path, and its libraries, to the same path inside."""
        path = os.path.abspath(path)
        target = self.inside(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if os.path.isdir(path):
            shutil.copytree(path, target, dirs_exist_ok=True)
            return
        shutil.copy(path, target)
        if is_elf(path):
            for library in libraries(path):
                place = self.inside(library)
                if not place.exists():
                    place.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(library, place)

    def make_disk(self, disk):
        """Write the tree as an ext4 image with half a GiB to spare."""
        used = sum(p.lstat().st_size for p in self.root.rglob("*") if not p.is_dir())
        size = (used >> 20) * 5 // 4 + 512
        mke2fs = shutil.which("mke2fs") or "/sbin/mke2fs"
        done = subprocess.run([mke2fs, "-q", "-F", "-t", "ext4", "-m", "0",
                               "-O", "^has_journal", "-d", self.root, disk, f"{size}M"],
                              check=False, capture_output=True, text=True)
        if done.returncode:
            raise RigError(f"mke2fs failed: {done.stderr.strip()}")


def kernel():
    """(vmlinuz, folder of the unpacked package, release) of the rig's kernel."""
    root, release = debs.unpacked_kernel(KERNEL, "amd64")
    return root / f"boot/vmlinuz-{release}", root, release
