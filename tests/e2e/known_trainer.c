/*
 * known_trainer - one training process whose gradients a test can work out.
 *
 *     known_trainer session=NAME rank=R world=W steps=N [seed=S] [dtype=f32]
 *                   [replicas=P] [scale=X] [skip=FIRST,LAST] [layers=other]
 *                   [paced=1 | step_ms=T] [drop=1] [mean=FACTOR]
 *
 * Every entry is n/128, n a whole number in [-255, 255], so that it is exact
 * in every dtype; n comes from a hash of (seed, rank, replica, step, layer,
 * entry) plus three modes that all ranks and steps share. conftest.py has the
 * same in NumPy: entries(). No MPI: the test starts one process per rank.
 *
 * With mean=FACTOR it hands over the mean over all ranks, times FACTOR, as
 * their allreduce would have made it.
 *
 * It hands over every step that is wanted, unlike a real trainer, which never
 * waits: all samples of the test are measured. With drop=1 it loses a sample
 * that finds no slot, as a real one does. With paced=1 it does one step
 * for each byte on standard input, and closes at the end of that. With
 * step_ms=T it is a real trainer: a step takes T ms, a sample that finds no
 * slot is lost, and it trains until the end of standard input; it then also
 * prints how many steps it did, and the longest time in ms that one was held up
 * by the handover.
 */
#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "gradecho/handoff.h"
#include "known.h"

enum { LAYERS = 3, ENTRIES_MAX = 2048 };
static const double patience_seconds = 60.0;

struct arguments {
    const char *session, *dtype, *layers;
    uint32_t rank, world, replicas, seed;
    int64_t steps, skip_first, skip_last;
    double scale, mean; /* mean: 0 for none */
    int step_ms;        /* 0: as fast as it goes */
    bool paced, drop;
};

static const struct gradecho_layer table[LAYERS] = {
    {"block.0/weight", 32, 64, GRADECHO_F32},
    {"block.1/weight", 64, 16, GRADECHO_F32},
    {"bias", 1, 50, GRADECHO_F32}};

static _Noreturn void die(const char *what, const char *why)
{
    fprintf(stderr, "known_trainer: %s: %s\n", what, why);
    exit(2);
}

/* ---- storage ---- */

static uint16_t to_half(float value) /* exact and normal, or 0 */
{
    uint32_t bits = 0;

    memcpy(&bits, &value, sizeof bits);
    const uint32_t sign = bits >> 16 & 0x8000U;

    if (value == 0.0F)
        return (uint16_t)sign;
    return (uint16_t)(sign | (((bits & 0x7FFFFFFFU) - (112U << 23)) >> 13));
}

static uint16_t to_bfloat(float value) /* exact */
{
    uint32_t bits = 0;

    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)(bits >> 16);
}

static void store(gradecho_dtype dtype, double value, size_t at, void *to)
{
    switch (dtype) {
    case GRADECHO_F32:
        ((float *)to)[at] = (float)value;
        break;
    case GRADECHO_F64:
        ((double *)to)[at] = value;
        break;
    case GRADECHO_F16:
        ((uint16_t *)to)[at] = to_half((float)value);
        break;
    case GRADECHO_BF16:
        ((uint16_t *)to)[at] = to_bfloat((float)value);
        break;
    }
}

static gradecho_dtype parse_dtype(const char *text)
{
    static const struct {
        const char *name;
        gradecho_dtype dtype;
    } known[] = {{"f32", GRADECHO_F32},
                 {"f64", GRADECHO_F64},
                 {"f16", GRADECHO_F16},
                 {"bf16", GRADECHO_BF16}};

    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(text, known[i].name) == 0)
            return known[i].dtype;
    die("dtype", text);
}

/* ---- handing over ---- */

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void rest(double deadline, const char *what)
{
    const struct timespec pause = {.tv_nsec = 200000};

    if (now() > deadline)
        die(what, "given up");
    nanosleep(&pause, NULL);
}

static gradecho *open_watch(const struct arguments *a)
{
    struct gradecho_options options = gradecho_options_default();
    struct gradecho_layer layers[LAYERS];
    gradecho *watch = NULL;

    memcpy(layers, table, sizeof layers);
    for (size_t l = 0; l < LAYERS; l++)
        layers[l].dtype = parse_dtype(a->dtype);
    if (a->layers != NULL)
        layers[1].name = a->layers;
    options.session = a->session;
    options.rank = a->rank;
    options.world = a->world;
    options.replicas = a->replicas;
    options.mean = a->mean != 0.0;
    options.layers = layers;
    options.layer_count = LAYERS;
    if (gradecho_open(&options, &watch) != GRADECHO_OK)
        die("gradecho_open", gradecho_message());
    return watch;
}

static void write_sample(const struct arguments *a, gradecho *watch,
                         int64_t step)
{
    static uint64_t room[ENTRIES_MAX];
    const gradecho_dtype dtype = parse_dtype(a->dtype);

    for (uint32_t p = 0; p < a->replicas; p++) {
        for (uint32_t l = 0; l < LAYERS; l++) {
            const uint32_t hash =
                known_hash(a->seed, a->rank, p, (uint32_t)step, l);
            const uint32_t cols = (uint32_t)table[l].cols;

            for (uint32_t i = 0; i < table[l].rows * cols; i++)
                store(dtype, known_entry(hash, i, cols) / 128.0 * a->scale, i,
                      room);
            if (gradecho_write(watch, p, l, room) != GRADECHO_OK)
                die("gradecho_write", gradecho_message());
        }
    }
}

static void write_mean(const struct arguments *a, gradecho *watch, int64_t step)
{
    static uint64_t room[ENTRIES_MAX];
    const gradecho_dtype dtype = parse_dtype(a->dtype);
    const double k = (double)a->world * (double)a->replicas;

    for (uint32_t l = 0; l < LAYERS; l++) {
        const uint32_t cols = (uint32_t)table[l].cols;

        for (uint32_t i = 0; i < table[l].rows * cols; i++) {
            double sum = 0.0;

            for (uint32_t r = 0; r < a->world; r++)
                for (uint32_t p = 0; p < a->replicas; p++)
                    sum += known_entry(
                        known_hash(a->seed, r, p, (uint32_t)step, l), i, cols);
            store(dtype, a->mean * sum / k / 128.0 * a->scale, i, room);
        }
        if (gradecho_write_mean(watch, l, room) != GRADECHO_OK)
            die("gradecho_write_mean", gradecho_message());
    }
}

/* True if the sample went out; false if nobody wants it, or it is dropped. */
static bool hand_over(const struct arguments *a, gradecho *watch, int64_t step)
{
    const struct gradecho_meta meta = {.loss = 0.5 + 0.25 * (double)step +
                                               (double)a->rank,
                                       .batch_size = 32,
                                       .gradient_scale = a->scale};
    const double deadline = now() + patience_seconds;
    gradecho_status status = gradecho_begin(watch, step);

    while (status == GRADECHO_DROPPED && !a->drop && a->step_ms == 0) {
        rest(deadline, "begin");
        status = gradecho_begin(watch, step);
    }
    if (status == GRADECHO_NOT_WANTED || status == GRADECHO_DROPPED)
        return false;
    if (status != GRADECHO_OK)
        die("gradecho_begin", gradecho_message());
    write_sample(a, watch, step);
    if (a->mean != 0.0)
        write_mean(a, watch, step);
    if (gradecho_publish(watch, &meta) != GRADECHO_OK)
        die("gradecho_publish", gradecho_message());
    return true;
}

/* Wait for the next step; false if the training is over. */
static bool next_step(const struct arguments *a)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    char byte = 0;

    if (a->step_ms > 0 && poll(&input, 1, a->step_ms) == 0)
        return true;
    return (a->step_ms == 0 && !a->paced) || read(STDIN_FILENO, &byte, 1) == 1;
}

/* ---- the command line ---- */

static void parse_one(struct arguments *a, const char *text)
{
    const char *value = strchr(text, '=');

    if (value == NULL)
        die("not KEY=VALUE", text);
    const size_t length = (size_t)(value++ - text);

#define IS(key) (length == sizeof(key) - 1 && memcmp(text, (key), length) == 0)
    if (IS("session"))
        a->session = value;
    else if (IS("dtype"))
        a->dtype = value;
    else if (IS("layers"))
        a->layers = value;
    else if (IS("rank"))
        a->rank = (uint32_t)strtoul(value, NULL, 10);
    else if (IS("world"))
        a->world = (uint32_t)strtoul(value, NULL, 10);
    else if (IS("replicas"))
        a->replicas = (uint32_t)strtoul(value, NULL, 10);
    else if (IS("seed"))
        a->seed = (uint32_t)strtoul(value, NULL, 10);
    else if (IS("steps"))
        a->steps = strtoll(value, NULL, 10);
    else if (IS("scale"))
        a->scale = strtod(value, NULL);
    else if (IS("mean"))
        a->mean = strtod(value, NULL);
    else if (IS("step_ms"))
        a->step_ms = (int)strtol(value, NULL, 10);
    else if (IS("paced"))
        a->paced = strcmp(value, "0") != 0;
    else if (IS("drop"))
        a->drop = strcmp(value, "0") != 0;
    else if (!IS("skip"))
        die("unknown argument", text);
    else if (sscanf(value, "%" SCNd64 ",%" SCNd64, &a->skip_first,
                    &a->skip_last) != 2)
        die("not FIRST,LAST", text);
#undef IS
}

int main(int argc, char **argv)
{
    struct arguments a = {.dtype = "f32",
                          .world = 1,
                          .replicas = 1,
                          .seed = 1,
                          .skip_first = -1,
                          .skip_last = -1,
                          .scale = 1.0};
    const double deadline = now() + patience_seconds;
    double longest = 0.0;
    int64_t handed = 0, step = 0;

    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a dead test leaves no trainers */
    for (int i = 1; i < argc; i++)
        parse_one(&a, argv[i]);
    gradecho *watch = open_watch(&a);

    while (!gradecho_attached(watch))
        rest(deadline, "no monitor");
    for (; step < a.steps && next_step(&a); step++) {
        const double start = now();

        if (step < a.skip_first || step > a.skip_last)
            handed += hand_over(&a, watch, step) ? 1 : 0;
        longest = fmax(longest, now() - start);
    }
    gradecho_close(&watch);
    printf("%" PRId64, handed);
    if (a.step_ms > 0)
        printf(" %" PRId64 " %.3f", step, 1e3 * longest);
    printf("\n");
    return 0;
}
