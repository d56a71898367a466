/*
 * log_fixture.h - logs whose every value follows from its place, so that a
 * reader in any process or language can tell a wrong row. The same formula is
 * in tests/python/test_log_live.py.
 */
#ifndef LOG_FIXTURE_H
#define LOG_FIXTURE_H

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "memory.h"
#include "writer.h"

/* Row 0 is step 100, and every third step is sampled. */
static inline int64_t fixture_step(uint64_t row)
{
    return 100 + 3 * (int64_t)row;
}

/* Exact in single precision; every 11th place is missing. */
static inline double fixture_value(size_t field, uint64_t row, size_t at)
{
    const int integer = ge_fields[field].type == GE_I64;

    if ((field + row + at) % 11 == 0)
        return integer ? -1.0 : (double)NAN;
    return (double)((field * 1009 + row * 101 + at * 7) % 65521) +
           (integer ? 0.0 : 0.25);
}

static inline void fixture_fill(struct ge_row *row, uint64_t index)
{
    row->step = fixture_step(index);
    for (size_t i = 0; i < GE_FIELDS; i++) {
        const size_t count = ge_shape_count(ge_fields[i].shape, &row->dims);

        for (size_t j = 0; j < count; j++)
            row->values[i][j] = fixture_value(i, index, j);
    }
}

/* Layer i is named "block.i.weight" and is (i + 2) x (2 i + 3). The caller
 * frees with free(): names are in the same allocation. */
static inline struct ge_log_layer *fixture_layers(size_t count)
{
    enum { NAME = 40 };
    struct ge_log_layer *layers = ge_alloc(count, sizeof *layers + NAME);
    char *names = (char *)(layers + count);

    if (layers == NULL)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        snprintf(names + i * NAME, NAME, "block.%zu.weight", i);
        layers[i] = (struct ge_log_layer){
            .name = names + i * NAME, .rows = i + 2, .cols = 2 * i + 3};
    }
    return layers;
}

static inline struct ge_log_spec fixture_spec(const char *path,
                                              struct ge_dimensions dims,
                                              const struct ge_log_layer *layers)
{
    return (struct ge_log_spec){.path = path,
                                .session = "s\xc3\xa9"
                                           "ance",
                                .world_size = 4,
                                .config = "",
                                .flush_every = 1,
                                .dims = dims,
                                .layers = layers};
}

#endif
