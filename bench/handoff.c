/*
 * What the handoff costs a trainer: begin() when the answer is no, and the copy
 * of a sample against memcpy() of the same bytes, in turns in one run.
 *
 *     bench_handoff [REPEATS]
 *
 * Both ends are in this process; the consumer gives each slot back at once. The
 * memcpy() goes to as many places in turn as the segment has slots, so that a
 * cache helps both equally.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "consumer.h"
#include "gradecho/handoff.h"

enum { REPEATS_MOST = 1000, SLOTS = 2 };

static double seconds(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double now(void)
{
    return seconds(CLOCK_MONOTONIC);
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

/* Of this process alone. */
static const char *session(void)
{
    static char name[32];

    if (name[0] == '\0')
        (void)snprintf(name, sizeof name, "bench.%ld", (long)getpid());
    return name;
}

static gradecho *open_trainer(size_t bytes)
{
    const struct gradecho_layer layer = {"all", 1, bytes / 4, GRADECHO_F32};
    struct gradecho_options options = gradecho_options_default();
    gradecho *handle = NULL;

    options.session = session();
    options.slots = SLOTS;
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

    if (ge_consumer_attach(session(), 0, &consumer) < GRADECHO_OK)
        exit(1);
    ge_consumer_enable(consumer, every);
    return consumer;
}

/* Nanoseconds of one begin() with this answer, and no other: of the thread's
 * own time, since there is nothing to wait for. */
static double begin_cost(gradecho *handle, gradecho_status answer)
{
    enum { CALLS = 1000000 };
    const double start = seconds(CLOCK_THREAD_CPUTIME_ID);
    int others = 0;

    for (int i = 0; i < CALLS; i++)
        others += gradecho_begin(handle, 2 * (i + SLOTS) + 1) != answer;
    if (others != 0)
        exit(1);
    return (seconds(CLOCK_THREAD_CPUTIME_ID) - start) / CALLS * 1e9;
}

static void hand_over(gradecho *handle, int64_t step, const void *data)
{
    if (gradecho_begin(handle, step) != GRADECHO_OK ||
        gradecho_write(handle, 0, 0, data) != GRADECHO_OK ||
        gradecho_publish(handle, NULL) != GRADECHO_OK)
        exit(1);
}

/* A monitor that listens, and is killed. */
static void attach_and_die(void)
{
    const char *name = session(); /* not the child's own */
    const pid_t child = fork();

    if (child == 0) {
        ge_consumer *consumer = NULL;

        if (ge_consumer_attach(name, 0, &consumer) == GRADECHO_OK)
            ge_consumer_enable(consumer, 1);
        (void)raise(SIGKILL);
    }
    if (child < 0 || waitpid(child, NULL, 0) != child)
        exit(1);
}

static void begin_costs(void)
{
    static const char data[1 << 20];
    gradecho *handle = open_trainer(sizeof data);
    ge_consumer *consumer = NULL;

    printf("begin(), no monitor:     %6.1f ns\n",
           begin_cost(handle, GRADECHO_NOT_WANTED));
    consumer = attach(2);
    printf("begin(), unsampled step: %6.1f ns\n",
           begin_cost(handle, GRADECHO_NOT_WANTED));
    ge_consumer_detach(&consumer);
    consumer = attach(1);
    for (int i = 0; i < SLOTS; i++)
        hand_over(handle, i, data);
    printf("begin(), slots full:     %6.1f ns\n",
           begin_cost(handle, GRADECHO_DROPPED));
    ge_consumer_detach(&consumer);
    attach_and_die();
    for (int i = 0; i < SLOTS; i++)
        hand_over(handle, SLOTS + i, data);
    printf("begin(), monitor killed: %6.1f ns\n",
           begin_cost(handle, GRADECHO_NOT_WANTED));
    gradecho_close(&handle);
}

static void *room_for(size_t bytes)
{
    void *room = malloc(bytes);

    if (room == NULL)
        exit(1);
    memset(room, 1, bytes);
    return room;
}

static void copy_cost(size_t bytes, int repeats)
{
    static double sample[REPEATS_MOST], copy[REPEATS_MOST], rate[REPEATS_MOST];
    gradecho *handle = open_trainer(bytes);
    ge_consumer *consumer = attach(1);
    struct ge_handed_sample seen;
    char *from = room_for(bytes), *to[SLOTS];

    for (int i = 0; i < SLOTS; i++)
        to[i] = room_for(bytes);
    for (int i = 0; i < repeats; i++) {
        double start = now();

        hand_over(handle, i, from);
        sample[i] = now() - start;
        if (ge_consumer_peek(consumer, &seen) != GRADECHO_OK)
            exit(1);
        ge_consumer_release(consumer);
        start = now();
        memcpy(to[i % SLOTS], from, bytes);
        copy[i] = now() - start;
        rate[i] = copy[i] / sample[i];
        from[(size_t)i % bytes] = to[i % SLOTS][(size_t)i * 7 % bytes];
    }
    printf("%4zu MB sample: %8.3f ms, memcpy %8.3f ms: %3.0f %% of its rate\n",
           bytes >> 20, median(sample, repeats) * 1e3,
           median(copy, repeats) * 1e3, 100.0 * median(rate, repeats));
    free(from);
    for (int i = 0; i < SLOTS; i++)
        free(to[i]);
    gradecho_close(&handle);
    ge_consumer_detach(&consumer);
}

int main(int argc, char **argv)
{
    const int asked = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 21;
    const int repeats = asked < 1              ? 1
                        : asked > REPEATS_MOST ? REPEATS_MOST
                                               : asked;

    begin_costs();
    copy_cost((size_t)4 << 20, repeats);
    copy_cost((size_t)64 << 20, repeats);
    copy_cost((size_t)512 << 20, repeats);
    return 0;
}
