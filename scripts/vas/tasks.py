# SPDX-License-Identifier: GPL-2.0-or-later
"""
The processes of a Linux i386 guest, read in its memory from outside: their names and page tables.

Where the members of struct task_struct are differs from kernel to kernel. It is found out from the first
task, which is called "swapper/0", and those that are linked with it.
"""

import re
import struct

from vas.machine import MachineError

# Where i386 kernels map physical memory (CONFIG_PAGE_OFFSET).
PAGE_OFFSET = 0xc0000000
TASK_BYTES = 8192
MM_BYTES = 1024
COMM_BYTES = 16
FIRST_NAME = b"swapper/0\0"
# The first task is in the kernel's data, some MiB behind its code.
CHUNK, CHUNKS = 1 << 20, 24
# Page table isolation: the user's half is in the next page.
USER_TABLE = 0x1000


def text_of(comm):
    return comm.split(b"\0")[0].decode("latin1")


class Tasks:
    """
    @machine: the guest, whose processes were running just now. @code_end: of its kernel. @isolated:
    whether it has page table isolation. Stop the guest before you call: the list of tasks is its own.
    """

    def __init__(self, machine, code_end, isolated=False):
        self._machine = machine
        self._ignored = USER_TABLE if isolated else 0
        # A task is known by its link in the list of all; these are offsets from there.
        self._head = self._comm = self._mm = self._pgd = None
        if not any(self._find_list(comm) for comm in self._first_names(code_end)) \
                or not self._find_table():
            raise MachineError("--process can't be had: the guest's kernel has its tasks in an unknown form")

    def _first_names(self, start):
        """Yields where the first task's name may be."""
        start = (start - PAGE_OFFSET) & ~0xfff
        file = self._machine.host.scratch("memory")
        for address in range(start, start + CHUNK * CHUNKS, CHUNK):
            self._machine.qmp("pmemsave", {"val": address, "size": CHUNK, "filename": file})
            data = self._machine.host.read_bytes(file)
            for found in re.finditer(re.escape(FIRST_NAME), data):
                yield address + found.start() + PAGE_OFFSET

    def _words(self, address, count):
        """Of the guest's memory at a kernel address."""
        text = self._machine.hmp(f"xp /{count}wx {address - PAGE_OFFSET:#x}")
        words = [int(word, 16) for line in text.splitlines()
                 for word in re.findall(r"0x([0-9a-f]{8})", line.split(":", 1)[-1])]
        if len(words) != count:
            raise MachineError(f"the guest's memory at {address:#x} can't be read")
        return words

    def _find_list(self, comm):
        """Find the list's link in the task whose name is at @comm."""
        before = self._words(comm - TASK_BYTES // 2, TASK_BYTES // 8)
        for index, link in enumerate(before[:-1]):
            here = comm - TASK_BYTES // 2 + 4 * index
            if link < PAGE_OFFSET or link == here or link % 4 or \
                    self._words(link, 2)[1] != here:
                continue
            name = text_of(struct.pack("<4I", *self._words(link + comm - here, 4)))
            if name in ("init", "systemd"):
                self._head, self._comm = here, comm - here
                return True
        return False

    def _find_table(self):
        """Find the page table in a task, by that of the vCPU: the last process's that has run."""
        match = re.search(r"CR3=([0-9a-f]+)", self._machine.hmp("info registers"))
        table = (int(match[1], 16) & ~self._ignored) + PAGE_OFFSET
        for words in self._newest_first():
            for index in range(2, self._comm // 4 - 1):
                mm = words[index]
                if not PAGE_OFFSET < mm == words[index + 1] or mm % 4:
                    continue
                members = self._words(mm, MM_BYTES // 4)
                if table in members:
                    self._mm, self._pgd = index, 4 * members.index(table)
                    return True
        return False

    def _newest_first(self):
        """Yields the words of each task from its link to its name."""
        link = self._words(self._head, 2)[1]
        for _ in range(0x8000):
            if link == self._head:
                return
            words = self._words(link, (self._comm + COMM_BYTES) // 4)
            yield words
            link = words[1]

    def _processes(self):
        """Yields (name, value of CR3) of each task that has memory of its own."""
        for words in self._newest_first():
            if words[self._mm]:
                yield (text_of(struct.pack("<4I", *words[-4:])),
                       self._words(words[self._mm] + self._pgd, 1)[0] - PAGE_OFFSET)

    def newest(self, name):
        """What CR3 is in the newest process of that @name, or None."""
        return next((table for comm, table in self._processes() if comm == name), None)

    def owner(self, cr3):
        """The name of the process whose page table @cr3 is, or None."""
        return next((comm for comm, table in self._processes() if self.same(table, cr3)), None)

    def same(self, one, other):
        """Whether two values of CR3 are one process's."""
        return one & ~self._ignored == other & ~self._ignored
