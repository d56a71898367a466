/*
 * The last echoes of every layer. With layers.per_sample a sample has those of
 * some layers; the others' stand in rows before it.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "inspect.h"
#include "memory.h"
#include "try.h"

enum { BLOCK_BYTES = 1 << 20 }; /* read at once, at most */

/* One look back through a log. */
struct search {
    ge_log_reader *reader;
    struct ge_digest *digest;
    double *echoes;         /* [layers x modes] of one row */
    struct ge_row row;      /* one before the last with echoes */
    uint64_t with, without; /* rows with echoes: with news, without any */
};

static bool has_echo(const double *echoes, size_t modes)
{
    for (size_t k = 0; k < modes; k++)
        if (!isnan(echoes[k]))
            return true;
    return false;
}

/* Everything that the row says of one layer. */
static void take_layer(const struct ge_row *from, size_t l, struct ge_row *to)
{
    for (int f = 0; f < GE_FIELDS; f++) {
        const enum ge_shape shape = ge_fields[f].shape;
        const size_t each = ge_shape_count(shape, &to->dims) / to->dims.layers;

        if (shape != GE_PER_STEP && shape != GE_PER_PAIR)
            memcpy(to->values[f] + l * each, from->values[f] + l * each,
                   each * sizeof(double));
    }
}

/* What the row at `at` has that no later one had. */
static gradecho_status look_at(struct search *s, uint64_t at)
{
    gradecho_status status = GRADECHO_OK;
    struct ge_digest *d = s->digest;
    const bool first = d->echo.step < 0;
    struct ge_row *row = first ? &d->echo : &s->row;
    bool any = false, news = false;

    GE_TRY(ge_log_read(s->reader, GE_ECHO, at, 1, s->echoes));
    for (size_t l = 0; l < row->dims.layers; l++) {
        if (!has_echo(s->echoes + l * row->dims.modes, row->dims.modes))
            continue;
        any = true;
        if (d->echo_step[l] >= 0)
            continue;
        if (!news)
            GE_TRY(ge_log_read_row(s->reader, at, row));
        news = true;
        d->echo_step[l] = row->step;
        if (!first)
            take_layer(row, l, &d->echo);
    }
    s->with += news ? 1 : 0;
    s->without += any && !news ? 1 : 0;
fail:
    return status;
}

static bool any_known(const double *at, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!isnan(at[i]))
            return true;
    return false;
}

/* The count of signal modes, a small part of a row, tells which rows to look
 * into; it is read in blocks that grow, for there may be none up to the first
 * row. Layers take turns in a cycle: when as many rows with echoes brought
 * nothing as did bring something, it has been gone through. */
static gradecho_status look_back(struct search *s, uint64_t first,
                                 uint64_t index)
{
    gradecho_status status = GRADECHO_OK;
    const size_t layers = s->digest->echo.dims.layers;
    const uint64_t most = 1 + BLOCK_BYTES / (layers * sizeof(double));
    double *signals = ge_alloc((size_t)most * layers, sizeof *signals);
    uint64_t block = 1, from = index + 1;

    GE_FAIL_IF(signals == NULL, GRADECHO_E_NOMEM, "no memory for echoes");
    while (from > first) {
        const uint64_t end = from;

        block = 2 * block < most ? 2 * block : most;
        from = end - first < block ? first : end - block;
        GE_TRY(
            ge_log_read(s->reader, GE_SIGNAL_MODES, from, end - from, signals));
        for (uint64_t at = end; at-- > from;) {
            if (s->with > 0 && s->without >= s->with)
                goto fail; /* found */
            if (any_known(signals + (at - from) * layers, layers))
                GE_TRY(look_at(s, at));
        }
    }
fail:
    free(signals);
    return status;
}

gradecho_status ge_digest_find_echoes(ge_log_reader *reader, uint64_t first,
                                      uint64_t index, struct ge_digest *d)
{
    gradecho_status status = GRADECHO_OK;
    const struct ge_dimensions *dims = &d->echo.dims;
    struct search s = {.reader = reader, .digest = d};

    s.echoes = ge_alloc(dims->layers * dims->modes, sizeof *s.echoes);
    d->echo_step = ge_alloc(dims->layers, sizeof *d->echo_step);
    GE_FAIL_IF(s.echoes == NULL || d->echo_step == NULL, GRADECHO_E_NOMEM,
               "no memory for echoes");
    GE_TRY(ge_row_init(&s.row, dims));
    for (size_t l = 0; l < dims->layers; l++)
        d->echo_step[l] = -1;
    GE_TRY(look_back(&s, first, index));
fail:
    ge_row_fini(&s.row);
    free(s.echoes);
    return status;
}
