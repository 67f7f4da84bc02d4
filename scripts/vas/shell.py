# SPDX-License-Identifier: GPL-2.0-or-later
"""./vas shell: the Debian image for a person, its console and HMP on this terminal."""

import argparse
import os
import select
import shlex
import sys
import termios
import tty

from vas import debs, image, kvmprobe, paths
from vas.debian import disk_arguments
from vas.host import HostError, LocalHost
from vas.rig import RigError, RigHost, boot_rig, kind

HELP = f"""\
Debian i386 on this terminal; log in as {image.USER}, password {image.PASSWORD}.
  Ctrl-A c   to the monitor and back: try "info accel", "switch_accel"
  Ctrl-A x   end QEMU
  vas-load   in the guest: work that checks itself, Ctrl-C ends it
Nothing is written to the image."""


def relay(sock):
    """This terminal and @sock, both ways, until QEMU closes it."""
    terminal = sys.stdin.fileno()
    saved = termios.tcgetattr(terminal) if os.isatty(terminal) else None
    if saved:
        tty.setraw(terminal)
    sources = [sock, terminal]
    try:
        while True:
            ready, _, _ = select.select(sources, [], [])
            if sock in ready:
                data = sock.recv(65536)
                if not data:
                    return
                os.write(sys.stdout.fileno(), data)
            if terminal in ready:
                data = os.read(terminal, 4096)
                if data:
                    sock.sendall(data)
                else:
                    sources.remove(terminal)
    except OSError:
        return
    finally:
        if saved:
            termios.tcsetattr(terminal, termios.TCSADRAIN, saved)


def boot(host, accel, args):
    listener = host.listener("console")
    log = os.path.join(paths.LOGS, "shell.log")
    os.makedirs(paths.LOGS, exist_ok=True)
    argv = [paths.qemu("i386"), "-accel", accel, "-smp", str(args.smp), "-m", str(args.mem),
            "-display", "none", "-nic", "none", *disk_arguments(host),
            # QEMU waits for the terminal, so that the BIOS is seen.
            "-chardev", "socket,id=console,mux=on," +
            listener.options.replace("wait=off", "wait=on"),
            "-serial", "chardev:console", "-mon", "chardev=console,mode=readline",
            *args.arguments]
    print("shell: " + shlex.join(argv), file=sys.stderr)
    start = os.path.getsize(log) if os.path.exists(log) else 0
    process = host.spawn(argv, log)
    try:
        relay(listener.connect(30, lambda: process.poll() is None))
    finally:
        if process.poll() is None:
            process.terminate()
        status = process.wait(20)
        with open(log, encoding="utf-8", errors="replace") as said:
            said.seek(start)
            sys.stderr.write(said.read())
    if status:
        sys.exit(f"vas shell: QEMU ended with status {status}")


def main():
    parser = argparse.ArgumentParser(prog="vas shell", description="Boot the Debian i386 image "
                                     "with its serial console and QEMU's monitor here.")
    parser.add_argument("--smp", type=paths.positive, default=1, metavar="N", help="CPUs (1)")
    parser.add_argument("--mem", type=paths.positive, default=256, metavar="M", help="MiB (256)")
    parser.add_argument("--accel", metavar="TEXT", default="switch,initial=kvm",
                        help="QEMU's -accel (switch,initial=kvm)")
    parser.add_argument("--rig", action="store_true", help="in the rig in any case")
    parser.add_argument("arguments", nargs="*", help="more for QEMU, after --")
    args = parser.parse_args()
    try:
        disk = str(image.image_path())
        usable, why = kvmprobe.probe()
        print(HELP, file=sys.stderr)
        if args.accel.startswith("tcg") or (usable and not args.rig):
            with LocalHost() as host:
                boot(host, args.accel, args)
            return
        print(f"shell: in the rig, on a kvm-{kind().vendor} made by emulation, since " +
              ("--rig says so" if usable else why), file=sys.stderr)
        with boot_rig(disks=[disk], deadline=24 * 3600) as rig:
            boot(RigHost(rig), args.accel, args)
    except (image.ImageError, debs.DebError, HostError, RigError) as error:
        sys.exit(f"vas shell: {error}")


if __name__ == "__main__":
    main()
