# SPDX-License-Identifier: GPL-2.0-or-later
"""What there is to know of a host and its KVM: kernel, processor, modules and their parameters."""

import os
import re

from vas.host import HostError

# Those that change what KVM does with a vCPU's state
PARAMETERS = {
    "kvm": ["halt_poll_ns", "ignore_msrs", "enable_pmu", "tdp_mmu", "force_emulation_prefix"],
    "kvm_intel": ["ept", "unrestricted_guest", "preemption_timer", "vnmi", "enable_apicv", "nested",
                  "vpid", "pml", "flexpriority"],
    "kvm_amd": ["npt", "vnmi", "avic", "vgif", "nested", "lbrv"],
    "kvm_pvm": [],
}


def _read(host, path):
    try:
        return host.read(path).strip()
    except HostError:
        return None


def modules(host):
    """The KVM modules that are there, each with the parameters that it has."""
    found = {}
    for module, names in PARAMETERS.items():
        folder = f"/sys/module/{module}"
        values = {name: _read(host, f"{folder}/parameters/{name}") for name in names}
        values = {name: value for name, value in values.items() if value is not None}
        # A module without parameters; built in, it has no refcnt.
        if values or _read(host, f"{folder}/refcnt") is not None:
            found[module] = values
    return found


def facts(host):
    cpuinfo = _read(host, "/proc/cpuinfo") or ""
    model = re.search(r"^model name\s*: (.*)$", cpuinfo, re.MULTILINE)
    flags = re.search(r"^flags\s*: (.*)$", cpuinfo, re.MULTILINE)
    words = set(flags.group(1).split()) if flags else set()
    return {
        "kernel": _read(host, "/proc/sys/kernel/osrelease"),
        "cpu": model.group(1) if model else "unknown processor",
        "cpus": len(re.findall(r"^processor\s*:", cpuinfo, re.MULTILINE)) or os.cpu_count(),
        "virtualization": sorted(words & {"vmx", "svm"}),
        "hypervisor": "hypervisor" in words,
        "clocksource": _read(host, "/sys/devices/system/clocksource/clocksource0/"
                                   "current_clocksource"),
        "modules": modules(host),
    }
