# SPDX-License-Identifier: GPL-2.0-or-later
"""What this machine's /dev/kvm can do.

Whether it can run a 32-bit guest with PAE paging is found out by running a few
instructions of one: they turn paging off and on, load CR3 again and write to a
port.  A software KVM, or one inside a guest, may have /dev/kvm and fail at any
of that.

Whether its CPUID shows a guest more than it was given is found out by giving a
vCPU no features at all.
"""

import errno
import fcntl
import functools
import mmap
import os
import struct
import subprocess
import sys

KVM_CREATE_VM = 0xae01
KVM_GET_VCPU_MMAP_SIZE = 0xae04
KVM_CREATE_VCPU = 0xae41
KVM_SET_USER_MEMORY_REGION = 0x4020ae46
KVM_SET_TSS_ADDR = 0xae47
KVM_RUN = 0xae80
KVM_SET_REGS = 0x4090ae82
KVM_GET_SREGS = 0x8138ae83
KVM_SET_SREGS = 0x4138ae84
KVM_SET_CPUID2 = 0x4008ae90
KVM_GET_CPUID2 = 0xc008ae91
KVM_EXIT_IO = 2
EXIT_NAMES = {5: "halt", 8: "shutdown", 9: "failed entry", 17: "internal error"}

SIZE = 0x10000
CODE, PDPT, DIRECTORY, STACK = 0x1000, 0x2000, 0x3000, 0x8000

PROGRAM = bytes.fromhex(
    "0f20c0"            # mov %cr0, %eax
    "25ffffff7f"        # and $~PG, %eax
    "0f22c0"            # mov %eax, %cr0
    "0d00000080"        # or $PG, %eax
    "0f22c0"            # mov %eax, %cr0
    "0f20d8"            # mov %cr3, %eax
    "0f22d8"            # mov %eax, %cr3
    "e6e9"              # out %al, $0xe9
    "f4")               # hlt

SEGMENT = "<QIHBBBBBBBBBx"       # struct kvm_segment
CODE_TYPE, DATA_TYPE, TSS_TYPE = 11, 3, 11


def segment(kind, selector, system):
    """A flat 32-bit segment."""
    return struct.pack(SEGMENT, 0, 0xffffffff if system else 0x67, selector, kind, 1, 0,
                       system, system, 0, system, 0, 0)


def special_registers(old):
    """Protected mode with PAE paging on, on top of what the vCPU has now."""
    data = segment(DATA_TYPE, 16, 1)
    segments = segment(CODE_TYPE, 8, 1) + data * 5 + segment(TSS_TYPE, 24, 0)
    # cs ds es fs gs ss tr; the LDT, descriptor tables and APIC base stay
    tail = bytearray(old[7 * 24:])
    controls = 24 + 32
    struct.pack_into("<QQQQQQ", tail, controls,
                     0x80000011, 0, PDPT, 0x20, 0, 0)   # CR0 CR2 CR3 CR4 CR8 EFER
    return segments + bytes(tail)


def run_guest():
    """Return None if the guest ran, or what went wrong."""
    kvm = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    vm = fcntl.ioctl(kvm, KVM_CREATE_VM, 0)
    # Some processors need three pages for it; anywhere outside the guest's memory.
    fcntl.ioctl(vm, KVM_SET_TSS_ADDR, 0x7ffbd000)
    memory = mmap.mmap(-1, SIZE)
    memory[CODE:CODE + len(PROGRAM)] = PROGRAM
    struct.pack_into("<Q", memory, PDPT, DIRECTORY | 1)
    struct.pack_into("<Q", memory, DIRECTORY, 0x83)      # a 2 MiB page at 0
    address = address_of(memory)
    fcntl.ioctl(vm, KVM_SET_USER_MEMORY_REGION,
                struct.pack("<IIQQQ", 0, 0, 0, SIZE, address))
    vcpu = fcntl.ioctl(vm, KVM_CREATE_VCPU, 0)
    state = mmap.mmap(vcpu, fcntl.ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0))
    old = fcntl.ioctl(vcpu, KVM_GET_SREGS, bytes(312))
    fcntl.ioctl(vcpu, KVM_SET_SREGS, special_registers(old))
    registers = [0] * 18
    registers[6], registers[16], registers[17] = STACK, CODE, 2   # rsp rip rflags
    fcntl.ioctl(vcpu, KVM_SET_REGS, struct.pack("<18Q", *registers))
    fcntl.ioctl(vcpu, KVM_RUN, 0)
    reason, = struct.unpack_from("<I", state, 8)
    if reason == KVM_EXIT_IO:
        return None
    return EXIT_NAMES.get(reason, f"exit {reason}")


def address_of(memory):
    import ctypes
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


# struct kvm_cpuid_entry2: leaf, subleaf, flags, EAX to EDX
CPUID_ENTRY = "<7I12x"
CPUID_SUBLEAF_COUNTS = 1
CPUID_ENTRIES_MAX = 256
CPUID_APIC = 1 << 9


def shown(given):
    """
    CPUID as /dev/kvm shows it to a guest that is @given it: {(leaf, subleaf): [EAX, EBX, ECX, EDX]}, both; None if
    that can't be told.
    """
    table = struct.pack("<II", len(given), 0) + b"".join(
        struct.pack(CPUID_ENTRY, *place, CPUID_SUBLEAF_COUNTS if place[0] == 7 else 0, *values)
        for place, values in given.items())
    room = CPUID_ENTRIES_MAX * struct.calcsize(CPUID_ENTRY)
    now = bytearray(struct.pack("<II", CPUID_ENTRIES_MAX, 0) + bytes(room))
    files = []
    try:
        files.append(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
        files.append(fcntl.ioctl(files[0], KVM_CREATE_VM, 0))
        files.append(fcntl.ioctl(files[1], KVM_CREATE_VCPU, 0))
        fcntl.ioctl(files[2], KVM_SET_CPUID2, table)
        fcntl.ioctl(files[2], KVM_GET_CPUID2, now)
    except OSError:
        return None
    finally:
        for file in reversed(files):
            os.close(file)
    return {entry[:2]: list(entry[3:]) for entry in struct.iter_unpack(CPUID_ENTRY, now[8:])}


def least():
    """CPUID of the least processor, with an APIC."""
    return {(0, 0): [7, 0x756e6547, 0x6c65746e, 0x49656e69], (1, 0): [0, 0, 0, CPUID_APIC], (7, 0): [0] * 4}


@functools.cache
def shows_more():
    """Whether /dev/kvm shows a guest more CPU features than it was given."""
    given = least()
    return any(now & ~before for place, values in (shown(given) or {}).items()
               for before, now in zip(given.get(place, [0] * 4), values))


@functools.cache
def takes_away(leaf, subleaf, register, features):
    """Those of the @features in a @register ("ECX") of CPUID that /dev/kvm does not show a guest that has them."""
    given = least()
    values = given.setdefault((leaf, subleaf), [0] * 4)
    number = ("EAX", "EBX", "ECX", "EDX").index(register)
    values[number] |= features
    now = shown(given)
    return features & ~now.get((leaf, subleaf), values)[number] if now else 0


def probe():
    """(whether a 32-bit paged guest runs here, why not)."""
    if not os.path.exists("/dev/kvm"):
        return False, "there is no /dev/kvm"
    # In a process of its own: a guest that never exits is stopped with it.
    try:
        done = subprocess.run([sys.executable, "-m", "vas.kvmprobe"], check=False,
                              capture_output=True, text=True, timeout=20,
                              env={**os.environ, "PYTHONPATH": os.path.dirname(
                                  os.path.dirname(os.path.abspath(__file__)))})
    except subprocess.TimeoutExpired:
        return False, "a 32-bit guest with paging hangs under this /dev/kvm"
    return done.returncode == 0, done.stdout.strip() or "the probe of /dev/kvm ended early"


def main():
    try:
        problem = run_guest()
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            print("/dev/kvm may not be opened (is the user in group kvm?)")
        else:
            print(f"/dev/kvm can't run a 32-bit guest with paging ({error.strerror})")
        sys.exit(1)
    if problem:
        print(f"/dev/kvm can't run a 32-bit guest with paging ({problem})")
        sys.exit(1)
    print("ok")


if __name__ == "__main__":
    main()
