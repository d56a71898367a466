/*
 * Trainers' segments as a source. A monitor serves one or more trainers of its
 * own node; which ones follows from what the segments say.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "convert.h"
#include "gather.h"
#include "memory.h"
#include "source.h"
#include "trainer.h"
#include "try.h"

/* A monitor that does not answer ends the job after timeout_seconds; a trainer
 * that hands over nothing is told after this part of them, and waited for. */
static const double silent_part = 0.2;

struct segment_source {
    struct ge_source base;
    struct ge_trainers_facts common;
    struct ge_trainer *trainer; /* [trainers] */
    size_t trainers;
    size_t *owner;    /* [replicas_here] trainer of local replica j */
    uint32_t *within; /* [replicas_here] its number at that trainer */
    const struct ge_trainer *averager; /* whose mean of the sample is used */
    size_t present;         /* local replicas of the sample at the front */
    uint32_t replicas_each; /* most of one trainer */
    struct ge_ending ending;
    double next_meeting; /* s, when to look for successors */
};

static struct segment_source *self(struct ge_source *source)
{
    return (struct segment_source *)(void *)source;
}

static const struct segment_source *const_self(const struct ge_source *source)
{
    return (const struct segment_source *)(const void *)source;
}

/* A trainer at the front with a mean of every layer; NULL: there is none. */
static const struct ge_trainer *find_averager(const struct segment_source *s)
{
    for (size_t i = 0; i < s->trainers; i++) {
        const struct ge_trainer *t = &s->trainer[i];
        size_t l = 0;

        if (!t->front.ready || t->sample.mean_replicas == 0)
            continue;
        while (l < s->base.facts.layers.count &&
               ge_consumer_mean(t->consumer, l) != NULL)
            l++;
        if (l == s->base.facts.layers.count)
            return t;
    }
    return NULL;
}

static void list_replicas(struct segment_source *s)
{
    s->present = 0;
    for (size_t i = 0; i < s->trainers; i++) {
        if (!s->trainer[i].front.ready)
            continue;
        for (uint32_t r = 0; r < s->trainer[i].sample.replicas; r++) {
            s->owner[s->present] = i;
            s->within[s->present++] = r;
        }
    }
    s->averager = find_averager(s);
}

static uint64_t dropped(const struct segment_source *s)
{
    uint64_t most = 0;

    for (size_t i = 0; i < s->trainers; i++) {
        const struct ge_trainer *t = &s->trainer[i];
        const uint64_t lost = ge_consumer_dropped(t->consumer) + t->discarded;

        most = lost > most ? lost : most;
    }
    return most;
}

static void meet_successors(struct segment_source *s)
{
    const double now = ge_trainer_now();

    if (s->ending.closed || s->ending.stop || now < s->next_meeting)
        return;
    s->next_meeting = now + 1.0;
    for (size_t i = 0; i < s->trainers; i++)
        if (!s->trainer[i].front.live)
            ge_trainer_meet_successor(&s->trainer[i], &s->common);
}

/* Wait for the first trainer that has nothing, not for each. */
static void look(struct ge_source *source, double patience,
                 struct ge_view *view)
{
    struct segment_source *s = self(source);

    meet_successors(s);
    for (size_t i = 0; i < s->trainers; i++) {
        struct ge_trainer *t = &s->trainer[i];

        if (t->front.live) {
            const enum ge_sight sight =
                ge_trainer_look(t, &s->common, view->waiting ? 0.0 : patience);

            ge_front_see(&t->front, sight, t->sample.step, &s->ending);
        }
        ge_front_add(&t->front, &s->ending, view);
    }
    view->dropped = dropped(s);
    list_replicas(s);
}

static void await(struct ge_source *source)
{
    struct segment_source *s = self(source);

    for (size_t i = 0; i < s->trainers; i++)
        ge_trainer_is_awaited(&s->trainer[i], &s->common);
}

static void advance(struct ge_source *source, int64_t step)
{
    struct segment_source *s = self(source);

    for (size_t i = 0; i < s->trainers; i++) {
        struct ge_trainer *t = &s->trainer[i];

        /* First, or it would fill the slot with the next that is too old. */
        ge_consumer_skip_to(t->consumer, step);
        if (ge_front_is_older(&t->front, step)) {
            ge_trainer_give_back(t);
            t->discarded++;
        }
    }
    s->common.from = step;
}

static void add_known(double value, double *sum, double *count)
{
    if (isfinite(value)) {
        *sum += value;
        *count += 1.0;
    }
}

/* Half the distance of 1 to the next number. */
static double unit_of(gradecho_dtype dtype)
{
    return dtype == GRADECHO_BF16  ? 0x1p-8
           : dtype == GRADECHO_F16 ? 0x1p-11
                                   : 0x1p-24; /* doubles are read as singles */
}

static void describe_mean(const struct segment_source *s,
                          struct ge_sample_facts *facts)
{
    const struct ge_trainer *t = s->averager;

    if (t == NULL)
        return;
    const struct ge_geometry *geometry = ge_consumer_geometry(t->consumer);

    facts->mean_replicas = (double)t->sample.mean_replicas;
    for (size_t l = 0; l < geometry->layer_count; l++)
        facts->mean_unit =
            fmax(facts->mean_unit, unit_of(geometry->layers[l].dtype));
}

static void describe(const struct ge_source *source, int64_t step,
                     struct ge_sample_facts *facts)
{
    const struct segment_source *s = const_self(source);

    *facts = (struct ge_sample_facts){.replicas = s->present, .step = step};
    for (size_t i = 0; i < s->trainers; i++) {
        const struct ge_handed_sample *sample = &s->trainer[i].sample;

        if (!s->trainer[i].front.ready)
            continue;
        add_known(sample->loss, &facts->loss, &facts->losses);
        if (sample->batch_size > 0.0)
            add_known(sample->batch_size, &facts->batch_size,
                      &facts->batch_sizes);
        add_known(sample->time, &facts->time, &facts->times);
    }
    describe_mean(s, facts);
}

static size_t number(const struct ge_source *source, size_t j)
{
    const struct segment_source *s = const_self(source);

    return (size_t)s->trainer[s->owner[j]].rank * s->replicas_each +
           s->within[j];
}

static const void *data(const struct segment_source *s, size_t j, size_t layer)
{
    return ge_consumer_data(s->trainer[s->owner[j]].consumer, s->within[j],
                            layer);
}

static bool present(const struct ge_source *source, size_t j, size_t layer)
{
    return data(const_self(source), j, layer) != NULL;
}

static gradecho_dtype dtype_of(const struct segment_source *s, size_t j,
                               size_t layer)
{
    return ge_consumer_geometry(s->trainer[s->owner[j]].consumer)
        ->layers[layer]
        .dtype;
}

static double scale_of(const struct segment_source *s, size_t j)
{
    return s->trainer[s->owner[j]].sample.gradient_scale;
}

static const float *direct(const struct ge_source *source, size_t j,
                           size_t layer)
{
    const struct segment_source *s = const_self(source);

    if (dtype_of(s, j, layer) != GRADECHO_F32 || scale_of(s, j) != 1.0)
        return NULL;
    return data(s, j, layer);
}

static gradecho_status read_entries(struct ge_source *source, size_t j,
                                    size_t layer, size_t first, size_t count,
                                    float *out)
{
    const struct segment_source *s = const_self(source);

    ge_convert(dtype_of(s, j, layer), data(s, j, layer), first, count,
               scale_of(s, j), out);
    return GRADECHO_OK;
}

static gradecho_status read_mean(struct ge_source *source, size_t layer,
                                 size_t first, size_t count, float *out)
{
    const struct ge_trainer *t = const_self(source)->averager;
    const struct ge_geometry *geometry = ge_consumer_geometry(t->consumer);

    ge_convert(geometry->layers[layer].dtype,
               ge_consumer_mean(t->consumer, layer), first, count,
               t->sample.gradient_scale, out);
    return GRADECHO_OK;
}

static bool intact(struct ge_source *source)
{
    struct segment_source *s = self(source);
    bool all = true;

    /* Each is asked: the next look finds all that are lost. */
    for (size_t i = 0; i < s->trainers; i++)
        if (s->trainer[i].front.ready &&
            !ge_consumer_intact(s->trainer[i].consumer))
            all = false;
    return all;
}

static void release(struct ge_source *source, int64_t step)
{
    struct segment_source *s = self(source);

    for (size_t i = 0; i < s->trainers; i++)
        ge_trainer_give_back(&s->trainer[i]);
    s->common.from = step < INT64_MAX ? step + 1 : step;
}

static void close_segments(struct ge_source *source)
{
    struct segment_source *s = self(source);

    for (size_t i = 0; i < s->trainers; i++)
        ge_consumer_detach(&s->trainer[i].consumer);
    free(s->trainer);
    free(s->owner);
    free(s->within);
}

static const struct ge_source_ops segment_ops = {
    .look = look,
    .await = await,
    .advance = advance,
    .describe = describe,
    .number = number,
    .present = present,
    .direct = direct,
    .read = read_entries,
    .read_mean = read_mean,
    .intact = intact,
    .release = release,
    .close = close_segments,
};

/* ---- opening ---- */

/* This monitor's trainers: every node_size-th of the node's, in order of
 * rank. */
static gradecho_status attach_local(struct segment_source *s, ge_comm *comm,
                                    const char *session,
                                    const struct ge_segment_info *list,
                                    size_t count)
{
    gradecho_status status = GRADECHO_OK;
    const size_t step = (size_t)ge_comm_node_size(comm);
    const size_t first = (size_t)ge_comm_node_rank(comm);

    GE_FAIL_IF(first >= count, GRADECHO_E_INPUT,
               "monitor %d has no trainer to serve: start no more monitors on "
               "a node than it has trainers (%zu)",
               ge_comm_rank(comm), count);
    s->trainer = ge_alloc(count / step + 1, sizeof *s->trainer);
    GE_FAIL_IF(s->trainer == NULL, GRADECHO_E_NOMEM, "no memory for trainers");
    for (size_t i = first; i < count; i += step) {
        struct ge_trainer *t = &s->trainer[s->trainers];

        GE_TRY(ge_consumer_attach(session, list[i].rank, &t->consumer));
        t->rank = list[i].rank;
        t->front.live = true;
        s->trainers++;
    }
fail:
    return status;
}

/* The layer table and the room for replicas; trainers here must agree. */
static gradecho_status describe_local(struct segment_source *s)
{
    gradecho_status status = GRADECHO_OK;
    struct ge_source_facts *facts = &s->base.facts;
    const struct ge_geometry *first =
        ge_consumer_geometry(s->trainer[0].consumer);

    GE_TRY(ge_layers_init(&facts->layers, first->layer_count));
    for (size_t l = 0; l < first->layer_count; l++)
        GE_TRY(ge_layers_put(&facts->layers, l, first->layers[l].name,
                             first->layers[l].rows, first->layers[l].cols));
    for (size_t i = 0; i < s->trainers; i++) {
        const struct ge_geometry *g =
            ge_consumer_geometry(s->trainer[i].consumer);

        GE_FAIL_IF(!ge_trainer_same_layers(g, first), GRADECHO_E_INPUT,
                   "trainer %u declares other layers than trainer %u; every "
                   "rank must hand over the same table in the same order",
                   g->rank, first->rank);
        facts->replicas_here += g->replicas;
        s->replicas_each =
            g->replicas > s->replicas_each ? g->replicas : s->replicas_each;
    }
    s->owner = ge_alloc(facts->replicas_here, sizeof *s->owner);
    s->within = ge_alloc(facts->replicas_here, sizeof *s->within);
    GE_FAIL_IF(s->owner == NULL || s->within == NULL, GRADECHO_E_NOMEM,
               "no memory for replicas");
fail:
    return status;
}

/* What all monitors must have in common. */
static gradecho_status agree_on_facts(struct segment_source *s, ge_comm *comm)
{
    gradecho_status status = GRADECHO_OK;
    const int64_t hash =
        (int64_t)(ge_layers_hash(&s->base.facts.layers) >> 1); /* no sign */
    int64_t word[3] = {hash, -hash, s->replicas_each};
    double served = (double)s->trainers;

    GE_TRY(ge_comm_max(comm, word, 3));
    GE_TRY(ge_comm_sum(comm, &served, 1));
    /* One that ended between two monitors' looks shifts the list of one. */
    if (served != (double)s->base.facts.world) {
        if (ge_comm_rank(comm) == 0)
            ge_error("a trainer ended while the monitors attached; start them "
                     "again");
        status = GRADECHO_E_INPUT;
        goto fail;
    }
    if (word[0] != -word[1]) {
        if (ge_comm_rank(comm) == 0)
            ge_error("trainers declare different layers; every rank must hand "
                     "over the same table in the same order");
        status = GRADECHO_E_INPUT;
        goto fail;
    }
    s->replicas_each = (uint32_t)word[2];
    s->base.facts.replicas_max = (size_t)s->base.facts.world * s->replicas_each;
fail:
    return status;
}

/* Has every monitor got what it allocated? */
static gradecho_status agree_on_memory(ge_comm *comm, const void *block)
{
    ge_message_capture(1);
    if (block == NULL)
        ge_error("no memory to look for trainers");
    return ge_comm_agree(comm, block != NULL ? GRADECHO_OK : GRADECHO_E_NOMEM);
}

static gradecho_status open_segments(struct segment_source *s, ge_comm *comm,
                                     const char *session,
                                     const volatile sig_atomic_t *stop)
{
    gradecho_status status = GRADECHO_OK, local = GRADECHO_OK;
    size_t count = 0;
    struct ge_segment_info *list = ge_alloc(GE_GATHER_MAX, sizeof *list);

    status = agree_on_memory(comm, list);
    if (status < GRADECHO_OK || list == NULL) /* which goes with it */
        goto fail;
    GE_TRY(ge_gather_wait(comm, session, stop, list, &s->base.facts.world));
    if (status == GRADECHO_END)
        goto fail;

    /* ge_gather_wait() ended with all segments there: what this scan shows is
     * the node's whole list, the same for all its monitors. */
    ge_message_capture(1);
    local = ge_gather_scan(session, s->base.facts.world, list, &count);
    if (local >= GRADECHO_OK)
        local = attach_local(s, comm, session, list, count);
    if (local >= GRADECHO_OK)
        local = describe_local(s);
    GE_TRY(ge_comm_agree(comm, local));
    GE_TRY(agree_on_facts(s, comm));
    /* From here on all trainers are listened to, so that their first sample is
     * the same step unless the training is in between. */
    for (size_t i = 0; i < s->trainers; i++)
        ge_consumer_enable(s->trainer[i].consumer, s->common.every);
fail:
    free(list);
    return status;
}

gradecho_status ge_source_open_segments(ge_comm *comm,
                                        const struct ge_config *config,
                                        const char *session,
                                        const volatile sig_atomic_t *stop,
                                        struct ge_source **source)
{
    gradecho_status status = GRADECHO_OK;
    struct segment_source *made = ge_alloc(1, sizeof *made);
    struct ge_source *base = NULL;

    if (made != NULL) { /* also to give back what another rank did not get */
        base = &made->base;
        base->ops = &segment_ops;
    }
    status = agree_on_memory(comm, made);
    if (status < GRADECHO_OK || made == NULL) /* which goes with it */
        goto fail;
    made->ending.stop_on_loss = config->on_rank_loss == GE_LOSS_STOP;
    made->common = (struct ge_trainers_facts){
        .session = session,
        .every = (uint64_t)config->sample_every,
        .stop_on_loss = made->ending.stop_on_loss,
        .silence = config->timeout_seconds * silent_part,
    };
    GE_TRY(open_segments(made, comm, session, stop));
    if (status == GRADECHO_END)
        goto fail;
    *source = base;
    return GRADECHO_OK;
fail:
    ge_source_close(&base);
    return status;
}
