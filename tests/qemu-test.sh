#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# qemu-test.sh FOLDER PROGRAM [TARGET]: run one of QEMU's own tests, with TARGET's emulator if it is
# a qtest, from the build folder FOLDER, or from $VAS_QEMU where that is set.
cd "${VAS_QEMU:-$1}" || exit 1
if [ -n "$3" ]; then
    export QTEST_QEMU_BINARY="$PWD/qemu-system-$3" QTEST_QEMU_IMG="$PWD/qemu-img"
fi
exec "./$2" --tap -k
