/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * smp64: two vCPUs and the interrupts between them, with a switch between a
 * request and what it does.
 *
 * INIT and startup, from every state that the other vCPU may be in; fixed
 * interrupts to one, to all and by logical destination, while they are taken
 * and while they are held back; NMIs, also out of a HLT that nothing else ends;
 * locked instructions of both; the TSC and kvm-clock, which no vCPU sees go
 * back.
 */
#include "lib/hpet.h"
#include "lib/kvmclock.h"
#include "lib/smp.h"

#define APIC_LDR        0x0d0
#define APIC_DFR        0x0e0

#define VECTOR_LOW      0x41
#define VECTOR_HIGH     0x51

#define VCPUS           2
#define MAX_SEEN        8
#define INCREMENTS      2000
#define SPINS           50
#define ROUNDS          1000
#define KNOCKS          2500

typedef enum Order {
    AP_HALT,                    /* with interrupts on */
    AP_SPIN,                    /* likewise */
    AP_HOLD,                    /* spin with interrupts off */
    AP_COUNT,                   /* INCREMENTS locked ones, then halt */
    AP_CLOCK,                   /* ROUNDS of the clocks, then halt */
    AP_DEEP,                    /* halt with interrupts off, once */
} Order;

/* What each vCPU has seen since forget(). */
static volatile struct {
    uint32_t count;
    uint32_t vector[MAX_SEEN];
} seen[VCPUS];

static volatile Order order;
/* The AP's last order that it has begun to carry out, and how often it came. */
static volatile uint32_t doing = -1, starts;
static volatile uint32_t shared;
/* How often the AP was woken from AP_DEEP, and has done AP_CLOCK. */
static volatile uint32_t woken, followed;
/* What either vCPU has read last. */
static volatile struct {
    bool locked;
    uint64_t tsc, ns;
    uint32_t steps_back;        /* of the TSC */
    uint32_t clock_steps_back;
} last;
/* kvm-clock's, unless the CPU has none. */
static KVMClock clocks[VCPUS];
static bool has_clock;

/* At the other vCPU's HLT with interrupts off, or with them on */
static bool before_halt(uint64_t rip)
{
    uint64_t deep, idle;

    asm("leaq ap_deep(%%rip), %0" : "=r" (deep));
    asm("leaq ap_idle(%%rip), %0" : "=r" (idle));
    return rip == deep || rip == idle;
}

static unsigned self(void)
{
    return *lapic(0x20) >> 24;
}

void trap(Frame *frame)
{
    unsigned cpu = self();
    uint32_t vector = frame->vector;

    if (interrupts_taken(frame)) {
        return;
    }
    if (before_halt(frame->rip)) {
        /*
         * Nothing would end it then: STI's shadow does not keep an NMI off,
         * behind whose IRET the interrupt may come that is to end it.
         */
        frame->rip++;
    }
    if (vector != VECTOR_NMI && vector < 0x40) {
        check_value("no exception, at RIP", frame->rip, vector);
        debug_exit(2);
    }
    if (seen[cpu].count < MAX_SEEN) {
        seen[cpu].vector[seen[cpu].count] = vector;
    }
    seen[cpu].count++;
    if (vector != VECTOR_NMI) {
        lapic_eoi();
    }
}

static void local_apic(unsigned cpu)
{
    setup_lapic();
    *lapic(APIC_DFR) = 0xffffffff;
    *lapic(APIC_LDR) = 1u << (24 + cpu);
    if (has_clock) {
        kvmclock_register(&clocks[cpu]);
    }
}

static void add(uint32_t times)
{
    while (times--) {
        asm volatile("lock incl %0" : "+m" (shared) : : "cc");
    }
}

/* Both vCPUs do so at once: what one has read the other reads not less than. */
static void follow_clocks(const KVMClock *clock, uint32_t rounds)
{
    while (rounds--) {
        uint64_t tsc, ns;

        while (__atomic_exchange_n(&last.locked, true, __ATOMIC_ACQUIRE)) {
            asm volatile("pause");
        }
        asm volatile("lfence" : : : "memory");
        tsc = rdtsc();
        asm volatile("lfence" : : : "memory");
        last.steps_back += tsc < last.tsc;
        last.tsc = tsc;
        if (clock->flags & KVMCLOCK_STABLE) {
            ns = kvmclock_ns(clock);
            asm volatile("lfence" : : : "memory");
            last.clock_steps_back += ns < last.ns;
            last.ns = ns;
        }
        __atomic_store_n(&last.locked, false, __ATOMIC_RELEASE);
    }
}

void ap_main(void)
{
    setup_idt();
    local_apic(1);
    starts++;
    for (;;) {
        Order now = order;

        if (now == AP_COUNT && doing != AP_COUNT) {
            doing = now;
            add(INCREMENTS);
            continue;
        }
        if (now == AP_CLOCK && doing != AP_CLOCK) {
            doing = now;
            follow_clocks(&clocks[1], ROUNDS);
            followed++;
            continue;
        }
        if (now == AP_DEEP) {
            if (doing != AP_DEEP) {
                doing = now;
                asm volatile("ap_deep: hlt" : : : "memory");
                woken++;
            }
            continue;
        }
        doing = now;
        if (now == AP_HOLD) {
            continue;
        }
        if (now == AP_SPIN) {
            asm volatile("sti; nop; cli" : : : "memory");
        } else {
            /* STI's shadow lets nothing in before HLT. */
            asm volatile("sti; ap_idle: hlt; cli" : : : "memory");
        }
    }
}

/* False after ten seconds, which is too long. */
static bool wait(const volatile uint32_t *value, uint32_t wanted)
{
    uint64_t end = hpet_ns() + 10 * SECOND;

    while (*value != wanted) {
        if (hpet_ns() > end) {
            return false;
        }
        take_interrupts(SPINS);
    }
    return true;
}

static void forget(void)
{
    seen[0].count = 0;
    seen[1].count = 0;
}

static void give(Order next)
{
    order = next;
    send_ipi(AP_ID, ICR_FIXED | VECTOR_LOW);
    verify("the other vCPU obeys", true, wait(&doing, next));
}

/* The AP has nothing more to take: a halted one has taken what woke it. */
static void settle(Order next)
{
    uint32_t count;

    give(next);
    do {
        count = seen[1].count;
        for (int i = 0; i < 200; i++) {
            asm volatile("pause");
        }
    } while (count == 0);
    forget();
}

static void expect(unsigned cpu, const char *what, uint32_t count,
                   uint32_t first, uint32_t next)
{
    wait(&seen[cpu].count, count);
    verify(what, count, seen[cpu].count);
    if (count > 0) {
        verify(what, first, seen[cpu].vector[0]);
    }
    if (count > 1) {
        verify(what, next, seen[cpu].vector[1]);
    }
}

/* Likewise: whichever of the two vCPUs it is, and no other after it. */
static bool wait_for_one(void)
{
    uint64_t end = hpet_ns() + 10 * SECOND;

    while (seen[0].count + seen[1].count == 0 && hpet_ns() < end) {
        take_interrupts(SPINS);
    }
    take_interrupts(SPINS);
    return seen[0].count + seen[1].count == 1;
}

static void start(bool switch_between)
{
    uint32_t before = starts;

    order = AP_HALT;
    doing = -1;
    send_ipi(AP_ID, ICR_INIT);
    ask_switch();
    send_ipi(AP_ID, ICR_STARTUP | AP_PAGE >> 12);
    if (switch_between) {
        ask_switch();
    }
    verify("started", true, wait(&starts, before + 1));
    verify("runs", true, wait(&doing, AP_HALT));
    forget();
}

static void check_fixed(Order state)
{
    settle(state);
    send_ipi(AP_ID, ICR_FIXED | VECTOR_HIGH);
    ask_switch();
    expect(1, "fixed", 1, VECTOR_HIGH, 0);
    forget();
    send_ipi(1 << 1, ICR_LOGICAL | VECTOR_HIGH);
    ask_switch();
    expect(1, "by logical destination", 1, VECTOR_HIGH, 0);
    forget();
    send_ipi(3, ICR_LOGICAL | ICR_LOWEST | VECTOR_LOW);
    ask_switch();
    verify("lowest priority, to one", true, wait_for_one());
    forget();
    send_ipi(0, ICR_OTHERS | VECTOR_LOW);
    ask_switch();
    expect(1, "to all others", 1, VECTOR_LOW, 0);
    verify("not to itself", 0, seen[0].count);
    forget();
    send_ipi(0, ICR_ALL | VECTOR_HIGH);
    ask_switch();
    expect(1, "to all", 1, VECTOR_HIGH, 0);
    expect(0, "to all, itself", 1, VECTOR_HIGH, 0);
    forget();
    send_ipi(0, ICR_SELF | VECTOR_LOW);
    ask_switch();
    expect(0, "to itself", 1, VECTOR_LOW, 0);
    forget();
    send_ipi(AP_ID, ICR_NMI);
    ask_switch();
    expect(1, "NMI", 1, VECTOR_NMI, 0);
    forget();
}

static void check_held(void)
{
    settle(AP_HALT);
    order = AP_HOLD;
    send_ipi(AP_ID, ICR_FIXED | VECTOR_LOW);
    verify("holds", true, wait(&doing, AP_HOLD));
    forget();
    send_ipi(AP_ID, ICR_FIXED | VECTOR_LOW);
    send_ipi(AP_ID, ICR_FIXED | VECTOR_HIGH);
    send_ipi(AP_ID, ICR_FIXED | VECTOR_LOW);
    ask_switch();
    verify("held back", 0, seen[1].count);
    order = AP_SPIN;
    ask_switch();
    expect(1, "by priority, and once", 2, VECTOR_HIGH, VECTOR_LOW);
    forget();
    order = AP_HOLD;
    verify("holds again", true, wait(&doing, AP_HOLD));
    send_ipi(AP_ID, ICR_NMI);
    ask_switch();
    expect(1, "NMI, whatever IF", 1, VECTOR_NMI, 0);
    forget();
}

/* The AP has not left its HLT.  Who runs the payload judges. */
static void check_sleeps(uint32_t before)
{
    put_string(woken != before ? "AWAKE\n" : "ASLEEP\n");
}

/* HLT with interrupts off: an NMI ends it, and what is pending does not. */
static void check_deep(void)
{
    uint32_t before = woken;

    settle(AP_SPIN);
    order = AP_DEEP;
    verify("halts", true, wait(&doing, AP_DEEP));
    forget();
    send_ipi(AP_ID, ICR_FIXED | VECTOR_HIGH);
    ask_switch();
    take_interrupts(SPINS);
    check_sleeps(before);
    for (int i = 0; i < KNOCKS; i++) {
        send_ipi(AP_ID, ICR_FIXED | VECTOR_HIGH);
    }
    check_sleeps(before);
    ask_switch();
    take_interrupts(SPINS);
    check_sleeps(before);
    send_ipi(AP_ID, ICR_NMI);
    ask_switch();
    verify("woken", true, wait(&woken, before + 1));
    expect(1, "NMI out of HLT", 1, VECTOR_NMI, 0);
    order = AP_SPIN;
    expect(1, "NMI, and then what waited", 2, VECTOR_NMI, VECTOR_HIGH);
    forget();
}

static void check_clocks(void)
{
    uint32_t before = followed;

    settle(AP_HALT);
    order = AP_CLOCK;
    send_ipi(AP_ID, ICR_FIXED | VECTOR_LOW);
    follow_clocks(&clocks[0], ROUNDS / 2);
    ask_switch();
    follow_clocks(&clocks[0], ROUNDS / 2);
    verify("follows the clocks", true, wait(&followed, before + 1));
    verify("steps back of the TSC", 0, last.steps_back);
    verify("steps back of kvm-clock", 0, last.clock_steps_back);
    forget();
}

static void check_locked(void)
{
    settle(AP_HALT);
    shared = 0;
    order = AP_COUNT;
    send_ipi(AP_ID, ICR_FIXED | VECTOR_LOW);
    add(INCREMENTS / 2);
    ask_switch();
    add(INCREMENTS / 2);
    verify("counts", true, wait(&doing, AP_COUNT));
    verify("both vCPUs' increments", true, wait(&shared, 2 * INCREMENTS));
    forget();
}

void kernel_main(void)
{
    put_string("smp64\n");
    setup_idt();
    setup_pic();
    has_clock = kvmclock_is_there();
    local_apic(0);
    hpet_start();
    copy_ap_code();
    for (;;) {
        start(true);
        check_fixed(AP_HALT);
        check_fixed(AP_SPIN);
        check_held();
        /* From a loop with interrupts off… */
        settle(AP_SPIN);
        order = AP_HOLD;
        verify("holds once more", true, wait(&doing, AP_HOLD));
        start(false);
        check_locked();
        check_deep();
        check_clocks();
        /* …and from HLT, in the next lap. */
        settle(AP_HALT);
        lap_done();
    }
}
