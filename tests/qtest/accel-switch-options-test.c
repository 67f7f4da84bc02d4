/*
 * Options of -accel switch that are refused, each by one sentence, before KVM
 * is opened: what is opened here is never there, so that no host needs it
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "libqtest.h"

#define NO_KVM "-accel switch,device=/nonexistent"

/* A QEMU that must not start, and the lines that it ends with */

typedef struct Refusal {
    const char *path, *arguments;
    const char *says[3];        /* without QEMU's name and the option */
} Refusal;

#define CGS " -object sev-guest,id=cgs,cbitpos=47,reduced-phys-bits=1" \
            " -machine confidential-guest-support=cgs"

static const Refusal refusals[] = {
    { "initial", NO_KVM ",initial=xen",
      { "Parameter 'initial' does not accept value 'xen'" } },
    { "on-kvm-error", NO_KVM ",on-kvm-error=bogus",
      { "Parameter 'on-kvm-error' does not accept value 'bogus'" } },
    { "keep-translations", NO_KVM ",keep-translations=maybe",
      { "Parameter 'keep-translations' expects 'on' or 'off'" } },
    { "read-back", NO_KVM ",read-back=maybe",
      { "Parameter 'read-back' expects 'on' or 'off'" } },
    { "x-omit", NO_KVM ",x-omit=tb-validate:unknown",
      { "x-omit: there is no fix-up 'unknown'" } },
    { "unknown", NO_KVM ",unknown=on",
      { "Property 'switch-accel.unknown' not found" } },
    { "thread", NO_KVM ",thread=single",
      { "-accel switch needs thread=multi" } },
    { "kernel-irqchip-on", NO_KVM ",kernel-irqchip=on",
      { "-accel switch needs kernel-irqchip=split, not on" } },
    { "kernel-irqchip-off", NO_KVM ",kernel-irqchip=off",
      { "-accel switch needs kernel-irqchip=split, not off" } },
    { "machine-kernel-irqchip", NO_KVM " -machine kernel-irqchip=on",
      { "-accel switch needs kernel-irqchip=split, not on" } },
    { "dirty-ring-size", NO_KVM ",dirty-ring-size=4096",
      { "-accel switch does not work with dirty-ring-size" } },
    { "xen-version", NO_KVM ",xen-version=0x4000a",
      { "-accel switch does not work with xen-version" } },
    { "rapl", NO_KVM ",rapl=on",
      { "-accel switch does not work with rapl" } },
    { "icount", NO_KVM " -icount shift=4",
      { "-accel switch does not work with -icount" } },
    { "record", NO_KVM " -icount shift=4,rr=record,rrfile=/dev/null",
      { "-accel switch does not work with record/replay (-icount rr=)" } },
    { "cpu-pm", NO_KVM " -overcommit cpu-pm=on",
      { "-accel switch does not work with -overcommit cpu-pm=on" } },
    { "maxcpus", NO_KVM " -smp 1,maxcpus=2",
      { "-accel switch does not work with CPU hotplug (-smp maxcpus=)" } },
    { "no-fallback", NO_KVM ",thread=single -accel tcg",
      { "-accel switch needs thread=multi" } },
    { "no-kvm", NO_KVM,
      { "Could not access KVM kernel module: No such file or directory",
        "-accel switch needs KVM: /nonexistent must be there, and yours to read"
        " and write",
        "failed to initialize switch: No such file or directory" } },
    { "confidential-guest-support", NO_KVM CGS,
      { "-accel switch does not work with confidential-guest-support" } },
};

static void test_refusal(const void *data)
{
    const Refusal *r = data;
    g_autofree char *command = g_strdup_printf(
        "timeout 20 '%s' -display none -nodefaults -S %s",
        g_getenv("QTEST_QEMU_BINARY"), r->arguments);
    g_auto(GStrv) argv = NULL;
    g_autofree char *output = NULL;
    g_auto(GStrv) lines = NULL;
    int status, count = 0;

    g_assert_true(g_shell_parse_argv(command, NULL, &argv, NULL));
    g_assert_true(g_spawn_sync(NULL, argv, NULL,
                               G_SPAWN_SEARCH_PATH |
                               G_SPAWN_STDOUT_TO_DEV_NULL, NULL, NULL, NULL,
                               &output, &status, NULL));
    g_test_message("%s", output);
    g_assert_true(WIFEXITED(status));
    g_assert_cmpint(WEXITSTATUS(status), ==, 1);

    lines = g_strsplit(g_strchomp(output), "\n", -1);
    for (int i = 0; lines[i]; i++) {
        /* AddressSanitizer's remark on coroutines; a finding aborts. */
        if (g_str_has_prefix(lines[i], "==")) {
            continue;
        }
        g_assert_cmpint(count, <, ARRAY_SIZE(r->says));
        g_assert_nonnull(r->says[count]);
        g_assert_true(g_str_has_prefix(lines[i], "qemu-system-"));
        if (!g_str_has_suffix(lines[i], r->says[count])) {
            g_error("expected: ...%s\ngot: %s", r->says[count], lines[i]);
        }
        count++;
    }
    g_assert_true(count == ARRAY_SIZE(r->says) || !r->says[count]);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (int i = 0; i < ARRAY_SIZE(refusals); i++) {
        g_autofree char *path = g_strdup_printf("accel-switch-options/%s",
                                                refusals[i].path);

        qtest_add_data_func(path, &refusals[i], test_refusal);
    }
    return g_test_run();
}
