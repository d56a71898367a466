/*
 * Part of phase 2: each replica's modes are tried on other replicas'
 * gradients, for the significance test, and compared with their modes, for
 * reverb.
 *
 * Replicas stand in a circle by their place in the sample; the modes of one are
 * tried on the gradients of the next `partners` ones, wherever these lie, so
 * that the numbers do not depend on how replicas are spread over ranks. Blocks
 * of modes travel forward round the ring of ranks, a few numbers for each come
 * back. Nothing that grows with the number of replicas is gathered, unless
 * reverb asks for all pairs.
 */
#include <math.h>
#include <string.h>

#include "engine_private.h"
#include "memory.h"
#include "try.h"

/* Shape of the exchange of one layer. */
struct exchange {
    size_t layer, modes;
    size_t block; /* floats of one replica's block */
    size_t reply; /* ge_engine_reply() */
};

/* Steps forward from replica `from` to replica `to` in the circle. */
static size_t steps(const ge_engine *engine, size_t from, size_t to)
{
    return (to + engine->present - from) % engine->present;
}

/* Try one block of modes on one local gradient. */
static gradecho_status try_block(ge_engine *engine, const struct exchange *x,
                                 float *block, size_t j, float *reply)
{
    gradecho_status status = GRADECHO_OK;
    const struct ge_modes *like = &engine->reference[x->layer];
    float *mine = engine->own + j * x->block;
    double number[GE_MODES_MAX];

    reply[0] = (float)NAN;
    if (isnan(block[0]) || isnan(mine[0]))
        return GRADECHO_OK;
    const size_t ahead = steps(engine, (size_t)block[0], (size_t)mine[0]);

    if (ahead == 0 || ahead > engine->partners)
        return GRADECHO_OK;
    const struct ge_modes theirs = ge_modes_view(like, block + GE_BLOCK_HEAD);
    const struct ge_modes own = ge_modes_view(like, mine + GE_BLOCK_HEAD);
    struct ge_replica replica;

    ge_engine_show(engine, j, x->layer, &replica);
    GE_TRY(ge_modes_project(&theirs, &replica.matrix, number));
    for (size_t k = 0; k < x->modes; k++)
        reply[1 + k] = (float)number[k];
    if (engine->reverb) {
        ge_modes_overlap(&theirs, &own, 0, number);
        for (size_t k = 0; k < x->modes; k++)
            reply[1 + x->modes + k] = (float)number[k];
    }
    reply[0] = mine[0];
fail:
    return status;
}

/* Try all blocks of one rank on all local gradients. */
static void try_blocks(ge_engine *engine, const struct exchange *x,
                       float *blocks, float *replies)
{
    for (size_t b = 0; b < engine->replicas_each; b++)
        for (size_t j = 0; j < engine->replicas_each; j++)
            ge_engine_note(engine,
                           try_block(engine, x, blocks + b * x->block, j,
                                     replies + (b * engine->replicas_each + j) *
                                                   x->reply));
}

/* Sort what was found out about the local blocks. */
static void take_replies(ge_engine *engine, const struct exchange *x,
                         const float *replies)
{
    for (size_t b = 0; b < engine->replicas_each; b++) {
        const float *block = engine->own + b * x->block;
        double *row = engine->rows + b * engine->width;

        for (size_t j = 0; j < engine->replicas_each; j++) {
            const float *reply =
                replies + (b * engine->replicas_each + j) * x->reply;

            if (isnan(reply[0]))
                continue;
            const size_t to = (size_t)reply[0];
            const size_t slot = steps(engine, (size_t)block[0], to) - 1;

            for (size_t k = 0; k < x->modes; k++) {
                engine->cross[(b * x->modes + k) * engine->partners + slot] =
                    reply[1 + k];
                if (engine->reverb)
                    row[engine->overlap_at[x->layer] +
                        k * engine->replicas_max + to] =
                        (double)reply[1 + x->modes + k];
            }
        }
    }
}

static void condense(ge_engine *engine, const struct exchange *x)
{
    for (size_t b = 0; b < engine->facts.replicas; b++) {
        double *row =
            engine->rows + b * engine->width + engine->report_at[x->layer];

        if (isnan(engine->own[b * x->block]))
            continue;
        for (size_t k = 0; k < x->modes; k++) {
            struct ge_mode_report report;

            memcpy(&report, row + k * GE_REPORT_SIZE, sizeof report);
            ge_cross_condense(engine->cross +
                                  (b * x->modes + k) * engine->partners,
                              engine->partners, &report.cross);
            memcpy(row + k * GE_REPORT_SIZE, &report, sizeof report);
        }
    }
}

/* The farthest rank that has a partner of one of my replicas. */
static int reach(const ge_engine *engine)
{
    const size_t size = (size_t)ge_comm_size(engine->comm);
    const size_t each = engine->replicas_each;
    const bool even = engine->present == size * each;

    return (int)ge_min_size(
        size - 1, even ? (each - 1 + engine->partners) / each : size - 1);
}

gradecho_status ge_engine_exchange(ge_engine *engine, size_t layer)
{
    gradecho_status status = GRADECHO_OK;
    const size_t each = engine->replicas_each;
    const size_t modes = engine->layers->item[layer].modes;
    const struct exchange x = {
        .layer = layer,
        .modes = modes,
        .block = ge_engine_block(engine, layer),
        .reply = ge_engine_reply(engine, modes),
    };
    const int size = ge_comm_size(engine->comm);

    for (size_t i = 0; i < each * modes * engine->partners; i++)
        engine->cross[i] = (float)NAN;
    try_blocks(engine, &x, engine->own, engine->answer);
    take_replies(engine, &x, engine->answer);
    for (int d = 1; d <= reach(engine); d++) {
        GE_TRY(ge_comm_shift(engine->comm, d, engine->own, engine->theirs,
                             each * x.block));
        try_blocks(engine, &x, engine->theirs, engine->answer);
        GE_TRY(ge_comm_shift(engine->comm, size - d, engine->answer,
                             engine->answered, each * each * x.reply));
        take_replies(engine, &x, engine->answered);
    }
    condense(engine, &x);
fail:
    return status;
}
