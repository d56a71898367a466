#include "progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "memory.h"
#include "message.h"

enum { COLUMNS_MAX = 160 };

static const double period = 0.25; /* s */

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void ge_progress_begin(struct ge_progress *p, const char *what, uint64_t first,
                       uint64_t total)
{
    const char *terminal = getenv("TERM");

    *p = (struct ge_progress){.what = what, .first = first, .total = total};
    p->shown = total > first && isatty(STDERR_FILENO) == 1 &&
               terminal != NULL && strcmp(terminal, "dumb") != 0;
    p->began = p->drawn = now();
}

/* "50 s", "12 min 50 s", "3 h 12 min". */
static void show_time(double seconds, char *text, size_t size)
{
    const unsigned long whole =
        seconds < 1e9 ? (unsigned long)(seconds + 0.5) : 1000000000UL;

    if (whole < 60)
        snprintf(text, size, "%lu s", whole);
    else if (whole < 3600)
        snprintf(text, size, "%lu min %lu s", whole / 60, whole % 60);
    else
        snprintf(text, size, "%lu h %lu min", whole / 3600, whole / 60 % 60);
}

const char *ge_progress_text(const struct ge_progress *p, uint64_t done,
                             double seconds, char *text, size_t width)
{
    enum { BAR_MOST = 40, BAR_LEAST = 6 };
    char head[64], tail[64] = "", left[32];
    size_t used = 0, bar = 0;

    snprintf(head, sizeof head, "%s %llu of %llu ", p->what,
             (unsigned long long)done, (unsigned long long)p->total);
    if (done > p->first && seconds > 0.0) {
        const double rate = (double)(done - p->first) / seconds;

        show_time((double)(p->total - done) / rate, left, sizeof left);
        snprintf(tail, sizeof tail,
                 rate < 100 ? " %.1f/s, %s left" : " %.0f/s, %s left", rate,
                 left);
    }
    used = strlen(head) + strlen(tail) + 2;
    bar = used < width ? ge_min_size(width - used, BAR_MOST) : 0;
    if (bar < BAR_LEAST) {
        snprintf(text, width + 1, "%.*s%s", (int)strlen(head) - 1, head, tail);
        return text;
    }
    const size_t full = (size_t)((double)bar * (double)done / (double)p->total);
    char *at = stpcpy(stpcpy(text, head), "[");

    memset(at, '#', full);
    memset(at + full, '-', bar - full);
    stpcpy(stpcpy(at + bar, "]"), tail);
    return text;
}

void ge_progress_at(struct ge_progress *p, uint64_t done)
{
    const double time = now();
    struct winsize size = {.ws_col = 80};
    char text[COLUMNS_MAX + 1];

    if (!p->shown || done > p->total || time - p->drawn < period)
        return;
    p->drawn = time;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0)
        size.ws_col = 80;
    /* The last column stays free: a line that fills it moves the cursor on. */
    ge_message_footer(
        ge_progress_text(p, done, time - p->began, text,
                         ge_min_size(size.ws_col - 1U, COLUMNS_MAX)));
}

void ge_progress_clear(const struct ge_progress *p)
{
    if (p->shown)
        ge_message_footer("");
}
