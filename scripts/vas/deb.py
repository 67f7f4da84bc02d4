# SPDX-License-Identifier: GPL-2.0-or-later
"""./vas deb: a Debian package, for the release of Debian that it is made on."""

import argparse
import email.utils
import os
import shutil
import subprocess
import sys
import time

from vas import paths
from vas.install import PARTS

WORK = os.path.join(paths.BUILD, "deb")
LOG = os.path.join(paths.BUILD, "deb.log")


class PackageError(Exception):
    """What went wrong, in one sentence."""


def run(what, command, folder, **keywords):
    with open(LOG, "a", encoding="utf-8") as log:
        if subprocess.run(command, cwd=folder, stdout=log, stderr=log, check=False, **keywords).returncode:
            raise PackageError(f"{what} failed: see build/{os.path.basename(LOG)}")


def commit_time():
    """When the commit was made that is packaged; without git, now."""
    try:
        said = subprocess.run(["git", "-C", paths.TOP, "log", "-1", "--format=%ct"], check=False,
                              capture_output=True, text=True).stdout.strip()
    except OSError:
        said = ""
    return int(said) if said else int(time.time())


def qemu_version():
    with open(os.path.join(paths.SOURCE, "VERSION"), encoding="utf-8") as file:
        return file.read().strip()


def prepare(maintainer, made):
    """The folder from which dpkg-buildpackage makes the package; returns its version."""
    version = f"{qemu_version()}+vas{time.strftime('%Y%m%d%H%M', time.gmtime(made))}"
    source = os.path.join(WORK, f"qemu-vas-{version}")
    shutil.rmtree(WORK, ignore_errors=True)
    shutil.copytree(os.path.join(PARTS, "debian"), os.path.join(source, "debian"))
    for name in ("control", "copyright"):
        path = os.path.join(source, "debian", name)
        with open(path, encoding="utf-8") as file:
            text = file.read()
        with open(path, "w", encoding="utf-8") as file:
            file.write(text.replace("@MAINTAINER@", maintainer).replace("@QEMU@", qemu_version()))
    with open(os.path.join(source, "debian/changelog"), "w", encoding="utf-8") as file:
        file.write(f"qemu-vas ({version}) unstable; urgency=medium\n\n"
                   f"  * Package of qemu-vas, made by ./vas deb.\n\n"
                   f" -- {maintainer}  {email.utils.formatdate(made)}\n")
    return source, version


def make(maintainer, output):
    """Returns the package's path."""
    made = commit_time()
    open(LOG, "w", encoding="utf-8").close()
    source, version = prepare(maintainer, made)
    run("dpkg-buildpackage", ["dpkg-buildpackage", "--build=binary", "--no-sign"], source,
        env={**os.environ, "VAS": os.path.join(paths.TOP, "vas"), "SOURCE_DATE_EPOCH": str(made)})
    name = f"qemu-vas_{version}_amd64.deb"
    os.makedirs(output, exist_ok=True)
    shutil.copy(os.path.join(WORK, name), output)
    return os.path.join(output, name)


def lint():
    """Raises an error with lintian's complaints about the package in WORK."""
    changes = [name for name in os.listdir(WORK) if name.endswith(".changes")]
    done = subprocess.run(["lintian", "--fail-on", "error,warning", "--allow-root", *changes], cwd=WORK,
                          check=False, capture_output=True, text=True)
    if done.returncode:
        raise PackageError(f"lintian complains:\n{done.stdout}{done.stderr}")


def default_maintainer():
    name, mail = os.environ.get("DEBFULLNAME"), os.environ.get("DEBEMAIL")
    return f"{name} <{mail}>" if name and mail else None


def main():
    parser = argparse.ArgumentParser(
        prog="vas deb", description="Make a Debian package for the release of Debian that runs here. It has what "
        "./vas install puts there, below /usr. lintian must find no fault with it.")
    parser.add_argument("--maintainer", metavar="'NAME <MAIL>'", default=default_maintainer(),
                        help="who makes it; if not given, $DEBFULLNAME and $DEBEMAIL say so")
    parser.add_argument("--output", metavar="DIR", default=".", help="where the package goes (.)")
    args = parser.parse_args()
    name, mail = email.utils.parseaddr(args.maintainer or "")
    if not name or "@" not in mail:
        parser.error("say who makes the package: --maintainer 'NAME <MAIL>', or $DEBFULLNAME and $DEBEMAIL")
    try:
        path = make(args.maintainer, args.output)
        lint()
    except (PackageError, OSError) as error:
        sys.exit(f"vas deb: {error}")
    print(path)


if __name__ == "__main__":
    main()
