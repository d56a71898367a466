/*
 * source.h - where gradients come from: trainers' segments or a file.
 *
 * A source shows its samples one by one, each with the replicas that this
 * monitor holds. The engine neither knows nor cares which kind it is.
 * Local (no collectives), main thread, except the two open functions, which
 * are collective.
 */
#ifndef GRADECHO_MONITOR_SOURCE_H
#define GRADECHO_MONITOR_SOURCE_H

#include <signal.h>

#include "agree.h"
#include "comm.h"
#include "layers.h"

/* What is the same for all samples. */
struct ge_source_facts {
    struct ge_layers layers;
    uint32_t world;       /* training ranks */
    size_t replicas_max;  /* replicas of one sample over all ranks: replica
                             numbers are below this */
    size_t replicas_here; /* most of them at this monitor */
    uint64_t samples;     /* to come; 0: nobody knows */
    bool costly; /* read() takes much longer than a copy: from a file that has
                    to be decompressed, say. What is used often is kept. */
};

/* What is said of the sample at the front. NaN: unknown. */
struct ge_sample_facts {
    int64_t step;
    size_t replicas;   /* at this monitor, this sample */
    double loss;       /* sum over this monitor's trainers that told it */
    double losses;     /* how many these are */
    double batch_size; /* likewise */
    double batch_sizes;
    double time; /* likewise, Unix seconds */
    double times;
    double mean_replicas; /* of which the mean at hand here is said to be, over
                             all ranks; 0: no mean of every layer is */
    double mean_unit;     /* unit roundoff of its storage, the coarsest */
};

struct ge_source {
    const struct ge_source_ops *ops;
    struct ge_source_facts facts;
};

struct ge_source_ops {
    /* Wait up to `patience` seconds for a sample, and say what there is. */
    void (*look)(struct ge_source *source, double patience,
                 struct ge_view *view);
    /* Others have a sample, and the next one waits for a trainer: perhaps for
     * one of this source. NULL: never. */
    void (*await)(struct ge_source *source);
    /* Want no step below `step` any more; discard such samples. */
    void (*advance)(struct ge_source *source, int64_t step);
    /* Of the sample at the front. `step` is what the monitors agreed on: this
     * one may have no part in the sample. */
    void (*describe)(const struct ge_source *source, int64_t step,
                     struct ge_sample_facts *facts);
    /* Number of local replica j in the whole sample, < facts.replicas_max. */
    size_t (*number)(const struct ge_source *source, size_t j);
    /* False if the layer was not handed over for local replica j. */
    bool (*present)(const struct ge_source *source, size_t j, size_t layer);
    /* The layer where it lies, if it lies in memory as finished single
     * precision; else NULL: use read(). */
    const float *(*direct)(const struct ge_source *source, size_t j,
                           size_t layer);
    /* Entries first .. first + count - 1 are about to be used there. NULL:
     * nobody cares. */
    void (*use)(struct ge_source *source, size_t j, size_t layer, size_t first,
                size_t count);
    /* Entries first .. first + count - 1, divided by the gradient scale. */
    gradecho_status (*read)(struct ge_source *source, size_t j, size_t layer,
                            size_t first, size_t count, float *out);
    /* The same of the mean, if facts.mean_replicas is not 0. NULL: never. */
    gradecho_status (*read_mean)(struct ge_source *source, size_t layer,
                                 size_t first, size_t count, float *out);
    /* After the last read of the sample at the front: false if what was read
     * cannot be trusted, because its memory changed meanwhile. NULL: it never
     * does. */
    bool (*intact)(struct ge_source *source);
    /* Done with the sample at the front, which is of this step; no earlier one
     * is wanted any more. This source may have no part in it. */
    void (*release)(struct ge_source *source, int64_t step);
    void (*close)(struct ge_source *source);
};

/* Attach to the live segments of `session`, once all trainers of the job are
 * there. Waits for them, asleep, as long as it takes, or until *stop.
 *
 * \param source  written on success; release with ge_source_close()
 * \return GRADECHO_END      *stop was set first
 *         GRADECHO_E_INPUT  the trainers do not fit together
 *         and what ge_consumer_attach() says. The same on all ranks. */
GRADECHO_MUST_CHECK gradecho_status ge_source_open_segments(
    ge_comm *comm, const struct ge_config *config, const char *session,
    const volatile sig_atomic_t *stop, struct ge_source **source);

/* Open a file of gradients (log/gradients.h); replicas are spread over ranks
 * in blocks. \return as ge_gradients_open(), the same on all ranks */
GRADECHO_MUST_CHECK gradecho_status
ge_source_open_file(ge_comm *comm, const char *path, struct ge_source **source);

/* Nulls *source; accepts NULL. */
void ge_source_close(struct ge_source **source);

#endif
