/* Many samples between processes that run freely or are killed, and waiting. */
#include "children.h"

#include <sched.h>
#include <time.h>

enum { STRESS_STEPS = 4000 };

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static void a_sample_published_after_the_last_look_ends_the_wait(void **state)
{
    gradecho *trainer = open_trainer();
    ge_consumer *monitor = attach_monitor(1);
    struct ge_handed_sample sample;
    double start = 0;

    (void)state;
    assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_AGAIN);
    assert_true(hand_over(trainer, 0, 1));
    start = now();
    ge_consumer_wait(monitor, 100);
    assert_true(now() - start < 50);
    assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_OK);
    ge_consumer_release(monitor);
    assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_AGAIN);
    gradecho_close(&trainer);
    ge_consumer_wait(monitor, 100);
    assert_true(now() - start < 50);
    ge_consumer_detach(&monitor);
}

static void a_wait_ends_with_its_time_and_not_before(void **state)
{
    gradecho *trainer = open_trainer();
    ge_consumer *monitor = attach_monitor(1);
    struct ge_handed_sample sample;
    double begin = 0, longest = 0;

    (void)state;
    assert_true(hand_over(trainer, 0, 1));
    assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_OK);
    ge_consumer_release(monitor);
    assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_AGAIN);
    for (int i = 0; i < 5; i++) { /* single ones may end early */
        begin = now();
        ge_consumer_wait(monitor, 0.01);
        longest = fmax(longest, now() - begin);
    }
    assert_true(longest > 0.005);
    begin = now();
    ge_consumer_wait(monitor, 0);
    ge_consumer_wait(monitor, -1);
    ge_consumer_wait(monitor, (double)NAN);
    assert_true(now() - begin < 50);
    ge_consumer_detach(&monitor);
    gradecho_close(&trainer);
}

/* Let `microseconds` pass busily: to vary the instruction at which a child is
 * killed, not to wait for anything. */
static void spin(long microseconds)
{
    const double begin = now();

    while (now() - begin < 1e-6 * (double)microseconds)
        ;
}

static int trainer_that_opens_and_closes(int in, int out)
{
    const struct gradecho_options options = some_options();

    (void)in;
    if (!say(out))
        return 1;
    for (;;) {
        gradecho *trainer = NULL;

        if (gradecho_open(&options, &trainer) != GRADECHO_OK)
            return 2;
        gradecho_close(&trainer);
    }
}

static void a_trainer_killed_at_any_time_leaves_nothing_half_made(void **state)
{
    (void)state;
    for (int round = 0; round < 100; round++) {
        struct child child = start(trainer_that_opens_and_closes);
        gradecho *trainer = NULL;

        assert_true(hear(child.from));
        spin(7L * round);
        slay(child);
        if (name_exists(0)) {
            ge_consumer *monitor = attach_monitor(1);
            struct ge_handed_sample sample;

            assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_END);
            ge_consumer_detach(&monitor);
        }
        trainer = open_trainer();
        gradecho_close(&trainer);
    }
}

enum { NOTHING_LEFT = 100 };

/* Take a sample if there is one: 0, or NOTHING_LEFT, or what is wrong. */
static int take_one(ge_consumer *monitor, int64_t *last, uint64_t *taken)
{
    struct ge_handed_sample sample;
    const gradecho_status status = ge_consumer_peek(monitor, &sample);

    if (status == GRADECHO_END)
        return NOTHING_LEFT;
    if (status == GRADECHO_AGAIN)
        return 0;
    if (status != GRADECHO_OK)
        return 1;
    if (sample.step <= *last)
        return 2;
    if (!is_whole(monitor, &sample))
        return 3;
    *last = sample.step;
    ge_consumer_release(monitor);
    (*taken)++;
    return 0;
}

/* Take what comes; 0 at the end, else what is wrong. */
static int take_all(ge_consumer *monitor, int64_t *last, uint64_t *taken)
{
    for (;;) {
        const uint64_t before = *taken;
        const int code = take_one(monitor, last, taken);

        if (code != 0)
            return code == NOTHING_LEFT ? 0 : code;
        if (*taken == before)
            ge_consumer_wait(monitor, 1.0);
    }
}

static int monitor_that_takes_all(int in, int out)
{
    ge_consumer *monitor = NULL;
    uint64_t taken = 0;
    int64_t last = -1;

    (void)in;
    if (ge_consumer_attach(session(), 0, &monitor) != GRADECHO_OK)
        return 10;
    ge_consumer_enable(monitor, 1);
    return say(out) ? take_all(monitor, &last, &taken) : 11;
}

static void monitors_killed_at_any_time_never_see_a_torn_sample(void **state)
{
    gradecho *trainer = open_trainer();
    int64_t step = 0;

    (void)state;
    for (int round = 0; round < 40; round++) {
        struct child child = start(monitor_that_takes_all);

        assert_true(hear(child.from));
        for (int i = 0; i < 5 * round; i++)
            (void)hand_over(trainer, step++, 1 + (uint32_t)i % REPLICAS);
        slay(child);
    }
    gradecho_close(&trainer);
}

static int trainer_that_never_ends(int in, int out)
{
    const struct gradecho_options options = some_options();
    gradecho *trainer = NULL;

    if (gradecho_open(&options, &trainer) != GRADECHO_OK || !say(out) ||
        !hear(in) || !say(out))
        return 1;
    for (int64_t step = 0;; step++)
        if (!hand_over(trainer, step, 1 + (uint32_t)step % REPLICAS))
            sched_yield();
}

static void what_trainers_killed_at_any_time_handed_over_is_whole(void **state)
{
    uint64_t taken = 0;

    (void)state;
    for (long round = 0; round < 100; round++) {
        struct child child = start(trainer_that_never_ends);
        ge_consumer *monitor = NULL;
        const uint64_t enough = taken + (uint64_t)round % 8;
        int64_t last = -1;

        assert_true(hear(child.from));
        monitor = attach_monitor(1);
        assert_true(say(child.to) && hear(child.from));
        while (taken < enough)
            assert_int_equal(take_one(monitor, &last, &taken), 0);
        spin(7 * round % 100);
        slay(child);
        assert_int_equal(take_all(monitor, &last, &taken), 0);
        ge_consumer_detach(&monitor);
        unlink(path_of(0));
    }
    assert_true(taken >= 350);
}

static int trainer_in_a_hurry(int in, int out)
{
    const struct gradecho_options options = some_options();
    gradecho *trainer = NULL;
    uint64_t dropped = 0;

    if (gradecho_open(&options, &trainer) != GRADECHO_OK || !say(out) ||
        !hear(in))
        return 1;
    for (int64_t step = 0; step < STRESS_STEPS; step++)
        if (!hand_over(trainer, step, 1 + (uint32_t)step % REPLICAS))
            sched_yield();
    dropped = gradecho_dropped(trainer);
    gradecho_close(&trainer);
    return write(out, &dropped, sizeof dropped) == sizeof dropped ? 0 : 2;
}

static void thousands_of_samples_arrive_whole_or_are_counted(void **state)
{
    struct child child = start(trainer_in_a_hurry);
    ge_consumer *monitor = NULL;
    uint64_t taken = 0, dropped = 0;
    int64_t last = -1;

    (void)state;
    assert_true(hear(child.from));
    monitor = attach_monitor(1);
    assert_true(say(child.to));
    assert_int_equal(take_all(monitor, &last, &taken), 0);
    assert_int_equal(read(child.from, &dropped, sizeof dropped),
                     sizeof dropped);
    assert_int_equal(finish(child), 0);
    assert_int_equal(taken + dropped, STRESS_STEPS);
    assert_int_equal(ge_consumer_dropped(monitor), dropped);
    assert_true(taken > 2);
    ge_consumer_detach(&monitor);
}

static int trainer_that_publishes_on_demand(int in, int out)
{
    const struct gradecho_options options = some_options();
    gradecho *trainer = NULL;

    if (gradecho_open(&options, &trainer) != GRADECHO_OK || !say(out))
        return 1;
    for (int64_t step = 0; hear(in); step++)
        if (!hand_over(trainer, step, 1))
            return 2;
    gradecho_close(&trainer);
    return 0;
}

static void a_sleeping_monitor_is_woken(void **state)
{
    struct child child = start(trainer_that_publishes_on_demand);
    ge_consumer *monitor = NULL;
    double begin = 0;

    (void)state;
    assert_true(hear(child.from));
    monitor = attach_monitor(1);
    begin = now();
    for (int64_t step = 0; step < 200; step++) {
        struct ge_handed_sample sample;

        assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_AGAIN);
        assert_true(say(child.to));
        while (ge_consumer_peek(monitor, &sample) == GRADECHO_AGAIN)
            ge_consumer_wait(monitor, 30);
        assert_int_equal(sample.step, step);
        ge_consumer_release(monitor);
    }
    assert_true(now() - begin < 30); /* one lost is a failure */
    close(child.to);
    child.to = dup(child.from);
    assert_int_equal(finish(child), 0);
    ge_consumer_detach(&monitor);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sample_published_after_the_last_look_ends_the_wait),
        cmocka_unit_test(a_wait_ends_with_its_time_and_not_before),
        cmocka_unit_test(a_trainer_killed_at_any_time_leaves_nothing_half_made),
        cmocka_unit_test(monitors_killed_at_any_time_never_see_a_torn_sample),
        cmocka_unit_test(what_trainers_killed_at_any_time_handed_over_is_whole),
        cmocka_unit_test(thousands_of_samples_arrive_whole_or_are_counted),
        cmocka_unit_test(a_sleeping_monitor_is_woken),
    };

    (void)session(); /* named after this process, for the children, too */
    return cmocka_run_group_tests_name("handoff stress", tests, NULL, NULL);
}
