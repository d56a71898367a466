/*
 * sample_dump SESSION RANK EVERY FILE - a consumer that keeps what it is
 * handed.
 *
 * Attaches to a trainer's segment, prints "attached", and writes all samples to
 * FILE until the trainer closes. FILE: for each sample a line of JSON, then the
 * bytes of the layers that are present, replica by replica.
 */
#include "consumer.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>

#include <signal.h>
#include <time.h>

enum { PATIENCE_SECONDS = 60 };

static size_t layer_bytes(const struct gradecho_layer *layer)
{
    static const size_t size[] = {[GRADECHO_F32] = 4,
                                  [GRADECHO_F64] = 8,
                                  [GRADECHO_F16] = 2,
                                  [GRADECHO_BF16] = 2};

    return size[layer->dtype] * layer->rows * layer->cols;
}

/* A replica's gradient, or behind the replicas the mean. */
static const void *block(const ge_consumer *consumer,
                         const struct ge_handed_sample *sample, uint32_t r,
                         size_t layer)
{
    return r < sample->replicas ? ge_consumer_data(consumer, r, layer)
                                : ge_consumer_mean(consumer, layer);
}

/* {"step": ..., "layers": [[replica, name, rows, cols, dtype, bytes], ...]} */
static void write_sample(FILE *file, const ge_consumer *consumer,
                         const struct ge_handed_sample *sample)
{
    const struct ge_geometry *g = ge_consumer_geometry(consumer);
    const char *comma = "";

    fprintf(file,
            "{\"step\": %lld, \"replicas\": %u, \"loss\": \"%.17g\", "
            "\"batch_size\": %.17g, \"scale\": %.17g, \"world\": %u, "
            "\"mean_replicas\": %u, \"layers\": [",
            (long long)sample->step, (unsigned)sample->replicas, sample->loss,
            sample->batch_size, sample->gradient_scale, (unsigned)g->world,
            (unsigned)sample->mean_replicas);
    for (uint32_t r = 0; r <= sample->replicas; r++) {
        for (size_t l = 0; l < g->layer_count; l++) {
            const struct gradecho_layer *layer = &g->layers[l];

            if (block(consumer, sample, r, l) == NULL)
                continue;
            fprintf(file, "%s[%u, \"%s\", %llu, %llu, %d, %zu]", comma,
                    (unsigned)r, layer->name, (unsigned long long)layer->rows,
                    (unsigned long long)layer->cols, (int)layer->dtype,
                    layer_bytes(layer));
            comma = ", ";
        }
    }
    fprintf(file, "]}\n");
    for (uint32_t r = 0; r <= sample->replicas; r++) {
        for (size_t l = 0; l < g->layer_count; l++) {
            const void *data = block(consumer, sample, r, l);

            if (data != NULL)
                fwrite(data, 1, layer_bytes(&g->layers[l]), file);
        }
    }
}

/* The trainer may not have started yet. */
static ge_consumer *attach(const char *session, uint32_t rank)
{
    const time_t deadline = time(NULL) + PATIENCE_SECONDS;
    struct ge_segment_info found[64];
    ge_consumer *consumer = NULL;

    while (time(NULL) < deadline) {
        size_t count = 0;

        if (ge_consumer_scan(session, false, found, 64, &count) != GRADECHO_OK)
            return NULL;
        for (size_t i = 0; i < count; i++) {
            if (found[i].rank == rank)
                return ge_consumer_attach(session, rank, &consumer) ==
                               GRADECHO_OK
                           ? consumer
                           : NULL;
        }
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    }
    fprintf(stderr, "sample_dump: no trainer\n");
    return NULL;
}

int main(int argc, char **argv)
{
    const time_t deadline = time(NULL) + 2 * PATIENCE_SECONDS;
    struct ge_handed_sample sample;
    gradecho_status status = GRADECHO_AGAIN;

    if (argc != 5)
        return 2;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    ge_consumer *consumer = attach(argv[1], (uint32_t)atoi(argv[2]));
    FILE *file = fopen(argv[4], "wb");

    if (consumer == NULL || file == NULL)
        return 1;
    ge_consumer_enable(consumer, strtoull(argv[3], NULL, 10));
    while (status != GRADECHO_END && time(NULL) < deadline) {
        status = ge_consumer_peek(consumer, &sample);
        if (status == GRADECHO_OK) {
            write_sample(file, consumer, &sample);
            ge_consumer_release(consumer);
        } else if (status == GRADECHO_AGAIN) {
            ge_consumer_wait(consumer, 0.1);
        } else if (status != GRADECHO_END) {
            break;
        }
    }
    ge_consumer_detach(&consumer);
    return fclose(file) == 0 && status == GRADECHO_END ? 0 : 1;
}
