#include "futex.h"

#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

void ge_futex_wake(_Atomic uint32_t *word)
{
    /* Without FUTEX_PRIVATE_FLAG: the sleeper is another process. */
    (void)syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void ge_futex_wait(_Atomic uint32_t *word, uint32_t seen, double seconds)
{
    const double limit = 1e6;
    struct timespec timeout = {0};

    if (!(seconds > 0.0)) /* NaN, too */
        return;
    if (seconds > limit)
        seconds = limit;
    timeout.tv_sec = (time_t)seconds;
    timeout.tv_nsec = (long)((seconds - (double)timeout.tv_sec) * 1e9);
    (void)syscall(SYS_futex, word, FUTEX_WAIT, seen, &timeout, NULL, 0);
}
