#include "source_memory.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "memory.h"

struct memory_source {
    struct ge_source base;
    const float *gradient;
    size_t *at; /* [layers] of each in the gradient */
    size_t rank;
};

static const struct memory_source *self(const struct ge_source *source)
{
    return (const struct memory_source *)(const void *)source;
}

static void describe(const struct ge_source *source, int64_t step,
                     struct ge_sample_facts *facts)
{
    (void)source;
    *facts = (struct ge_sample_facts){.step = step, .replicas = 1};
}

static size_t number(const struct ge_source *source, size_t j)
{
    return self(source)->rank + j;
}

static bool present(const struct ge_source *source, size_t j, size_t layer)
{
    (void)source, (void)j, (void)layer;
    return true;
}

static const float *direct(const struct ge_source *source, size_t j,
                           size_t layer)
{
    (void)j;
    return self(source)->gradient + self(source)->at[layer];
}

static void release(struct ge_source *source, int64_t step)
{
    (void)source, (void)step;
}

static void close_memory(struct ge_source *source)
{
    free(((struct memory_source *)(void *)source)->at);
}

static const struct ge_source_ops ops = {.describe = describe,
                                         .number = number,
                                         .present = present,
                                         .direct = direct,
                                         .release = release,
                                         .close = close_memory};

static size_t size_of(size_t layer, size_t left, size_t side)
{
    return ge_min_size(left, layer % 2 == 0 ? side * side : side);
}

struct ge_source *source_memory_open(ge_comm *comm, const float *gradient,
                                     size_t count, size_t side)
{
    struct memory_source *made = ge_alloc(1, sizeof *made);
    struct ge_source *base = made != NULL ? &made->base : NULL;
    size_t layers = 0, done = 0;

    if (made == NULL)
        return NULL;
    for (size_t at = 0; at < count; layers++)
        at += size_of(layers, count - at, side);
    made->base.ops = &ops;
    made->gradient = gradient;
    made->rank = (size_t)ge_comm_rank(comm);
    made->base.facts.world = (uint32_t)ge_comm_size(comm);
    made->base.facts.replicas_max = (size_t)ge_comm_size(comm);
    made->base.facts.replicas_here = 1;
    made->at = ge_alloc(layers, sizeof *made->at);
    if (made->at == NULL ||
        ge_layers_init(&made->base.facts.layers, layers) < GRADECHO_OK)
        goto fail;
    for (size_t l = 0; l < layers; l++) {
        const size_t n = size_of(l, count - done, side);
        char name[32];

        snprintf(name, sizeof name, "layer %zu", l);
        made->at[l] = done;
        done += n;
        if (ge_layers_put(&made->base.facts.layers, l, name,
                          n == side * side ? side : 1,
                          n == side * side ? side : n) < GRADECHO_OK)
            goto fail;
    }
    return base;
fail:
    ge_source_close(&base);
    return NULL;
}
