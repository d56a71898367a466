/*
 * segments.h - trainers and monitors for the handoff's tests.
 *
 * Static, so that each test program has its own.
 */
#ifndef GRADECHO_TESTS_SEGMENTS_H
#define GRADECHO_TESTS_SEGMENTS_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "consumer.h"
#include "message.h"
#include "segment.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

/* One layer of each dtype, none of a size that is a multiple of 64 bytes. */
static const struct gradecho_layer layers[] = {
    {"embed.weight", 3, 5, GRADECHO_F32},
    {"h\xc3\xa9.q", 7, 11, GRADECHO_F64},
    {"conv", 2, 9, GRADECHO_F16},
    {"bias", 1, 13, GRADECHO_BF16},
};
enum { LAYERS = COUNT_OF(layers), REPLICAS = 3, ENTRIES_MAX = 77 };

/* A session that no other process uses. */
static inline const char *session(void)
{
    static char name[32];

    if (name[0] == '\0')
        snprintf(name, sizeof name, "test.%ld", (long)getpid());
    return name;
}

static inline struct gradecho_options some_options(void)
{
    struct gradecho_options options = gradecho_options_default();

    options.session = session();
    options.replicas = REPLICAS;
    options.layers = layers;
    options.layer_count = LAYERS;
    return options;
}

static inline gradecho *open_trainer(void)
{
    const struct gradecho_options options = some_options();
    gradecho *trainer = NULL;

    if (gradecho_open(&options, &trainer) != GRADECHO_OK)
        fail_msg("%s", gradecho_message());
    return trainer;
}

static inline ge_consumer *attach_monitor(uint64_t every)
{
    ge_consumer *monitor = NULL;

    if (ge_consumer_attach(session(), 0, &monitor) != GRADECHO_OK)
        fail_msg("cannot attach to %s", session());
    else
        ge_consumer_enable(monitor, every);
    return monitor;
}

static inline const char *path_of(uint32_t rank)
{
    static char path[GE_SEGMENT_PATH_MAX];

    assert_int_equal(ge_segment_path(session(), rank, path), GRADECHO_OK);
    return path;
}

static inline size_t bytes_of(size_t layer)
{
    static const size_t size[] = {0, 4, 8, 2, 2};

    return (size_t)(layers[layer].rows * layers[layer].cols) *
           size[layers[layer].dtype];
}

/* Bytes that tell step, replica and layer apart. */
static inline void make_gradient(int64_t step, uint32_t replica, size_t layer,
                                 unsigned char *out)
{
    uint64_t state =
        (uint64_t)step * 1000003 + layer + 1 + UINT64_C(1009) * replica;

    for (size_t i = 0; i < bytes_of(layer); i++) {
        state = state * UINT64_C(6364136223846793005) + 1442695040888963407u;
        out[i] = (unsigned char)(state >> 56);
    }
}

/* Hand over `replicas` full replicas; false if begin() does not say OK. */
static inline bool hand_over(gradecho *trainer, int64_t step, uint32_t replicas)
{
    const struct gradecho_meta meta = {
        .loss = 0.5, .batch_size = 32, .gradient_scale = 1024};
    unsigned char data[8 * ENTRIES_MAX];

    if (gradecho_begin(trainer, step) != GRADECHO_OK)
        return false;
    for (uint32_t r = 0; r < replicas; r++)
        for (size_t l = 0; l < LAYERS; l++) {
            make_gradient(step, r, l, data);
            if (gradecho_write(trainer, r, l, data) != GRADECHO_OK)
                return false;
        }
    return gradecho_publish(trainer, &meta) == GRADECHO_OK;
}

/* Is the sample at the front whole, as hand_over() made it? */
static inline bool is_whole(const ge_consumer *monitor,
                            const struct ge_handed_sample *sample)
{
    unsigned char expected[8 * ENTRIES_MAX];

    for (uint32_t r = 0; r < sample->replicas; r++)
        for (size_t l = 0; l < LAYERS; l++) {
            const void *data = ge_consumer_data(monitor, r, l);

            make_gradient(sample->step, r, l, expected);
            if (data == NULL || memcmp(data, expected, bytes_of(l)) != 0)
                return false;
        }
    return true;
}

static inline bool name_exists(uint32_t rank)
{
    return access(path_of(rank), F_OK) == 0;
}

#endif
