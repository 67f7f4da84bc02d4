#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""
A trace's file (docs/trace.rst), made here by hand, reads back as what was put in; one that is cut off or
changed is refused.
"""

import struct

from vas import tracefile
from vas.testing import Failure, expect_equal, run_test


def number(value):
    """As a record has it"""
    out = bytearray()
    while True:
        out.append((value & 0x7f) | (0x80 if value > 0x7f else 0))
        value >>= 7
        if not value:
            return bytes(out)


def step(delta):
    return number(((delta << 1) ^ (delta >> 63)) << 1 & (1 << 64) - 1)


def code(mode, text):
    return number(1) + number(mode) + number(len(text)) + text


def block(cpu, payload):
    return struct.pack("<II", len(payload), cpu) + payload


HEADER = struct.pack("<8sHHIQ", b"VASTRACE", 1, 24, 2, 100)
START = 0xffffffff81000000
BLOCKS = (block(0, number(3) + number(0) + number(0)
                + code(8, bytes.fromhex("48ffc7c3")) + step(START - (1 << 64))
                + code(8, b"\xc3") + step(3)
                + number(5) + number(14) + step(-3)),
          block(1, code(2, bytes.fromhex("b83412")) + step(0xffff0)
                + number(3) + number(2) + number(0xffff0)),
          block(0xffffffff, number(7) + number(1) + number(4) + number(1)))
LINES = ['# 0, gap: begin', f'0, {START:#x}, 0xc7ff48, "incq %rdi"', f'0, {START + 3:#x}, 0xc3, "retq "',
         '# 0, event: vector 14 (#PF)', f'0, {START:#x}, 0xc7ff48, "incq %rdi"',
         '1, 0xffff0, 0x1234b8, "movw $0x1234, %ax"', '# 1, gap: mov-ss 0xffff0',
         '# end: max-instructions, 4 instructions, 1 gaps']


def refused(data, sentence):
    try:
        list(tracefile.records(data))
    except tracefile.TraceError as error:
        if sentence in str(error):
            return
        raise Failure(f"expected an error with '{sentence}', got '{error}'") from error
    raise Failure(f"no error with '{sentence}'")


def trace_file():
    data = HEADER + b"".join(BLOCKS)
    got = list(tracefile.lines(data))
    if tracefile.capstone:
        expect_equal("lines", LINES, got)
    else:
        print("without python3-capstone: addresses only")
        expect_equal("addresses", [line.split(", ")[1] for line in LINES],
                     [line.split(", ")[1] for line in got])
    refused(b"", "this is no trace")
    refused(data.replace(b"VAS", b"SAV", 1), "this is no trace")
    refused(HEADER[:8] + b"\2" + HEADER[9:], "version 2")
    refused(data[:-len(BLOCKS[2])], "has no end")
    for length in range(len(HEADER) + 1, len(data) - len(BLOCKS[2])):
        if length - len(HEADER) not in (len(BLOCKS[0]), len(BLOCKS[0]) + len(BLOCKS[1])):
            refused(data[:length], "in the middle of a block")
    refused(HEADER + block(0, step(5)), "no code for 0x5")
    refused(HEADER + block(0, number(99)), "unknown kind 49")
    refused(HEADER + block(0, b"\x80"), "ends in the middle")
    text = LINES[1] + ', load, 0x10, ram\nnoise\n' + LINES[2] + "\n"
    expect_equal("execlog's lines", LINES[1:3], list(tracefile.execlog_lines(text)))
    expect_equal("collapsed", ["a", "b", "a"], list(tracefile.collapsed("aabba")))


run_test(trace_file)
