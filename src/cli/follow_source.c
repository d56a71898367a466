/*
 * The file of --follow: not there yet, growing, ended, continued, replaced. A
 * log without a writer is not kept open, so that whoever recovers or continues
 * it meets nobody, and so that nothing stale is left in HDF5's memory.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "follow.h"
#include "memory.h"
#include "try.h"

static bool is_other_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev != b->st_dev || a->st_ino != b->st_ino;
}

static bool is_changed(const struct stat *a, const struct stat *b)
{
    return a->st_size != b->st_size || a->st_mtim.tv_sec != b->st_mtim.tv_sec ||
           a->st_mtim.tv_nsec != b->st_mtim.tv_nsec;
}

/* A file that has just changed may change again and keep its time stamp, which
 * ticks in milliseconds. */
static bool is_settled(const struct stat *file)
{
    struct timespec now;

    return clock_gettime(CLOCK_REALTIME, &now) != 0 ||
           llabs((long long)(now.tv_sec - file->st_mtim.tv_sec)) > 1;
}

static void drop_digest(struct ge_follow *f)
{
    ge_digest_fini(&f->digest);
    free(f->texts);
    free(f->layers);
    free(f->scales);
    free(f->edges);
    f->texts = NULL;
    f->layers = NULL;
    f->scales = f->edges = NULL;
    f->history = 0;
    f->rows = 0;
    f->loaded = false;
}

/* The digest's facts and names, for when the reader is gone. */
static gradecho_status keep_facts(struct ge_follow *f,
                                  const struct ge_log_facts *facts)
{
    gradecho_status status = GRADECHO_OK;
    const size_t layers = facts->dims.layers;
    size_t bytes = strlen(facts->session) + 1;
    char *to = NULL;

    for (size_t l = 0; l < layers; l++)
        bytes += strlen(facts->layers[l].name) + 1;
    f->texts = to = ge_alloc(bytes, 1);
    f->layers = ge_alloc(layers, sizeof *f->layers);
    GE_FAIL_IF(to == NULL || f->layers == NULL, GRADECHO_E_NOMEM,
               "no memory for %zu layers", layers);
    f->facts = *facts;
    f->facts.created = f->facts.version = f->facts.config = "";
    f->facts.session = to;
    to = stpcpy(to, facts->session) + 1;
    for (size_t l = 0; l < layers; l++) {
        f->layers[l] = facts->layers[l];
        f->layers[l].name = to;
        to = stpcpy(to, facts->layers[l].name) + 1;
    }
    f->facts.layers = f->layers;
    f->digest.facts = &f->facts;
fail:
    return status;
}

static gradecho_status read_history(struct ge_follow *f)
{
    gradecho_status status = GRADECHO_OK;
    const uint64_t rows =
        f->rows < GE_FOLLOW_HISTORY ? f->rows : GE_FOLLOW_HISTORY;
    const size_t cells = (size_t)rows * f->facts.dims.layers;

    f->scales = ge_alloc(cells, sizeof *f->scales);
    f->edges = ge_alloc(cells, sizeof *f->edges);
    GE_FAIL_IF(f->scales == NULL || f->edges == NULL, GRADECHO_E_NOMEM,
               "no memory for %zu numbers", cells);
    GE_TRY(ge_log_read(f->reader, GE_NOISE_SCALE_SMOOTH, f->rows - rows, rows,
                       f->scales));
    GE_TRY(ge_log_read(f->reader, GE_EDGE, f->rows - rows, rows, f->edges));
    f->history = rows;
fail:
    return status;
}

/* Everything anew. On failure the view is empty until the next attempt. */
static gradecho_status load(struct ge_follow *f)
{
    gradecho_status status = GRADECHO_OK;

    drop_digest(f);
    GE_TRY(ge_digest_load(f->reader, f->question, &f->digest));
    GE_TRY(keep_facts(f, ge_log_reader_facts(f->reader)));
    f->rows = f->digest.rows;
    GE_TRY(read_history(f));
    f->loaded = true;
fail:
    if (status < GRADECHO_OK)
        drop_digest(f);
    return status;
}

static gradecho_status update(struct ge_follow *f)
{
    gradecho_status status = GRADECHO_OK;
    uint64_t rows = 0;

    if (f->reader == NULL)
        GE_TRY(ge_log_open(f->question->path, &f->reader));
    GE_TRY(ge_log_refresh(f->reader, &rows));
    if (!f->loaded || rows != f->rows || f->state == GE_FOLLOW_WAITING)
        GE_TRY(load(f));
fail:
    return status;
}

/* The file as it is now, with a writer or without. */
static bool look(struct ge_follow *f, bool held)
{
    const enum ge_follow_state before = f->state;
    const uint64_t rows = f->rows;
    const bool loaded = f->loaded;
    char reason[sizeof f->reason];

    memcpy(reason, f->reason, sizeof reason);
    f->reason[0] = '\0';
    if (!held) /* opened while it grew: how it ended is not seen there */
        ge_log_reader_close(&f->reader);
    if (update(f) < GRADECHO_OK) {
        ge_log_reader_close(&f->reader);
        f->state = GE_FOLLOW_WAITING;
        snprintf(f->reason, sizeof f->reason, "%s", ge_message_last());
        f->seen.st_mtim.tv_nsec = -1; /* look again */
    } else if (held) {
        f->state = GE_FOLLOW_LIVE;
    } else {
        f->facts.end = ge_log_reader_facts(f->reader)->end;
        f->facts.held = false;
        f->state =
            f->facts.end == GE_LOG_OPEN ? GE_FOLLOW_CUT_OFF : GE_FOLLOW_CLOSED;
    }
    return f->state != before || f->rows != rows || f->loaded != loaded ||
           strcmp(reason, f->reason) != 0;
}

bool ge_follow_poll(struct ge_follow *f)
{
    struct stat now;
    bool held = false, news = false;
    const int captured = ge_message_capture(1);

    if (stat(f->question->path, &now) != 0) {
        ge_log_reader_close(&f->reader);
        news = f->state != GE_FOLLOW_WAITING || f->reason[0] == '\0';
        f->state = GE_FOLLOW_WAITING;
        f->seen = (struct stat){0};
        snprintf(f->reason, sizeof f->reason, "no such file yet");
        goto done;
    }
    if (is_other_file(&now, &f->seen)) {
        ge_log_reader_close(&f->reader);
        drop_digest(f);
        f->replaced++;
        f->state = GE_FOLLOW_WAITING;
        news = true;
    }
    held = ge_log_is_held(f->question->path);
    if (news || is_changed(&now, &f->seen) ||
        held != (f->state == GE_FOLLOW_LIVE)) {
        f->seen = now;
        news = look(f, held) || news;
        if (!is_settled(&now))
            f->seen.st_mtim.tv_nsec = -1; /* look again */
    } else if (!held) {
        ge_log_reader_close(&f->reader);
    }
done:
    (void)ge_message_capture(captured);
    return news;
}

void ge_follow_fini(struct ge_follow *f)
{
    ge_log_reader_close(&f->reader);
    drop_digest(f);
}
