# SPDX-License-Identifier: GPL-2.0-or-later
"""
The first steps of ./configure: Debian's source of QEMU, unpacked in build/pristine, and, where the
machine's meson is too old, a newer one in build/meson.  Both downloads are kept in a cache, so that
a fresh clone and a machine without network can be built from it.
"""

import argparse
import glob
import hashlib
import os
import re
import shutil
import subprocess
import sys

from vas.apt import AptError, PrivateApt

SUITES = ["trixie", "trixie-updates", "trixie-security"]
# The long-term series; any point release will do.
WANTED = re.compile(r"1:10\.0\.\d")
MESON_WANTED = (1, 5)


def cache_folder():
    """Where downloads are kept: $VAS_CACHE, or qemu-vas in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.environ.get("VAS_CACHE") or os.path.join(base, "qemu-vas")


def _sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _write_sums(folder, names):
    with open(os.path.join(folder, "SHA256SUMS"), "w", encoding="utf-8") as file:
        for name in sorted(names):
            file.write(f"{_sha256(os.path.join(folder, name))}  {name}\n")


def _broken(folder):
    """
    The names of the files in @folder that are missing or not what was downloaded; None if nothing
    was ever completely downloaded.
    """
    try:
        with open(os.path.join(folder, "SHA256SUMS"), encoding="utf-8") as file:
            entries = [line.split(maxsplit=1) for line in file.read().splitlines()]
    except OSError:
        return None
    broken = []
    for digest, name in entries:
        path = os.path.join(folder, name)
        if not os.path.isfile(path) or _sha256(path) != digest:
            broken.append(name)
    return broken


def _fetch_source(folder, work):
    os.makedirs(folder, exist_ok=True)
    print("Fetching the source package of QEMU 10.0 from Debian trixie (about 40 MB)…", flush=True)
    apt = PrivateApt(work, "deb-src", SUITES)
    apt.update()
    versions = [v for v in apt.source_versions("qemu") if WANTED.match(v)]
    if not versions:
        raise AptError("Debian trixie offers no source package of QEMU 10.0.x here"
                       + (f" ({apt.complaint})" if apt.complaint else ""))
    apt.source("qemu", versions[-1], folder)
    dsc = f"qemu_{versions[-1].split(':', 1)[1]}.dsc"
    with open(os.path.join(folder, dsc), encoding="utf-8") as file:
        block = re.search(r"(?m)^Checksums-Sha256:\s*\n((?: .*\n)+)", file.read()).group(1)
    names = [line.split()[2] for line in block.splitlines()] + [dsc]
    for name in os.listdir(folder):
        if name not in names:
            os.unlink(os.path.join(folder, name))
    _write_sums(folder, names)


def qemu_source(work, refresh):
    """The path of a .dsc whose files are all there and right; fetches what is not."""
    folder = os.path.join(cache_folder(), "source")
    broken = _broken(folder)
    if broken is None or refresh:
        _fetch_source(folder, work)
    elif broken:
        for name in broken:
            print(f"{name} in {folder} is broken or missing: fetching it again", flush=True)
            if os.path.exists(os.path.join(folder, name)):
                os.unlink(os.path.join(folder, name))
        try:
            _fetch_source(folder, work)
        except AptError as error:
            raise AptError(f"{' '.join(broken)} in {folder} is broken and could not be "
                           f"fetched again: {error}") from error
    return glob.glob(os.path.join(folder, "qemu_*.dsc"))[0]


def unpack_source(dsc, pristine):
    """Unpack @dsc as the folder @pristine, unless it's there already."""
    stamp = pristine + ".stamp"
    want = os.path.basename(dsc)
    try:
        with open(stamp, encoding="utf-8") as file:
            if file.read().strip() == want and os.path.isdir(pristine):
                return
    except OSError:
        pass
    print(f"Unpacking {want} (about 15 s)…", flush=True)
    for path in (pristine, pristine + ".new"):
        shutil.rmtree(path, ignore_errors=True)
    result = subprocess.run(["dpkg-source", "--no-copy", "-x", dsc, pristine + ".new"], text=True,
                            check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if result.returncode:
        raise AptError(f"{dsc} could not be unpacked: {result.stdout.strip().splitlines()[-1]}")
    os.rename(pristine + ".new", pristine)
    with open(stamp, "w", encoding="utf-8") as file:
        file.write(want + "\n")


def _meson_version(environment):
    try:
        output = subprocess.run(["/usr/bin/python3", "-c",
                                 "import mesonbuild.coredata as c; print(c.version)"],
                                check=True, text=True, env=environment,
                                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
        return tuple(int(part) for part in output.strip().split(".")[:2])
    except (OSError, ValueError, subprocess.CalledProcessError):
        return (0, 0)


def meson(folder, work):
    """Have a meson that QEMU accepts: the machine's own, or one unpacked in @folder."""
    if _meson_version(dict(os.environ)) >= MESON_WANTED:
        shutil.rmtree(folder, ignore_errors=True)
        return
    library = os.path.join(folder, "usr/lib/python3/dist-packages")
    own = dict(os.environ, PYTHONPATH=library)
    if _meson_version(own) >= MESON_WANTED:
        return
    cache = os.path.join(cache_folder(), "meson")
    if _broken(cache) != []:
        with open("/etc/os-release", encoding="utf-8") as file:
            codename = re.search(r"(?m)^VERSION_CODENAME=\"?(\w+)", file.read())
        if not codename or codename.group(1) != "bookworm":
            raise AptError("meson 1.5 or newer is missing (package meson)")
        print("Fetching meson from bookworm-backports (less than 1 MB)…", flush=True)
        shutil.rmtree(cache, ignore_errors=True)
        os.makedirs(cache)
        apt = PrivateApt(work, "deb", ["bookworm-backports"])
        apt.update()
        name = os.path.basename(apt.download("meson", cache))
        _write_sums(cache, [name])
    package = glob.glob(os.path.join(cache, "meson_*.deb"))[0]
    shutil.rmtree(folder, ignore_errors=True)
    if subprocess.run(["dpkg-deb", "-x", package, folder], check=False).returncode:
        raise AptError(f"{package} could not be unpacked: see dpkg-deb's message above")
    if _meson_version(own) < MESON_WANTED:
        raise AptError(f"the meson of {package} is older than 1.5 or does not run")


def main(argv):
    parser = argparse.ArgumentParser(prog="vas.source", description=__doc__)
    parser.add_argument("--build", required=True, help="the build folder")
    parser.add_argument("--refresh", action="store_true",
                        help="look for a newer point release even if the cache has one")
    arguments = parser.parse_args(argv)
    work = os.path.join(arguments.build, "apt")
    try:
        meson(os.path.join(arguments.build, "meson"), os.path.join(work, "backports"))
        dsc = qemu_source(os.path.join(work, "source"), arguments.refresh)
        unpack_source(dsc, os.path.join(arguments.build, "pristine"))
    except AptError as error:
        sys.exit(f"configure: {error}")
    except OSError as error:
        sys.exit(f"configure: {error.filename}: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
