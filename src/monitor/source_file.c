/*
 * A file of gradients as a source: sample by sample, replicas spread over the
 * monitors in blocks.
 */
#include <math.h>
#include <stdlib.h>

#include "gradients.h"
#include "memory.h"
#include "source.h"
#include "try.h"

struct file_source {
    struct ge_source base;
    ge_gradients *file;
    uint64_t samples, next;
    size_t first, count; /* this monitor's block of replicas */
    double batch_size;
};

static struct file_source *self(struct ge_source *source)
{
    return (struct file_source *)(void *)source;
}

static const struct file_source *const_self(const struct ge_source *source)
{
    return (const struct file_source *)(const void *)source;
}

/* Monitors go through the same samples in lockstep, so the position stands in
 * for the step: a file's steps need not increase. */
static void look(struct ge_source *source, double patience,
                 struct ge_view *view)
{
    const struct file_source *s = self(source);

    (void)patience;
    if (view->status >= GRADECHO_OK) /* else it is told already */
        view->status = ge_gradients_check(s->file);
    view->ready = s->next < s->samples;
    view->oldest = view->newest = (int64_t)s->next;
}

static void advance(struct ge_source *source, int64_t step)
{
    self(source)->next = (uint64_t)step;
}

static void describe(const struct ge_source *source, int64_t step,
                     struct ge_sample_facts *facts)
{
    const struct file_source *s = const_self(source);
    const bool known = !isnan(s->batch_size);

    *facts = (struct ge_sample_facts){
        .step = ge_gradients_step(s->file, (uint64_t)step),
        .replicas = s->count,
        .batch_size = known ? s->batch_size : 0.0,
        .batch_sizes = known ? 1.0 : 0.0,
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
    const struct file_source *s = const_self(source);

    return ge_gradients_direct(s->file, s->next, (uint32_t)(s->first + j),
                               layer);
}

static void use(struct ge_source *source, size_t j, size_t layer, size_t first,
                size_t count)
{
    const struct file_source *s = self(source);

    ge_gradients_use(s->file, s->next, (uint32_t)(s->first + j), layer, first,
                     count);
}

static gradecho_status read_entries(struct ge_source *source, size_t j,
                                    size_t layer, size_t first, size_t count,
                                    float *out)
{
    const struct file_source *s = self(source);

    return ge_gradients_read(s->file, s->next, (uint32_t)(s->first + j), layer,
                             first, count, out);
}

static bool intact(struct ge_source *source)
{
    return ge_gradients_intact(self(source)->file);
}

static void release(struct ge_source *source, int64_t step)
{
    struct file_source *s = self(source);

    (void)step;
    ge_gradients_release(s->file, s->next);
    s->next++;
}

static void close_file(struct ge_source *source)
{
    ge_gradients_close(&self(source)->file);
}

static const struct ge_source_ops file_ops = {
    .look = look,
    .advance = advance,
    .describe = describe,
    .number = number,
    .present = present,
    .direct = direct,
    .use = use,
    .read = read_entries,
    .intact = intact,
    .release = release,
    .close = close_file,
};

static gradecho_status open_local(struct file_source *s, const char *path,
                                  size_t rank, size_t size)
{
    gradecho_status status = GRADECHO_OK;
    const struct ge_gradients_facts *facts = NULL;

    GE_TRY(ge_gradients_open(path, &s->file));
    facts = ge_gradients_facts(s->file);
    s->samples = facts->samples;
    s->batch_size = facts->batch_size;
    s->first = facts->replicas * rank / size;
    s->count = facts->replicas * (rank + 1) / size - s->first;
    ge_gradients_follow(s->file, (uint32_t)s->first, (uint32_t)s->count);
    /* The file does not say which ranks its replicas came from: each is taken
     * for one. */
    s->base.facts.world = facts->replicas;
    s->base.facts.replicas_max = facts->replicas;
    s->base.facts.replicas_here = s->count;
    s->base.facts.samples = facts->samples;
    GE_TRY(ge_layers_init(&s->base.facts.layers, facts->layer_count));
    for (size_t i = 0; i < facts->layer_count; i++) {
        GE_TRY(ge_layers_put(&s->base.facts.layers, i, facts->layers[i].name,
                             facts->layers[i].rows, facts->layers[i].cols));
        if (ge_gradients_direct(s->file, 0, 0, i) == NULL)
            s->base.facts.costly = true;
    }
fail:
    return status;
}

gradecho_status ge_source_open_file(ge_comm *comm, const char *path,
                                    struct ge_source **source)
{
    gradecho_status status = GRADECHO_OK;
    struct file_source *made = ge_alloc(1, sizeof *made);
    gradecho_status local = GRADECHO_E_NOMEM;

    ge_message_capture(1); /* told by ge_comm_agree() */
    if (made == NULL) {
        ge_error("no memory for the file of gradients");
    } else {
        made->base.ops = &file_ops;
        local = open_local(made, path, (size_t)ge_comm_rank(comm),
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
