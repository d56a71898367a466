/*
 * Planted gradients as a source: everything is drawn when a sample is first
 * looked at, and lies in memory until the next one is.
 */
#include "source_planted.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "moments.h"
#include "try.h"

struct planted_source {
    struct ge_source base;
    struct ge_planted want;
    uint64_t next, drawn;  /* samples: at the front; made so far */
    size_t first, count;   /* this monitor's block of replicas */
    struct ge_modes modes; /* the truth */
    float *gradient;       /* [rows x cols] G */
    float *deviation;      /* [rows x cols] of the noise */
    float *replicas;       /* [count x stride] */
    size_t stride;         /* entries, padded to GE_ALIGNMENT */
    double *vectors;       /* [modes x longer side] */
    double *profile;       /* [rows + cols] factors */
};

static struct planted_source *self(struct ge_source *source)
{
    return (struct planted_source *)(void *)source;
}

static const struct planted_source *const_self(const struct ge_source *source)
{
    return (const struct planted_source *)(const void *)source;
}

/* ---- random numbers ---- */

/* xoshiro256** (Blackman and Vigna 2021, arXiv:1805.01407). */
struct stream {
    uint64_t word[4];
    double spare; /* the other half of a Box-Muller pair; NaN: none */
};

/* What is drawn from a stream of its own; replicas come behind. */
enum { STREAM_LEFT, STREAM_RIGHT, STREAM_PROFILE, STREAM_REPLICAS };

/* splitmix64, the generator that xoshiro is to be seeded by. */
static uint64_t split(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);

    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static struct stream stream_of(const struct planted_source *s, size_t number)
{
    struct stream stream = {.spare = (double)NAN};
    uint64_t state = s->want.seed;

    state = split(&state) ^ s->next;
    state = split(&state) ^ (uint64_t)number;
    for (size_t i = 0; i < 4; i++)
        stream.word[i] = split(&state);
    return stream;
}

static uint64_t rotate(uint64_t x, unsigned by)
{
    return (x << by) | (x >> (64 - by));
}

/* Uniform in (0, 1]. */
static double uniform(struct stream *s)
{
    uint64_t *w = s->word;
    const uint64_t result = rotate(w[1] * 5, 7) * 9, t = w[1] << 17;

    w[2] ^= w[0];
    w[3] ^= w[1];
    w[1] ^= w[2];
    w[0] ^= w[3];
    w[2] ^= t;
    w[3] = rotate(w[3], 45);
    return ((double)(result >> 11) + 1.0) * 0x1p-53;
}

static double normal(struct stream *s)
{
    const double spare = s->spare;

    if (!isnan(spare)) {
        s->spare = (double)NAN;
        return spare;
    }
    const double radius = sqrt(-2.0 * log(uniform(s)));
    const double angle = 2.0 * acos(-1.0) * uniform(s);

    s->spare = radius * sin(angle);
    return radius * cos(angle);
}

/* ---- the planted gradient ---- */

static double dot(const double *a, const double *b, size_t count)
{
    double sum = 0.0;

    for (size_t i = 0; i < count; i++)
        sum += a[i] * b[i];
    return sum;
}

/* Modified Gram-Schmidt on [count x length]; twice is enough (Giraud, Langou
 * and Rozloznik 2005). */
static void orthonormalise(double *vectors, size_t count, size_t length)
{
    for (size_t k = 0; k < count; k++) {
        double *v = vectors + k * length;

        for (size_t i = 0; i < 2 * k; i++) {
            const double *other = vectors + i % k * length;
            const double along = dot(v, other, length);

            for (size_t j = 0; j < length; j++)
                v[j] -= along * other[j];
        }
        const double norm = sqrt(dot(v, v, length));

        for (size_t j = 0; j < length; j++)
            v[j] /= norm;
    }
}

/* The singular vectors of one side, [modes x length]. */
static void draw_vectors(struct planted_source *s, size_t number, size_t length,
                         float *out)
{
    struct stream stream = stream_of(s, number);
    const size_t count = s->want.modes;

    for (size_t j = 0; j < length; j++)
        s->profile[j] = exp(s->want.uneven * normal(&stream));
    for (size_t k = 0; k < count; k++)
        for (size_t j = 0; j < length; j++)
            s->vectors[k * length + j] = s->profile[j] * normal(&stream);
    orthonormalise(s->vectors, count, length);
    for (size_t i = 0; i < count * length; i++)
        out[i] = (float)s->vectors[i];
}

static void draw_gradient(struct planted_source *s)
{
    const size_t rows = s->want.rows, cols = s->want.cols;

    draw_vectors(s, STREAM_LEFT, rows, s->modes.u);
    draw_vectors(s, STREAM_RIGHT, cols, s->modes.v);
    for (size_t k = 0; k < s->want.modes; k++)
        s->modes.s[k] = (float)s->want.s[k];
    for (size_t i = 0; i < rows; i++) {
        for (size_t j = 0; j < cols; j++) {
            double sum = 0.0;

            for (size_t k = 0; k < s->want.modes; k++)
                sum += (double)s->modes.u[k * rows + i] * s->want.s[k] *
                       (double)s->modes.v[k * cols + j];
            s->gradient[i * cols + j] = (float)sum;
        }
    }
}

/* ---- the noise ---- */

static void draw_profile(struct planted_source *s)
{
    const size_t rows = s->want.rows, cols = s->want.cols;
    const size_t entries = rows * cols;
    const double size =
        sqrt(ge_sum_squares(s->gradient, entries) / (double)entries);
    struct stream stream = stream_of(s, STREAM_PROFILE);

    for (size_t i = 0; i < rows + cols; i++)
        s->profile[i] = exp(s->want.log_sigma * normal(&stream));
    for (size_t i = 0; i < entries; i++) {
        double d = 1.0;

        if (s->want.noise == GE_PLANTED_SCALED)
            d = s->profile[i / cols] * s->profile[rows + i % cols];
        else if (s->want.noise == GE_PLANTED_MULTIPLICATIVE)
            d = fabs((double)s->gradient[i]) + s->want.floor * size;
        s->deviation[i] = (float)d;
    }
    const double mean2 =
        ge_sum_squares(s->deviation, entries) / (double)entries;
    const float scale = (float)sqrt(s->want.sigma2 / mean2);

    for (size_t i = 0; i < entries; i++)
        s->deviation[i] *= scale;
}

static void draw_replica(struct planted_source *s, size_t j)
{
    struct stream stream = stream_of(s, STREAM_REPLICAS + s->first + j);
    float *out = s->replicas + j * s->stride;

    for (size_t i = 0; i < s->want.rows * s->want.cols; i++)
        out[i] = (float)((double)s->gradient[i] +
                         (double)s->deviation[i] * normal(&stream));
}

/* ---- the source ---- */

static void look(struct ge_source *source, double patience,
                 struct ge_view *view)
{
    struct planted_source *s = self(source);

    (void)patience;
    view->ready = s->next < s->want.samples;
    view->oldest = view->newest = (int64_t)s->next;
    if (!view->ready || s->drawn == s->next + 1)
        return;
    draw_gradient(s);
    draw_profile(s);
    for (size_t j = 0; j < s->count; j++)
        draw_replica(s, j);
    s->drawn = s->next + 1;
}

static void advance(struct ge_source *source, int64_t step)
{
    self(source)->next = (uint64_t)step;
}

static void describe(const struct ge_source *source, int64_t step,
                     struct ge_sample_facts *facts)
{
    const struct planted_source *s = const_self(source);

    *facts = (struct ge_sample_facts){
        .step = step,
        .replicas = s->count,
        .batch_size = 1.0,
        .batch_sizes = 1.0,
    };
}

static size_t number(const struct ge_source *source, size_t j)
{
    return const_self(source)->first + j;
}

static bool present(const struct ge_source *source, size_t j, size_t layer)
{
    (void)source;
    (void)j;
    (void)layer;
    return true;
}

static const float *direct(const struct ge_source *source, size_t j,
                           size_t layer)
{
    const struct planted_source *s = const_self(source);

    (void)layer;
    return s->replicas + j * s->stride;
}

/* Nobody comes here: direct() always answers. */
static gradecho_status read_entries(struct ge_source *source, size_t j,
                                    size_t layer, size_t first, size_t count,
                                    float *out)
{
    memcpy(out, direct(source, j, layer) + first, count * sizeof *out);
    return GRADECHO_OK;
}

static void release(struct ge_source *source, int64_t step)
{
    (void)step;
    self(source)->next++;
}

static void close_planted(struct ge_source *source)
{
    struct planted_source *s = self(source);

    ge_modes_fini(&s->modes);
    free(s->gradient);
    free(s->deviation);
    free(s->replicas);
    free(s->vectors);
    free(s->profile);
}

static const struct ge_source_ops planted_ops = {
    .look = look,
    .advance = advance,
    .describe = describe,
    .number = number,
    .present = present,
    .direct = direct,
    .read = read_entries,
    .release = release,
    .close = close_planted,
};

static gradecho_status open_local(struct planted_source *s, size_t rank,
                                  size_t size)
{
    gradecho_status status = GRADECHO_OK;
    const size_t rows = s->want.rows, cols = s->want.cols;
    struct ge_source_facts *facts = &s->base.facts;

    s->first = s->want.replicas * rank / size;
    s->count = s->want.replicas * (rank + 1) / size - s->first;
    s->stride = ge_padded(rows * cols, sizeof(float));
    facts->world = (uint32_t)s->want.replicas;
    facts->replicas_max = s->want.replicas;
    facts->replicas_here = s->count;
    facts->samples = s->want.samples;
    GE_TRY(ge_layers_init(&facts->layers, 1));
    GE_TRY(ge_layers_put(&facts->layers, 0, "planted", rows, cols));
    GE_TRY(ge_modes_init(&s->modes, rows, cols, s->want.modes));
    s->gradient = ge_alloc_aligned(s->stride, sizeof(float));
    s->deviation = ge_alloc_aligned(s->stride, sizeof(float));
    s->replicas = ge_alloc_aligned(s->count * s->stride, sizeof(float));
    s->vectors =
        ge_alloc(s->want.modes * ge_max_size(rows, cols), sizeof(double));
    s->profile = ge_alloc(rows + cols, sizeof(double));
    GE_FAIL_IF(
        s->gradient == NULL || s->deviation == NULL || s->replicas == NULL ||
            s->vectors == NULL || s->profile == NULL,
        GRADECHO_E_NOMEM, "no memory for %zu planted gradients", s->count);
fail:
    return status;
}

gradecho_status ge_source_open_planted(ge_comm *comm,
                                       const struct ge_planted *planted,
                                       struct ge_source **source)
{
    gradecho_status status = GRADECHO_OK;
    struct planted_source *made = ge_alloc(1, sizeof *made);
    gradecho_status local = GRADECHO_E_NOMEM;

    if (made != NULL) {
        made->base.ops = &planted_ops;
        made->want = *planted;
        ge_message_capture(1); /* told by ge_comm_agree() */
        local = open_local(made, (size_t)ge_comm_rank(comm),
                           (size_t)ge_comm_size(comm));
    }
    status = ge_comm_agree(comm, local);
    if (status < GRADECHO_OK) {
        struct ge_source *base = made != NULL ? &made->base : NULL;

        ge_source_close(&base);
        return status;
    }
    *source = &made->base;
    return GRADECHO_OK;
}

const struct ge_modes *ge_planted_modes(const struct ge_source *source)
{
    return &const_self(source)->modes;
}

const float *ge_planted_gradient(const struct ge_source *source)
{
    return const_self(source)->gradient;
}
