# SPDX-License-Identifier: GPL-2.0-or-later
"""
Packages from suites of Debian that this machine doesn't have in its sources.

The machine's own sources tell where its Debian comes from; the same archives have the suites that we
need.  A private configuration with those suites goes into a folder of ours, so nothing in /etc or
/var changes, no archive is named in this repository, and an ordinary user can do it.
"""

import glob
import os
import re
import subprocess

# What a machine's sources may call the releases that we build on.
_SUITE = re.compile(r"(bookworm|trixie|oldstable|stable)(-updates|-security|/updates|-backports)?/?$")


class AptError(Exception):
    """One sentence that says what could not be had."""


def _one_line_sources(text):
    """Yield (uri, suites, signed-by) of the one-line format of sources.list(5)."""
    for line in text.splitlines():
        match = re.match(r"\s*deb(?:-src)?\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)\s+(.*)", line)
        if not match:
            continue
        options, uri, suite, components = match.groups()
        if "main" not in components.split("#")[0].split():
            continue
        signed = re.search(r"(?:^|\s)signed-by=(\S+)", options or "", re.I)
        yield uri, [suite], signed.group(1) if signed else None


def _deb822_sources(text):
    """Yield (uri, suites, signed-by) of the deb822 format."""
    text = re.sub(r"(?m)^#.*\n?", "", text)
    for stanza in re.split(r"\n\s*\n", text):
        fields = {}
        name = None
        for line in stanza.splitlines():
            if line[:1].isspace() and name:
                fields[name] += "\n" + line
            elif ":" in line:
                name, value = line.split(":", 1)
                name = name.strip().lower()
                fields[name] = value.strip()
        if fields.get("enabled", "yes").lower() in ("no", "false", "0", "off", "disable", "without"):
            continue
        if "main" not in fields.get("components", "").split():
            continue
        for uri in fields.get("uris", "").split():
            yield uri, fields.get("suites", "").split(), fields.get("signed-by")


def debian_archives(etc="/etc/apt"):
    """
    The Debian archives of this machine: a list of (uri, kind, signed-by), kind being "" for the
    archive proper and "-security" for the archive of security fixes.
    """
    found = []
    names = [os.path.join(etc, "sources.list")]
    names += sorted(glob.glob(os.path.join(etc, "sources.list.d", "*.list")))
    names += sorted(glob.glob(os.path.join(etc, "sources.list.d", "*.sources")))
    for name in names:
        try:
            with open(name, encoding="utf-8", errors="replace") as file:
                text = file.read()
        except OSError:
            continue
        parse = _deb822_sources if name.endswith(".sources") else _one_line_sources
        for uri, suites, signed in parse(text):
            # Other vendors use Debian's suite names too; every mirror has "debian" in its address.
            if "debian" not in uri:
                continue
            for suite in suites:
                match = _SUITE.match(suite)
                if not match:
                    continue
                security = match.group(2) in ("-security", "/updates")
                if signed and "\n" not in signed and not os.path.exists(signed):
                    signed = None
                entry = (uri, "-security" if security else "", signed)
                if entry not in found:
                    found.append(entry)
    return found


class PrivateApt:
    """
    Apt with the suites @suites of this machine's Debian archives, such as
    ["trixie", "trixie-updates", "trixie-security"], and its state in @folder.
    @kind: "deb" or "deb-src".
    """

    def __init__(self, folder, kind, suites):
        self._folder = os.path.abspath(folder)
        self._suites = suites
        self.complaint = ""
        for name in ("lists/partial", "cache/archives/partial"):
            os.makedirs(os.path.join(self._folder, name), exist_ok=True)
        archives = debian_archives()
        if not archives:
            raise AptError("apt's sources name no Debian archive (bookworm or trixie, main) "
                           "to fetch from")
        stanzas = []
        for uri, archive_kind, signed in archives:
            here = [s for s in suites if s.endswith("-security") == (archive_kind == "-security")]
            if here:
                stanzas.append(f"Types: {kind}\nURIs: {uri}\nSuites: {' '.join(here)}\n"
                               "Components: main\n" + (f"Signed-By: {signed}\n" if signed else ""))
        self._sources = os.path.join(self._folder, "debian.sources")
        with open(self._sources, "w", encoding="utf-8") as file:
            file.write("\n".join(stanzas))

    def _run(self, program, *arguments, cwd=None):
        options = {
            "Dir::Etc::SourceList": self._sources,
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::State::Lists": os.path.join(self._folder, "lists"),
            "Dir::Cache": os.path.join(self._folder, "cache"),
            # Root's apt would drop to the user _apt, who may not write into the folder.
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Acquire::Retries": "2",
        }
        command = [program, "-q"]
        for name, value in options.items():
            command += ["-o", f"{name}={value}"]
        return subprocess.run(command + list(arguments), cwd=cwd, text=True, check=False,
                              env=dict(os.environ, LC_ALL="C.UTF-8"),
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def update(self):
        """
        Fetch the indexes.  One that can't be had is no error here: it may be one that isn't
        needed.  What is missing shows when it's asked for.
        """
        result = self._run("apt-get", "update")
        self.complaint = _last_complaint(result.stdout)

    def source_versions(self, package):
        """The versions of source package @package, oldest first."""
        result = self._run("apt-cache", "showsrc", "--only-source", package)
        versions = set(re.findall(r"(?m)^Version: (\S+)$", result.stdout))
        return sorted(versions, key=_version_key)

    def source(self, package, version, folder):
        """Download the source package into @folder; apt checks it against the signed index."""
        result = self._run("apt-get", "source", "--download-only", "--only-source",
                           f"{package}={version}", cwd=folder)
        if result.returncode:
            raise AptError(f"Debian's source of {package} {version} could not be fetched: "
                           + _last_complaint(result.stdout))

    def source_tarball(self, package, version, folder):
        """
        Download the original tarball of a source package into @folder, without Debian's changes;
        apt checks it against the signed index.  Returns its path.
        """
        result = self._run("apt-get", "source", "--download-only", "--only-source", "--tar-only",
                           f"{package}={version}", cwd=folder)
        found = glob.glob(os.path.join(glob.escape(folder), f"{package}_*.orig.tar.*"))
        if result.returncode or not found:
            raise AptError(f"Debian's source of {package} {version} could not be fetched: "
                           + (_last_complaint(result.stdout) or self.complaint))
        return found[0]

    def download(self, package, folder):
        """Download the binary package @package into @folder, return its path."""
        before = set(os.listdir(folder))
        result = self._run("apt-get", "download", package, cwd=folder)
        new = [n for n in set(os.listdir(folder)) - before if n.endswith(".deb")]
        if result.returncode or not new:
            raise AptError(f"package {package} of {' '.join(self._suites)} could not be fetched: "
                           + (self.complaint or _last_complaint(result.stdout)))
        return os.path.join(folder, new[0])


def _last_complaint(output):
    lines = [line for line in output.splitlines() if re.match(r"(E|W|Err\S*)\s*:", line)]
    return lines[-1] if lines else ""


class _version_key:
    """Order of Debian's versions, as dpkg has it."""

    def __init__(self, version):
        self.version = version

    def __lt__(self, other):
        return subprocess.run(["dpkg", "--compare-versions", self.version, "lt", other.version],
                              check=False).returncode == 0
