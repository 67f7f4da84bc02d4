#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What the guest's initramfs is to have: run by mmdebstrap before it installs the kernel, which makes one, with the
# tree as $1.  The folder of this script is in $VAS_RECIPE.

set -eu
root=$1

mkdir -p "$root/etc/initramfs-tools/conf.d"
cp "$VAS_RECIPE/initramfs-modules" "$root/etc/initramfs-tools/modules"
# With dhcp and resume asked for by nobody, the initramfs has less to wait for.
cat > "$root/etc/initramfs-tools/conf.d/vas" <<'END'
MODULES=list
COMPRESS=gzip
RESUME=none
END
