#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# In the Debian at $1, mmdebstrap's hook: install the package $2, run it, remove it.

set -eu
root=$1

in_root() {
    chroot "$root" env DEBIAN_FRONTEND=noninteractive "$@"
}

installed_files() {
    # apt's and dpkg's own records are no files of the package.
    (cd "$root" && find usr etc opt var -path '*qemu-vas*' ! -path 'var/log/*')
}

cp "$2" "$root/root/qemu-vas.deb"
in_root apt-get -q -y --no-install-recommends install /root/qemu-vas.deb
in_root qemu-vas-x86_64 --version
# The firmware of the other packages: BIOS, VGA's and a network card's ROM, a keymap.
echo quit | in_root timeout 60 qemu-vas-x86_64 -accel tcg -S -m 64 -monitor stdio -vnc none \
    -k de -device VGA -device e1000
echo quit | in_root timeout 60 qemu-vas-i386 -accel tcg -S -m 64 -monitor stdio -vnc none \
    -plugin /usr/lib/qemu-vas/plugins/libinsn.so
if [ -e /dev/kvm ]; then
    rm -f "$root/dev/kvm"
    mknod -m 666 "$root/dev/kvm" c 10 232
    printf 'switch_accel tcg\nswitch_accel kvm\nquit\n' |
        in_root timeout 60 qemu-vas-x86_64 -accel switch -m 64 -monitor stdio -display none |
        grep -a 'tcg -> kvm: downtime'
fi
in_root apt-get -q -y purge qemu-vas
left=$(installed_files)
echo "left: ${left:-none}"
