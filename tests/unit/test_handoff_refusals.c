/* The segment as untrusted input: whatever its bytes say, the monitor answers
 * with a status. Mapped into this process, an error is a crash of this test. */
#include "segments.h"

#include <fcntl.h>

#include "abi.h"

#define IN_HEADER(field)                   \
    offsetof(struct ge_abi_header, field), \
        sizeof(((struct ge_abi_header *)0)->field)
/* Field of the second layer's entry. */
#define IN_LAYER(field)                                          \
    sizeof(struct ge_abi_header) + sizeof(struct ge_abi_layer) + \
        offsetof(struct ge_abi_layer, field),                    \
        sizeof(((struct ge_abi_layer *)0)->field)

struct damage {
    size_t at, bytes;
    uint64_t value;
    gradecho_status expected;
};

static int open_file(void)
{
    const int fd = open(path_of(0), O_RDWR);

    assert_true(fd >= 0);
    return fd;
}

static void write_at(int fd, const void *bytes, size_t count, size_t at)
{
    assert_int_equal(pwrite(fd, bytes, count, (off_t)at), count);
}

static gradecho_status try_to_attach(void)
{
    ge_consumer *monitor = NULL;
    const gradecho_status status = ge_consumer_attach(session(), 0, &monitor);

    assert_int_equal(status == GRADECHO_OK, monitor != NULL);
    ge_consumer_detach(&monitor);
    return status;
}

static void damaged_constants_are_refused(void **state)
{
    const gradecho_status input = GRADECHO_E_INPUT;
    const struct damage damages[] = {
        {IN_HEADER(magic), 0, input},
        {IN_HEADER(magic), GE_ABI_MAGIC + 1, input},
        {IN_HEADER(version), 0, GRADECHO_E_ABI},
        {IN_HEADER(version), GE_ABI_VERSION + 1, GRADECHO_E_ABI},
        {IN_HEADER(header_bytes), 0, input},
        {IN_HEADER(header_bytes), 512, input},
        {IN_HEADER(total_bytes), 0, input},
        {IN_HEADER(total_bytes), UINT64_MAX, input},
        {IN_HEADER(rank), 1, input},
        {IN_HEADER(world), 0, input},
        {IN_HEADER(slot_count), 0, input},
        {IN_HEADER(slot_count), 1, input},
        {IN_HEADER(slot_count), 3, input},
        {IN_HEADER(slot_count), UINT32_MAX, input},
        {IN_HEADER(replicas_max), 0, input},
        {IN_HEADER(replicas_max), 1, input},
        {IN_HEADER(replicas_max), UINT32_MAX, input},
        {IN_HEADER(mean), 1, input}, /* there is no room for it */
        {IN_HEADER(mean), UINT32_MAX, input},
        {IN_HEADER(layer_count), 0, input},
        {IN_HEADER(layer_count), 3, input},
        {IN_HEADER(layer_count), 5, input},
        {IN_HEADER(layer_count), 65536, input},
        {IN_HEADER(layer_count), UINT32_MAX, input},
        {IN_HEADER(layer_bytes), 0, input},
        {IN_HEADER(layers_offset), 0, input},
        {IN_HEADER(layers_offset), UINT64_MAX, input},
        {IN_HEADER(slots_offset), 0, input},
        {IN_HEADER(slot_bytes), 64, input},
        {IN_HEADER(slot_bytes), UINT64_MAX / 2 + 1, input},
        {IN_HEADER(presence_offset), 0, input},
        {IN_HEADER(payload_offset), 0, input},
        {IN_HEADER(replica_bytes), 0, input},
        {IN_LAYER(name), 0, input},
        {IN_LAYER(rows), 0, input},
        {IN_LAYER(rows), 1, input},
        {IN_LAYER(rows), UINT64_MAX, input},
        {IN_LAYER(rows), UINT64_C(1) << 61, input},
        {IN_LAYER(cols), 0, input},
        {IN_LAYER(cols), UINT64_C(1) << 63, input},
        {IN_LAYER(dtype), 0, input},
        {IN_LAYER(dtype), 5, input},
        {IN_LAYER(dtype), GRADECHO_F32, input},
        {IN_LAYER(dtype), UINT32_MAX, input},
        {IN_LAYER(offset), 0, input},
        {IN_LAYER(offset), 4, input},
        {IN_LAYER(offset), UINT64_MAX - 63, input},
    };
    gradecho *trainer = open_trainer();
    const int fd = open_file();

    (void)state;
    ge_message_capture(1);
    for (size_t i = 0; i < COUNT_OF(damages); i++) {
        const struct damage *d = &damages[i];
        unsigned char value[sizeof(struct ge_abi_layer)] = {0};
        unsigned char saved[sizeof value];

        memcpy(value, &d->value, sizeof d->value); /* little-endian */
        assert_int_equal(pread(fd, saved, d->bytes, (off_t)d->at), d->bytes);
        write_at(fd, value, d->bytes, d->at);
        if (try_to_attach() != d->expected)
            fail_msg("damage %zu at byte %zu is not refused", i, d->at);
        assert_true(strlen(ge_message_last()) > 10);
        write_at(fd, saved, d->bytes, d->at);
        assert_int_equal(try_to_attach(), GRADECHO_OK);
    }
    ge_message_capture(0);
    close(fd);
    gradecho_close(&trainer);
}

static void both_versions_are_named_in_the_refusal(void **state)
{
    gradecho *trainer = open_trainer();
    const int fd = open_file();
    const uint32_t version = 4711;
    struct ge_segment_info info;
    size_t count = 0;
    char ours[32];

    (void)state;
    snprintf(ours, sizeof ours, "reads %u", (unsigned)GE_ABI_VERSION);
    write_at(fd, &version, sizeof version,
             offsetof(struct ge_abi_header, version));
    ge_message_capture(1);
    assert_int_equal(try_to_attach(), GRADECHO_E_ABI);
    ge_message_capture(0);
    assert_non_null(strstr(ge_message_last(), "4711"));
    assert_non_null(strstr(ge_message_last(), ours));
    assert_int_equal(ge_consumer_scan(session(), false, &info, 1, &count),
                     GRADECHO_OK);
    assert_int_equal(count, 1);
    assert_int_equal(info.world, 0);
    close(fd);
    gradecho_close(&trainer);
}

static void names_in_the_table_must_be_names(void **state)
{
    gradecho *trainer = open_trainer();
    const size_t at = sizeof(struct ge_abi_header);
    char name[GRADECHO_NAME_MAX + 1];
    const int fd = open_file();

    (void)state;
    ge_message_capture(1);
    memset(name, 'x', sizeof name); /* no terminator */
    write_at(fd, name, sizeof name, at);
    assert_int_equal(try_to_attach(), GRADECHO_E_INPUT);
    write_at(fd, "\x1b[2J", 5, at);
    assert_int_equal(try_to_attach(), GRADECHO_E_INPUT);
    write_at(fd, layers[1].name, strlen(layers[1].name) + 1, at);
    assert_int_equal(try_to_attach(), GRADECHO_E_INPUT); /* twice */
    write_at(fd, "fine", 5, at);
    assert_int_equal(try_to_attach(), GRADECHO_OK);
    ge_message_capture(0);
    close(fd);
    gradecho_close(&trainer);
}

static void a_file_of_another_size_is_refused(void **state)
{
    static const off_t sizes[] = {0, 1, 15, 16, 127, 128, 256, 4096};
    struct gradecho_options options = some_options();
    gradecho *trainer = NULL;

    (void)state;
    ge_message_capture(1);
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        assert_int_equal(gradecho_open(&options, &trainer), GRADECHO_OK);
        assert_int_equal(truncate(path_of(0), sizes[i]), 0);
        assert_int_equal(try_to_attach(), GRADECHO_E_INPUT);
        /* The trainer's own pages are gone, so that it cannot be closed. */
        assert_int_equal(truncate(path_of(0), 1 << 20), 0);
        assert_int_equal(try_to_attach(), GRADECHO_E_INPUT);
        gradecho_close(&trainer);
    }
    ge_message_capture(0);
}

static void a_file_that_shrinks_later_is_an_error_and_then_the_end(void **state)
{
    gradecho *trainer = open_trainer();
    ge_consumer *monitor = attach_monitor(1);
    struct ge_handed_sample sample;

    (void)state;
    assert_true(hand_over(trainer, 0, 1) && hand_over(trainer, 1, 1));
    assert_int_equal(gradecho_begin(trainer, 2), GRADECHO_DROPPED);
    assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_OK);
    assert_int_equal(truncate(path_of(0), 0), 0);
    ge_message_capture(1);
    assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_E_INPUT);
    ge_message_capture(0);
    /* From here on a touch of the segment is a SIGBUS. */
    assert_false(ge_consumer_alive(monitor));
    assert_false(ge_consumer_closed(monitor));
    assert_int_equal(ge_consumer_dropped(monitor), 1);
    assert_null(ge_consumer_data(monitor, 0, 0));
    ge_consumer_release(monitor);
    ge_consumer_enable(monitor, 1);
    ge_consumer_skip_to(monitor, 3);
    ge_consumer_wait(monitor, 100);
    assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_END);
    ge_consumer_detach(&monitor);
    assert_int_equal(truncate(path_of(0), 1 << 20), 0);
    gradecho_close(&trainer);
}

static void a_head_out_of_range_is_an_error_and_then_the_end(void **state)
{
    static const uint64_t heads[] = {3, UINT64_MAX, UINT64_C(1) << 63};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(heads); i++) {
        gradecho *trainer = open_trainer();
        ge_consumer *monitor = attach_monitor(1);
        struct ge_handed_sample sample;
        const int fd = open_file();

        write_at(fd, &heads[i], 8, offsetof(struct ge_abi_header, head));
        ge_message_capture(1);
        assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_E_INPUT);
        ge_message_capture(0);
        ge_consumer_release(monitor);
        assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_END);
        close(fd);
        ge_consumer_detach(&monitor);
        gradecho_close(&trainer);
    }
}

static void a_damaged_sample_is_skipped_and_the_next_one_read(void **state)
{
    const double nan = (double)NAN, zero = 0, infinity = (double)INFINITY;
    const int64_t step = -1;
    const uint64_t number = 5;
    const uint32_t none = 0, many = REPLICAS + 1;
    const struct {
        size_t at, bytes;
        const void *value;
    } damages[] = {
        {offsetof(struct ge_abi_slot, number), 8, &number},
        {offsetof(struct ge_abi_slot, step), 8, &step},
        {offsetof(struct ge_abi_slot, gradient_scale), 8, &nan},
        {offsetof(struct ge_abi_slot, gradient_scale), 8, &zero},
        {offsetof(struct ge_abi_slot, gradient_scale), 8, &infinity},
        {offsetof(struct ge_abi_slot, replicas), 4, &none},
        {offsetof(struct ge_abi_slot, replicas), 4, &many},
        {offsetof(struct ge_abi_slot, mean_replicas), 4, &many},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(damages); i++) {
        gradecho *trainer = open_trainer();
        ge_consumer *monitor = attach_monitor(1);
        struct ge_handed_sample sample;
        const int fd = open_file();
        uint64_t slots = 0;

        assert_true(hand_over(trainer, 0, 1) && hand_over(trainer, 1, 1));
        assert_int_equal(
            pread(fd, &slots, 8, offsetof(struct ge_abi_header, slots_offset)),
            8);
        write_at(fd, damages[i].value, damages[i].bytes,
                 (size_t)slots + damages[i].at);
        ge_message_capture(1);
        assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_E_INPUT);
        ge_message_capture(0);
        assert_null(ge_consumer_data(monitor, 0, 0));
        ge_consumer_release(monitor);
        assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_OK);
        assert_int_equal(sample.step, 1);
        assert_true(is_whole(monitor, &sample));
        close(fd);
        ge_consumer_detach(&monitor);
        gradecho_close(&trainer);
    }
}

static void a_lying_consumer_line_costs_the_trainer_samples_at_most(
    void **state)
{
    static const uint64_t tails[] = {1, UINT64_MAX, UINT64_C(1) << 63};
    gradecho *trainer = open_trainer();
    ge_consumer *monitor = attach_monitor(1);
    const int fd = open_file();

    (void)state;
    for (size_t i = 0; i < COUNT_OF(tails); i++) {
        write_at(fd, &tails[i], 8, offsetof(struct ge_abi_header, tail));
        assert_true(gradecho_begin(trainer, (int64_t)i) == GRADECHO_DROPPED ||
                    gradecho_publish(trainer, NULL) == GRADECHO_OK);
    }
    close(fd);
    ge_consumer_detach(&monitor);
    gradecho_close(&trainer);
}

/* Whatever bytes are flipped: a status, no crash, and no reading outside (which
 * is a crash here, or a finding of the sanitizers). */
static void random_damage_never_crashes_the_monitor(void **state)
{
    const size_t span = sizeof(struct ge_abi_header) +
                        LAYERS * sizeof(struct ge_abi_layer) +
                        sizeof(struct ge_abi_slot) + 64;
    uint64_t random = 20261105;
    unsigned char original[4096], damaged[4096];
    gradecho *trainer = open_trainer();
    ge_consumer *monitor = attach_monitor(1);
    const int fd = open_file();

    (void)state;
    assert_true(span <= sizeof original);
    assert_true(hand_over(trainer, 0, 1));
    assert_int_equal(pread(fd, original, span, 0), span);
    ge_consumer_detach(&monitor);
    ge_message_capture(1);
    for (int round = 0; round < 2000; round++) {
        struct ge_handed_sample sample;

        memcpy(damaged, original, span);
        for (int i = 0; i < 1 + round % 3; i++) {
            random = random * UINT64_C(6364136223846793005) + 1;
            damaged[(random >> 33) % span] = (unsigned char)(random >> 25);
        }
        write_at(fd, damaged, span, 0);
        if (ge_consumer_attach(session(), 0, &monitor) != GRADECHO_OK)
            continue;
        if (ge_consumer_peek(monitor, &sample) == GRADECHO_OK)
            for (size_t l = 0; l < LAYERS; l++) {
                const unsigned char *data = ge_consumer_data(monitor, 0, l);

                if (data != NULL)
                    assert_true(data[0] + data[bytes_of(l) - 1] >= 0);
            }
        ge_consumer_release(monitor);
        (void)ge_consumer_peek(monitor, &sample);
        ge_consumer_detach(&monitor);
    }
    ge_message_capture(0);
    write_at(fd, original, span, 0);
    assert_int_equal(try_to_attach(), GRADECHO_OK);
    close(fd);
    gradecho_close(&trainer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(damaged_constants_are_refused),
        cmocka_unit_test(both_versions_are_named_in_the_refusal),
        cmocka_unit_test(names_in_the_table_must_be_names),
        cmocka_unit_test(a_file_of_another_size_is_refused),
        cmocka_unit_test(
            a_file_that_shrinks_later_is_an_error_and_then_the_end),
        cmocka_unit_test(a_head_out_of_range_is_an_error_and_then_the_end),
        cmocka_unit_test(a_damaged_sample_is_skipped_and_the_next_one_read),
        cmocka_unit_test(
            a_lying_consumer_line_costs_the_trainer_samples_at_most),
        cmocka_unit_test(random_damage_never_crashes_the_monitor),
    };

    return cmocka_run_group_tests_name("handoff refusals", tests, NULL, NULL);
}
