#include "run.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agree.h"
#include "engine.h"
#include "memory.h"
#include "progress.h"
#include "reader.h"
#include "try.h"
#include "watch.h"
#include "writer.h"

/* How long a look may wait before the ranks vote again: a rank that is told to
 * stop, or whose trainer died, is heard by the others within this. */
static const double look_seconds = 0.25;

/* What alarms.command gets to end in: after a run, and after one that was given
 * up or told to end by SIGTERM, where others are in a hurry. */
static const double command_seconds = 5.0, hurried_seconds = 1.0;

struct session {
    ge_comm *comm;
    const struct ge_run *run;
    struct ge_source *source;
    ge_engine *engine;
    bool root;
    ge_log_writer *log;      /* root */
    ge_watch *watch;         /* root */
    struct ge_row row;       /* root */
    struct ge_log_past past; /* of a log that is resumed; on all ranks */
    uint64_t samples;        /* measured, earlier runs' included */
    uint64_t unwritten;      /* root: rows that the log did not take */
    bool writes_again;       /* root: told after the first of them */
    uint64_t repeated;       /* samples of steps that the log has */
    uint64_t spoiled;        /* root: samples that changed while being read */
    struct ge_meeting meeting;
    uint64_t dropped;
    uint64_t dropped_before; /* by the trainers' count, when this run began */
    gradecho_status trouble; /* of this rank, for its next ballot */
    struct ge_progress progress; /* root, of a replay; else never shown */
};

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The effective configuration as text; the caller frees it. */
static char *config_text(const struct ge_config *config)
{
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);

    if (stream == NULL)
        return NULL;
    const bool printed = ge_config_print(config, false, stream);

    if (fclose(stream) != 0 || !printed) {
        free(text);
        return NULL;
    }
    return text;
}

static bool resumes(const struct ge_run *run)
{
    return run->resume && access(run->log_path, F_OK) == 0;
}

/* The first row that still counts: 64 half-lives before the end a sample's
 * weight is below rounding. */
static uint64_t first_that_counts(const struct session *s, uint64_t rows)
{
    const double span = 64.0 * s->run->config->noise_half_life + 1.0;

    return span < (double)rows ? rows - (uint64_t)span : 0;
}

/* The moving averages and the alarms as they were after the log's last row. */
static gradecho_status restore(struct session *s)
{
    enum { BLOCK = 256 };
    gradecho_status status = GRADECHO_OK;
    const size_t layers = s->source->facts.layers.count;
    ge_log_reader *log = NULL;
    double *trace = ge_alloc(BLOCK * layers, sizeof *trace);
    double *square = ge_alloc(BLOCK * layers, sizeof *square);
    uint64_t rows = 0;

    GE_FAIL_IF(trace == NULL || square == NULL, GRADECHO_E_NOMEM,
               "no memory for %zu layers", layers);
    GE_TRY(ge_log_open(s->run->log_path, &log));
    GE_TRY(ge_log_refresh(log, &rows));
    /* Other layers do not fit; ge_log_resume() says so. */
    if (ge_log_reader_facts(log)->dims.layers != layers)
        rows = 0;
    for (uint64_t first = first_that_counts(s, rows); first < rows;
         first += BLOCK) {
        const uint64_t count = rows - first < BLOCK ? rows - first : BLOCK;

        GE_TRY(ge_log_read(log, GE_NOISE_TRACE, first, count, trace));
        GE_TRY(ge_log_read(log, GE_GRAD_SQNORM, first, count, square));
        for (uint64_t i = 0; i < count; i++)
            ge_engine_recall(s->engine, trace + i * layers,
                             square + i * layers);
    }
    if (rows > 0)
        GE_TRY(ge_watch_recall(s->watch, log));
fail:
    ge_log_reader_close(&log);
    free(trace);
    free(square);
    return status;
}

static gradecho_status open_log(struct session *s)
{
    gradecho_status status = GRADECHO_OK;
    struct ge_dimensions dims = ge_engine_dimensions(s->engine);
    const struct ge_source_facts *facts = &s->source->facts;
    char *text = config_text(s->run->config);
    struct ge_log_layer *layers = ge_alloc(dims.layers, sizeof *layers);

    GE_FAIL_IF(text == NULL || layers == NULL, GRADECHO_E_NOMEM,
               "no memory for the log");
    for (size_t l = 0; l < dims.layers; l++) {
        const struct ge_layer *layer = &facts->layers.item[l];

        layers[l] =
            (struct ge_log_layer){layer->name, layer->rows, layer->cols};
    }
    const struct ge_log_spec spec = {
        .path = s->run->log_path,
        .overwrite = s->run->overwrite,
        .session = s->run->session != NULL ? s->run->session : "replay",
        .world_size = facts->world,
        .config = text,
        .flush_every = (uint32_t)s->run->config->log_flush_every,
        .dims = dims,
        .layers = layers,
    };
    const struct ge_watch_spec watched = {
        .config = s->run->config,
        .facts = facts,
        .session = spec.session,
        .log_path = spec.path,
    };
    GE_TRY(ge_watch_create(&watched, &s->watch));
    if (resumes(s->run)) {
        GE_TRY(restore(s));
        GE_TRY(ge_log_resume(&spec, &s->log));
    } else {
        GE_TRY(ge_log_create(&spec, &s->log));
    }
    s->past = *ge_log_past(s->log);
    dims = ge_log_dimensions(s->log); /* with room for more replicas */
    GE_TRY(ge_row_init(&s->row, &dims));
fail:
    free(layers);
    free(text);
    return status;
}

/* A replay goes on behind the sample of the log's last row: at its place in the
 * file, or later if some could not be written. */
static gradecho_status skip_samples(struct session *s)
{
    gradecho_status status = GRADECHO_OK;
    const struct ge_source_ops *ops = s->source->ops;
    uint64_t at = s->past.rows - 1;
    struct ge_sample_facts facts = {.step = -1};

    for (; at < s->source->facts.samples; at++) {
        ops->describe(s->source, (int64_t)at, &facts);
        if (facts.step == s->past.step)
            break;
    }
    GE_FAIL_IF(
        at >= s->source->facts.samples, GRADECHO_E_INPUT,
        "log %s does not fit: its row %llu is of step %lld, which is not "
        "in the gradients from there on",
        s->run->log_path, (unsigned long long)s->past.rows,
        (long long)s->past.step);
    ops->advance(s->source, (int64_t)at + 1);
    s->past.step = -1; /* the file's own steps need not increase */
fail:
    return status;
}

/* Rank 0 has opened the log: all ranks go on where it ends. */
static gradecho_status go_on(struct session *s)
{
    gradecho_status status = GRADECHO_OK, local = GRADECHO_OK;
    int64_t word[4] = {0, -1, 0, 0};
    struct ge_view view = {.status = GRADECHO_OK};

    if (s->root) {
        word[0] = (int64_t)s->past.rows;
        word[1] = s->past.step;
        word[2] = s->past.restarts;
    }
    if (s->run->gradients == NULL) {
        s->source->ops->look(s->source, 0.0, &view);
        word[3] = (int64_t)view.dropped;
    }
    GE_TRY(ge_comm_max(s->comm, word, 4));
    s->past.rows = (uint64_t)word[0];
    s->past.step = word[1];
    s->past.restarts = word[2];
    if (s->past.restarts == 0)
        return GRADECHO_OK;
    s->dropped_before = (uint64_t)word[3];
    s->samples = s->past.rows;
    if (s->root && s->past.rows > 0)
        ge_info("log %s: resumed behind %llu samples, the last of step %lld",
                s->run->log_path, (unsigned long long)s->past.rows,
                (long long)s->past.step);
    ge_message_capture(1);
    if (s->run->gradients != NULL && s->past.rows > 0)
        local = skip_samples(s);
    GE_TRY(ge_comm_agree(s->comm, local));
fail:
    return status;
}

static gradecho_status open_session(struct session *s)
{
    gradecho_status status = GRADECHO_OK, local = GRADECHO_OK;
    const struct ge_run *run = s->run;
    char there[512];

    /* Say so now, and not when the trainers have come. */
    ge_message_capture(1);
    if (s->root)
        local = resumes(run) ? ge_log_check_resume(run->log_path)
                             : ge_log_check(run->log_path, run->overwrite);
    GE_TRY(ge_comm_agree(s->comm, local));
    if (run->gradients != NULL)
        GE_TRY(ge_source_open_file(s->comm, run->gradients, &s->source));
    else
        GE_TRY(ge_source_open_segments(s->comm, run->config, run->session,
                                       run->stop, &s->source));
    if (status == GRADECHO_END)
        return status;
    ge_layers_select(&s->source->facts.layers, run->config);
    if (s->root && !ge_layers_are_included(&s->source->facts.layers,
                                           run->config, there, sizeof there))
        ge_warn("layers.include matches no layer (%s): no echo will be "
                "measured",
                there);
    GE_TRY(ge_engine_create(s->comm, run->config, s->source, &s->engine));
    ge_message_capture(1);
    local = s->root ? open_log(s) : GRADECHO_OK;
    GE_TRY(ge_comm_agree(s->comm, local));
    GE_TRY(go_on(s));
    if (s->root && s->source->facts.replicas_max < 2)
        ge_warn("one replica only: noise is what replicas differ by, so every "
                "noise figure will be missing; use two ranks, or hand over "
                "micro-batches as replicas");
    if (s->root)
        ge_info("%zu layers, %zu replicas, log %s",
                s->source->facts.layers.count, s->source->facts.replicas_max,
                run->log_path);
fail:
    return status;
}

/* The log's troubles are not the training's: tell once, go on, try again with
 * the next row. */
static void append(struct session *s)
{
    const bool told = s->unwritten > 0;
    gradecho_status status = GRADECHO_OK;

    ge_watch_judge(s->watch, &s->row);
    ge_message_capture(told);
    status = ge_log_append(s->log, &s->row);
    ge_message_capture(0);
    if (status < GRADECHO_OK) {
        if (!told)
            ge_warn("log %s: cannot write step %lld; measuring goes on, "
                    "writing is tried again with every sample",
                    s->run->log_path, (long long)s->row.step);
        s->unwritten++;
    } else if (told && !s->writes_again) {
        ge_info("log %s: writing again from step %lld on; %llu samples are "
                "missing",
                s->run->log_path, (long long)s->row.step,
                (unsigned long long)s->unwritten);
        s->writes_again = true;
    }
    ge_watch_tell(s->watch, &s->row, ge_log_rows(s->log));
}

static gradecho_status measure(struct session *s,
                               const struct ge_verdict *verdict)
{
    gradecho_status status = GRADECHO_OK;
    const double start = now();
    const uint64_t every = (uint64_t)s->run->config->sample_echo_every;

    GE_TRY(ge_engine_measure(
        s->engine, verdict->step,
        s->samples % every == 0 ? (int64_t)(s->samples / every) : -1, &s->row,
        &s->trouble));
    s->samples++;
    if (s->trouble < GRADECHO_OK)
        return GRADECHO_OK; /* the next vote ends the run */
    if (s->root && s->row.step == GE_ENGINE_SPOILED) {
        s->spoiled++; /* who lost its trainer tells it */
    } else if (s->root) {
        s->row.values[GE_DROPPED][0] = (double)(s->dropped + s->spoiled);
        s->row.values[GE_RESTARTS][0] = (double)s->past.restarts;
        s->row.values[GE_DURATION][0] = now() - start;
        append(s);
        ge_debug("step %lld measured in %.1f ms", (long long)s->row.step,
                 1e3 * s->row.values[GE_DURATION][0]);
        ge_progress_at(&s->progress, s->samples);
    }
fail:
    return status;
}

/* A sample of a step that the log has from before it was resumed: the training
 * went back to an earlier state. Steps in a log increase: leave it out. */
static void leave_out(struct session *s, int64_t step)
{
    s->source->ops->release(s->source, step);
    if (s->root && s->repeated == 0)
        ge_warn("log %s has steps up to %lld: step %lld and others up to there "
                "are not measured again (a training that began anew needs a "
                "new log)",
                s->run->log_path, (long long)s->past.step, (long long)step);
    s->repeated++;
}

static gradecho_status loop(struct session *s)
{
    gradecho_status status = GRADECHO_OK;
    const struct ge_source_ops *ops = s->source->ops;

    for (;;) {
        struct ge_view view = {.status = s->trouble};
        struct ge_ballot ballot;
        struct ge_verdict verdict;

        ops->look(s->source, look_seconds, &view);
        ge_watch_poll(s->watch);
        view.stop = view.stop || *s->run->stop != 0;
        ge_agree_vote(&view, &ballot);
        GE_TRY(ge_comm_max(s->comm, ballot.word, GE_BALLOT_SIZE));
        ge_agree_decide(&ballot, &verdict);
        ge_agree_meet(&s->meeting, &verdict);
        s->dropped = (uint64_t)s->past.dropped +
                     (verdict.dropped > s->dropped_before
                          ? verdict.dropped - s->dropped_before
                          : 0);
        switch (verdict.action) {
        case GE_VERDICT_MEASURE:
            if (verdict.step <= s->past.step)
                leave_out(s, verdict.step);
            else
                GE_TRY(measure(s, &verdict));
            break;
        case GE_VERDICT_ADVANCE:
            ops->advance(s->source, verdict.step);
            break;
        case GE_VERDICT_WAIT:
            if (verdict.step >= 0 && ops->await != NULL)
                ops->await(s->source);
            break;
        case GE_VERDICT_END:
            return GRADECHO_OK;
        case GE_VERDICT_FAIL:
            return verdict.status;
        }
    }
fail:
    return status;
}

static gradecho_status close_log(struct session *s)
{
    gradecho_status status = GRADECHO_OK;
    const uint64_t lost = s->dropped + s->spoiled;
    uint64_t rows = 0;

    ge_message_capture(1);
    if (ge_log_flush(s->log) < GRADECHO_OK)
        s->unwritten += ge_log_waiting(s->log);
    rows = ge_log_rows(s->log);
    status = ge_log_close(&s->log);
    ge_message_capture(0);
    if (status < GRADECHO_OK)
        ge_error("%s", ge_message_last()); /* only the last: once */
    ge_info("log %s: %llu samples, %llu dropped", s->run->log_path,
            (unsigned long long)rows, (unsigned long long)lost);
    if (s->repeated > 0)
        ge_info("%llu samples were of steps that the log had already",
                (unsigned long long)s->repeated);
    if (s->unwritten > 0) {
        ge_error("log %s: %llu samples could not be written", s->run->log_path,
                 (unsigned long long)s->unwritten);
        status = GRADECHO_E_HDF5;
    }
    return status;
}

static gradecho_status close_session(struct session *s, bool hurry)
{
    gradecho_status status = GRADECHO_OK;

    if (s->log != NULL)
        status = close_log(s);
    ge_watch_finish(&s->watch, hurry ? hurried_seconds : command_seconds);
    ge_row_fini(&s->row);
    ge_engine_destroy(&s->engine);
    ge_source_close(&s->source);
    return status;
}

gradecho_status ge_run(ge_comm *comm, const struct ge_run *run)
{
    struct session s = {.comm = comm,
                        .run = run,
                        .meeting = {.every = run->config->sample_every},
                        .root = ge_comm_rank(comm) == 0};
    gradecho_status status = GRADECHO_OK, closed = GRADECHO_OK;

    ge_comm_set_timeout(comm, run->config->timeout_seconds);
    status = open_session(&s);
    if (status == GRADECHO_OK) {
        if (s.root && run->gradients != NULL)
            ge_progress_begin(&s.progress, "sample", s.samples,
                              s.source->facts.samples);
        status = loop(&s);
        ge_progress_clear(&s.progress);
    } else if (status == GRADECHO_END) { /* stopped before it began */
        status = GRADECHO_OK;
    }
    closed = close_session(&s, status < GRADECHO_OK || *run->stop != 0);
    if (status == GRADECHO_E_MPI || status == GRADECHO_E_TIMEOUT)
        return status; /* nobody is left to agree with */
    return ge_comm_agree(comm, status < GRADECHO_OK ? status : closed);
}
