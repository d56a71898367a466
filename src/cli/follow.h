/*
 * follow.h - `gradecho inspect --follow`: a log while it grows.
 *
 * follow_source.c watches the file, follow_view.c decides what is shown and in
 * which order, follow_draw.c draws it, follow_screen.c owns the terminal
 * (ncurses), follow_lines.c is the view without one.
 */
#ifndef GRADECHO_CLI_FOLLOW_H
#define GRADECHO_CLI_FOLLOW_H

#include <sys/stat.h>

#include "inspect.h"

enum {
    GE_FOLLOW_HISTORY = 64, /* samples of the spark lines */
    GE_FOLLOW_PERIOD_MS = 500
};

/* How the log is, seen from outside. */
enum ge_follow_state {
    GE_FOLLOW_WAITING, /* it does not exist yet, or cannot be read yet */
    GE_FOLLOW_LIVE,    /* a writer holds it */
    GE_FOLLOW_CUT_OFF, /* its writer was killed */
    GE_FOLLOW_CLOSED   /* in order, or recovered */
};

struct ge_follow {
    const struct ge_question *question;
    enum ge_follow_state state;
    char reason[256];        /* why there is nothing new; "" if there is */
    struct stat seen;        /* the file when it was last looked at */
    unsigned replaced;       /* how often another file took its place */
    ge_log_reader *reader;   /* NULL while no writer holds the log */
    uint64_t rows;           /* committed, of the digest */
    bool loaded;             /* the digest is there; it outlives the reader */
    struct ge_digest digest; /* its facts are the copy below */
    struct ge_log_facts facts;
    char *texts;                 /* behind the facts */
    struct ge_log_layer *layers; /* likewise */
    uint64_t history;            /* rows of the two below, oldest first */
    double *scales, *edges;      /* [history x layers]; smoothed noise scale */
};

/* Look at the file once. Mistakes are not told but kept as the reason.
 * \return true  there is something new to show; after that `reader` is open if
 *               there are new rows */
bool ge_follow_poll(struct ge_follow *follow);
void ge_follow_fini(struct ge_follow *follow);

/* A line per sample on standard output, until the log is closed in order. */
GRADECHO_MUST_CHECK gradecho_status
ge_follow_lines(const struct ge_question *question);

/* In the terminal, until q or Ctrl-C. A terminal that cannot move its cursor
 * gets lines. */
GRADECHO_MUST_CHECK gradecho_status
ge_follow_screen(const struct ge_question *question, bool unicode);

#endif
