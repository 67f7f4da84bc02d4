# SPDX-License-Identifier: GPL-2.0-or-later
"""
TCG compared with KVM over many instructions: accel-compare again and again, and what comes between.

What a manual leaves undefined, such as AF after SHL, is no difference.  capstone knows most of it.
"""

import re
import time
from collections import Counter

from vas import tracefile
from vas.machine import MachineError
from vas.qmp import QMPError

FLAGS = {0: "CF", 2: "PF", 4: "AF", 6: "ZF", 7: "SF", 8: "TF", 9: "IF", 10: "DF", 11: "OF", 14: "NT",
         16: "RF", 17: "VM", 18: "AC", 19: "VIF", 20: "VIP", 21: "ID"}
STATUS = ("CF", "PF", "AF", "ZF", "SF", "OF")
# OF is defined after these by 1 only, which has no first operand or $1 (SDM vol. 2, "SAL/SAR/SHL/SHR", "RCL/RCR/ROL/ROR").
BY_ONE = ("shl", "sal", "shr", "sar", "rol", "ror", "rcl", "rcr", "shld", "shrd")
# A processor that has TZCNT executes it for a guest whose CPUID lacks it, and TCG executes BSF then.  These two
# differ in ZF and CF, and for 0 in the result, too.
PASSED_THROUGH = ("tzcnt", "lzcnt")
# So many instructions are compared at once.
PIECE = 2000
# A state in which a guest can't be switched.  Most last for an instruction or two, SMM and A20 for longer.
NOT_NOW = re.compile("would refuse this state|must run on")
RUN_ON_SECONDS = 0.05

ENDS = {
    "port": "I/O ports", "mmio": "memory of devices", "time": "clocks", "random": "random numbers",
    "msr": "RDMSR and WRMSR", "lapic": "CR8", "halt": "HLT and MWAIT", "hypervisor": "hypercalls and SVM",
    "smm": "RSM", "string": "long string instructions", "debug": "the guest's own debugging", "shutdown": "shutdowns",
    "kvm": "places where KVM's steps do not stop",
}


class CompareError(Exception):
    """One sentence that says why no more can be compared."""


def flag_names(bits):
    """The flags of a mask."""
    return [name for bit, name in FLAGS.items() if bits >> bit & 1]


def left_open(place):
    """
    What memory differs by, if the manual leaves it open, else None.  XSAVE may call a component in use that is in
    its initial configuration (SDM vol. 1, 13.6, XINUSE), and TCG does so with all.  A processor may set Accessed in
    entries of page tables that it has not used (SDM vol. 3A, 4.8), and TCG does not.
    """
    kvm, tcg = int(place["kvm"], 16), int(place["tcg"], 16)
    if len(place["kvm"]) != 2:
        return None
    # The first byte of XSTATE_BV (x87, SSE, AVX), and the second (PKRU)
    if (place["address"] % 64 == 0 and tcg <= 7 or place["address"] % 64 == 1 and tcg == 2) and kvm & ~tcg == 0:
        return "xsave"
    if place["address"] % 4 == 0 and kvm ^ tcg == 0x20 and kvm & 0x21 == 0x21:
        return "page tables"
    return None


def other_side(difference):
    """What TCG is compared with in the @difference."""
    return "single steps" if difference["kind"].startswith("block") else "KVM"


def describe(difference):
    """A difference in one line."""
    other = other_side(difference)
    values = ", ".join(" ".join([value.get("name", "bytes"), other, shown(value["kvm"]), "TCG", shown(value["tcg"]),
                                 *value.get("flags", ())])
                       for value in difference.get("values") or [difference] if "kvm" in value)
    return f"{difference['kind']} at {difference['address']:#x} {difference.get('text', '')}: {values}"


def shown(value):
    """A register's value, or bytes of memory, which are hexadecimal digits."""
    return value if isinstance(value, str) else f"{value:#x}"


class Judge:
    """Tells what the manual leaves undefined from what is a difference."""

    def __init__(self):
        self._engines = {}
        if tracefile.capstone:
            for mode, name in ((2, "CS_MODE_16"), (4, "CS_MODE_32"), (8, "CS_MODE_64")):
                engine = tracefile.capstone.Cs(tracefile.capstone.CS_ARCH_X86,
                                               getattr(tracefile.capstone, name))
                engine.syntax = tracefile.capstone.CS_OPT_SYNTAX_ATT
                engine.detail = True
                self._engines[mode] = engine

    def instruction(self, difference):
        """(mnemonic, text, flags that it leaves undefined)"""
        code = bytes.fromhex(difference["code"])
        if not self._engines or not code:
            return "", difference["code"], []
        for insn in self._engines[difference["mode"]].disasm(code, difference["address"], 1):
            x86 = tracefile.capstone.x86_const
            undefined = [name for name in STATUS if insn.eflags & getattr(x86, f"X86_EFLAGS_UNDEFINED_{name}")]
            name = insn.mnemonic.rsplit(" ", 1)[-1]
            if (name in BY_ONE or name[:-1] in BY_ONE) and \
                    re.match(r"\$(?!(0x)?1,)|%cl,", insn.op_str):
                undefined.append("OF")
            if name[:5] in PASSED_THROUGH:
                undefined += ["ZF", "CF"]
            return name, f"{insn.mnemonic} {insn.op_str}".strip(), undefined
        return "", difference["code"], []

    def judge(self, difference):
        """
        A difference as ./vas compare tells of it: the instruction's text, and whether it is "undefined", which
        is no difference.
        """
        mnemonic, text, undefined = self.instruction(difference)
        harmless = bool(undefined)
        for value in difference["values"]:
            if value["name"] in ("eflags", "rflags"):
                value["flags"] = flag_names(value["kvm"] ^ value["tcg"])
                harmless &= set(value["flags"]) <= set(undefined)
            else:
                harmless = False
        return {**difference, "mnemonic": mnemonic, "text": text, "undefined": harmless}


class Comparer:
    """
    Compares the guest of @machine, which is stopped whenever a method returns.  @say: tells of progress;
    @wait: seconds until the guest must have got beyond what can't be compared. @piece: so many instructions are
    compared at once.
    """

    def __init__(self, machine, say=lambda text: None, wait=60, piece=PIECE):
        self._machine, self._say, self._wait, self._piece = machine, say, wait, piece
        self._judge = Judge()
        self._said = time.monotonic()
        self.instructions = 0
        self.user = 0               # of these at CPL 3
        self.blocks = 0             # in which TCG has executed them, too
        self.stepped = 0            # by KVM alone
        self.ends = Counter()
        self.undefined = Counter()
        self.refused = 0            # times that it ran on, where it was, as it could not be switched
        self.registers_only = 0     # of the instructions
        self.differences = []
        self.ended = False          # so has the guest

    def _compare(self, count):
        try:
            return self._machine.qmp("accel-compare", {"max-instructions": count}, timeout=300)
        except QMPError as error:
            if not NOT_NOW.search(str(error)):
                raise
        return None

    def _run_on(self):
        """Let the guest run for a moment, where it is."""
        self._machine.cont()
        time.sleep(RUN_ON_SECONDS)
        self._machine.stop()

    def _step_over(self):
        """
        Have KVM execute what can't be compared, and take what interrupts wait; two instructions, so that an
        interrupt has a place to come in between.
        """
        self._machine.switch("kvm")
        while self._machine.events("STOP"):
            self._machine.wait_event("STOP", 1)
        self._machine.qmp("kvm-trace-start", {"file": self._machine.host.scratch("over"), "max-instructions": 2,
                                              "interrupts-every": 1, "stop": True})
        self._machine.cont()
        try:
            end = self._machine.wait_event("KVM_TRACE_END", self._wait)["data"]
            if end["reason"] == "max-instructions":
                self._machine.wait_event("STOP", self._wait)
            self.stepped += end["instructions"]
        except MachineError as error:
            if self._machine.running():
                raise CompareError(f"the guest has not executed two instructions within {self._wait} s: it may"
                                   " sleep; have it do something, or wait longer by --wait") from error
            self.ended = True
            return
        if end["reason"] != "max-instructions":
            raise CompareError(f"KVM's steps have ended for another reason: {end['reason']}")

    def _is_pushed_selector(self, place, size):
        """
        "selectors on the stack" if that may be what differs, else None.  The processor may write 16 bits of the
        @size bytes that PUSH of a segment register takes (SDM vol. 2B, "PUSH"); TCG writes zeros beyond.
        """
        offset = place["address"] % size
        if set(place["tcg"]) != {"0"} or offset < 2 or offset + len(place["tcg"]) // 2 > size:
            return None
        word = self._machine.hmp(f"xp /1hx {place['address'] - offset:#x}")
        selector = int(word.rsplit("0x", 1)[1], 16)
        limit = int(re.search(r"GDT=\s*[0-9a-f]+ ([0-9a-f]+)", self._machine.hmp("info registers"))[1], 16)
        return "selectors on the stack" if selector & 4 or selector <= limit else None

    def _take(self, result):
        """Take a result in; returns what differs."""
        self.instructions += result["instructions"]
        self.user += result["user-instructions"]
        found = []
        undefined = 0
        if result["end"] == "kvm":
            self.registers_only += result["instructions"]
        for difference in map(self._judge.judge, result["differences"]):
            if difference["undefined"]:
                self.undefined[difference["mnemonic"]] += 1
                undefined += 1
            else:
                found.append({"kind": "registers", **difference})
        self.blocks += result["blocks"]
        for difference in result["block-differences"]:
            found.append({"kind": "block", **difference, "text": self._judge.instruction(difference)[1]})
        for value in result["block-state"] + result["block-memory"]:
            found.append({"kind": "block-state", "address": result["next"], "values": [value]})
        for value in result["state"]:
            found.append({"kind": "state", "address": result["next"], "values": [value]})
        for place in result["memory"]:
            harmless = left_open(place) or self._is_pushed_selector(place, 8 if result["mode"] == 8 else 4)
            if harmless:
                self.undefined[harmless] += 1
                continue
            found.append({"kind": "memory", "physical": place["address"], "address": result["next"],
                          **{key: place[key] for key in ("kvm", "tcg", "before")}})
        # What comes of an undefined flag later in the piece is no fault of TCG's either, and can't be told.
        if undefined and found:
            for difference in found:
                difference["after_undefined"] = True
        self.differences += found
        return found

    def run(self, count, first_only=True):
        """
        Compare @count instructions more; returns the differences in them.  With @first_only it ends after the
        piece with the first one.
        """
        goal, found, give_up = self.instructions + count, [], time.monotonic() + self._wait
        while self.instructions < goal and not self.ended and not (first_only and found):
            result = self._compare(min(self._piece, goal - self.instructions))
            if result is None:
                if time.monotonic() > give_up:
                    raise CompareError(f"the guest could not be switched for {self._wait} s")
                self.refused += 1
                self._run_on()
                continue
            give_up = time.monotonic() + self._wait
            new = self._take(result)
            found += new
            for difference in new:
                self._say(describe(difference))
            if result["end"] != "count":
                self.ends[result["end"]] += 1
                resets = len(self._machine.events("RESET"))
                if result["end"] == "string":
                    self._machine.switch("kvm")
                    self._run_on()
                else:
                    self._step_over()
                if result["end"] == "shutdown" and not self.ended and \
                        len(self._machine.events("RESET")) == resets:
                    found.append({"kind": "shutdown", "address": result["next"], "code": result["next-code"]})
                    self.differences.append(found[-1])
            if time.monotonic() - self._said > 10:
                self._said = time.monotonic()
                self._say(f"{self.instructions} compared, {len(self.differences)} differences")
        return found
