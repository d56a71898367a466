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

/* L = (K mean - g)/(K-1), the mean of the other replicas. */
static void leave_out(const float *mean, const float *g, double k,
                      size_t entries, float *others)
{
    for (size_t i = 0; i < entries; i++)
        others[i] = (float)((k * (double)mean[i] - (double)g[i]) / (k - 1.0));
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

static void subtract(const float *a, const float *b, size_t entries,
                     float *difference)
{
    for (size_t i = 0; i < entries; i++)
        difference[i] = (float)((double)a[i] - (double)b[i]);
}

/* Every mode of one layer of one local replica: its own modes stay in
 * engine->own for the exchange, the numbers go into its row. */
static gradecho_status measure(ge_engine *engine, size_t j, size_t l)
{
    gradecho_status status = GRADECHO_OK;
    const struct ge_layer *layer = &engine->layers->item[l];
    const struct ge_modes *reference = &engine->reference[l];
    const float *mean = engine->mean_kept + engine->kept_at[l];
    float *block = engine->own + j * ge_engine_block(engine, l);
    struct ge_modes own = ge_modes_view(reference, block + GE_BLOCK_HEAD);
    struct ge_modes held = {0};
    double *row = engine->rows + j * engine->width + engine->report_at[l];
    const size_t modes = layer->modes;
    double *number = ge_alloc((6 + GE_ECHO_NEIGHBOURS) * modes, sizeof *number);
    double *z = number, *a = z + modes, *b = a + modes;
    double *left = b + modes, *right = left + modes, *along = right + modes;
    double *near = along + modes;
    const float *g = engine->gradient;
    const struct ge_matrix *whole = GE_WHOLE(g, own.rows, own.cols);
    const struct ge_matrix *others =
        GE_WHOLE(engine->others, own.rows, own.cols);

    ge_engine_snapshot(engine, j, l, 0, layer->entries, engine->gradient);
    GE_FAIL_IF(number == NULL, GRADECHO_E_NOMEM, "no memory for echoes");
    GE_TRY(ge_modes_init(&held, reference->rows, reference->cols, modes));
    leave_out(mean, g, engine->used[l], layer->entries, engine->others);
    GE_TRY(matched_modes(engine, l, whole, &own));
    GE_TRY(matched_modes(engine, l, others, &held));
    ge_modes_overlap(&own, &held, 0, z);
    for (int i = 0; i < GE_ECHO_NEIGHBOURS; i++)
        ge_modes_overlap(&own, &held,
                         i < GE_ECHO_NEAR ? i - GE_ECHO_NEAR
                                          : i - GE_ECHO_NEAR + 1,
                         near + (size_t)i * modes);
    GE_TRY(ge_modes_project(&own, others, a));
    GE_TRY(ge_modes_project(&held, whole, b));
    subtract(g, mean, layer->entries, engine->others);
    GE_TRY(ge_modes_leak(reference, others, left, right, along));
    for (size_t k = 0; k < modes; k++) {
        struct ge_mode_report report = {
            .terms = {.overlap = z[k],
                      .held_out = a[k],
                      .cross = b[k],
                      .s_replica = (double)own.s[k]},
            .leak_left = left[k],
            .leak_right = right[k],
            .along2 = along[k] * along[k],
            .cross = {(double)NAN, (double)NAN, (double)NAN},
        };

        for (size_t i = 0; i < GE_ECHO_NEIGHBOURS; i++)
            report.terms.near[i] = near[i * modes + k];
        memcpy(row + k * GE_REPORT_SIZE, &report, sizeof report);
    }
    block[0] = (float)(engine->first_index + j);
fail:
    ge_modes_fini(&held);
    free(number);
    return status;
}

gradecho_status ge_engine_decompose(ge_engine *engine)
{
    gradecho_status status = GRADECHO_OK;

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
