#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# In a mount namespace of its own, where libvirt finds nothing of this machine's: start libvirt, and do with the
# domain in the file $1 what docs/libvirt.rst does.  $2: a folder of the test's.

set -eu
domain=$1
scratch=$2

for folder in run/libvirt var/lib/libvirt var/log/libvirt var/cache/libvirt etc/libvirt; do
    mkdir -p "/$folder"
    mount -t tmpfs -o mode=755 libvirt "/$folder"
done
# As udev would make it
mknod -m 660 "$scratch/kvm" c 10 232
chgrp kvm "$scratch/kvm"
mount --bind "$scratch/kvm" /dev/kvm

virtlogd > "$scratch/virtlogd.log" 2>&1 &
virtlogd=$!
libvirtd > "$scratch/libvirtd.log" 2>&1 &
libvirtd=$!
cleanup() {
    virsh destroy vas > /dev/null 2>&1 || true
    kill $libvirtd $virtlogd
    wait
    cat "$scratch/libvirtd.log" /var/log/libvirt/qemu/vas.log 2>/dev/null || true
}
trap cleanup EXIT

export LIBVIRT_DEFAULT_URI=qemu:///system
tries=0
until virsh connect > /dev/null 2>&1; do
    tries=$((tries + 1))
    [ $tries -lt 100 ]
    sleep 0.2
done

monitor() {
    virsh qemu-monitor-command vas "$@"
}

virsh create "$domain"
stat --format 'user: %U' "/proc/$(cat /run/libvirt/qemu/vas.pid)"
monitor --hmp switch_accel tcg
virsh qemu-monitor-event vas --event ACCEL_SWITCHED --timeout 30 > "$scratch/event" &
event=$!
# The event can't be missed: a switch is made again until it has come.
while kill -0 $event 2> /dev/null; do
    monitor '{"execute": "switch-accel", "arguments": {"accel": "kvm"}}'
    monitor --hmp switch_accel tcg
    sleep 0.2
done
wait $event
cat "$scratch/event"
virsh save vas /var/lib/libvirt/qemu/save/vas.save
virsh restore /var/lib/libvirt/qemu/save/vas.save
monitor --hmp info accel
echo "all done"
