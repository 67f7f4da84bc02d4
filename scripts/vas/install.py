# SPDX-License-Identifier: GPL-2.0-or-later
"""./vas install: QEMU as a package has it, beside the distribution's."""

import argparse
import contextlib
import os
import shutil
import subprocess
import sys

from vas import paths

PACKAGE = os.path.join(paths.BUILD, "qemu-package")
PARTS = os.path.join(paths.TOP, "scripts/package")
DOC = "share/doc/qemu-vas"
# The places of all that was installed, a line each
LIST = f"{DOC}/installed"
TARGETS = ("i386", "x86_64")
# What Debian's packages have, and the programs look for there.
FIRMWARE = {"/usr/share/qemu/keymaps": "qemu-system-data", "/usr/share/seabios/bios-256k.bin": "seabios",
            "/usr/lib/ipxe/qemu/efi-virtio.rom": "ipxe-qemu"}


# Plugins that are of use to QEMU's own tests alone
TESTS_PLUGINS = ("libempty.so", "libinline.so", "libreset.so")


def plugins():
    """The built TCG plugins."""
    for folder in ("contrib/plugins", "tests/tcg/plugins"):
        where = os.path.join(PACKAGE, folder)
        yield from (os.path.join(where, name) for name in sorted(os.listdir(where))
                    if name.endswith(".so") and name not in TESTS_PLUGINS)


def pages():
    """The documentation, as (its place, path)."""
    for name in ("README.md", "COPYING"):
        yield name, os.path.join(paths.TOP, name)
    docs = os.path.join(paths.TOP, "docs")
    for folder, _, names in sorted(os.walk(docs)):
        for name in sorted(names):
            path = os.path.join(folder, name)
            yield os.path.join("docs", os.path.relpath(path, docs)), path


def files():
    """All that is installed: (place below the prefix, path here, mode)."""
    for target in TARGETS:
        yield f"bin/qemu-vas-{target}", os.path.join(PACKAGE, f"qemu-system-{target}"), 0o755
        yield f"share/man/man1/qemu-vas-{target}.1", os.path.join(PARTS, "alias.1"), 0o644
        yield (f"share/bash-completion/completions/qemu-vas-{target}", os.path.join(PARTS, "completion.bash"),
               0o644)
    yield "bin/qemu-vas-libvirt", os.path.join(PARTS, "libvirt.sh"), 0o755
    yield "share/man/man1/qemu-vas-libvirt.1", os.path.join(PARTS, "alias.1"), 0o644
    for path in plugins():
        yield f"lib/qemu-vas/plugins/{os.path.basename(path)}", path, 0o644
    yield "share/man/man1/qemu-vas.1", os.path.join(PARTS, "qemu-vas.1"), 0o644
    for place, path in pages():
        yield f"{DOC}/{place}", path, 0o644


def install(root, strip):
    """Below @root; @strip: without what only a debugger reads."""
    places = []
    for place, path, mode in files():
        places.append(place)
        to = os.path.join(root, place)
        os.makedirs(os.path.dirname(to), exist_ok=True)
        # Under another name first: a program may be running, or the disk be full.
        new = to + ".new"
        shutil.copyfile(path, new)
        if strip and not path.startswith(PARTS) and place.startswith(("bin/", "lib/")):
            subprocess.run(["strip", "--strip-unneeded", new], check=True)
        os.chmod(new, mode)
        os.replace(new, to)
    with open(os.path.join(root, LIST), "w", encoding="utf-8") as file:
        file.writelines(f"{place}\n" for place in [*places, LIST])


def remove(root):
    """What install() has put below @root, and folders of qemu-vas's own; returns how many files."""
    try:
        with open(os.path.join(root, LIST), encoding="utf-8") as file:
            places = file.read().splitlines()
    except FileNotFoundError:
        return 0
    folders = set()
    for place in places:
        with contextlib.suppress(FileNotFoundError):
            os.remove(os.path.join(root, place))
        while "qemu-vas" in (place := os.path.dirname(place)):
            folders.add(place)
    for folder in sorted(folders, key=len, reverse=True):
        path = os.path.join(root, folder)
        if os.path.isdir(path) and not os.listdir(path):
            os.rmdir(path)
    return len(places)


def main():
    parser = argparse.ArgumentParser(
        prog="vas install", description="Install qemu-vas-i386, qemu-vas-x86_64, QEMU's TCG plugins, a manual "
        "page, completion for bash and the documentation. The programs lack what only tests ask of the switch.")
    parser.add_argument("--prefix", metavar="DIR", required=True, help="where to, such as /usr/local or ~/.local")
    parser.add_argument("--destdir", metavar="DIR", default="", help="put it below this folder; for packages")
    parser.add_argument("--remove", action="store_true", help="remove what this command has installed there")
    parser.add_argument("--no-build", action="store_true", help="install what is built already")
    args = parser.parse_args()
    prefix = os.path.abspath(os.path.expanduser(args.prefix))
    root = os.path.abspath(args.destdir) + prefix if args.destdir else prefix
    try:
        if args.remove:
            count = remove(root)
            print(f"{count} files removed from {prefix}" if count else f"nothing of qemu-vas is in {prefix}")
            return
        # A package's own tools strip.
        install(root, strip=not args.destdir)
    except PermissionError as error:
        sys.exit(f"vas install: {error.filename} can't be written: be root, or choose another --prefix")
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"vas install: {error}")
    print(f"Installed: {prefix}/bin/qemu-vas-i386, {prefix}/bin/qemu-vas-x86_64")
    missing = sorted(package for path, package in FIRMWARE.items() if not os.path.exists(path))
    if missing and not args.destdir:
        print(f"They need firmware that is not there: apt install {' '.join(missing)}")


if __name__ == "__main__":
    main()
