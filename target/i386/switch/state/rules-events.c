/*
 * Rules: RIP and RFLAGS, activity and interruptibility, events in injection
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include "qemu/osdep.h"
#include "rules-internal.h"

#define VEC_DB  1
#define VEC_NMI 2
#define VEC_MC  18

#define KNOWN_FLAGS (KVM_VCPUEVENT_VALID_NMI_PENDING | \
                     KVM_VCPUEVENT_VALID_SIPI_VECTOR | \
                     KVM_VCPUEVENT_VALID_SHADOW | \
                     KVM_VCPUEVENT_VALID_SMM | \
                     KVM_VCPUEVENT_VALID_PAYLOAD | \
                     KVM_VCPUEVENT_VALID_TRIPLE_FAULT)

static bool rflags_fixed(const X86KVMState *s, const X86StateLimits *l)
{
    return !(s->regs.rflags & BIT_ULL(1)); /* KVM sets it */
}

static bool rflags_reserved(const X86KVMState *s, const X86StateLimits *l)
{
    return s->regs.rflags & (MAKE_64BIT_MASK(22, 42) | BIT_ULL(15) |
                             BIT_ULL(5) | BIT_ULL(3));
}

static bool rflags_vm(const X86KVMState *s, const X86StateLimits *l)
{
    return s->regs.rflags & RFLAGS_VM &&
           (is_long_mode(s) || !(s->sregs.cr0 & CR0_PE));
}

static bool rip_upper_half(const X86KVMState *s, const X86StateLimits *l)
{
    return !is_64bit_code(s) && s->regs.rip & UPPER_HALF;
}

/*
 * RIP may be the first address that isn't canonical, as after the last
 * instruction below: one bit more is free than in a canonical address.
 */
static bool rip_width(const X86KVMState *s, const X86StateLimits *l)
{
    int64_t high = (int64_t)s->regs.rip >> l->linear_bits;

    return is_64bit_code(s) && high != 0 && high != -1;
}

static bool mp_state(const X86KVMState *s, const X86StateLimits *l)
{
    return s->mp_state.mp_state > KVM_MP_STATE_SIPI_RECEIVED;
}

static bool is_halted(const X86KVMState *s)
{
    return s->mp_state.mp_state == KVM_MP_STATE_HALTED;
}

static bool waits_for_sipi(const X86KVMState *s)
{
    return s->mp_state.mp_state == KVM_MP_STATE_UNINITIALIZED ||
           s->mp_state.mp_state == KVM_MP_STATE_INIT_RECEIVED;
}

/*
 * The interrupt shadow as kvm-intel writes it: MOV SS's takes precedence
 * over STI's, as kvm-amd, which can't tell them apart, always shows both.
 */
static unsigned interrupt_shadow(const X86KVMState *s)
{
    unsigned shadow = s->events.flags & KVM_VCPUEVENT_VALID_SHADOW
                      ? s->events.interrupt.shadow : 0;

    return shadow & KVM_X86_SHADOW_INT_MOV_SS
           ? KVM_X86_SHADOW_INT_MOV_SS : shadow & KVM_X86_SHADOW_INT_STI;
}

/* The three below KVM does not refuse: HLT and SIPI are in its software. */

static bool halted_needs_cpl0(const X86KVMState *s, const X86StateLimits *l)
{
    return is_halted(s) && s->sregs.ss.dpl != 0;
}

static bool inactive_in_shadow(const X86KVMState *s, const X86StateLimits *l)
{
    return (is_halted(s) || waits_for_sipi(s)) && interrupt_shadow(s);
}

static bool shadow_reserved(const X86KVMState *s, const X86StateLimits *l)
{
    return s->events.interrupt.shadow &
           ~(KVM_X86_SHADOW_INT_STI | KVM_X86_SHADOW_INT_MOV_SS);
}

static bool sti_shadow_needs_if(const X86KVMState *s, const X86StateLimits *l)
{
    return interrupt_shadow(s) == KVM_X86_SHADOW_INT_STI &&
           !(s->regs.rflags & RFLAGS_IF);
}

/*
 * A single step must be among the pending debug exceptions then, and
 * userspace can't tell KVM of those.
 */
static bool single_step_in_shadow(const X86KVMState *s,
                                  const X86StateLimits *l)
{
    uint64_t debugctl = 0;

    x86_state_find_msr(s, MSR_DEBUGCTL, &debugctl);
    return interrupt_shadow(s) && s->regs.rflags & RFLAGS_TF &&
           !(debugctl & DEBUGCTL_BTF);
}

static bool exception_is_pending(const X86KVMState *s)
{
    return s->events.flags & KVM_VCPUEVENT_VALID_PAYLOAD &&
           s->events.exception.pending;
}

/* What KVM would put into the VM-entry interruption-information field. */
typedef enum {
    INJECT_NONE, INJECT_EXCEPTION, INJECT_NMI, INJECT_SOFTWARE, INJECT_EXTERNAL,
} Injection;

/* In the order of the kernel's kvm_check_and_inject_events() */
static Injection injection(const X86KVMState *s)
{
    const struct kvm_vcpu_events *e = &s->events;

    if (e->exception.injected && !exception_is_pending(s)) {
        return INJECT_EXCEPTION;
    }
    if (e->nmi.injected) {
        return INJECT_NMI;
    }
    if (e->interrupt.injected) {
        return e->interrupt.soft ? INJECT_SOFTWARE : INJECT_EXTERNAL;
    }
    return INJECT_NONE;
}

static bool events_flags(const X86KVMState *s, const X86StateLimits *l)
{
    return s->events.flags & ~KNOWN_FLAGS;
}

static bool exception_vector(const X86KVMState *s, const X86StateLimits *l)
{
    uint8_t nr = s->events.exception.nr;

    return (injection(s) == INJECT_EXCEPTION || exception_is_pending(s)) &&
           (nr > 31 || nr == VEC_NMI);
}

/*
 * In real mode there is none, which KVM sees to when it begins to inject an
 * exception, not when it goes on with one.
 */
static bool exception_error_code(const X86KVMState *s, const X86StateLimits *l)
{
    const uint32_t with = BIT(8) | BIT(10) | BIT(11) | BIT(12) | BIT(13) |
                          BIT(14) | BIT(17);
    /* #CP, #VC and #SX: with one or without, as the processor is. */
    const uint32_t either = BIT(21) | BIT(29) | BIT(30);
    bool protected = s->sregs.cr0 & CR0_PE;
    uint32_t bit = BIT(s->events.exception.nr & 31);

    return injection(s) == INJECT_EXCEPTION &&
           !(protected && bit & either) &&
           !!s->events.exception.has_error_code != (protected && bit & with);
}

/* KVM writes the lower half of it alone. */
static bool error_code_upper_half(const X86KVMState *s,
                                  const X86StateLimits *l)
{
    return injection(s) == INJECT_EXCEPTION &&
           s->events.exception.has_error_code &&
           s->events.exception.error_code >> 16;
}

static bool interrupt_needs_if(const X86KVMState *s, const X86StateLimits *l)
{
    return injection(s) == INJECT_EXTERNAL &&
           !(s->regs.rflags & RFLAGS_IF);
}

static bool interrupt_in_shadow(const X86KVMState *s, const X86StateLimits *l)
{
    return injection(s) == INJECT_EXTERNAL && interrupt_shadow(s);
}

/* In STI's shadow only some processors refuse it. */
static bool nmi_in_shadow(const X86KVMState *s, const X86StateLimits *l)
{
    return injection(s) == INJECT_NMI && interrupt_shadow(s);
}

static bool nmi_while_masked(const X86KVMState *s, const X86StateLimits *l)
{
    return !l->nmi_stays_masked && injection(s) == INJECT_NMI &&
           s->events.nmi.masked;
}

static bool event_while_halted(const X86KVMState *s, const X86StateLimits *l)
{
    uint8_t nr = s->events.exception.nr;

    if (!is_halted(s)) {
        return false;
    }
    switch (injection(s)) {
    case INJECT_EXCEPTION:
        return nr != VEC_DB && nr != VEC_MC;
    case INJECT_SOFTWARE:
        return true;
    default:
        return false;
    }
}

static bool event_before_sipi(const X86KVMState *s, const X86StateLimits *l)
{
    return waits_for_sipi(s) && injection(s) != INJECT_NONE;
}

/* KVM holds an INIT back while the vCPU is in SMM. */
static bool smm_before_sipi(const X86KVMState *s, const X86StateLimits *l)
{
    return s->events.flags & KVM_VCPUEVENT_VALID_SMM &&
           (s->events.smi.smm || s->events.smi.pending) &&
           s->mp_state.mp_state == KVM_MP_STATE_INIT_RECEIVED;
}

#define RIP_RFLAGS "SDM vol. 3C, Checks on Guest RIP, RFLAGS, and SSP"
#define NON_REGISTER "SDM vol. 3C, Checks on Guest Non-Register State"
#define INJECTION "SDM vol. 3C, VM-Entry Control Fields (event injection)"
#define SET_EVENTS "kernel: KVM_SET_VCPU_EVENTS"

const X86StateRule x86_state_event_rules[] = {
    { "rflags-fixed", RIP_RFLAGS, rflags_fixed, X86_KVM_REGS },
    { "rflags-reserved", RIP_RFLAGS, rflags_reserved, X86_KVM_REGS },
    { "rflags-vm", RIP_RFLAGS, rflags_vm, X86_KVM_REGS | X86_KVM_SREGS },
    { "rip-upper-half", RIP_RFLAGS, rip_upper_half,
      X86_KVM_REGS | X86_KVM_SREGS },
    /* TCG jumps to where no code can be, and raises #GP as it fetches there. */
    { "rip-width", RIP_RFLAGS, rip_width, X86_KVM_REGS | X86_KVM_SREGS,
      .passes = true },
    { "mp-state", NON_REGISTER, mp_state, X86_KVM_MP_STATE },
    { "halted-needs-cpl0", NON_REGISTER, halted_needs_cpl0,
      X86_KVM_MP_STATE | X86_KVM_SREGS },
    { "inactive-in-shadow", NON_REGISTER, inactive_in_shadow,
      X86_KVM_MP_STATE | X86_KVM_EVENTS },
    { "shadow-reserved", NON_REGISTER, shadow_reserved, X86_KVM_EVENTS },
    { "sti-shadow-needs-if", NON_REGISTER, sti_shadow_needs_if,
      X86_KVM_EVENTS | X86_KVM_REGS },
    { "single-step-in-shadow", NON_REGISTER, single_step_in_shadow,
      X86_KVM_EVENTS | X86_KVM_REGS },
    { "events-flags", SET_EVENTS, events_flags, X86_KVM_EVENTS },
    { "exception-vector", "APM vol. 2, 15.20, Event Injection",
      exception_vector, X86_KVM_EVENTS },
    { "exception-error-code", INJECTION, exception_error_code,
      X86_KVM_EVENTS | X86_KVM_SREGS },
    { "error-code-upper-half", INJECTION, error_code_upper_half,
      X86_KVM_EVENTS },
    { "interrupt-needs-if", RIP_RFLAGS, interrupt_needs_if,
      X86_KVM_EVENTS | X86_KVM_REGS },
    { "interrupt-in-shadow", NON_REGISTER, interrupt_in_shadow,
      X86_KVM_EVENTS },
    { "nmi-in-shadow", NON_REGISTER, nmi_in_shadow, X86_KVM_EVENTS },
    { "nmi-while-masked", NON_REGISTER, nmi_while_masked, X86_KVM_EVENTS },
    { "event-while-halted", NON_REGISTER, event_while_halted,
      X86_KVM_EVENTS | X86_KVM_MP_STATE },
    { "event-before-sipi", NON_REGISTER, event_before_sipi,
      X86_KVM_EVENTS | X86_KVM_MP_STATE },
    { "smm-before-sipi", SET_EVENTS, smm_before_sipi,
      X86_KVM_EVENTS | X86_KVM_MP_STATE },
    { }
};
