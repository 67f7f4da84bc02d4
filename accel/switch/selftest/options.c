/*
 * The options of -accel switch that tests have
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qapi/visitor.h"
#include "accel/switch/internal.h"

static const char *const switch_fixup_names[SWITCH_FIXUP__MAX] = {
    [SWITCH_FIXUP_TB_VALIDATE]      = "tb-validate",
    [SWITCH_FIXUP_SHADOW_FLUSH]     = "shadow-flush",
    [SWITCH_FIXUP_REINJECT]         = "reinject",
    [SWITCH_FIXUP_EXTINT]           = "extint",
    [SWITCH_FIXUP_LAPIC_EXPIRED]    = "lapic-expired",
    [SWITCH_FIXUP_LAPIC_COUNT]      = "lapic-count",
    [SWITCH_FIXUP_TSC_OFFSET]       = "tsc-offset",
    [SWITCH_FIXUP_TSC_ORDER]        = "tsc-order",
    [SWITCH_FIXUP_XSTATE_BV]        = "xstate-bv",
    [SWITCH_FIXUP_X87_ORDER]        = "x87-order",
    [SWITCH_FIXUP_INTERRUPT_SHADOW] = "interrupt-shadow",
    [SWITCH_FIXUP_DESCRIPTORS]      = "descriptors",
    [SWITCH_FIXUP_GUEST_VALUES]     = "guest-values",
    [SWITCH_FIXUP_COALESCED_MMIO]   = "coalesced-mmio",
    [SWITCH_FIXUP_INTERRUPT_READY]  = "interrupt-ready",
    [SWITCH_FIXUP_KVM_CLOCK]        = "kvm-clock",
    [SWITCH_FIXUP_STEAL_TIME]       = "steal-time",
    [SWITCH_FIXUP_CPUID]            = "cpuid",
    [SWITCH_FIXUP_GUEST_BREAKPOINTS] = "guest-breakpoints",
    [SWITCH_FIXUP_FIRST_INSTRUCTION] = "first-instruction",
    [SWITCH_FIXUP_DEBUGGER]         = "debugger",
    [SWITCH_FIXUP_TRACE_HANDLERS] = "trace-handlers",
    [SWITCH_FIXUP_TRACE_FLAGS] = "trace-flags",
    [SWITCH_FIXUP_COMPARE_UNDO] = "compare-undo",
    [SWITCH_FIXUP_COMPARE_BLOCKS] = "compare-blocks",
    [SWITCH_FIXUP_COMPARE_BLOCKS_END] = "compare-blocks-end",
};

/* Parse x-omit; false and @errp set for an unknown name. */
static bool switch_parse_omit(const char *names, uint64_t *omit,
                              Error **errp)
{
    g_auto(GStrv) list = g_strsplit(names, ":", 0);
    uint64_t mask = 0;

    for (char **name = list; *name; name++) {
        int i;

        for (i = 0; i < SWITCH_FIXUP__MAX; i++) {
            if (g_str_equal(*name, switch_fixup_names[i])) {
                mask |= 1ull << i;
                break;
            }
        }
        if (i == SWITCH_FIXUP__MAX) {
            error_setg(errp, "x-omit: there is no fix-up '%s'", *name);
            return false;
        }
    }
    *omit = mask;
    return true;
}

static void switch_set_omit(Object *obj, const char *value, Error **errp)
{
    switch_parse_omit(value, &SWITCH_ACCEL(obj)->omit, errp);
}

static bool switch_get_fail_ioctls(Object *obj, Error **errp)
{
    return SWITCH_ACCEL(obj)->fail_ioctls;
}

static void switch_set_fail_ioctls(Object *obj, bool value, Error **errp)
{
    SWITCH_ACCEL(obj)->fail_ioctls = value;
}

static void switch_visit_wait(Object *obj, Visitor *v, const char *name,
                              void *opaque, Error **errp)
{
    visit_type_uint32(v, name, &SWITCH_ACCEL(obj)->wait, errp);
}

static void switch_set_slow(Object *obj, const char *value, Error **errp)
{
    SwitchState *s = SWITCH_ACCEL(obj);

    if (strcmp(value, "quiesce") && strcmp(value, "export") &&
        strcmp(value, "import")) {
        error_setg(errp, "x-slow: use quiesce, export or import");
        return;
    }
    g_free(s->slow);
    s->slow = g_strdup(value);
}

void switch_selftest_slow(const char *phase)
{
    if (switch_state->slow && !strcmp(switch_state->slow, phase)) {
        g_usleep(500 * G_TIME_SPAN_MILLISECOND);
    }
}

void switch_selftest_class_init(ObjectClass *oc)
{
    object_class_property_add_bool(oc, "x-fail-ioctls", switch_get_fail_ioctls,
                                   switch_set_fail_ioctls);
    object_class_property_set_description(oc, "x-fail-ioctls",
        "for tests only: have each ioctl of a switch fail in turn");

    object_class_property_add_str(oc, "x-omit", NULL, switch_set_omit);
    object_class_property_set_description(oc, "x-omit",
        "for tests only: fix-ups that a switch leaves out");

    object_class_property_add_str(oc, "x-slow", NULL, switch_set_slow);
    object_class_property_set_description(oc, "x-slow",
        "for tests only: a phase of each switch that takes half a second");

    object_class_property_add(oc, "x-wait", "uint32", switch_visit_wait,
                              switch_visit_wait, NULL, NULL);
    object_class_property_set_description(oc, "x-wait",
        "for tests only: seconds that a switch waits for a guest");
}
