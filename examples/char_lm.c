/*
 * char_lm.c - a data-parallel training that gradecho watches.
 *
 * The worked example of gradecho/handoff.h: a character-level language model
 * trained with MPI. What a trainer adds for gradecho is in watch_open(),
 * hand_over(), hand_over_mean() and the gradecho_close() in run(); all the rest
 * is there with or without a monitor.
 *
 *     gradecho-run -n 4 --log run.h5 -- mpirun -n 4 char_lm
 *
 * Each rank draws its examples from its own shard of the text, so that the
 * local gradients are independent samples of the same gradient. Every rank
 * takes each decision (stop, fail) from values that all ranks share: none is
 * ever left alone in a collective call.
 */
#include "char_model.h"
#include "char_options.h"
#include "char_random.h"
#include "char_text.h"

#include "gradecho/handoff.h"

#include <cblas.h>
#include <math.h>
#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DONE = 0, RUNTIME = 1, USAGE = 2 };

/* Shards are dealt in blocks, so that every rank sees every kind of text. */
enum { BLOCK = 1024 };

/* Numbers behind the gradient in the allreduce, see MODEL_RIDERS. */
enum { LOSS, STOP };

struct job {
    struct options options;
    int rank, world;
    struct text text;
    size_t train; /* symbols of the text to learn; the rest is held out */
    struct model model;
    unsigned char *windows; /* [batch x (context + 1)] */
    gradecho *watch;        /* NULL: not watched */
    unsigned long handed;   /* samples given to the monitor */
};

static volatile sig_atomic_t asked_to_stop = 0;

static void on_signal(int number)
{
    (void)number;
    asked_to_stop = 1;
}

/* A failed MPI call leaves nothing to agree on: end the whole job. */
static void check_mpi(int code, const char *call)
{
    char why[MPI_MAX_ERROR_STRING] = "";
    int length = 0;

    if (code == MPI_SUCCESS)
        return;
    (void)MPI_Error_string(code, why, &length);
    (void)fprintf(stderr, "char_lm: error: %s: %s\n", call, why);
    (void)MPI_Abort(MPI_COMM_WORLD, RUNTIME);
}

#define MPI(call) check_mpi(MPI_##call, "MPI_" #call)

/* The smallest of all ranks' values. */
static int agree_min(int mine)
{
    int least = mine;

    MPI(Allreduce(&mine, &least, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD));
    return least;
}

/* Rank 0 reads the text and gives it to all, so that all have the same. */
static int share_text(struct job *job)
{
    struct text *text = &job->text;
    const size_t window = (size_t)job->options.shape.context + 1;
    int length = -1;

    if (job->rank == 0 &&
        text_read(text, job->options.data, CHAR_LM_SOURCE_DIR) == 0)
        length = (int)text->length; /* TEXT_MAX fits */
    MPI(Bcast(&length, 1, MPI_INT, 0, MPI_COMM_WORLD));
    if (length < 0)
        return USAGE;
    /* A sixteenth is held out, one shard per rank remains. */
    if ((size_t)length / 16 < window ||
        (size_t)length / 16 * 15 / (size_t)job->world < window) {
        if (job->rank == 0)
            (void)fprintf(stderr,
                          "char_lm: error: %s: %d characters are too few for "
                          "%d ranks with a context of %zu\n",
                          job->options.data != NULL ? job->options.data
                                                    : "default text",
                          length, job->world, window - 1);
        return USAGE;
    }
    if (job->rank != 0)
        text->symbol = malloc((size_t)length);
    if (agree_min(text->symbol != NULL) == 0)
        return RUNTIME;
    text->length = (size_t)length;
    MPI(Bcast(text->symbol, length, MPI_BYTE, 0, MPI_COMM_WORLD));
    text_encode(text);
    job->train = text->length - text->length / 16;
    text_shuffle(text, job->train, BLOCK, job->options.seed);
    return DONE;
}

static int build_model(struct job *job)
{
    struct model_shape shape = job->options.shape;

    shape.vocabulary = (int)job->text.vocabulary;
    job->windows = malloc((size_t)shape.batch * (size_t)(shape.context + 1));
    const int made = job->windows != NULL &&
                     model_create(&job->model, &shape, job->options.seed) == 0;
    if (agree_min(made) != 0)
        return DONE;
    if (job->rank == 0)
        (void)fprintf(stderr, "char_lm: error: no memory for the model\n");
    return RUNTIME;
}

/* Announce the layers to gradecho. Without a monitor the training goes on as
 * well, so a failure is one warning; the run is watched on all ranks or on
 * none, since a monitor would wait for the missing ones. */
static void watch_open(struct job *job)
{
    struct gradecho_options options = gradecho_options_default();
    struct gradecho_layer layers[MODEL_LAYERS];
    char why[512] = "";

    for (int l = 0; l < MODEL_LAYERS; l++)
        layers[l] =
            (struct gradecho_layer){.name = job->model.layer[l].name,
                                    .rows = (uint64_t)job->model.layer[l].rows,
                                    .cols = (uint64_t)job->model.layer[l].cols,
                                    .dtype = GRADECHO_F32};
    options.session = job->options.session;
    options.rank = (uint32_t)job->rank;
    options.world = (uint32_t)job->world;
    options.layers = layers;
    options.layer_count = MODEL_LAYERS;
    options.mean = job->options.mean != 0;

    const int failed = gradecho_open(&options, &job->watch) != GRADECHO_OK;
    const int first = agree_min(failed ? job->rank : job->world);
    if (first == job->world)
        return;
    if (failed)
        (void)snprintf(why, sizeof(why), "%s", gradecho_message());
    MPI(Bcast(why, (int)sizeof(why), MPI_CHAR, first, MPI_COMM_WORLD));
    if (job->rank == 0)
        (void)fprintf(stderr,
                      "char_lm: warning: not watched by gradecho: rank %d: "
                      "%s\n",
                      first, why);
    gradecho_close(&job->watch);
}

/* Hand this rank's gradient over, if a monitor wants this step. Never waits;
 * an error costs the sample and nothing else. \return 1 if it is wanted */
static int hand_over(struct job *job, int step)
{
    if (gradecho_begin(job->watch, step) != GRADECHO_OK)
        return 0;
    for (size_t l = 0; l < MODEL_LAYERS; l++)
        (void)gradecho_write(job->watch, 0, l,
                             job->model.gradient + job->model.layer[l].offset);
    return 1;
}

/* The same gradient, which is the mean now, if that was asked for; and this
 * rank's loss. */
static void hand_over_mean(struct job *job, double loss)
{
    const struct gradecho_meta meta = {.loss = loss,
                                       .batch_size = job->model.shape.batch,
                                       .gradient_scale = 1.0};

    for (size_t l = 0; job->options.mean && l < MODEL_LAYERS; l++)
        (void)gradecho_write_mean(
            job->watch, l, job->model.gradient + job->model.layer[l].offset);
    if (gradecho_publish(job->watch, &meta) == GRADECHO_OK)
        job->handed++;
}

/* Independent examples from anywhere in this rank's shard. */
static void draw(struct job *job, uint64_t *state)
{
    const size_t window = (size_t)job->model.shape.context + 1;
    const size_t shard = job->train / (size_t)job->world;
    const unsigned char *from = job->text.symbol + shard * (size_t)job->rank;

    for (size_t i = 0; i < (size_t)job->model.shape.batch; i++)
        memcpy(job->windows + i * window,
               from + random_below(state, shard - window + 1), window);
}

/* Replace the local gradient by its mean over ranks; the loss and the wish to
 * stop travel along, so that all ranks stop at the same step. */
static void reduce(struct job *job, double *loss, int *stop)
{
    struct model *model = &job->model;
    const size_t count = model->count + MODEL_RIDERS;
    float *riders = model->gradient + model->count;

    riders[LOSS] = (float)*loss;
    riders[STOP] = asked_to_stop != 0 ? 1.0F : 0.0F;
    MPI(Allreduce(MPI_IN_PLACE, model->gradient, (int)count, MPI_FLOAT, MPI_SUM,
                  MPI_COMM_WORLD));
    cblas_sscal((int)count, 1.0F / (float)job->world, model->gradient, 1);
    *loss = (double)riders[LOSS];
    *stop = riders[STOP] > 0.0F;
}

static int train(struct job *job)
{
    const struct options *o = &job->options;
    const double start = MPI_Wtime();
    /* An own stream of examples for each rank. */
    uint64_t state = o->seed + 0x100000000u * (uint64_t)(job->rank + 1);
    double sum = 0.0;
    int since = 0, stop = 0;

    for (int step = 1; step <= o->steps && !stop; step++) {
        draw(job, &state);
        double loss = model_gradient(&job->model, job->windows);
        const double own_loss = loss;
        const int wanted = hand_over(job, step); /* before it is the mean */
        reduce(job, &loss, &stop);
        if (wanted)
            hand_over_mean(job, own_loss);
        model_update(&job->model, o->learning_rate, o->momentum);
        sum += loss;
        since++;
        if (!isfinite(loss)) {
            if (job->rank == 0)
                (void)fprintf(stderr,
                              "char_lm: error: the loss is not finite at step "
                              "%d; lower --learning-rate\n",
                              step);
            return RUNTIME;
        }
        if (job->rank == 0 &&
            (step == 1 || step % o->report == 0 || step == o->steps || stop)) {
            printf("step %5d  loss %.3f nats/char  %6.1f s\n", step,
                   sum / since, MPI_Wtime() - start);
            (void)fflush(stdout);
            sum = 0.0;
            since = 0;
        }
    }
    if (stop && job->rank == 0)
        (void)fprintf(stderr, "char_lm: warning: stopped by a signal\n");
    return stop ? RUNTIME : DONE;
}

/* Mean loss over the held-out text; the ranks take its batches in turn. */
static double held_out_loss(struct job *job)
{
    const size_t window = (size_t)job->model.shape.context + 1;
    const size_t batch = (size_t)job->model.shape.batch;
    const size_t starts = job->text.length - job->train - window + 1;
    const size_t batches = (starts + batch - 1) / batch;
    double sums[2] = {0.0, 0.0};

    for (size_t b = (size_t)job->rank; b < batches; b += (size_t)job->world) {
        for (size_t i = 0; i < batch; i++) /* the last batch wraps around */
            memcpy(job->windows + i * window,
                   job->text.symbol + job->train + (b * batch + i) % starts,
                   window);
        sums[0] += model_loss(&job->model, job->windows);
        sums[1] += 1.0;
    }
    MPI(Allreduce(MPI_IN_PLACE, sums, 2, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD));
    return sums[0] / sums[1];
}

static int run(struct job *job)
{
    int code = share_text(job);

    if (code == DONE)
        code = build_model(job);
    if (code == DONE) {
        if (job->rank == 0)
            printf("%zu characters, %zu distinct, entropy %.3f nats/char; "
                   "%zu parameters; %d ranks x %d examples\n",
                   job->text.length, job->text.vocabulary, job->text.entropy,
                   job->model.count, job->world, job->model.shape.batch);
        if (job->options.watch)
            watch_open(job);
        code = train(job);
    }
    if (job->rank == 0 && job->handed > 0)
        printf("samples for gradecho: %lu handed over, %llu dropped\n",
               job->handed, (unsigned long long)gradecho_dropped(job->watch));
    gradecho_close(&job->watch); /* the monitor may finish while we evaluate */
    if (code == DONE) {
        const double loss = held_out_loss(job);

        if (job->rank == 0)
            printf("held-out loss %.3f nats/char, single-character entropy "
                   "%.3f\n",
                   loss, job->text.entropy);
    }
    free(job->windows);
    model_destroy(&job->model);
    text_free(&job->text);
    return code;
}

int main(int argc, char **argv)
{
    struct job job = {0};
    const struct sigaction action = {.sa_handler = on_signal,
                                     .sa_flags = SA_RESTART};
    int code = DONE;

    MPI(Init(&argc, &argv));
    MPI(Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN));
    MPI(Comm_rank(MPI_COMM_WORLD, &job.rank));
    MPI(Comm_size(MPI_COMM_WORLD, &job.world));
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGINT, &action, NULL);
    openblas_set_num_threads(1); /* the ranks are the parallelism */

    if (options_parse(&job.options, argc, argv, job.rank) != 0)
        code = USAGE;
    else if (job.options.check)
        code = job.rank == 0 && model_check_gradient(job.options.seed) != 0
                   ? RUNTIME
                   : DONE;
    else if (!job.options.help)
        code = run(&job);
    MPI(Finalize());
    return code;
}
