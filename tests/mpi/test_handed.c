/* A mean that the training hands over: the same numbers, nothing sent, and
 * never believed without being compared with the gradients. */
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "engine.h"
#include "memory.h"
#include "message.h"
#include "mpi_check.h"

enum { LAYERS = 3, REPLICAS = 2, STEP = 7 };

/* What the training does to its mean. */
enum deed {
    PLAIN,
    ROUNDED,  /* added up in single precision */
    CLIPPED,  /* 1 % smaller */
    WEIGHTED, /* rank 0 counts more */
    OTHER,    /* on the last rank, another one of the same length */
    MISSING,  /* on the last rank */
    OF_FEWER, /* it is said to be of one replica less */
    INFINITE  /* as is a gradient of the last rank */
};

struct handed {
    struct ge_source base;
    const struct ranks *ranks;
    enum deed deed;
    size_t replicas; /* of each rank */
};

static const struct handed *self(const struct ge_source *source)
{
    return (const struct handed *)(const void *)source;
}

/* The same mode in all replicas, and noise. */
static float entry_of(const struct handed *s, size_t replica, size_t layer,
                      size_t i)
{
    const struct ge_layer *at = &s->base.facts.layers.item[layer];
    const double row = (double)(i / at->cols), col = (double)(i % at->cols);
    const bool last =
        replica == (size_t)s->ranks->size * s->replicas - 1 && layer == 1;

    if (s->deed == INFINITE && last && i == 3)
        return INFINITY;
    return (float)(0.6 * cos(0.3 * row) * sin(1.0 + 0.2 * col) +
                   number_of(100 * replica + layer + 1, i));
}

static float mean_of(const struct handed *s, size_t layer, size_t i)
{
    const size_t k = (size_t)s->ranks->size * s->replicas;
    const bool last = s->ranks->rank == s->ranks->size - 1;
    double sum = 0.0, weights = 0.0;
    float single = 0.0F;

    for (size_t a = 0; a < k; a++) {
        const double weight = s->deed == WEIGHTED && a == 0 ? 1.1 : 1.0;
        const float g = entry_of(s, a, layer, i);

        sum += weight * (double)g;
        weights += weight;
        single += g;
    }
    if (s->deed == ROUNDED)
        return single / (float)k;
    if (s->deed == CLIPPED)
        return (float)(0.99 * sum / weights);
    return (float)(s->deed == OTHER && last && i % 2 == 0 ? -sum / weights
                                                          : sum / weights);
}

static void describe(const struct ge_source *source, int64_t step,
                     struct ge_sample_facts *facts)
{
    const struct handed *s = self(source);
    const bool last = s->ranks->rank == s->ranks->size - 1;
    const double k = (double)((size_t)s->ranks->size * s->replicas);

    *facts = (struct ge_sample_facts){.step = step,
                                      .replicas = s->replicas,
                                      .mean_replicas =
                                          s->deed == MISSING && last ? 0.0
                                          : s->deed == OF_FEWER      ? k - 1.0
                                                                     : k,
                                      .mean_unit = 0x1p-24};
}

static size_t number(const struct ge_source *source, size_t j)
{
    return (size_t)self(source)->ranks->rank * self(source)->replicas + j;
}

static bool present(const struct ge_source *source, size_t j, size_t layer)
{
    (void)source, (void)j, (void)layer;
    return true;
}

static const float *direct(const struct ge_source *source, size_t j,
                           size_t layer)
{
    (void)source, (void)j, (void)layer;
    return NULL;
}

static gradecho_status read_entries(struct ge_source *source, size_t j,
                                    size_t layer, size_t first, size_t count,
                                    float *out)
{
    for (size_t i = 0; i < count; i++)
        out[i] = entry_of(self(source), number(source, j), layer, first + i);
    return GRADECHO_OK;
}

static gradecho_status read_mean(struct ge_source *source, size_t layer,
                                 size_t first, size_t count, float *out)
{
    for (size_t i = 0; i < count; i++)
        out[i] = mean_of(self(source), layer, first + i);
    return GRADECHO_OK;
}

static void release(struct ge_source *source, int64_t step)
{
    (void)source;
    (void)step;
}

static void nothing(struct ge_source *source)
{
    (void)source;
}

static const struct ge_source_ops ops = {.describe = describe,
                                         .number = number,
                                         .present = present,
                                         .direct = direct,
                                         .read = read_entries,
                                         .read_mean = read_mean,
                                         .release = release,
                                         .close = nothing};

/* One sample of layers of `side` x `side`. \return bytes that this rank sent
 * for it; the row at rank 0 */
static uint64_t measure(struct ranks *r, enum deed deed, size_t replicas,
                        const char *how, size_t side, struct ge_row *row)
{
    struct handed s = {.ranks = r, .deed = deed, .replicas = replicas};
    struct ge_config config;
    ge_engine *engine = NULL;
    gradecho_status local = GRADECHO_OK;

    s.base.ops = &ops;
    s.base.facts.world = (uint32_t)r->size;
    s.base.facts.replicas_max = (size_t)r->size * replicas;
    s.base.facts.replicas_here = replicas;
    NEED(ge_layers_init(&s.base.facts.layers, LAYERS) == GRADECHO_OK);
    for (size_t l = 0; l < LAYERS; l++) {
        char name[] = {'l', (char)('0' + l), '\0'};

        NEED(ge_layers_put(&s.base.facts.layers, l, name, l == 2 ? 1 : side,
                           side) == GRADECHO_OK);
    }
    NEED(ge_config_init(&config) == GRADECHO_OK);
    NEED(ge_config_set(&config, how) == GRADECHO_OK);
    NEED(ge_config_set(&config, "layers.max_modes=4") == GRADECHO_OK);
    ge_layers_select(&s.base.facts.layers, &config);
    NEED(ge_engine_create(r->comm, &config, &s.base, &engine) == GRADECHO_OK);
    const struct ge_dimensions dims = ge_engine_dimensions(engine);
    NEED(ge_row_init(row, &dims) == GRADECHO_OK);
    const uint64_t before = ge_comm_sent(r->comm);

    ge_message_capture(1);
    CHECK(r, ge_engine_measure(engine, STEP, 0, row, &local) == GRADECHO_OK);
    ge_message_capture(0);
    CHECK(r, local == GRADECHO_OK);
    const uint64_t sent = ge_comm_sent(r->comm) - before;

    ge_engine_destroy(&engine);
    ge_layers_fini(&s.base.facts.layers);
    ge_config_fini(&config);
    return sent;
}

/* Every value of the row, by this relative error of the largest in its field;
 * 0: bit for bit. */
static void same_rows(struct ranks *r, const struct ge_row *a,
                      const struct ge_row *b, double tolerance)
{
    if (r->rank != 0)
        return;
    CHECK(r, a->step == b->step);
    for (int f = 0; f < GE_FIELDS; f++) {
        const size_t count = ge_shape_count(ge_fields[f].shape, &a->dims);
        double most = 0.0;

        for (size_t i = 0; i < count; i++)
            most = fmax(most, fabs(a->values[f][i]));
        for (size_t i = 0; i < count; i++) {
            const double x = a->values[f][i], y = b->values[f][i];
            const bool same = isnan(x) || isnan(y)
                                  ? isnan(x) && isnan(y)
                                  : fabs(x - y) <= tolerance * most;

            if (!same)
                fprintf(stderr, "%s[%zu]: %.17g, not %.17g\n",
                        ge_fields[f].name, i, y, x);
            CHECK(r, same);
        }
    }
}

static void compare(struct ranks *r, enum deed deed, size_t replicas,
                    double tolerance)
{
    struct ge_row network, handed;

    measure(r, deed, replicas, "reduce.mean=network", 40, &network);
    measure(r, deed, replicas, "reduce.mean=handoff", 40, &handed);
    same_rows(r, &network, &handed, tolerance);
    if (r->rank == 0 && r->size > 1 && deed != INFINITE)
        CHECK(r, network.values[GE_ECHO][0] > 0.5); /* there is something */
    ge_row_fini(&network);
    ge_row_fini(&handed);
}

/* Is it the handed mean that is used? Then no entry is sent. */
static bool crosses(struct ranks *r, enum deed deed, size_t replicas,
                    const char *how)
{
    struct ge_row row;
    /* What does not depend on the entries is the same: it cancels. Modes are
     * sent for both sizes; only layers without an echo are compared. */
    uint64_t sent[2];
    const size_t sides[2] = {40, 80};

    for (int i = 0; i < 2; i++) {
        sent[i] = measure(r, deed, replicas, how, sides[i], &row);
        ge_row_fini(&row);
    }
    int64_t more = (int64_t)(sent[1] - sent[0]);
    /* Modes grow with the sides, gradients with their squares: of each rank's
     * share of 2 x (6400 - 1600) entries a quarter is beyond any mode's. */
    CHECK(r, ge_comm_max(r->comm, &more, 1) == GRADECHO_OK);
    return more > 9600 * (int64_t)sizeof(float) / 2;
}

static void the_same_mean_gives_the_same_numbers(struct ranks *r)
{
    compare(r, PLAIN, 1, 0.0);
    compare(r, PLAIN, REPLICAS, 0.0);
}

static void a_rounded_mean_gives_the_same_numbers_but_for_rounding(
    struct ranks *r)
{
    compare(r, ROUNDED, 1, 1e-4);
    compare(r, ROUNDED, REPLICAS, 1e-4);
}

static void what_is_not_the_mean_is_not_used(struct ranks *r)
{
    static const enum deed deeds[] = {CLIPPED, WEIGHTED, OTHER,
                                      MISSING, OF_FEWER, INFINITE};

    for (size_t i = 0; i < COUNT_OF(deeds); i++) {
        if (deeds[i] == WEIGHTED && r->size == 1)
            continue; /* one replica is its own mean, with any weight */
        compare(r, deeds[i], 1, 0.0);
    }
}

static void nothing_of_a_gradient_crosses_the_network_twice(struct ranks *r)
{
    if (r->size == 1)
        return;
    for (size_t replicas = 1; replicas <= REPLICAS; replicas++) {
        CHECK(r, crosses(r, PLAIN, replicas, "reduce.mean=network"));
        CHECK(r, !crosses(r, PLAIN, replicas, "reduce.mean=handoff"));
        CHECK(r, !crosses(r, ROUNDED, replicas, "reduce.mean=handoff"));
        CHECK(r, crosses(r, CLIPPED, replicas, "reduce.mean=handoff"));
        CHECK(r, crosses(r, MISSING, replicas, "reduce.mean=handoff"));
    }
}

int main(int argc, char **argv)
{
    static const struct mpi_test tests[] = {
        MPI_TEST(the_same_mean_gives_the_same_numbers),
        MPI_TEST(a_rounded_mean_gives_the_same_numbers_but_for_rounding),
        MPI_TEST(what_is_not_the_mean_is_not_used),
        MPI_TEST(nothing_of_a_gradient_crosses_the_network_twice),
    };

    /* What crosses the network is counted: no memory between the ranks. */
    NEED(setenv("GRADECHO_NODE_RANKS", "1", 1) == 0);
    return mpi_run(&argc, &argv, tests, COUNT_OF(tests));
}
