# SPDX-License-Identifier: GPL-2.0-or-later
"""What the rig boots: Debian's kernel, an initramfs, and a disk of files.

Programs are put on the disk under the path that they have here, each with its
libraries, so that a command line means the same on both sides.
"""

import lzma
import os
import re
import shutil
import stat
import subprocess

from pathlib import Path

from vas import debs

RIG = Path(__file__).resolve().parents[1] / "rig"
FIRMWARE = ("/usr/share/qemu", "/usr/share/seabios", "/usr/lib/ipxe/qemu")


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


def module_name(path):
    """The name of the module in the file @path, with "_" for "-"."""
    return path.name.split(".")[0].replace("-", "_")


def module_files(modules):
    """Map of module names to their files below @modules, which may be compressed."""
    return {module_name(p): p for p in modules.rglob("*.ko*") if p.suffix in (".ko", ".xz")}


def module_bytes(path):
    """The module in the file @path, uncompressed: busybox's insmod loads no other."""
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def module_depends(path):
    """The names that a module's .modinfo says must be loaded before."""
    match = re.search(rb"\0depends=([^\0]*)\0", module_bytes(path))
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
        name = module_name(path) + ".ko"
        files.append((f"modules/{name}", stat.S_IFREG | 0o644, module_bytes(path)))
        lines.append(f"{name} {options}".rstrip())
    files.append(("modules/order", stat.S_IFREG | 0o644,
                  ("\n".join(lines) + "\n").encode()))
    return files


def initramfs(modules, modules_root):
    """The rig's initramfs as bytes, with the @modules in that order."""
    folder = stat.S_IFDIR | 0o755
    files = [(name, folder) for name in ("bin", "proc", "sys", "dev", "root")]
    files.append(("bin/busybox", stat.S_IFREG | 0o755, busybox().read_bytes()))
    files.append(("init", stat.S_IFREG | 0o755, (RIG / "init").read_bytes()))
    files += modules_archive(modules, modules_root)
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
            raise RigError("compiling scripts/rig/agent.c failed: " +
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


def kernel(package="linux-image-cloud-amd64", suite=debs.SUITE):
    """(vmlinuz, folder of modules, release) of a kernel for the rig."""
    return debs.unpacked_kernel(package, "amd64", suite)
