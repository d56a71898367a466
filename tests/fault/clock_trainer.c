/*
 * clock_trainer - a training process that is meant to be killed.
 *
 *     clock_trainer session=NAME rank=R world=W origin=NS period=US bulk=N
 *                   report=FILE
 *
 * Step k is due at `origin` + k `period` on the monotonic clock: trainers keep
 * in step without talking to each other, and one that starts anew joins the
 * others where they are. It never waits for a monitor. Its gradients are those
 * of known.h: "block.0/weight", and "bulk", 1 x N, the noise of TILE entries
 * again and again. It ends in order on SIGTERM.
 *
 * What the handoff costs goes to the report as it happens, so that a kill does
 * not lose it. The pause of a step is the time in begin, write and publish
 * beyond that of a memcpy of the same bytes, made right after. The same is
 * taken between two memcpys: the longest of these is what the machine does to
 * a process that does not call us at all.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "gradecho/handoff.h"
#include "known.h"

enum { ROWS = 32, COLS = 64, TILE = 2048, LAYERS = 2, COPIES = 2 };

/* kill.py reads these: 8 words of 8 bytes. */
struct report {
    uint64_t samples, dropped, steps;
    uint64_t voluntary;   /* context switches in our calls: they waited */
    uint64_t involuntary; /* in our calls: the scheduler's */
    double pause;         /* s, the longest, by the clock on the wall */
    double pause_cpu;     /* s, the longest, by the thread's own time */
    double control;       /* s, the longest between two memcpys */
};

struct arguments {
    const char *session, *report;
    uint32_t rank, world, bulk;
    int64_t origin, period; /* ns */
};

struct instant {
    double wall, cpu;
    struct rusage usage;
};

static volatile sig_atomic_t ended;

static void on_term(int number)
{
    (void)number;
    ended = 1;
}

static _Noreturn void die(const char *what, const char *why)
{
    fprintf(stderr, "clock_trainer: %s: %s\n", what, why);
    exit(2);
}

static int64_t nanoseconds(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static struct instant instant(void)
{
    struct instant now = {.cpu = 1e-9 *
                                 (double)nanoseconds(CLOCK_THREAD_CPUTIME_ID)};

    getrusage(RUSAGE_THREAD, &now.usage);
    now.wall = 1e-9 * (double)nanoseconds(CLOCK_MONOTONIC);
    return now;
}

static void longest(double value, double *most)
{
    if (value > *most)
        *most = value;
}

/* The next step, when it is due. */
static int64_t wait_for_step(const struct arguments *a)
{
    const int64_t step =
        (nanoseconds(CLOCK_MONOTONIC) - a->origin) / a->period + 1;
    const int64_t due = a->origin + step * a->period;
    const struct timespec at = {.tv_sec = due / 1000000000,
                                .tv_nsec = due % 1000000000};

    while (!ended &&
           clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) != 0)
        ;
    return step;
}

static void make_gradients(const struct arguments *a, int64_t step,
                           float *weight, float *bulk)
{
    uint32_t hash = known_hash(1, a->rank, 0, (uint32_t)step, 0);

    for (uint32_t i = 0; i < ROWS * COLS; i++)
        weight[i] = (float)known_entry(hash, i, COLS) / 128.0F;
    hash = known_hash(1, a->rank, 0, (uint32_t)step, 1);
    for (uint32_t i = 0; i < TILE; i++)
        bulk[i] = (float)known_noise(hash, i) / 128.0F;
    for (uint32_t i = TILE; i < a->bulk; i += TILE)
        memcpy(bulk + i, bulk, TILE * sizeof *bulk);
}

/* \return as gradecho_begin() */
static gradecho_status hand_over(const struct arguments *a, gradecho *watch,
                                 int64_t step, const float *weight,
                                 const float *bulk)
{
    const struct gradecho_meta meta = {.loss = 0.5 + 0.25 * (double)step +
                                               (double)a->rank,
                                       .batch_size = 32,
                                       .gradient_scale = 1.0};
    const gradecho_status wanted = gradecho_begin(watch, step);

    if (wanted != GRADECHO_OK)
        return wanted;
    if (gradecho_write(watch, 0, 0, weight) != GRADECHO_OK ||
        gradecho_write(watch, 0, 1, bulk) != GRADECHO_OK ||
        gradecho_publish(watch, &meta) != GRADECHO_OK)
        die("hand over", gradecho_message());
    return GRADECHO_OK;
}

static void measure_step(const struct arguments *a, gradecho *watch,
                         int64_t step, float *room[LAYERS], void *copy[COPIES],
                         struct report *report)
{
    const size_t bytes = a->bulk * sizeof(float);
    const struct instant before = instant();
    const gradecho_status status = hand_over(a, watch, step, room[0], room[1]);
    const struct instant after = instant();
    struct instant copied[COPIES];

    for (int i = 0; i < COPIES; i++) {
        memcpy(copy[i], room[1], bytes);
        copied[i] = instant();
    }
    const double wall = copied[0].wall - after.wall;
    const double cpu = copied[0].cpu - after.cpu;
    const bool handed = status == GRADECHO_OK;

    longest(after.wall - before.wall - (handed ? wall : 0.0), &report->pause);
    longest(after.cpu - before.cpu - (handed ? cpu : 0.0), &report->pause_cpu);
    longest(copied[1].wall - copied[0].wall - wall, &report->control);
    report->voluntary +=
        (uint64_t)(after.usage.ru_nvcsw - before.usage.ru_nvcsw);
    report->involuntary +=
        (uint64_t)(after.usage.ru_nivcsw - before.usage.ru_nivcsw);
    report->samples += handed ? 1 : 0;
    report->steps++;
    report->dropped = gradecho_dropped(watch);
}

static void parse(struct arguments *a, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *value = strchr(argv[i], '=');

        if (value == NULL)
            die("not KEY=VALUE", argv[i]);
        const size_t length = (size_t)(value++ - argv[i]);
        const int64_t number = strtoll(value, NULL, 10);

#define IS(key) (length == strlen(key) && memcmp(argv[i], key, length) == 0)
        if (IS("session"))
            a->session = value;
        else if (IS("report"))
            a->report = value;
        else if (IS("rank"))
            a->rank = (uint32_t)number;
        else if (IS("world"))
            a->world = (uint32_t)number;
        else if (IS("bulk"))
            a->bulk = (uint32_t)number / TILE * TILE;
        else if (IS("origin"))
            a->origin = number;
        else if (IS("period"))
            a->period = number * 1000;
        else
            die("unknown argument", argv[i]);
#undef IS
    }
    if (a->report == NULL || a->period <= 0 || a->bulk == 0)
        die("arguments", "report, period and bulk are needed");
}

static struct report *map_report(const char *path)
{
    const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    struct report *report = MAP_FAILED;

    if (fd >= 0 && ftruncate(fd, sizeof *report) == 0)
        report = mmap(NULL, sizeof *report, PROT_READ | PROT_WRITE, MAP_SHARED,
                      fd, 0);
    if (report == MAP_FAILED)
        die("cannot map", path);
    return report;
}

static void *room_for(size_t bytes)
{
    void *room = malloc(bytes);

    if (room == NULL)
        die("malloc", "no memory");
    memset(room, 1, bytes);
    return room;
}

int main(int argc, char **argv)
{
    struct arguments a = {.world = 1};
    struct gradecho_options options = gradecho_options_default();
    const struct sigaction action = {.sa_handler = on_term};
    gradecho *watch = NULL;

    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a dead test leaves no trainers */
    sigaction(SIGTERM, &action, NULL);
    parse(&a, argc, argv);
    const struct gradecho_layer layers[LAYERS] = {
        {"block.0/weight", ROWS, COLS, GRADECHO_F32},
        {"bulk", 1, a.bulk, GRADECHO_F32}};
    float *room[LAYERS] = {room_for(sizeof(float) * ROWS * COLS),
                           room_for(sizeof(float) * a.bulk)};
    void *copy[COPIES] = {room_for(sizeof(float) * a.bulk),
                          room_for(sizeof(float) * a.bulk)};
    struct report *report = map_report(a.report);

    options.session = a.session;
    options.rank = a.rank;
    options.world = a.world;
    options.layers = layers;
    options.layer_count = LAYERS;
    if (gradecho_open(&options, &watch) != GRADECHO_OK)
        die("gradecho_open", gradecho_message());
    while (!ended) {
        const int64_t step = wait_for_step(&a);

        make_gradients(&a, step, room[0], room[1]);
        if (!ended)
            measure_step(&a, watch, step, room, copy, report);
    }
    gradecho_close(&watch);
    for (int i = 0; i < LAYERS; i++)
        free(room[i]);
    for (int i = 0; i < COPIES; i++)
        free(copy[i]);
    return 0;
}
