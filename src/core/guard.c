#include "guard.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>

/* The one place of the monitor with state that no argument carries: a signal
 * handler gets none. Lock-free atomics are all that it may touch. */
struct watched {
    _Atomic(unsigned char *) base; /* NULL: free; stored last */
    atomic_size_t bytes;
    atomic_bool broken;
};
static struct watched watched[GE_GUARD_MAX];
static struct sigaction before;
/* In pass_on(): whom we pass on to may have us as the one before. */
static _Thread_local volatile sig_atomic_t passing;

_Static_assert(ATOMIC_POINTER_LOCK_FREE == 2 && ATOMIC_LONG_LOCK_FREE == 2 &&
                   ATOMIC_BOOL_LOCK_FREE == 2,
               "a signal handler must not meet a lock");

/* Zeros in the place of a mapping. Not on POSIX's list for handlers; on Linux
 * mmap() is a bare system call. Writable, for the page that has the consumer's
 * line; where the system does not promise so much memory, just readable. */
static bool replace(void *base, size_t bytes)
{
    const int flags = MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

    return mmap(base, bytes, PROT_READ | PROT_WRITE, flags, -1, 0) !=
               MAP_FAILED ||
           mmap(base, bytes, PROT_READ, flags, -1, 0) != MAP_FAILED;
}

/* True if the fault was in a watched mapping, and reading can go on. */
static bool take(const void *address)
{
    for (size_t i = 0; i < GE_GUARD_MAX; i++) {
        /* Acquire: pairs with the release in ge_guard_add(). */
        unsigned char *base =
            atomic_load_explicit(&watched[i].base, memory_order_acquire);
        const size_t bytes =
            atomic_load_explicit(&watched[i].bytes, memory_order_relaxed);

        if (base == NULL || (uintptr_t)address - (uintptr_t)base >= bytes)
            continue;
        if (!replace(base, bytes))
            return false;
        /* Release: pairs with the acquire in ge_guard_broken(). */
        atomic_store_explicit(&watched[i].broken, true, memory_order_release);
        return true;
    }
    return false;
}

/* As if we were not there. */
static void pass_on(int number, siginfo_t *info, void *context)
{
    const bool sent = info->si_code <= 0; /* by kill(), not by a fault */

    if (passing) {
        (void)signal(number, SIG_DFL);
        (void)raise(number);
        return;
    }
    passing = 1;
    if ((before.sa_flags & SA_SIGINFO) != 0) {
        before.sa_sigaction(number, info, context);
    } else if (before.sa_handler == SIG_DFL ||
               (before.sa_handler == SIG_IGN && !sent)) {
        /* Blocked until we return, and then the end. */
        (void)signal(number, SIG_DFL);
        (void)raise(number);
    } else if (before.sa_handler != SIG_IGN) {
        before.sa_handler(number);
    }
    passing = 0;
}

static void on_bus_error(int number, siginfo_t *info, void *context)
{
    const int error = errno;

    if (info->si_code <= 0 || !take(info->si_addr))
        pass_on(number, info, context);
    errno = error;
}

/* Once; and again if somebody has put another handler in the place of ours. */
static bool install(void)
{
    struct sigaction ours = {.sa_sigaction = on_bus_error,
                             .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
    struct sigaction now;

    sigemptyset(&ours.sa_mask);
    if (sigaction(SIGBUS, NULL, &now) != 0)
        return false;
    if ((now.sa_flags & SA_SIGINFO) != 0 && now.sa_sigaction == on_bus_error)
        return true;
    before = now;
    return sigaction(SIGBUS, &ours, NULL) == 0;
}

int ge_guard_add(void *base, size_t bytes)
{
    if (!install())
        return -1;
    for (int i = 0; i < GE_GUARD_MAX; i++) {
        /* Relaxed: only this thread adds and removes. */
        if (atomic_load_explicit(&watched[i].base, memory_order_relaxed) !=
            NULL)
            continue;
        atomic_store_explicit(&watched[i].broken, false, memory_order_relaxed);
        atomic_store_explicit(&watched[i].bytes, bytes, memory_order_relaxed);
        /* Release: who finds the base finds the rest. */
        atomic_store_explicit(&watched[i].base, base, memory_order_release);
        return i;
    }
    return -1;
}

bool ge_guard_broken(int number)
{
    return number >= 0 &&
           atomic_load_explicit(&watched[number].broken, memory_order_acquire);
}

void ge_guard_remove(int number)
{
    if (number >= 0)
        atomic_store_explicit(&watched[number].base, NULL,
                              memory_order_relaxed);
}
