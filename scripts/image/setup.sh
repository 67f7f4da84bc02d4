#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Turn a fresh Debian tree into the guest: run by mmdebstrap as a customize
# hook, with the tree as $1.  The folder of this script is in $VAS_RECIPE.

set -eu
root=$1

echo vas-guest > "$root/etc/hostname"
printf '127.0.0.1 localhost vas-guest\n' > "$root/etc/hosts"
printf 'LABEL=vas-root / ext4 defaults 0 0\n' > "$root/etc/fstab"
echo root:vas | chroot "$root" chpasswd
: > "$root/etc/motd"

# Nothing that starts by itself later: a test must find the guest as idle as
# it says, and the boot is part of every test's time.
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
            e2scrub_all.timer fstrim.timer systemd-tmpfiles-clean.timer \
            e2scrub_reap.service systemd-pstore.service \
            systemd-update-utmp.service systemd-update-utmp-runlevel.service \
            getty@tty1.service getty-static.service systemd-journal-flush.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
mkdir -p "$root/etc/systemd/journald.conf.d" "$root/etc/systemd/system.conf.d"
printf '[Journal]\nStorage=volatile\n' > "$root/etc/systemd/journald.conf.d/vas.conf"
# Under TCG inside TCG a unit may need minutes: late is not broken.
printf '[Manager]\nDefaultTimeoutStartSec=900s\nDefaultDeviceTimeoutSec=900s\nDefaultTimeoutStopSec=300s\n' \
    > "$root/etc/systemd/system.conf.d/vas.conf"
# login gives up after a minute by default, which is one of TCG in TCG's seconds.
sed -i 's/^LOGIN_TIMEOUT.*/LOGIN_TIMEOUT 600/' "$root/etc/login.defs"

install -m 755 "$VAS_RECIPE/vas-load" "$root/usr/local/bin/vas-load"
mkdir -p "$root/boot/grub"
cp "$VAS_RECIPE/grub.cfg" "$root/boot/grub/grub.cfg"

rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/var/log/*.log
