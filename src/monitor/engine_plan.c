/*
 * What follows from the layers alone: whose turn it is in which echo sample,
 * which rank decomposes the mean of which layer, and where their numbers lie.
 * Every rank comes to the same plan by itself.
 */
#include <stdlib.h>

#include "engine_private.h"
#include "memory.h"
#include "try.h"

/* Heaps of layers, of about the same cost each. */
struct heaps {
    size_t count, most; /* layers in a heap, at most */
    double *load;       /* [count] */
    size_t *size;       /* [count] */
};

static gradecho_status make_heaps(struct heaps *heaps, size_t count,
                                  size_t most)
{
    gradecho_status status = GRADECHO_OK;

    *heaps = (struct heaps){.count = count, .most = most};
    heaps->load = ge_alloc(count, sizeof *heaps->load);
    heaps->size = ge_alloc(count, sizeof *heaps->size);
    GE_FAIL_IF(heaps->load == NULL || heaps->size == NULL, GRADECHO_E_NOMEM,
               "no memory to share out the layers");
fail:
    return status;
}

static void free_heaps(struct heaps *heaps)
{
    free(heaps->load);
    free(heaps->size);
}

/* Put something on the lightest heap that has room; which one that was. */
static size_t put(struct heaps *heaps, double cost)
{
    size_t to = heaps->count;

    for (size_t h = 0; h < heaps->count; h++)
        if (heaps->size[h] < heaps->most &&
            (to == heaps->count || heaps->load[h] < heaps->load[to]))
            to = h;
    heaps->load[to] += cost;
    heaps->size[to]++;
    return to;
}

/* A layer in the order of plans: the dearest first. */
struct item {
    double cost;
    size_t layer;
};

static int by_cost(const void *a, const void *b)
{
    const struct item *left = a, *right = b;

    if (left->cost != right->cost)
        return left->cost < right->cost ? 1 : -1;
    return (left->layer > right->layer) - (left->layer < right->layer);
}

/* The layers with modes, dearest first; their number in *count. */
static gradecho_status sort_layers(const ge_engine *engine, struct item **items,
                                   size_t *count)
{
    gradecho_status status = GRADECHO_OK;
    const struct ge_layers *layers = engine->layers;
    struct item *list = ge_alloc(layers->count, sizeof *list);

    GE_FAIL_IF(list == NULL, GRADECHO_E_NOMEM, "no memory for %zu layers",
               layers->count);
    *count = 0;
    for (size_t l = 0; l < layers->count; l++) {
        const struct ge_layer *layer = &layers->item[l];

        if (layer->modes == 0)
            continue;
        list[*count].layer = l;
        list[*count].cost = ge_svd_cost(engine->svd, (size_t)layer->rows,
                                        (size_t)layer->cols, layer->modes);
        (*count)++;
    }
    qsort(list, *count, sizeof *list, by_cost);
    *items = list;
fail:
    return status;
}

/* Whose turn it is: every layer once in `turns` echo samples, of about the same
 * cost each. */
static gradecho_status take_turns(ge_engine *engine, const struct item *items,
                                  size_t count)
{
    gradecho_status status = GRADECHO_OK;
    const size_t wanted = (size_t)engine->config->layers_per_sample;
    const size_t most = wanted > 0 ? wanted : ge_max_size(count, 1);
    struct heaps heaps = {0};

    engine->turns = ge_max_size((count + most - 1) / most, 1);
    GE_TRY(make_heaps(&heaps, engine->turns, most));
    for (size_t i = 0; i < count; i++)
        engine->turn_of[items[i].layer] = put(&heaps, items[i].cost);
fail:
    free_heaps(&heaps);
    return status;
}

/* Who decomposes the mean: within each turn, each layer the rank that has least
 * to do so far. */
static gradecho_status place(ge_engine *engine, const struct item *items,
                             size_t count)
{
    gradecho_status status = GRADECHO_OK;
    const size_t size = (size_t)ge_comm_size(engine->comm);
    struct heaps heaps = {0};

    if (engine->config->svd_placement == GE_PLACEMENT_ROOT)
        return GRADECHO_OK; /* all at rank 0 */
    for (size_t turn = 0; turn < engine->turns && status == GRADECHO_OK;
         turn++) {
        GE_TRY(make_heaps(&heaps, size, count));
        for (size_t i = 0; i < count; i++)
            if (engine->turn_of[items[i].layer] == turn)
                engine->owner[items[i].layer] = (int)put(&heaps, items[i].cost);
        free_heaps(&heaps);
        heaps = (struct heaps){0};
    }
fail:
    free_heaps(&heaps);
    return status;
}

/* Where a layer's mean and its reports lie among those of its turn. */
static gradecho_status lay_out(ge_engine *engine)
{
    gradecho_status status = GRADECHO_OK;
    const size_t narrow = ge_row_sketch(engine) + GE_SKETCH_SIZE;
    size_t *kept = ge_alloc(engine->turns, sizeof *kept);
    size_t most = 0;

    engine->turn_width = ge_alloc(engine->turns + 1, sizeof(size_t));
    GE_FAIL_IF(kept == NULL || engine->turn_width == NULL, GRADECHO_E_NOMEM,
               "no memory for %zu turns", engine->turns);
    for (size_t t = 0; t <= engine->turns; t++)
        engine->turn_width[t] = narrow;
    engine->width = narrow;
    for (size_t l = 0; l < engine->layers->count; l++) {
        const struct ge_layer *layer = &engine->layers->item[l];
        const size_t turn = engine->turn_of[l];
        size_t *width = &engine->turn_width[turn];

        if (layer->modes == 0)
            continue;
        engine->kept_at[l] = kept[turn];
        /* Every mean begins aligned: see GE_ALIGNMENT. */
        kept[turn] += ge_padded(layer->entries, sizeof(float));
        most = ge_max_size(most, kept[turn]);
        engine->report_at[l] = *width;
        *width += layer->modes * GE_REPORT_SIZE;
        engine->overlap_at[l] = *width;
        if (engine->reverb)
            *width += layer->modes * engine->replicas_max;
        engine->width = ge_max_size(engine->width, *width);
    }
    engine->mean_kept = ge_alloc_aligned(most, sizeof(float));
    GE_FAIL_IF(engine->mean_kept == NULL, GRADECHO_E_NOMEM,
               "no memory for the mean of the layers with an echo (%zu "
               "entries): measure fewer at a time by layers.per_sample, or "
               "take layers out by layers.exclude",
               most);
fail:
    free(kept);
    return status;
}

gradecho_status ge_engine_plan(ge_engine *engine)
{
    gradecho_status status = GRADECHO_OK;
    const size_t layers = engine->layers->count;
    struct item *items = NULL;
    size_t count = 0;

    engine->turn_of = ge_alloc(layers, sizeof *engine->turn_of);
    engine->kept_at = ge_alloc(layers, sizeof *engine->kept_at);
    engine->report_at = ge_alloc(layers, sizeof *engine->report_at);
    engine->overlap_at = ge_alloc(layers, sizeof *engine->overlap_at);
    engine->owner = ge_alloc(layers, sizeof *engine->owner);
    GE_FAIL_IF(engine->turn_of == NULL || engine->kept_at == NULL ||
                   engine->report_at == NULL || engine->overlap_at == NULL ||
                   engine->owner == NULL,
               GRADECHO_E_NOMEM, "no memory for %zu layers", layers);
    GE_TRY(sort_layers(engine, &items, &count));
    GE_TRY(take_turns(engine, items, count));
    GE_TRY(place(engine, items, count));
    GE_TRY(lay_out(engine));
fail:
    free(items);
    return status;
}
