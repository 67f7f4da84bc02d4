# SPDX-License-Identifier: GPL-2.0-or-later
"""
TCG compared with KVM over many instructions: accel-compare again and again, and what comes between.

What a manual leaves undefined, such as AF after SHL, is no difference.  capstone knows most of it.
"""

import time
from collections import Counter

from vas import tracefile
from vas.machine import MachineError
from vas.qmp import QMPError

FLAGS = {0: "CF", 2: "PF", 4: "AF", 6: "ZF", 7: "SF", 8: "TF", 9: "IF", 10: "DF", 11: "OF", 14: "NT",
         16: "RF", 17: "VM", 18: "AC", 19: "VIF", 20: "VIP", 21: "ID"}
STATUS = ("CF", "PF", "AF", "ZF", "SF", "OF")
# OF is defined after these by 1 only (SDM vol. 2, "SAL/SAR/SHL/SHR", "RCL/RCR/ROL/ROR").
BY_ONE = ("shl", "sal", "shr", "sar", "rol", "ror", "rcl", "rcr", "shld", "shrd")
# So many instructions are compared at once.
PIECE = 2000
# A state that KVM does not take lasts for an instruction or two.
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


def is_xstate_bv(place):
    """
    Whether memory differs by the components of a state that XSAVE calls in use: a processor may say so of one in
    its initial configuration (SDM vol. 1, 13.6, XINUSE), and TCG does of all.
    """
    kvm, tcg = int(place["kvm"], 16), int(place["tcg"], 16)
    return len(place["kvm"]) == 2 and tcg in (3, 7) and kvm & ~tcg == 0


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
            if name.rstrip("bwlq") in BY_ONE or name in BY_ONE:
                undefined.append("OF")
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
        self.stepped = 0            # by KVM alone
        self.ends = Counter()
        self.undefined = Counter()
        self.differences = []
        self.ended = False          # so has the guest

    def _compare(self, count):
        try:
            return self._machine.qmp("accel-compare", {"max-instructions": count}, timeout=300)
        except QMPError as error:
            if "would refuse this state" not in str(error):
                raise
        return None

    def _run_on(self):
        """Let the guest run for a moment."""
        self._machine.cont()
        time.sleep(RUN_ON_SECONDS)
        self._machine.stop()

    def _step_over(self):
        """
        Have KVM execute what can't be compared, and take what interrupts wait; two instructions, so that an
        interrupt has a place to come in between.
        """
        self._machine.switch("kvm")
        self._machine.qmp("kvm-trace-start", {"file": self._machine.host.scratch("over"), "max-instructions": 2,
                                              "interrupts-every": 1, "stop": True})
        self._machine.cont()
        try:
            self._machine.wait_event("KVM_TRACE_END", self._wait)
            self._machine.wait_event("STOP", self._wait)
            self.stepped += 2
        except MachineError as error:
            if self._machine.running():
                raise CompareError(f"the guest has not executed two instructions within {self._wait} s: it may"
                                   " sleep; have it do something, or wait longer by --wait") from error
            self.ended = True

    def _take(self, result):
        """Take a result in; returns what differs."""
        self.instructions += result["instructions"]
        found = []
        undefined = 0
        for difference in map(self._judge.judge, result["differences"]):
            if difference["undefined"]:
                self.undefined[difference["mnemonic"]] += 1
                undefined += 1
            else:
                found.append({"kind": "registers", **difference})
        for value in result["state"]:
            found.append({"kind": "state", "address": result["next"], "values": [value]})
        for place in result["memory"]:
            if is_xstate_bv(place):
                self.undefined["xsave"] += 1
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
        goal, found = self.instructions + count, []
        while self.instructions < goal and not self.ended and not (first_only and found):
            result = self._compare(min(self._piece, goal - self.instructions))
            if result is None:
                # KVM does not take the state that the guest has stopped in.
                self.ends["refused"] += 1
                self._run_on()
                continue
            found += self._take(result)
            if result["end"] == "shutdown":
                raise CompareError(f"TCG shuts the guest down at {result['next']:#x}")
            if result["end"] != "count":
                self.ends[result["end"]] += 1
                if result["end"] == "string":
                    self._machine.switch("kvm")
                    self._run_on()
                else:
                    self._step_over()
            if time.monotonic() - self._said > 10:
                self._said = time.monotonic()
                self._say(f"{self.instructions} compared, {len(self.differences)} differences")
        return found
