#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# An <emulator> for libvirt, which starts QEMU with "-accel kvm": has "-accel switch" in its place.

previous=
for argument; do
    shift
    if [ "$previous $argument" = "-accel kvm" ]; then
        argument=switch
    fi
    set -- "$@" "$argument"
    previous=$argument
done
exec "$(dirname "$0")/qemu-vas-x86_64" "$@"
