# SPDX-License-Identifier: GPL-2.0-or-later
"""
The file of kvm-trace-start (docs/trace.rst), and its text in the form of QEMU's plugin execlog.

Nothing here runs a guest.  Disassembly needs Debian's python3-capstone, which is the library that
QEMU disassembles with; without it the disassembly is empty.
"""

import re
import struct

try:
    import capstone
except ImportError:
    capstone = None

HEADER = struct.Struct("<8sHHIQ")
BLOCK = struct.Struct("<II")
MAGIC, VERSION = b"VASTRACE", 1
NO_CPU = 0xffffffff
CODE, GAP, EVENT, END = range(4)
MASK = (1 << 64) - 1

GAPS = {
    0: "begin",
    1: "halt",
    2: "mov-ss",
    3: "guest-debug",
    4: "filter",
    5: "lost",
    6: "smi",
}
REASONS = ("command", "max-instructions", "file", "debugger", "shutdown", "kvm-error", "load")
EXCEPTIONS = {0: "#DE", 1: "#DB", 2: "NMI", 3: "#BP", 4: "#OF", 5: "#BR", 6: "#UD", 7: "#NM", 8: "#DF",
              10: "#TS", 11: "#NP", 12: "#SS", 13: "#GP", 14: "#PF", 16: "#MF", 17: "#AC", 18: "#MC",
              19: "#XM"}
# A line of execlog; what follows the disassembly is the instruction's accesses to memory.
EXECLOG = re.compile(r'^(\d+), 0x([0-9a-f]+), 0x([0-9a-f]+), "([^"]*)"')


class TraceError(Exception):
    """One sentence that says what is wrong with a trace."""


class Step:
    """An instruction: its vCPU, linear address, bytes from there on, and 2, 4 or 8 as its mode."""

    def __init__(self, cpu, pc, code, mode):
        self.cpu, self.pc, self.code, self.mode = cpu, pc, code, mode


class Gap:
    """Instructions may be missing here; @detail is an address for "mov-ss" and "lost"."""

    def __init__(self, cpu, why, detail):
        self.cpu, self.why, self.detail = cpu, why, detail

    def __str__(self):
        return f"gap: {self.why}" + (f" 0x{self.detail:x}" if self.detail else "")


class Event:
    """The interrupt or exception @vector was delivered."""

    def __init__(self, cpu, vector):
        self.cpu, self.vector = cpu, vector

    def __str__(self):
        name = EXCEPTIONS.get(self.vector, "")
        return f"event: vector {self.vector}" + (f" ({name})" if name else "")


class End:
    """The trace ended in order."""

    def __init__(self, reason, instructions, gaps):
        self.reason, self.instructions, self.gaps = reason, instructions, gaps


class _Numbers:
    """The numbers of a block's records, 7 bits a byte, the lowest first."""

    def __init__(self, data):
        self._data, self._at = data, 0

    def more(self):
        return self._at < len(self._data)

    def number(self):
        value = shift = 0
        while True:
            if self._at >= len(self._data):
                raise TraceError("a record ends in the middle")
            byte = self._data[self._at]
            self._at += 1
            value |= (byte & 0x7f) << shift
            shift += 7
            if byte < 0x80:
                return value

    def bytes(self, count):
        self._at += count
        return self._data[self._at - count:self._at]


def _block(cpu, data, codes):
    numbers, pc, code = _Numbers(data), 0, None
    while numbers.more():
        number = numbers.number()
        if number & 1 == 0:
            delta = number >> 1
            pc = pc + ((delta >> 1) ^ -(delta & 1)) & MASK
            if code:
                codes[cpu, pc] = code
                code = None
            if (cpu, pc) not in codes:
                raise TraceError(f"the file has no code for {pc:#x}")
            yield Step(cpu, pc, *codes[cpu, pc])
        elif number >> 1 == CODE:
            mode, count = numbers.number(), numbers.number()
            code = numbers.bytes(count), mode
        elif number >> 1 == GAP:
            why = numbers.number()
            yield Gap(cpu, GAPS.get(why, str(why)), numbers.number())
        elif number >> 1 == EVENT:
            yield Event(cpu, numbers.number())
        elif number >> 1 == END:
            reason = numbers.number()
            yield End(REASONS[reason], numbers.number(), numbers.number())
        else:
            raise TraceError(f"a record is of the unknown kind {number >> 1}")


def records(data):
    """The records of the file with the contents @data: Step, Gap, Event and at last End."""
    if len(data) < HEADER.size or data[:len(MAGIC)] != MAGIC:
        raise TraceError("this is no trace: it does not begin with " + MAGIC.decode())
    _, version, at, _, _ = HEADER.unpack_from(data)
    if version != VERSION:
        raise TraceError(f"this is a trace of version {version}, not {VERSION}")
    codes, ended = {}, False
    while at < len(data):
        if at + BLOCK.size > len(data):
            raise TraceError("the file ends in the middle of a block")
        count, cpu = BLOCK.unpack_from(data, at)
        at += BLOCK.size
        if at + count > len(data):
            raise TraceError("the file ends in the middle of a block")
        for record in _block(cpu, data[at:at + count], codes):
            ended = isinstance(record, End)
            yield record
        at += count
    if not ended:
        raise TraceError("the file has no end: QEMU did not finish it")


class Disassembler:
    """QEMU's disassembly for plugins (disas/capstone.c): AT&T's syntax."""

    def __init__(self):
        self._known = {}
        self._engines = {}
        if capstone:
            for mode, engine in ((2, capstone.CS_MODE_16), (4, capstone.CS_MODE_32),
                                 (8, capstone.CS_MODE_64)):
                self._engines[mode] = capstone.Cs(capstone.CS_ARCH_X86, engine)
                self._engines[mode].syntax = capstone.CS_OPT_SYNTAX_ATT
                self._engines[mode].skipdata = True

    def instruction(self, step):
        """(length, text), of which 0 and "" are not known."""
        key = step.pc, step.code, step.mode
        if key not in self._known:
            self._known[key] = 0, ""
            for insn in (self._engines[step.mode].disasm(step.code, step.pc, 1)
                         if self._engines else ()):
                # Of what capstone does not know, it shows the first byte.
                self._known[key] = insn.size if insn.id else 0, f"{insn.mnemonic} {insn.op_str}"
        return self._known[key]

    def line(self, step):
        """@step as execlog prints it"""
        length, text = self.instruction(step)
        opcode = int.from_bytes(step.code[:min(length or 4, 4)], "little")
        return f'{step.cpu}, 0x{step.pc:x}, 0x{opcode:x}, "{text}"'


def lines(data):
    """The text of a trace: execlog's lines, and comments where there is more to say."""
    disassembler = Disassembler()
    for record in records(data):
        if isinstance(record, Step):
            yield disassembler.line(record)
        elif isinstance(record, End):
            yield f"# end: {record.reason}, {record.instructions} instructions, {record.gaps} gaps"
        else:
            yield f"# {record.cpu}, {record}"


def execlog_lines(text):
    """execlog's lines out of its output, without the accesses to memory"""
    for line in text.splitlines():
        match = EXECLOG.match(line)
        if match:
            yield match.group(0)


def collapsed(steps):
    """
    Without repetitions: each iteration of a REP instruction is a step in KVM, and some are in TCG.
    """
    last = None
    for step in steps:
        if step != last:
            yield step
        last = step
