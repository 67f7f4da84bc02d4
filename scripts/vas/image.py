# SPDX-License-Identifier: GPL-2.0-or-later
"""The Debian i386 guest: a raw disk with GRUB in its MBR, built once and cached.

"./vas image" builds it if it is not there and prints its path.  Nobody may
write to the file: give it to QEMU with snapshot=on or below an overlay.
"""

import argparse
import hashlib
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time

from pathlib import Path

from vas import debs, foreign

RECIPE = Path(__file__).resolve().parents[1] / "image"
GRUB = Path("/usr/lib/grub/i386-pc")
SECTOR = 512
FIRST_SECTOR = 2048              # 1 MiB: room for GRUB between MBR and partition
FS_MIB = 1000
GRUB_MODULES = ("biosdisk part_msdos ext2 normal configfile linux serial "
                "terminal echo test sleep reboot halt").split()

USER, PASSWORD = "root", "vas"
LOAD_FLAGS = "-m32 -march=pentium4 -mfpmath=387 -O1 -Wall -Wextra -static -pthread".split()


class ImageError(Exception):
    """Something that a person must put right, said in one sentence."""


def say(started, text):
    """One line of progress with the time since @started."""
    print(f"image: {time.monotonic() - started:5.1f} s  {text}", file=sys.stderr,
          flush=True)


def recipe_key():
    """Hash of everything that the image depends on in the repository."""
    digest = hashlib.sha256()
    files = sorted(p for p in RECIPE.rglob("*") if p.is_file())
    for path in [*files, Path(__file__)]:
        digest.update(path.name.encode() + b"\0")
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def words(path):
    """The lines of a list file, without comments."""
    lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if line]


def as_root():
    """Prefix that runs a command as root."""
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo"):
        return ["sudo", "--preserve-env=VAS_RECIPE"]
    raise ImageError("building the image needs root or sudo, and there is neither")


def run(argv, log, what, **kwargs):
    """Run @argv with its output in the file @log; ImageError names @what."""
    with open(log, "ab") as out:
        done = subprocess.run([str(a) for a in argv], check=False, stdout=out,
                              stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                              **kwargs)
    if done.returncode:
        tail = Path(log).read_text(errors="replace").strip().splitlines()[-8:]
        print("\n".join("image: | " + line for line in tail), file=sys.stderr)
        raise ImageError(f"{what} failed; the whole log is {log}")


def check_tools():
    for tool in ("mmdebstrap", "arch-test", "mke2fs", "grub-mkimage",
                 "i686-linux-gnu-gcc"):
        if not shutil.which(tool, path=os.environ.get("PATH", "") + ":/sbin:/usr/sbin"):
            raise ImageError(f"{tool} is missing (packages: scripts/packages/image.list)")


def build_load(target, log):
    """Compile the self-checking load, static, for any i686 with SSE2."""
    sources = sorted((RECIPE / "load").glob("*.c"))
    run(["i686-linux-gnu-gcc", *LOAD_FLAGS, "-o", target, *sources, "-lm"], log,
        "compiling scripts/image/load")


def build_tree(tree, scratch, log):
    """Let mmdebstrap make the guest's file tree, owned by root, at @tree."""
    recipe = scratch / "recipe"
    shutil.copytree(RECIPE, recipe)
    build_load(recipe / "vas-load", log)
    excludes = [f"--dpkgopt=path-exclude={p}" for p in words(RECIPE / "dpkg-exclude.list")]
    command = [*as_root(), "mmdebstrap", "--mode=root", "--format=directory",
               "--variant=minbase", "--architectures=i386",
               "--include=" + ",".join(words(RECIPE / "packages.list")),
               "--aptopt=APT::Install-Recommends false",
               "--aptopt=Acquire::Languages none",
               "--aptopt=Acquire::Retries 3",
               "--dpkgopt=force-unsafe-io", *excludes,
               # The initramfs is made once or twice, by the packages; that is most of an emulated installation.
               f"--essential-hook={recipe}/initramfs.sh \"$1\"",
               f"--customize-hook={recipe}/setup.sh \"$1\"",
               # Only main: an optional suite that is broken today must not matter.
               debs.SUITE, str(tree), debs.sources_line("i386")]
    run(command, log, "mmdebstrap", env={**os.environ, "VAS_RECIPE": str(recipe)})


def grub_core(scratch, log):
    core = scratch / "core.img"
    run(["grub-mkimage", "-O", "i386-pc", "-d", GRUB, "-o", core,
         "-c", RECIPE / "grub-early.cfg", "-p", "(hd0,msdos1)/boot/grub",
         *GRUB_MODULES], log, "grub-mkimage")
    return core.read_bytes()


def write_boot_sectors(disk, core, sectors):
    """MBR, partition table and GRUB.

    boot.img and core.img are made to be patched by grub-install with the place
    of the next stage; as they come they look for it in sectors 1 and 2, which
    is where it is put here.
    """
    if len(core) > (FIRST_SECTOR - 1) * SECTOR:
        raise ImageError("GRUB's core image does not fit before the partition")
    boot = (GRUB / "boot.img").read_bytes()
    entry = struct.pack("<B3sB3sII", 0x80, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff",
                        FIRST_SECTOR, sectors)
    mbr = boot[:440] + struct.pack("<IH", 0x76617331, 0) + entry + bytes(48) + b"\x55\xaa"
    with open(disk, "r+b") as out:
        out.write(mbr)
        out.write(core)


def build(target):
    """Build the image into the folder @target."""
    check_tools()
    started = time.monotonic()
    target.mkdir(parents=True, exist_ok=True)
    log = target / "build.log"
    log.write_bytes(b"")
    scratch = Path(tempfile.mkdtemp(prefix="vas-image-", dir=target.parent))
    # mmdebstrap's _apt and the hook must get through.
    scratch.chmod(0o755)
    tree = scratch / "tree"
    try:
        with foreign.i386_programs(as_root()) as runs:
            if not runs:
                raise ImageError("this machine's kernel can't run i386 binaries (CONFIG_IA32_EMULATION), which"
                                 " setting up an i386 Debian needs; install qemu-user-static")
            say(started, f"installing Debian {debs.SUITE} i386 (1 to 2 minutes; emulated, 10)")
            build_tree(tree, scratch, log)
        say(started, "making the file system")
        part, disk = scratch / "part.raw", scratch / "disk.raw"
        run([*as_root(), "/sbin/mke2fs", "-q", "-t", "ext4", "-L", "vas-root",
             "-m", "0", "-E", "root_owner=0:0", "-d", tree, part, f"{FS_MIB}M"],
            log, "mke2fs")
        say(started, "putting GRUB before it")
        size = FS_MIB << 20
        with open(disk, "wb") as out:
            out.truncate(FIRST_SECTOR * SECTOR + size)
        run(["dd", f"if={part}", f"of={disk}", f"bs={FIRST_SECTOR * SECTOR}", "seek=1",
             "conv=sparse,notrunc"], log, "dd")
        write_boot_sectors(disk, grub_core(scratch, log), size // SECTOR)
        disk.chmod(0o444)
        disk.rename(target / "disk.raw")
        say(started, f"done: {target / 'disk.raw'}")
    finally:
        subprocess.run([*as_root(), "rm", "-rf", scratch], check=False)


def image_path():
    """Path of the disk image, which is built first if it is not there."""
    target = debs.cache_dir() / "image" / recipe_key()
    with debs.cache_lock("image"):
        if not (target / "disk.raw").exists():
            build(target)
    return target / "disk.raw"


def main():
    parser = argparse.ArgumentParser(
        prog="vas image", description="Build the Debian i386 guest image "
        f"(login {USER}, password {PASSWORD}) and print its path.")
    parser.add_argument("--rebuild", action="store_true", help="even if it is there")
    args = parser.parse_args()
    try:
        if args.rebuild:
            (debs.cache_dir() / "image" / recipe_key() / "disk.raw").unlink(missing_ok=True)
        print(image_path())
    except (ImageError, debs.DebError) as error:
        sys.exit(f"vas image: {error}")


if __name__ == "__main__":
    main()
