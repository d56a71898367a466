/* The handoff's memory order under the thread sanitizer, which knows addresses
 * only: producer and consumer are put on one mapping, which needs their
 * insides. */
#include "consumer.c" /* NOLINT(bugprone-suspicious-include) */
#include "producer.c" /* NOLINT(bugprone-suspicious-include) */

#include "segments.h"

#include <pthread.h>
#include <sched.h>

enum { STEPS = 3000 };

static void *train(void *argument)
{
    gradecho *trainer = argument;

    for (int64_t step = 0; step < STEPS; step++)
        if (!hand_over(trainer, step, 1 + (uint32_t)step % REPLICAS))
            sched_yield();
    /* As gradecho_close() does, but the mapping is still in use. */
    atomic_store_explicit(&trainer->shared->closed, GE_ABI_CLOSED,
                          memory_order_release);
    atomic_fetch_add_explicit(&trainer->shared->wake, 1, memory_order_release);
    ge_futex_wake(&trainer->shared->wake);
    return NULL;
}

static void producer_and_consumer_never_race(void **state)
{
    gradecho *trainer = open_trainer();
    ge_consumer *monitor = attach_monitor(1);
    void *const own = monitor->segment.base;
    struct ge_handed_sample sample;
    gradecho_status status = GRADECHO_AGAIN;
    uint64_t taken = 0;
    pthread_t thread;

    (void)state;
    monitor->segment.base = trainer->segment.base;
    monitor->shared = trainer->shared;
    assert_int_equal(pthread_create(&thread, NULL, train, trainer), 0);
    while (status != GRADECHO_END) {
        status = ge_consumer_peek(monitor, &sample);
        if (status == GRADECHO_AGAIN) {
            ge_consumer_wait(monitor, 1.0);
        } else if (status == GRADECHO_OK) {
            assert_true(is_whole(monitor, &sample));
            ge_consumer_release(monitor);
            taken++;
            if (taken % 64 == 0) /* as a new monitor does */
                ge_consumer_enable(monitor, 1 + taken % 2);
            if (taken % 16 == 0)
                ge_consumer_skip_to(monitor, sample.step + 3);
        }
        assert_true(status >= GRADECHO_OK);
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(taken > 2);
    monitor->segment.base = own;
    monitor->shared = own;
    ge_consumer_detach(&monitor);
    gradecho_close(&trainer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(producer_and_consumer_never_race),
    };

    return cmocka_run_group_tests_name("handoff threads", tests, NULL, NULL);
}
