/*
 * Phase 2: modes of the mean at their owners, sent to all; then, where each
 * replica lies, its own modes and those of the mean of the others.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine_private.h"
#include "memory.h"
#include "try.h"

/* A layer can have an echo in this sample: its turn, and two replicas. */
static bool has_echo(const ge_engine *engine, size_t l)
{
    return ge_engine_has_turn(engine, l) && engine->used[l] >= 2.0;
}

static gradecho_status find_references(ge_engine *engine)
{
    gradecho_status status = GRADECHO_OK;

    for (size_t l = 0; l < engine->layers->count; l++) {
        struct ge_modes *modes = &engine->reference[l];

        if (!has_echo(engine, l) ||
            engine->owner[l] != ge_comm_rank(engine->comm))
            continue;
        const gradecho_status local =
            ge_svd_leading(engine->svd,
                           GE_WHOLE(engine->mean_kept + engine->kept_at[l],
                                    modes->rows, modes->cols),
                           NULL, modes);
        ge_engine_note(engine, local);
        if (local < GRADECHO_OK) /* tell the others by the modes themselves */
            for (size_t i = 0; i < ge_modes_floats(modes); i++)
                modes->block[i] = (float)NAN;
    }
    for (size_t l = 0; l < engine->layers->count; l++)
        if (has_echo(engine, l))
            GE_TRY(ge_comm_broadcast(engine->comm, engine->reference[l].block,
                                     ge_modes_floats(&engine->reference[l]) *
                                         sizeof(float),
                                     engine->owner[l]));
fail:
    return status;
}

const float *ge_replica_entries(const struct ge_replica *replica, size_t first,
                                size_t count, float *out)
{
    if (replica->matrix.whole != NULL)
        return replica->matrix.whole + first;
    ge_engine_snapshot(replica->engine, replica->replica, replica->layer, first,
                       count, out);
    return out;
}

static void read_replica(void *context, size_t first, size_t count, float *out)
{
    const struct ge_replica *replica = context;
    const size_t cols = replica->matrix.cols;

    ge_engine_snapshot(replica->engine, replica->replica, replica->layer,
                       first * cols, count * cols, out);
}

void ge_engine_show(ge_engine *engine, size_t j, size_t layer,
                    struct ge_replica *replica)
{
    const struct ge_layer *shape = &engine->layers->item[layer];

    *replica = (struct ge_replica){
        .engine = engine,
        .replica = j,
        .layer = layer,
        .matrix = {.rows = (size_t)shape->rows,
                   .cols = (size_t)shape->cols,
                   .read = read_replica,
                   .context = replica},
    };
    if (shape->entries > engine->copied)
        return;
    replica->matrix.whole = engine->gradient;
    if (engine->copy_of_replica == j && engine->copy_of_layer == layer)
        return;
    ge_engine_snapshot(engine, j, layer, 0, shape->entries, engine->gradient);
    engine->copy_of_replica = j;
    engine->copy_of_layer = layer;
}

/* L = (K mean - g)/(K-1), the mean of the other replicas; may take the mean's
 * place. */
static void leave_out(const struct ge_replica *replica, const float *mean,
                      float *others)
{
    const ge_engine *engine = replica->engine;
    const size_t entries = engine->layers->item[replica->layer].entries;
    const double k = engine->used[replica->layer];

    for (size_t first = 0; first < entries; first += GE_ENGINE_READ) {
        const size_t n = ge_min_size(entries - first, GE_ENGINE_READ);
        const float *g = ge_replica_entries(replica, first, n, engine->staged);

        for (size_t i = 0; i < n; i++)
            others[first + i] =
                (float)((k * (double)mean[first + i] - (double)g[i]) /
                        (k - 1.0));
    }
}

/* R = g - mean, made as it is read. */
struct residual {
    const struct ge_replica *replica;
    const float *mean;
};

static void read_residual(void *context, size_t first, size_t count, float *out)
{
    const struct residual *r = context;
    const size_t cols = r->replica->matrix.cols;
    const float *mean = r->mean + first * cols;
    const float *g =
        ge_replica_entries(r->replica, first * cols, count * cols, out);

    for (size_t i = 0; i < count * cols; i++)
        out[i] = (float)((double)g[i] - (double)mean[i]);
}

/* Modes of `a` in the order of the reference, into a view of its shape. */
static gradecho_status matched_modes(ge_engine *engine, size_t l,
                                     const struct ge_matrix *a,
                                     struct ge_modes *matched)
{
    gradecho_status status = GRADECHO_OK;
    const struct ge_modes *reference = &engine->reference[l];
    struct ge_modes found = {0};

    GE_TRY(ge_modes_init(&found, reference->rows, reference->cols,
                         engine->layers->item[l].found));
    GE_TRY(ge_svd_leading(engine->svd, a, reference, &found));
    GE_TRY(ge_modes_match(reference, &found, matched));
fail:
    ge_modes_fini(&found);
    return status;
}

/* Room for one layer's numbers, [modes] each. */
struct numbers {
    double *all, *z, *a, *b, *left, *right, *along, *near;
};

static gradecho_status make_numbers(struct numbers *n, size_t modes)
{
    gradecho_status status = GRADECHO_OK;

    n->all = ge_alloc((6 + GE_ECHO_NEIGHBOURS) * modes, sizeof(double));
    GE_FAIL_IF(n->all == NULL, GRADECHO_E_NOMEM, "no memory for echoes");
    n->z = n->all;
    n->a = n->z + modes;
    n->b = n->a + modes;
    n->left = n->b + modes;
    n->right = n->left + modes;
    n->along = n->right + modes;
    n->near = n->along + modes; /* [GE_ECHO_NEIGHBOURS x modes] */
fail:
    return status;
}

static void report(const struct numbers *n, const struct ge_modes *own,
                   double *row)
{
    for (size_t k = 0; k < own->count; k++) {
        struct ge_mode_report report = {
            .terms = {.overlap = n->z[k],
                      .held_out = n->a[k],
                      .cross = n->b[k],
                      .s_replica = (double)own->s[k]},
            .leak_left = n->left[k],
            .leak_right = n->right[k],
            .along2 = n->along[k] * n->along[k],
            .cross = {(double)NAN, (double)NAN, (double)NAN},
        };

        for (size_t i = 0; i < GE_ECHO_NEIGHBOURS; i++)
            report.terms.near[i] = n->near[i * own->count + k];
        memcpy(row + k * GE_REPORT_SIZE, &report, sizeof report);
    }
}

/* Every mode of one layer of one local replica: its own modes stay in
 * engine->own for the exchange, the numbers go into its row. */
static gradecho_status measure(ge_engine *engine, size_t j, size_t l)
{
    gradecho_status status = GRADECHO_OK;
    const struct ge_modes *reference = &engine->reference[l];
    float *mean = engine->mean_kept + engine->kept_at[l];
    float *others = engine->wide ? engine->others : mean;
    float *block = engine->own + j * ge_engine_block(engine, l);
    struct ge_modes own = ge_modes_view(reference, block + GE_BLOCK_HEAD);
    struct ge_modes held = {0};
    struct numbers n = {0};
    struct ge_replica replica;
    struct residual residual = {&replica, mean};
    const struct ge_matrix difference = {.rows = reference->rows,
                                         .cols = reference->cols,
                                         .read = read_residual,
                                         .context = &residual};
    const struct ge_matrix *rest =
        GE_WHOLE(others, reference->rows, reference->cols);

    GE_TRY(make_numbers(&n, reference->count));
    GE_TRY(ge_modes_init(&held, reference->rows, reference->cols,
                         reference->count));
    ge_engine_show(engine, j, l, &replica);
    GE_TRY(matched_modes(engine, l, &replica.matrix, &own));
    GE_TRY(ge_modes_leak(reference, &difference, n.left, n.right, n.along));
    leave_out(&replica, mean, others); /* the mean may be gone from here on */
    GE_TRY(matched_modes(engine, l, rest, &held));
    ge_modes_overlap(&own, &held, 0, n.z);
    for (int i = 0; i < GE_ECHO_NEIGHBOURS; i++)
        ge_modes_overlap(&own, &held,
                         i < GE_ECHO_NEAR ? i - GE_ECHO_NEAR
                                          : i - GE_ECHO_NEAR + 1,
                         n.near + (size_t)i * reference->count);
    GE_TRY(ge_modes_project(&own, rest, n.a));
    GE_TRY(ge_modes_project(&held, &replica.matrix, n.b));
    report(&n, &own, engine->rows + j * engine->width + engine->report_at[l]);
    block[0] = (float)(engine->first_index + j);
fail:
    ge_modes_fini(&held);
    free(n.all);
    return status;
}

gradecho_status ge_engine_decompose(ge_engine *engine)
{
    gradecho_status status = GRADECHO_OK;

    engine->copy_of_layer = engine->layers->count; /* a new sample */
    GE_TRY(find_references(engine));
    for (size_t l = 0; l < engine->layers->count; l++) {
        if (!has_echo(engine, l))
            continue;
        for (size_t j = 0; j < engine->replicas_each; j++) {
            engine->own[j * ge_engine_block(engine, l)] = (float)NAN;
            if (j < engine->facts.replicas && ge_engine_valid(engine, j, l) &&
                !isnan(engine->reference[l].s[0]))
                ge_engine_note(engine, measure(engine, j, l));
        }
        GE_TRY(ge_engine_exchange(engine, l));
    }
fail:
    return status;
}
