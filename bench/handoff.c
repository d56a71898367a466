/*
 * What the handoff costs a trainer: begin() when the answer is no, and the copy
 * of a sample against memcpy() of the same bytes, in turns in one run.
 *
 *     bench_handoff [REPEATS]
 *
 * Both ends are in this process; the consumer gives each slot back at once.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "consumer.h"
#include "gradecho/handoff.h"

enum { REPEATS_MOST = 1000 };

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, by_value);
    return values[count / 2];
}

static gradecho *open_trainer(size_t bytes)
{
    const struct gradecho_layer layer = {"all", 1, bytes / 4, GRADECHO_F32};
    struct gradecho_options options = gradecho_options_default();
    gradecho *handle = NULL;

    options.session = "bench";
    options.layers = &layer;
    options.layer_count = 1;
    if (gradecho_open(&options, &handle) < GRADECHO_OK) {
        fprintf(stderr, "bench_handoff: %s\n", gradecho_message());
        exit(1);
    }
    return handle;
}

static ge_consumer *attach(uint64_t every)
{
    ge_consumer *consumer = NULL;

    if (ge_consumer_attach("bench", 0, &consumer) < GRADECHO_OK)
        exit(1);
    ge_consumer_enable(consumer, every);
    return consumer;
}

/* Nanoseconds of one begin() that answers GRADECHO_NOT_WANTED. */
static double begin_cost(gradecho *handle)
{
    enum { CALLS = 2000000 };
    const double start = now();
    int wanted = 0;

    for (int i = 0; i < CALLS; i++)
        wanted += gradecho_begin(handle, 2 * i + 1) != GRADECHO_NOT_WANTED;
    if (wanted != 0)
        exit(1);
    return (now() - start) / CALLS * 1e9;
}

static void copy_cost(size_t bytes, int repeats)
{
    static double sample[REPEATS_MOST], copy[REPEATS_MOST];
    gradecho *handle = open_trainer(bytes);
    ge_consumer *consumer = attach(1);
    struct ge_handed_sample seen;
    char *from = malloc(bytes), *to = malloc(bytes);

    if (from == NULL || to == NULL)
        exit(1);
    memset(from, 1, bytes);
    memset(to, 2, bytes);
    for (int i = 0; i < repeats; i++) {
        double start = now();

        if (gradecho_begin(handle, i) != GRADECHO_OK ||
            gradecho_write(handle, 0, 0, from) != GRADECHO_OK ||
            gradecho_publish(handle, NULL) != GRADECHO_OK)
            exit(1);
        sample[i] = now() - start;
        if (ge_consumer_peek(consumer, &seen) != GRADECHO_OK)
            exit(1);
        ge_consumer_release(consumer);
        start = now();
        memcpy(to, from, bytes);
        copy[i] = now() - start;
        from[(size_t)i % bytes] = to[(size_t)i * 7 % bytes];
    }
    const double s = median(sample, repeats), c = median(copy, repeats);

    printf("%4zu MB sample: %8.3f ms, memcpy %8.3f ms: %3.0f %% of its rate\n",
           bytes >> 20, s * 1e3, c * 1e3, 100.0 * c / s);
    free(from);
    free(to);
    gradecho_close(&handle);
    ge_consumer_detach(&consumer);
}

int main(int argc, char **argv)
{
    const int asked = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 21;
    const int repeats = asked < 1              ? 1
                        : asked > REPEATS_MOST ? REPEATS_MOST
                                               : asked;
    gradecho *handle = open_trainer(1 << 20);

    printf("begin(), no monitor:     %6.1f ns\n", begin_cost(handle));
    ge_consumer *consumer = attach(2);
    printf("begin(), unsampled step: %6.1f ns\n", begin_cost(handle));
    ge_consumer_detach(&consumer);
    gradecho_close(&handle);
    copy_cost((size_t)4 << 20, repeats);
    copy_cost((size_t)64 << 20, repeats);
    copy_cost((size_t)512 << 20, repeats);
    return 0;
}
