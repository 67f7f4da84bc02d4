/*
 * What this host's KVM modules were loaded with
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "switch/kvm/module.h"

static bool preemption_timer, vnmi, nested_paging, pvm, virtual_apic;
static unsigned tsc_tolerance_ppm = 250;

static bool parameter_is_on(const char *path)
{
    g_autofree char *value = NULL;

    return g_file_get_contents(path, &value, NULL, NULL) &&
           (value[0] == 'Y' || value[0] == '1');
}

void x86_kvm_module_init(void)
{
    g_autofree char *ppm = NULL;

    preemption_timer =
        parameter_is_on("/sys/module/kvm_intel/parameters/preemption_timer");
    vnmi = parameter_is_on("/sys/module/kvm_amd/parameters/vnmi");
    virtual_apic =
        parameter_is_on("/sys/module/kvm_intel/parameters/enable_apicv") ||
        parameter_is_on("/sys/module/kvm_amd/parameters/avic");
    pvm = g_file_test("/sys/module/kvm_pvm", G_FILE_TEST_EXISTS);
    nested_paging = parameter_is_on("/sys/module/kvm_intel/parameters/ept") ||
                    parameter_is_on("/sys/module/kvm_amd/parameters/npt");
    if (g_file_get_contents("/sys/module/kvm/parameters/tsc_tolerance_ppm",
                            &ppm, NULL, NULL)) {
        tsc_tolerance_ppm = g_ascii_strtoull(ppm, NULL, 10);
    }
}

unsigned x86_kvm_tsc_tolerance_ppm(void)
{
    return tsc_tolerance_ppm;
}

bool x86_kvm_has_preemption_timer(void)
{
    return preemption_timer;
}

bool x86_kvm_has_nested_paging(void)
{
    return nested_paging;
}

bool x86_kvm_has_vnmi(void)
{
    return vnmi;
}

bool x86_kvm_has_virtual_apic(void)
{
    return virtual_apic;
}

bool x86_kvm_is_pvm(void)
{
    return pvm;
}
