/*
 * The rules that a vCPU's state must keep: going through them
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "rules-internal.h"

const X86StateRule *x86_state_rule(size_t i)
{
    static const X86StateRule *const tables[] = {
        x86_state_control_rules,
        x86_state_segment_rules,
        x86_state_event_rules,
        x86_state_msr_rules,
    };

    for (int t = 0; t < ARRAY_SIZE(tables); t++) {
        for (const X86StateRule *rule = tables[t]; rule->name; rule++) {
            if (i-- == 0) {
                return rule;
            }
        }
    }
    return NULL;
}

bool x86_state_rule_is_broken(const X86StateRule *rule, const X86KVMState *s,
                              const X86StateLimits *l)
{
    return (s->have & rule->needs) == rule->needs && rule->broken(s, l);
}

const X86StateRule *x86_state_broken_rule(const X86KVMState *s,
                                          const X86StateLimits *l)
{
    const X86StateRule *rule;

    for (size_t i = 0; (rule = x86_state_rule(i)); i++) {
        if (x86_state_rule_is_broken(rule, s, l)) {
            return rule;
        }
    }
    return NULL;
}

bool x86_state_find_msr(const X86KVMState *s, uint32_t index, uint64_t *value)
{
    for (int i = 0; i < s->nmsrs; i++) {
        if (s->msrs[i].index == index) {
            *value = s->msrs[i].data;
            return true;
        }
    }
    return false;
}
