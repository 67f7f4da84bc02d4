# SPDX-License-Identifier: GPL-2.0-or-later
"""
./vas upstream: the fix- patches as a series of mails that a person can send to QEMU's list.

Each is a commit on the pristine source, in the order of patches/series.  The commits are in a git
repository that has only the files that the patches change.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys

from vas import paths
from vas.tree import patched_by, series
from vas.upstreambuild import BuildError, build_each

SUBJECT = "Fixes for x86's TCG and KVM, migration and monitor"
BLURB = """\
These are bugs that showed when running x86 guests were moved between KVM and TCG,
thousands of times, with all of their state compared before and after.  None of the
fixes needs another, but where the list below says so.

Based on QEMU {version}, as Debian packages it.

{needs}"""
IDENTITY = re.compile(r"(.+) <(\S+@\S+)>")


class UpstreamError(Exception):
    """One sentence that says why there are no mails."""


class Repository:
    """The files that the patches change, under git in @folder; @author: "NAME <MAIL>", or None."""

    def __init__(self, folder, author):
        self._folder = folder
        self._environment = dict(os.environ)
        if author:
            name, mail = IDENTITY.fullmatch(author).groups()
            for role in ("AUTHOR", "COMMITTER"):
                self._environment[f"GIT_{role}_NAME"] = name
                self._environment[f"GIT_{role}_EMAIL"] = mail
        os.makedirs(folder)
        self.git("init", "-q", "-b", "base")

    def git(self, *arguments):
        # Without a name git would make one up, of the host's.
        done = subprocess.run(["git", "-C", self._folder, "-c", "user.useConfigOnly=true",
                               *arguments], check=False, text=True, capture_output=True,
                              env=self._environment)
        if "user.useConfigOnly" in done.stderr or "tell me who you are" in done.stderr:
            raise UpstreamError("git does not know whose mails they are: give --author "
                                "'NAME <MAIL>', or set git's user.name and user.email")
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()
            raise UpstreamError(f"git {arguments[0]} failed: {said[-1]}")
        return done.stdout

    def apply(self, path):
        """Apply the patch at @path to the files; returns whether it does apply."""
        return subprocess.run(["patch", "-p1", "-F0", "-s", "-f", "--no-backup-if-mismatch",
                               "-r", "-", "-d", self._folder, "-i", path], check=False,
                              capture_output=True).returncode == 0

    def reset(self):
        """The files as they are on the branch "base"."""
        self.git("checkout", "-q", "-f", "base")
        self.git("clean", "-q", "-f", "-d")

    def commit(self, message):
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)


def fixes():
    """The paths of the fix- patches, in order."""
    return [os.path.join(paths.TOP, "patches", name) for name in series(paths.TOP)
            if name.startswith("fix-")]


def message(path):
    """A commit's message out of a patch's description."""
    with open(path, encoding="utf-8") as file:
        header = file.read().split("\n---", 1)[0]
    description = re.search(r"(?m)^Description: (.*\n(?: .*\n)*)", header + "\n").group(1)
    subject, _, body = description.partition("\n")
    body = "\n".join(line[1:] for line in body.splitlines())
    return f"{subject}\n\n{body.strip()}\n"


def copy_pristine(names, folder):
    """The files of that @names as QEMU has them; those that a patch makes are not there."""
    for name in names:
        origin = os.path.join(paths.BUILD, "pristine", name)
        if os.path.exists(origin):
            target = os.path.join(folder, name)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copy(origin, target)


def needing_others(repository):
    """The patches that do not apply to the pristine source alone."""
    found = []
    for path in fixes():
        if not repository.apply(path):
            found.append(os.path.basename(path))
        repository.reset()
    return found


def write_cover(mails, version, needing):
    (cover,) = [name for name in os.listdir(mails) if name.startswith("0000-")]
    needs = "All of them apply alone." if not needing else \
        "Those that need an earlier one of the series:\n" + \
        "\n".join(f"- {message(os.path.join(paths.TOP, 'patches', n)).splitlines()[0]}"
                  for n in needing)
    path = os.path.join(mails, cover)
    with open(path, encoding="utf-8") as file:
        text = file.read()
    text = text.replace("*** SUBJECT HERE ***", SUBJECT)
    text = text.replace("*** BLURB HERE ***", BLURB.format(version=version, needs=needs))
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def qemu_version():
    with open(os.path.join(paths.BUILD, "pristine/VERSION"), encoding="utf-8") as file:
        return file.read().strip()


def upstream(folder, author=None, signoff=False):
    """Write the mails into @folder/mails; returns the names of those that need others."""
    shutil.rmtree(folder, ignore_errors=True)
    tree, mails = os.path.join(folder, "tree"), os.path.join(folder, "mails")
    repository = Repository(tree, author)
    copy_pristine(patched_by(fixes()), tree)
    repository.commit(f"QEMU {qemu_version()}")
    needing = needing_others(repository)
    repository.git("checkout", "-q", "-b", "fixes")
    for path in fixes():
        if not repository.apply(path):
            raise UpstreamError(f"{os.path.basename(path)} does not apply: './vas build' says why")
        repository.commit(message(path))
    repository.git("format-patch", "-q", "--cover-letter", "-o", mails, "base",
                   *(["--signoff"] if signoff else []))
    write_cover(mails, qemu_version(), needing)
    return needing


def identity(text):
    if not IDENTITY.fullmatch(text):
        raise argparse.ArgumentTypeError("is not of the form 'NAME <MAIL>'")
    return text


def main(argv):
    parser = argparse.ArgumentParser(
        prog="./vas upstream", description="Write the fix- patches as a series of mails for QEMU's "
        "list, with a cover letter, into build/upstream/mails.  They are not sent: 'git send-email' "
        "does that.  QEMU takes a patch only with its sender's Signed-off-by (--signoff).")
    parser.add_argument("--author", type=identity, metavar="'NAME <MAIL>'",
                        help="whose mails they are (git's user.name and user.email)")
    parser.add_argument("--signoff", action="store_true", help="add a Signed-off-by line")
    parser.add_argument("--build", action="store_true",
                        help="also build each patch alone on the pristine source (some 10 minutes "
                        "on 2 cores)")
    arguments = parser.parse_args(argv)
    folder = os.path.join(paths.BUILD, "upstream")
    failed = {}
    try:
        needing = upstream(folder, arguments.author, arguments.signoff)
        if arguments.build:
            failed = build_each(fixes(), lambda text: print(text, flush=True))
    except (UpstreamError, BuildError, OSError) as error:
        sys.exit(f"upstream: {error}")
    mails = sorted(os.listdir(os.path.join(folder, "mails")))
    print(f"{len(mails) - 1} patches and a cover letter are in {os.path.relpath(folder)}/mails")
    for name in needing:
        print(f"{name} does not apply without an earlier one")
    if failed:
        sys.exit("upstream: " + "; ".join(f"{name} {why}" for name, why in failed.items()))


if __name__ == "__main__":
    main(sys.argv[1:])
