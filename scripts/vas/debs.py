# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian packages of a chosen release, without touching the machine's apt.

The mirror is the one that the machine itself uses, read from its apt
configuration when a package is needed: no host is named here.  Lists and
packages live in a private folder of the cache.
"""

import contextlib
import fcntl
import os
import re
import shutil
import subprocess

from pathlib import Path

# The last release with an i386 kernel; the rig's kernel is of the same one,
# so that what was seen on one machine is seen on the next.
SUITE = "bookworm"

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class DebError(Exception):
    """Something that a person must put right, said in one sentence."""


def cache_dir():
    """The folder for everything that is built once and kept."""
    base = os.environ.get("VAS_CACHE")
    if base:
        return Path(base)
    xdg = os.environ.get("XDG_CACHE_HOME")
    return (Path(xdg) if xdg else Path.home() / ".cache") / "qemu-vas"


@contextlib.contextmanager
def cache_lock(name):
    """For who makes @name in the cache: one process at a time, others find it made."""
    cache_dir().mkdir(parents=True, exist_ok=True)
    with open(cache_dir() / f"{name}.lock", "w", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def mirror():
    """URI of the Debian archive in the machine's own apt sources."""
    out = subprocess.run(
        ["apt-get", "indextargets", "--format",
         "$(REPO_URI)\t$(RELEASE)\t$(COMPONENT)", "Created-By: Packages"],
        check=False, capture_output=True, text=True).stdout
    found = []
    for line in out.splitlines():
        uri, release, component = (line.split("\t") + ["", ""])[:3]
        # Suites of other archives and Debian's own additional ones (-updates,
        # -security, -backports) do not hold whole releases.
        if component == "main" and re.fullmatch(
                r"(bookworm|trixie|forky|sid|(old){0,2}stable|testing|unstable)",
                release):
            found.append(uri)
    for uri in found:
        if "security" not in uri:
            return uri.rstrip("/")
    raise DebError("apt's sources name no Debian archive (component main) "
                   "to take packages from")


def sources_line(arch, suite=SUITE):
    """A sources.list line for @suite of the machine's mirror."""
    option = f"arch={arch}"
    if KEYRING.exists():
        option += f" signed-by={KEYRING}"
    return f"deb [{option}] {mirror()} {suite} main"


class Apt:
    """A private apt: its own lists, cache and (empty) list of what is installed."""

    def __init__(self, arch, suite=SUITE):
        self.root = cache_dir() / "apt" / f"{suite}-{arch}"
        for folder in ("state/lists/partial", "cache/archives/partial"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        (self.root / "status").touch()
        (self.root / "sources.list").write_text(sources_line(arch, suite) + "\n")
        self.options = []
        for key, value in (
                ("Dir::State", self.root / "state"),
                ("Dir::State::status", self.root / "status"),
                ("Dir::Cache", self.root / "cache"),
                ("Dir::Etc::SourceList", self.root / "sources.list"),
                ("Dir::Etc::SourceParts", "-"),
                ("APT::Architecture", arch),
                ("APT::Architectures", arch),
                ("Acquire::Languages", "none"),
                # root's cache is no place where _apt could write.
                ("APT::Sandbox::User", "root")):
            self.options += ["-o", f"{key}={value}"]

    def run(self, tool, *args, cwd=None):
        done = subprocess.run([tool, *self.options, *args], check=False, cwd=cwd,
                              capture_output=True, text=True)
        if done.returncode:
            errors = [l for l in done.stderr.splitlines() if l.startswith("E:")]
            why = errors[0][3:] if errors else f"{tool} {args[0]} failed"
            raise DebError(f"the package registry did not answer as expected: {why}")
        return done.stdout

    def update(self):
        self.run("apt-get", "update")

    def depends(self, package):
        """Names that @package depends on (first alternatives)."""
        out = self.run("apt-cache", "show", "--no-all-versions", package)
        names = []
        for line in out.splitlines():
            if line.startswith("Depends:"):
                for item in line[len("Depends:"):].split(","):
                    names.append(item.split("|")[0].split("(")[0].strip())
        return names

    def download(self, package, folder):
        """Fetch @package's .deb into @folder and return its path."""
        folder.mkdir(parents=True, exist_ok=True)
        before = set(folder.glob("*.deb"))
        self.run("apt-get", "download", package, cwd=folder)
        new = set(folder.glob("*.deb")) - before
        if not new:
            raise DebError(f"apt downloaded nothing for {package}")
        return new.pop()


def unpacked(package, arch="amd64", suite=SUITE):
    """The folder with the files of @package alone, without those that it depends on; it stays in the cache."""
    base = cache_dir() / "unpacked" / f"{suite}-{arch}-{package}"
    with cache_lock("unpacked"):
        if not base.is_dir():
            making = base.with_name(base.name + ".new")
            shutil.rmtree(making, ignore_errors=True)
            apt = Apt(arch, suite)
            apt.update()
            deb = apt.download(package, making)
            if subprocess.run(["dpkg-deb", "-x", deb, making], check=False).returncode:
                raise DebError(f"{deb.name} could not be unpacked: see dpkg-deb's message above")
            deb.unlink()
            making.rename(base)
    return base


# The packages that hold a kernel's files: newer releases have several, which depend on each other.
KERNEL_PACKAGE = r"linux-(image|binary|modules)-\d"


def unpacked_kernel(meta, arch, suite=SUITE):
    """
    Unpack the kernel that the metapackage @meta of @suite stands for; it is kept in the cache.

    Returns (vmlinuz, modules, release): @modules is the folder of its modules.
    """
    base = cache_dir() / "kernel" / f"{suite}-{meta}"
    done = base / "release"
    with cache_lock("kernel"):
        if not done.exists():
            release = _unpack_kernel(meta, arch, suite, base)
            done.write_text(release + "\n")
    release = done.read_text().strip()
    return (*_kernel_files(base / "root", release), release)


def _kernel_files(root, release):
    """(vmlinuz, folder of modules), which newer packages have below /usr."""
    modules = next((root / top / release for top in ("lib/modules", "usr/lib/modules")
                    if (root / top / release / "kernel").is_dir()), None)
    vmlinuz = next((file for file in (root / f"boot/vmlinuz-{release}",
                                      root / f"usr/lib/modules/{release}/vmlinuz")
                    if file.is_file()), None)
    if not modules or not vmlinuz:
        raise DebError(f"the packages of kernel {release} have changed their layout: {root} has "
                       f"no {'vmlinuz' if modules else 'modules'}; use the kernel of {SUITE}")
    return vmlinuz, modules


def _kernel_packages(apt, meta):
    """Names of the packages with the files of @meta's kernel, its image first."""
    found, todo = [], [meta]
    while todo:
        for name in apt.depends(todo.pop(0)):
            if re.match(KERNEL_PACKAGE, name) and name not in found:
                found.append(name)
                todo.append(name)
    return found


def _unpack_kernel(meta, arch, suite, base):
    """Download and unpack it into @base; returns its release."""
    apt = Apt(arch, suite)
    apt.update()
    packages = _kernel_packages(apt, meta)
    if not packages:
        raise DebError(f"{meta} of {suite} names no kernel package")
    shutil.rmtree(base, ignore_errors=True)
    for package in packages:
        deb = apt.download(package, base)
        if subprocess.run(["dpkg-deb", "-x", deb, base / "root"], check=False).returncode:
            raise DebError(f"{deb.name} could not be unpacked: see dpkg-deb's message above")
        deb.unlink()
    return packages[0][len("linux-image-"):]
