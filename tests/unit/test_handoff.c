/* The handoff as trainer and monitor see it, both in this process. */
#include "segments.h"

#include <time.h>

static void a_sample_of_every_dtype_comes_back_as_it_was(void **state)
{
    gradecho *trainer = open_trainer();
    ge_consumer *monitor = attach_monitor(1);
    struct ge_handed_sample sample;

    (void)state;
    for (int64_t step = 0; step < 10; step++) {
        const uint32_t replicas = 1 + (uint32_t)step % REPLICAS;

        assert_true(hand_over(trainer, step, replicas));
        assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_OK);
        assert_int_equal(sample.step, step);
        assert_int_equal(sample.replicas, replicas);
        assert_true(sample.loss == 0.5 && sample.batch_size == 32 &&
                    sample.gradient_scale == 1024);
        assert_true(fabs(sample.time - (double)time(NULL)) < 3600);
        assert_true(is_whole(monitor, &sample));
        ge_consumer_release(monitor);
        assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_AGAIN);
    }
    ge_consumer_detach(&monitor);
    assert_null(monitor);
    gradecho_close(&trainer);
    assert_null(trainer);
}

static void the_geometry_is_what_the_trainer_declared(void **state)
{
    struct gradecho_options options = some_options();
    const struct ge_geometry *geometry = NULL;
    gradecho *trainer = NULL;
    ge_consumer *monitor = NULL;

    (void)state;
    options.rank = 5;
    options.world = 9;
    options.slots = 4;
    assert_int_equal(gradecho_open(&options, &trainer), GRADECHO_OK);
    assert_int_equal(ge_consumer_attach(session(), 5, &monitor), GRADECHO_OK);
    geometry = ge_consumer_geometry(monitor);
    assert_int_equal(geometry->rank, 5);
    assert_int_equal(geometry->world, 9);
    assert_int_equal(geometry->slots, 4);
    assert_int_equal(geometry->replicas, REPLICAS);
    assert_int_equal(geometry->layer_count, LAYERS);
    for (size_t l = 0; l < LAYERS; l++) {
        assert_string_equal(geometry->layers[l].name, layers[l].name);
        assert_int_equal(geometry->layers[l].rows, layers[l].rows);
        assert_int_equal(geometry->layers[l].cols, layers[l].cols);
        assert_int_equal(geometry->layers[l].dtype, layers[l].dtype);
    }
    ge_consumer_detach(&monitor);
    gradecho_close(&trainer);
}

static void gradients_written_in_place_arrive_aligned(void **state)
{
    gradecho *trainer = open_trainer();
    ge_consumer *monitor = attach_monitor(1);
    struct ge_handed_sample sample;

    (void)state;
    assert_null(gradecho_place(trainer, 0, 0)); /* nothing begun */
    assert_int_equal(gradecho_begin(trainer, 7), GRADECHO_OK);
    assert_null(gradecho_place(trainer, REPLICAS, 0));
    assert_null(gradecho_place(trainer, 0, LAYERS));
    for (uint32_t r = 0; r < REPLICAS; r++)
        for (size_t l = 0; l < LAYERS; l++) {
            void *place = gradecho_place(trainer, r, l);

            assert_int_equal((uintptr_t)place % 64, 0);
            make_gradient(7, r, l, place);
        }
    assert_int_equal(gradecho_publish(trainer, NULL), GRADECHO_OK);
    assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_OK);
    assert_true(is_whole(monitor, &sample));
    for (size_t l = 0; l < LAYERS; l++)
        assert_int_equal((uintptr_t)ge_consumer_data(monitor, 1, l) % 64, 0);
    ge_consumer_detach(&monitor);
    gradecho_close(&trainer);
}

static void layers_that_were_not_written_are_missing(void **state)
{
    gradecho *trainer = open_trainer();
    ge_consumer *monitor = attach_monitor(1);
    struct ge_handed_sample sample;
    float data[ENTRIES_MAX] = {0};

    (void)state;
    /* Twice each slot, fully written before: nothing may shine through. */
    for (int64_t step = 0; step < 4; step++) {
        assert_true(hand_over(trainer, step, REPLICAS));
        assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_OK);
        ge_consumer_release(monitor);
    }
    assert_int_equal(gradecho_begin(trainer, 4), GRADECHO_OK);
    assert_int_equal(gradecho_write(trainer, 1, 2, data), GRADECHO_OK);
    assert_int_equal(gradecho_publish(trainer, NULL), GRADECHO_OK);
    assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_OK);
    assert_int_equal(sample.replicas, 2);
    for (uint32_t r = 0; r < REPLICAS; r++)
        for (size_t l = 0; l < LAYERS; l++)
            assert_int_equal(ge_consumer_data(monitor, r, l) != NULL,
                             r == 1 && l == 2);
    assert_null(ge_consumer_data(monitor, UINT32_MAX, 0));
    assert_null(ge_consumer_data(monitor, 0, SIZE_MAX));
    ge_consumer_release(monitor);
    assert_null(ge_consumer_data(monitor, 1, 2)); /* given back */

    assert_int_equal(gradecho_begin(trainer, 5), GRADECHO_OK);
    assert_int_equal(gradecho_publish(trainer, NULL), GRADECHO_OK);
    assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_OK);
    assert_int_equal(sample.replicas, 1);
    assert_null(ge_consumer_data(monitor, 0, 0));
    ge_consumer_detach(&monitor);
    gradecho_close(&trainer);
}

static gradecho *open_with_mean(uint32_t world)
{
    struct gradecho_options options = some_options();
    gradecho *trainer = NULL;

    options.world = world;
    options.mean = 1;
    assert_int_equal(gradecho_open(&options, &trainer), GRADECHO_OK);
    return trainer;
}

static void a_mean_lies_beside_the_replicas(void **state)
{
    enum { WORLD = 5, OF_ALL = 1009 };
    gradecho *trainer = open_with_mean(WORLD);
    ge_consumer *monitor = attach_monitor(1);
    unsigned char data[8 * ENTRIES_MAX];
    struct ge_handed_sample sample;

    (void)state;
    assert_true(ge_consumer_geometry(monitor)->mean);
    for (int64_t step = 0; step < 4; step++) {  /* twice each slot */
        const size_t first = step == 2 ? 1 : 0; /* one layer has no mean */

        assert_int_equal(gradecho_begin(trainer, step), GRADECHO_OK);
        for (uint32_t r = 0; r < REPLICAS; r++)
            for (size_t l = 0; l < LAYERS; l++) {
                make_gradient(step, r, l, data);
                assert_int_equal(gradecho_write(trainer, r, l, data),
                                 GRADECHO_OK);
            }
        for (size_t l = first; l < LAYERS; l++) {
            make_gradient(step, OF_ALL, l, data);
            assert_int_equal(gradecho_write_mean(trainer, l, data),
                             GRADECHO_OK);
        }
        assert_int_equal(gradecho_publish(trainer, NULL), GRADECHO_OK);
        assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_OK);
        assert_int_equal(sample.mean_replicas, WORLD * REPLICAS);
        assert_true(is_whole(monitor, &sample));
        for (size_t l = first; l < LAYERS; l++) {
            make_gradient(step, OF_ALL, l, data);
            assert_memory_equal(ge_consumer_mean(monitor, l), data,
                                bytes_of(l));
        }
        assert_int_equal(ge_consumer_mean(monitor, 0) == NULL, first == 1);
        assert_null(ge_consumer_mean(monitor, LAYERS));
        assert_true(ge_consumer_intact(monitor));
        ge_consumer_release(monitor);
        assert_null(ge_consumer_mean(monitor, 1)); /* given back */
    }
    assert_true(hand_over(trainer, 4, 1)); /* without one */
    assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_OK);
    assert_int_equal(sample.mean_replicas, 0);
    assert_null(ge_consumer_mean(monitor, 0));
    ge_consumer_detach(&monitor);
    gradecho_close(&trainer);
}

static void a_mean_without_room_is_refused(void **state)
{
    gradecho *trainer = open_trainer();
    ge_consumer *monitor = attach_monitor(1);
    const float data[ENTRIES_MAX] = {0};
    struct ge_handed_sample sample;

    (void)state;
    assert_int_equal(gradecho_write_mean(trainer, 0, data), GRADECHO_E_ARG);
    assert_non_null(strstr(gradecho_message(), "begun"));
    assert_int_equal(gradecho_begin(trainer, 0), GRADECHO_OK);
    assert_int_equal(gradecho_write_mean(trainer, 0, data), GRADECHO_E_ARG);
    assert_non_null(strstr(gradecho_message(), "options"));
    assert_null(gradecho_place_mean(trainer, 0));
    assert_int_equal(gradecho_publish(trainer, NULL), GRADECHO_OK);
    assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_OK);
    assert_int_equal(sample.mean_replicas, 0);
    ge_consumer_detach(&monitor);
    gradecho_close(&trainer);

    trainer = open_with_mean(1);
    monitor = attach_monitor(1);
    assert_null(gradecho_place_mean(trainer, 0));
    assert_int_equal(gradecho_begin(trainer, 0), GRADECHO_OK);
    assert_int_equal(gradecho_write_mean(trainer, LAYERS, data),
                     GRADECHO_E_ARG);
    assert_int_equal(gradecho_write_mean(trainer, 0, NULL), GRADECHO_E_ARG);
    assert_int_equal((uintptr_t)gradecho_place_mean(trainer, 1) % 64, 0);
    assert_int_equal(gradecho_write_mean(NULL, 0, data), GRADECHO_NOT_WANTED);
    ge_consumer_detach(&monitor);
    gradecho_close(&trainer);
}

static void what_the_trainer_does_not_know_is_nan_or_zero(void **state)
{
    gradecho *trainer = open_trainer();
    ge_consumer *monitor = attach_monitor(1);
    struct ge_handed_sample sample;

    (void)state;
    assert_int_equal(gradecho_begin(trainer, 0), GRADECHO_OK);
    assert_int_equal(gradecho_publish(trainer, NULL), GRADECHO_OK);
    assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_OK);
    assert_true(isnan(sample.loss) && sample.batch_size == 0 &&
                sample.gradient_scale == 1);
    ge_consumer_detach(&monitor);
    gradecho_close(&trainer);
}

static void nothing_is_wanted_without_a_monitor(void **state)
{
    gradecho *trainer = open_trainer();
    ge_consumer *monitor = NULL;

    (void)state;
    assert_int_equal(gradecho_begin(trainer, 0), GRADECHO_NOT_WANTED);
    assert_int_equal(gradecho_attached(trainer), 0);
    assert_int_equal(ge_consumer_attach(session(), 0, &monitor), GRADECHO_OK);
    assert_int_equal(gradecho_begin(trainer, 0), GRADECHO_NOT_WANTED);
    ge_consumer_enable(monitor, 1);
    assert_int_equal(gradecho_attached(trainer), 1);
    assert_int_equal(gradecho_begin(trainer, 0), GRADECHO_OK);
    gradecho_cancel(trainer);
    ge_consumer_detach(&monitor);
    assert_int_equal(gradecho_attached(trainer), 0);
    assert_int_equal(gradecho_begin(trainer, 1), GRADECHO_NOT_WANTED);
    assert_int_equal(gradecho_dropped(trainer), 0);
    gradecho_close(&trainer);
}

static void steps_between_the_sampled_ones_are_not_wanted(void **state)
{
    gradecho *trainer = open_trainer();
    ge_consumer *monitor = attach_monitor(3);

    (void)state;
    for (int64_t step = 0; step < 12; step++) {
        assert_int_equal(gradecho_begin(trainer, step),
                         step % 3 == 0 ? GRADECHO_OK : GRADECHO_NOT_WANTED);
        gradecho_cancel(trainer);
    }
    ge_consumer_enable(monitor, 0); /* a broken monitor: not a division by 0 */
    assert_int_equal(gradecho_begin(trainer, 12), GRADECHO_NOT_WANTED);
    ge_consumer_detach(&monitor);
    gradecho_close(&trainer);
}

/* The monitors have agreed to meet at step 7. */
static void steps_below_the_one_skipped_to_are_counted(void **state)
{
    gradecho *trainer = open_trainer();
    ge_consumer *monitor = attach_monitor(2);
    struct ge_handed_sample sample;

    (void)state;
    assert_true(hand_over(trainer, 0, 1));
    assert_int_equal(gradecho_begin(trainer, 2), GRADECHO_OK); /* under way */
    ge_consumer_skip_to(monitor, 7);
    ge_consumer_skip_to(monitor, 3); /* no way back */
    assert_int_equal(gradecho_publish(trainer, NULL), GRADECHO_OK);
    for (int64_t step = 0; step <= 2; step += 2) {
        assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_OK);
        assert_int_equal(sample.step, step);
        ge_consumer_release(monitor);
    }
    for (int64_t step = 4; step <= 7; step++)
        assert_int_equal(gradecho_begin(trainer, step), GRADECHO_NOT_WANTED);
    assert_true(hand_over(trainer, 8, 1));
    assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_OK);
    assert_int_equal(sample.step, 8);
    assert_true(is_whole(monitor, &sample));
    ge_consumer_release(monitor);
    assert_int_equal(gradecho_dropped(trainer), 2);

    /* The next monitor has not agreed on anything. */
    ge_consumer_skip_to(monitor, INT64_MAX);
    ge_consumer_detach(&monitor);
    monitor = attach_monitor(1);
    assert_true(hand_over(trainer, 9, 1));
    assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_OK);
    assert_int_equal(sample.step, 9);
    ge_consumer_detach(&monitor);
    gradecho_close(&trainer);
}

static void samples_are_dropped_and_counted_when_all_slots_are_full(
    void **state)
{
    gradecho *trainer = open_trainer();
    ge_consumer *monitor = attach_monitor(1);
    struct ge_handed_sample sample;

    (void)state;
    assert_true(hand_over(trainer, 0, 1));
    assert_true(hand_over(trainer, 1, 1));
    assert_int_equal(gradecho_begin(trainer, 2), GRADECHO_DROPPED);
    assert_int_equal(gradecho_begin(trainer, 3), GRADECHO_DROPPED);
    assert_int_equal(gradecho_dropped(trainer), 2);
    assert_int_equal(ge_consumer_dropped(monitor), 2);
    assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_OK);
    assert_int_equal(gradecho_begin(trainer, 4), GRADECHO_DROPPED);
    assert_true(is_whole(monitor, &sample));
    ge_consumer_release(monitor);
    ge_consumer_release(monitor); /* nothing peeked: gives nothing back */
    assert_true(hand_over(trainer, 5, 1));
    assert_int_equal(gradecho_begin(trainer, 6), GRADECHO_DROPPED);
    assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_OK);
    assert_int_equal(sample.step, 1);
    ge_consumer_release(monitor);
    assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_OK);
    assert_int_equal(sample.step, 5);
    ge_consumer_detach(&monitor);
    gradecho_close(&trainer);
}

static void a_closed_trainer_is_drained_and_then_ends(void **state)
{
    gradecho *trainer = open_trainer();
    ge_consumer *monitor = attach_monitor(1);
    struct ge_handed_sample sample;

    (void)state;
    assert_true(ge_consumer_alive(monitor));
    assert_true(hand_over(trainer, 0, REPLICAS));
    assert_true(hand_over(trainer, 1, REPLICAS));
    gradecho_close(&trainer);
    assert_false(name_exists(0));
    assert_false(ge_consumer_alive(monitor));
    assert_true(ge_consumer_closed(monitor));
    for (int64_t step = 0; step < 2; step++) {
        assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_OK);
        assert_int_equal(sample.step, step);
        assert_true(is_whole(monitor, &sample));
        ge_consumer_release(monitor);
    }
    assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_END);
    ge_consumer_wait(monitor, 100); /* returns at once */
    assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_END);
    ge_consumer_detach(&monitor);
}

static void a_new_monitor_does_not_get_the_samples_of_the_last_one(void **state)
{
    gradecho *trainer = open_trainer();
    ge_consumer *monitor = attach_monitor(1);
    struct ge_handed_sample sample;

    (void)state;
    assert_true(hand_over(trainer, 0, 1));
    assert_true(hand_over(trainer, 1, 1));
    ge_consumer_detach(&monitor);
    monitor = attach_monitor(1);
    assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_AGAIN);
    assert_true(hand_over(trainer, 2, 1));
    assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_OK);
    assert_int_equal(sample.step, 2);
    ge_consumer_detach(&monitor);
    gradecho_close(&trainer);
}

static void a_sample_begun_for_the_last_monitor_is_passed_over(void **state)
{
    gradecho *trainer = open_trainer();
    ge_consumer *monitor = attach_monitor(1);
    struct ge_handed_sample sample;

    (void)state;
    assert_int_equal(gradecho_begin(trainer, 1), GRADECHO_OK);
    ge_consumer_detach(&monitor);
    monitor = attach_monitor(2);
    assert_int_equal(gradecho_publish(trainer, NULL), GRADECHO_OK);
    assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_AGAIN);
    assert_true(hand_over(trainer, 2, 1));
    assert_true(hand_over(trainer, 4, 1)); /* its slot was given back */
    assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_OK);
    assert_int_equal(sample.step, 2);
    ge_consumer_detach(&monitor);
    gradecho_close(&trainer);
}

static void a_cancelled_sample_is_never_seen(void **state)
{
    gradecho *trainer = open_trainer();
    ge_consumer *monitor = attach_monitor(1);
    struct ge_handed_sample sample;
    static const double bad[] = {0.0, -1.0, (double)INFINITY, (double)NAN};

    (void)state;
    assert_int_equal(gradecho_begin(trainer, 0), GRADECHO_OK);
    gradecho_cancel(trainer);
    assert_int_equal(gradecho_publish(trainer, NULL), GRADECHO_E_ARG);
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        const struct gradecho_meta meta = {.gradient_scale = bad[i]};

        assert_int_equal(gradecho_begin(trainer, 1), GRADECHO_OK);
        assert_int_equal(gradecho_publish(trainer, &meta), GRADECHO_E_ARG);
        assert_non_null(strstr(gradecho_message(), "scale"));
    }
    assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_AGAIN);
    assert_true(hand_over(trainer, 2, 1));
    assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_OK);
    ge_consumer_detach(&monitor);
    gradecho_close(&trainer);
}

static void calls_out_of_order_are_refused(void **state)
{
    gradecho *trainer = open_trainer();
    ge_consumer *monitor = attach_monitor(1);
    const double data[ENTRIES_MAX] = {0};

    (void)state;
    assert_int_equal(gradecho_begin(trainer, -1), GRADECHO_E_ARG);
    assert_int_equal(gradecho_write(trainer, 0, 0, data), GRADECHO_E_ARG);
    assert_int_equal(gradecho_begin(trainer, 0), GRADECHO_OK);
    assert_int_equal(gradecho_begin(trainer, 1), GRADECHO_E_ARG);
    assert_int_equal(gradecho_write(trainer, 0, 0, NULL), GRADECHO_E_ARG);
    assert_int_equal(gradecho_write(trainer, REPLICAS, 0, data),
                     GRADECHO_E_ARG);
    assert_int_equal(gradecho_write(trainer, 0, LAYERS, data), GRADECHO_E_ARG);
    gradecho_cancel(trainer);
    assert_int_equal(gradecho_begin(trainer, 0), GRADECHO_OK); /* again */
    assert_int_equal(gradecho_publish(trainer, NULL), GRADECHO_OK);
    assert_int_equal(gradecho_begin(trainer, 0), GRADECHO_E_ARG);
    assert_non_null(strstr(gradecho_message(), "step 0 comes after step 0"));
    assert_int_equal(gradecho_begin(trainer, 1), GRADECHO_OK);
    assert_int_equal(gradecho_publish(trainer, NULL), GRADECHO_OK);
    ge_consumer_detach(&monitor);
    gradecho_close(&trainer);
}

static void a_null_handle_does_nothing(void **state)
{
    gradecho *none = NULL;
    ge_consumer *nobody = NULL;

    (void)state;
    assert_int_equal(gradecho_begin(NULL, 0), GRADECHO_NOT_WANTED);
    assert_true(gradecho_write(NULL, 0, 0, NULL) >= GRADECHO_OK);
    assert_true(gradecho_publish(NULL, NULL) >= GRADECHO_OK);
    assert_null(gradecho_place(NULL, 0, 0));
    gradecho_cancel(NULL);
    assert_int_equal(gradecho_attached(NULL), 0);
    assert_int_equal(gradecho_dropped(NULL), 0);
    gradecho_close(NULL);
    gradecho_close(&none);
    ge_consumer_detach(NULL);
    ge_consumer_detach(&nobody);
    assert_non_null(gradecho_message());
    assert_string_equal(gradecho_status_text((gradecho_status)77),
                        "unknown status");
    assert_string_equal(gradecho_status_text(GRADECHO_OK), "success");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sample_of_every_dtype_comes_back_as_it_was),
        cmocka_unit_test(the_geometry_is_what_the_trainer_declared),
        cmocka_unit_test(gradients_written_in_place_arrive_aligned),
        cmocka_unit_test(layers_that_were_not_written_are_missing),
        cmocka_unit_test(a_mean_lies_beside_the_replicas),
        cmocka_unit_test(a_mean_without_room_is_refused),
        cmocka_unit_test(what_the_trainer_does_not_know_is_nan_or_zero),
        cmocka_unit_test(nothing_is_wanted_without_a_monitor),
        cmocka_unit_test(steps_between_the_sampled_ones_are_not_wanted),
        cmocka_unit_test(steps_below_the_one_skipped_to_are_counted),
        cmocka_unit_test(
            samples_are_dropped_and_counted_when_all_slots_are_full),
        cmocka_unit_test(a_closed_trainer_is_drained_and_then_ends),
        cmocka_unit_test(
            a_new_monitor_does_not_get_the_samples_of_the_last_one),
        cmocka_unit_test(a_sample_begun_for_the_last_monitor_is_passed_over),
        cmocka_unit_test(a_cancelled_sample_is_never_seen),
        cmocka_unit_test(calls_out_of_order_are_refused),
        cmocka_unit_test(a_null_handle_does_nothing),
    };

    return cmocka_run_group_tests_name("handoff", tests, NULL, NULL);
}
