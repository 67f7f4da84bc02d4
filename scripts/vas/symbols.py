# SPDX-License-Identifier: GPL-2.0-or-later
"""Names of a guest's addresses: asked of a Linux guest, or from a file."""

import bisect
import re

ADDRESS = re.compile(r"0x([0-9a-f]{5,16})\b")
# A line of the plugin execlog: the instruction's bytes, between address and text, are no address.
EXECLOG = re.compile(r'(\d+, 0x[0-9a-f]+)(, 0x[0-9a-f]+, )(".*)')
# An address that is further behind a symbol is not of its function.
FUNCTION_BYTES = 0x10000
# Where a kernel is, and above it no code, but small negative numbers.
KERNEL, FIXED = 0xc0000000, 0xff000000


class SymbolError(Exception):
    """One sentence that says why a name has no address."""


class Symbols:
    """What names and addresses have in common, wherever they are from."""

    def __init__(self):
        self._names = {}

    def address(self, name, kinds="tTwW"):
        """The address of a symbol of one of the @kinds, nm's letters, or of "0x…"."""
        if re.fullmatch(r"0x[0-9a-fA-F]+", name):
            return int(name, 16)
        if not re.fullmatch(r"[A-Za-z_][\w.]*", name):
            raise SymbolError(f"'{name}' is neither a symbol nor an address (0x…)")
        return self._find(name, kinds)

    def _find(self, name, kinds):
        raise NotImplementedError

    def look_up(self, addresses):
        """Find the names of @addresses, all at once."""
        raise NotImplementedError

    def _keep(self, address, start, name):
        offset = address - start
        if 0 <= offset < FUNCTION_BYTES:
            self._names[address] = name + (f"+{offset:#x}" if offset else "")

    def name(self, address):
        """The name of an address that was looked up, or the address."""
        return self._names.get(address, f"{address:#x}")

    def annotate(self, text):
        """A plugin's @text with the names of addresses in it."""
        self.look_up(dict.fromkeys(int(digits, 16) for digits in ADDRESS.findall(text)))
        return "\n".join(self._annotate_line(line) for line in text.splitlines())

    def _annotate_line(self, line):
        execlog = EXECLOG.fullmatch(line)
        if execlog:
            return self._replace(execlog[1]) + execlog[2] + self._replace(execlog[3])
        return self._replace(line)

    def _replace(self, text):
        def named(match):
            name = self._names.get(int(match[1], 16))
            return match[0] + (f" <{name}>" if name else "")

        return ADDRESS.sub(named, text)


class KernelSymbols(Symbols):
    """Of a Linux i386 kernel, asked in its shell: there is no other copy of what it has loaded where."""

    # So many addresses get names at once: a terminal's line has 4095 characters.
    MOST = 300
    LIST = "/tmp/vas-functions"

    def __init__(self, guest):
        super().__init__()
        self._guest = guest
        self._asked = set()
        self._listed = False

    def _find(self, name, kinds):
        _, text = self._guest.command(f"grep -E ' [{kinds}] {re.escape(name)}$' /proc/kallsyms")
        found = re.findall(rf"(?m)^([0-9a-f]+) [{kinds}] ", text)
        if not found:
            _, text = self._guest.command(f"grep -i -m 8 -E ' [{kinds}] .*{re.escape(name)}'"
                                          " /proc/kallsyms")
            similar = re.findall(rf" [{kinds}] (\S+)", text)
            raise SymbolError(f"the guest's kernel has no function '{name}'"
                              + (f"; it has {', '.join(similar)}" if similar else ""))
        return int(found[0], 16)

    def look_up(self, addresses):
        wanted = [address for address in addresses if KERNEL <= address < FIXED and
                  address not in self._asked][:self.MOST]
        self._asked.update(wanted)
        if wanted:
            self._ask(sorted(wanted))

    def _ask(self, addresses):
        if not self._listed:
            self._guest.command("awk '$2 ~ /[tTwW]/ { print $1, $3 }' /proc/kallsyms |"
                                f" LC_ALL=C sort > {self.LIST}", 300)
            self._listed = True
        # '~' is behind each letter: an address comes after the symbol that it is the begin of.
        words = " ".join(f"{address:08x}" for address in addresses)
        _, text = self._guest.command(
            f"for a in {words}; do echo $a '~'; done | LC_ALL=C sort -m - {self.LIST} |"
            " awk '$2 != \"~\" { s = $0 } $2 == \"~\" { print \"N\", $1, s }'", 300)
        for address, start, name in re.findall(r"(?m)^N ([0-9a-f]+) ([0-9a-f]+) (\S+)$", text):
            self._keep(int(address, 16), int(start, 16), name)


class FileSymbols(Symbols):
    """Of a System.map or what nm prints: lines of address, letter and name."""

    LINE = re.compile(r"([0-9a-fA-F]+) (\w) (\S+)")

    def __init__(self, name=None):
        super().__init__()
        self._file = name
        self._symbols = []
        if name:
            self._read(name)
        # Data, too: a guest without paging has it where its accesses are.
        self._sorted = sorted((address, symbol) for address, kind, symbol in self._symbols
                              if kind not in "aA")

    def _read(self, name):
        try:
            with open(name, encoding="utf-8", errors="replace") as file:
                for line in file:
                    match = self.LINE.match(line)
                    if match:
                        self._symbols.append((int(match[1], 16), match[2], match[3]))
        except OSError as error:
            raise SymbolError(f"{name}: {error.strerror}") from error
        if not self._symbols:
            raise SymbolError(f"{name} has no line of address, letter and name: give a System.map"
                              " or what nm prints")

    def _find(self, name, kinds):
        if not self._file:
            raise SymbolError(f"'{name}' needs --symbols FILE, or give an address (0x…)")
        for address, kind, symbol in self._symbols:
            if symbol == name and kind in kinds:
                return address
        similar = [s for _, kind, s in self._symbols if kind in kinds and name.lower() in s.lower()]
        raise SymbolError(f"{self._file} has no function '{name}'"
                          + (f"; it has {', '.join(similar[:8])}" if similar else ""))

    def look_up(self, addresses):
        for address in addresses:
            index = bisect.bisect_right(self._sorted, (address, "\x7f")) - 1
            if index >= 0:
                self._keep(address, *self._sorted[index])
