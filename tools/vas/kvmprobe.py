# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether this machine's /dev/kvm can run a 32-bit guest with PAE paging.

Found out by running a few instructions of one: they turn paging off and on,
load CR3 again and write to a port.  A software KVM, or one inside a guest, may
have /dev/kvm and fail at any of that.
"""

import errno
import fcntl
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
