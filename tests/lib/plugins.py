# SPDX-License-Identifier: GPL-2.0-or-later
"""
Plugins that come and go while the guest runs.
"""

import os
import re
import shutil
import tempfile

from lib.switchable import SWITCH, switchable
from lib.windows import NUMBER, Window, way_through_function
from vas import paths
from vas.testing import LONG, Failure, Payload, expect_equal, expect_error, wait_until

CONTRIB = os.path.join(paths.QEMU, "contrib/plugins")
TESTS = os.path.join(paths.QEMU, "tests/tcg/plugins")
ALLOWED = ",plugins=on"


def plugin(name):
    """The file of one of QEMU's own plugins."""
    for folder in (CONTRIB, TESTS):
        path = os.path.join(folder, f"lib{name}.so")
        if os.path.exists(path):
            return path
    raise Failure(f"there is no plugin {name}: it was not built")


# QEMU's own plugins, each with its arguments and what it must print.  lockstep() has another.
STOCK = {
    "howvec": (["inline=on"], r"Instruction Classes|Class:"),
    "hotblocks": (["inline=on"], r"(?m)^0x[0-9a-f]+, \d+, \d+, \d+"),
    "hotpages": (["sortby=address"], r"(?m)^0x[0-9a-f]+"),
    "execlog": ([], r'(?m)^\d+, 0x[0-9a-f]+, 0x[0-9a-f]+, "'),
    "cache": ([], r"core #|l1"),
    "insn": (["inline=on"], r"insns: \d+"),
    "bb": (["inline=on"], r"bb's: \d+|blocks: \d+"),
    "mem": (["inline=on"], r"mem accesses: \d+"),
    "syscall": ([], r""),
}


def stock(name, count):
    """@count times the plugin comes, sees code in TCG, prints its results, and goes; under SMP load."""
    arguments, printed = STOCK[name]
    with tempfile.TemporaryDirectory() as folder, \
            Payload("smp64", SWITCH + ALLOWED, name=f"plugins-{name}",
                    arguments=["-smp", "2"]) as guest:
        machine = guest.machine
        output = os.path.join(folder, "output")
        for number in range(count):
            machine.qmp("plugin-add", {"id": "p", "file": plugin(name), "arguments": arguments,
                                       "output": output})
            # Now and then it comes in TCG, or goes in TCG.
            if number % 2 == 0:
                machine.switch("tcg")
            if number % 10 == 0:
                guest.expect_laps(3, 120)
            if number % 3 == 0:
                machine.switch("kvm")
            machine.qmp("plugin-del", {"id": "p"})
            with open(output, encoding="utf-8") as file:
                text = file.read()
            if number == 0 and not re.search(printed, text):
                raise Failure(f"{name} has printed: {text[:500]!r}")
            expect_equal("plugins", [], machine.qmp("query-plugins"))
        machine.switch("kvm")
        guest.expect_laps(3, 120)
        machine.switch("tcg")
        guest.expect_laps(3, 120)
        print(f"{name}: {text[:300]}")


def listens(path):
    """Whether somebody waits for connections at the unix socket @path."""
    with open("/proc/net/unix", encoding="utf-8") as file:
        return any(line.split()[3] == "00010000" for line in file if line.rstrip().endswith(path))


def lockstep(count):
    """QEMU's plugin lockstep, in two QEMUs: it finds that they execute different code, and comes and goes."""
    with tempfile.TemporaryDirectory() as folder, \
            Payload("compute64", SWITCH + ALLOWED, name="plugins-lockstep1") as one, \
            Payload("soak64", SWITCH + ALLOWED, name="plugins-lockstep2") as two:
        path, output = os.path.join(folder, "socket"), os.path.join(folder, "output")
        for _ in range(count):
            add = {"id": "p", "file": plugin("lockstep"), "arguments": [f"sockpath={path}"]}
            # The first waits for the second.
            number = one.machine.qmp_client.send("plugin-add", add | {"output": output})
            wait_until(lambda: listens(path), "lockstep does not listen")
            two.machine.qmp("plugin-add", add)
            one.machine.qmp_client.answer(number, "plugin-add", 30)
            for guest in (one, two):
                guest.machine.switch("tcg")
            for guest in (one, two):
                guest.expect_laps(3)
                guest.machine.qmp("plugin-del", {"id": "p"})
            with open(output, encoding="utf-8") as file:
                text = file.read()
            if "we have diverged" not in text:
                raise Failure(f"lockstep has printed: {text[:500]!r}")
            for guest in (one, two):
                guest.machine.switch("kvm")
                guest.expect_laps(3)


def executed(text):
    """The addresses that execlog has printed."""
    return [int(address, 16) for address in re.findall(r"(?m)^\d+, 0x([0-9a-f]+), ", text)]


def in_windows():
    """A plugin of windows sees each instruction of them, in order, and nothing else; TBs are kept."""
    with tempfile.TemporaryDirectory() as folder, \
            Window(accel=SWITCH + ALLOWED) as window:
        machine, start = window.machine, window.at["function"]
        output = os.path.join(folder, "output")
        port = {"type": "port", "number": NUMBER}
        machine.qmp("plugin-add", {"id": "log", "file": plugin("execlog"), "output": output,
                                   "windows": True})
        expect_equal("active", [False], [p["active"] for p in machine.qmp("query-plugins")])
        way = way_through_function(start)
        window.add(port, {"type": "address", "address": start}, count=1)
        ahead = window.next_window()[1]["instructions"]
        window.delete()
        made = None
        for turn in range(3):
            # One without and one with the plugin
            window.add(port, {"type": "instructions", "count": ahead + len(way)}, count=1)
            window.next_window()
            window.delete()
            window.add(port, count=1, window={"end": {"type": "instructions",
                                                      "count": ahead + len(way)}, "plugins": ["log"]})
            expect_error("trigger 't' names plugin 'log'", machine.qmp, "plugin-del", {"id": "log"})
            window.next_window()
            window.delete()
            now = machine.qmp("query-accel")["translations"]["made"]
            if turn == 2:
                expect_equal("translations made in the third turn", made, now)
            made = now
        machine.qmp("plugin-del", {"id": "log"})
        with open(output, encoding="utf-8") as file:
            addresses = executed(file.read())
        # The last instruction of a window is printed when the next one is executed, or at the end.
        expect_equal("instructions of the function that were printed, in order", way * 3,
                     [a for a in addresses if a in set(way)])
        expect_equal("instructions that were printed", 3 * (ahead + len(way)), len(addresses))
        expect_error("there is no plugin 'log'", window.add, port, window={"plugins": ["log"]})
        window.guest.expect_laps(3)


def counted():
    """What the plugin insn counts in a window is what the window has counted."""
    with tempfile.TemporaryDirectory() as folder, Window(accel=SWITCH + ALLOWED) as window:
        output = os.path.join(folder, "output")
        for count in (1, 10, 12345, 1000000):
            window.machine.qmp("plugin-add", {"id": "p", "file": plugin("insn"), "output": output,
                                              "arguments": ["inline=on"], "windows": True})
            window.add({"type": "port", "number": NUMBER}, count=1,
                       window={"end": {"type": "instructions", "count": count}, "plugins": ["p"]})
            window.next_window()
            window.delete()
            window.machine.qmp("plugin-del", {"id": "p"})
            with open(output, encoding="utf-8") as file:
                text = file.read()
            expect_equal("instructions", [str(count)], re.findall(r"total insns: (\d+)", text))


def refusals():
    """What is no plugin is refused by a sentence, and QEMU runs on as it was."""
    with tempfile.TemporaryDirectory() as folder:
        def file(name, content=""):
            path = os.path.join(folder, name)
            with open(path, "w", encoding="utf-8") as stream:
                stream.write(content)
            return path

        howvec = {"id": "p", "file": plugin("howvec")}
        with switchable() as guest:
            expect_error("start QEMU with -accel switch,plugins=on", guest.machine.qmp, "plugin-add",
                         howvec)
        with switchable(SWITCH + ALLOWED) as guest:
            machine = guest.machine

            def refused(sentence, **options):
                expect_error(sentence, machine.qmp, "plugin-add", howvec | options)

            for accel in ("tcg", "kvm"):
                machine.switch(accel)
                refused("is no name for a plugin", id="1")
                refused("No such file", file=os.path.join(folder, "none"))
                refused("can't load plugin", file=file("text", "no library"))
                library = [line.split()[-1] for line in open(f"/proc/{machine.pid}/maps",
                                                             encoding="ascii")
                           if "/libz.so" in line][0]
                refused("is no plugin", file=library)
                refused("refuses its arguments", arguments=["nonsense=1"])
                refused("Is a directory", output=folder)
                machine.qmp("plugin-add", howvec)
                refused("there is a plugin 'p' already")
                refused("is loaded already", id="q")
                link = os.path.join(folder, "link")
                os.symlink(howvec["file"], link)
                refused("is loaded already", id="q", file=link)
                os.unlink(link)
                copy = shutil.copy(howvec["file"], os.path.join(folder, "copy.so"))
                machine.qmp("plugin-add", howvec | {"id": "q", "file": copy})
                guest.expect_laps(3)
                machine.qmp("plugin-del", {"id": "p"})
                machine.qmp("plugin-del", {"id": "q"})
                expect_error("there is no plugin 'p'", machine.qmp, "plugin-del", {"id": "p"})
                guest.expect_laps(3)
            expect_equal("plugins", [], machine.qmp("query-plugins"))
            expect_equal("HMP", "no plugins\r\n", machine.hmp("info plugins"))
            expect_equal("HMP", "", machine.hmp(f"plugin_add p {howvec['file']},inline=on"))
            expect_equal("HMP", f"p: {howvec['file']},inline=on, active\r\n",
                         machine.hmp("info plugins"))
            expect_equal("HMP", "", machine.hmp("plugin_del p"))
            if "Error: there is no plugin" not in machine.hmp("plugin_del p"):
                raise Failure("plugin_del of no plugin is no error")


def content(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def uninstalls_itself():
    """QEMU's plugin reset uninstalls itself when code is executed: then there is nothing to unload."""
    with tempfile.TemporaryDirectory() as folder, switchable(SWITCH + ALLOWED) as guest:
        output = os.path.join(folder, "output")
        for _ in range(5):
            guest.machine.qmp("plugin-add", {"id": "p", "file": plugin("reset"), "output": output})
            guest.machine.switch("tcg")
            # It aborts QEMU if it is unloaded before.
            wait_until(lambda: content(output) == "reset done\nuninstall done\n",
                       "the plugin has uninstalled itself")
            guest.machine.switch("kvm")
            guest.expect_laps(3)
            guest.machine.qmp("plugin-del", {"id": "p"})


def many():
    """More sets of plugins than TBs can tell apart."""
    with tempfile.TemporaryDirectory() as folder, Window(accel=SWITCH + ALLOWED) as window:
        machine = window.machine
        names = [f"p{number}" for number in range(6)]
        for name in names:
            machine.qmp("plugin-add", {
                "id": name, "file": shutil.copy(plugin("insn"), os.path.join(folder, name + ".so")),
                "output": os.path.join(folder, name), "arguments": ["inline=on"], "windows": True})
        for number in range(1, 64):
            chosen = [name for bit, name in enumerate(names) if number & 1 << bit]
            window.add({"type": "port", "number": NUMBER}, count=1, window={
                "end": {"type": "instructions", "count": 1000}, "plugins": chosen})
            window.next_window()
            window.delete()
        for name in names:
            machine.qmp("plugin-del", {"id": name})
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                expect_equal("instructions", ["32000"],
                             re.findall(r"total insns: (\d+)", file.read()))
        window.guest.expect_laps(3)


COUNT = 100 if LONG else 10
