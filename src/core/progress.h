/*
 * progress.h - how far a long command is, in one line at the foot of the
 * terminal: "sample 120 of 900 [###-----] 14.2/s, 55 s left". On a terminal
 * alone, four times a second at most; messages go above it (message.h).
 */
#ifndef GRADECHO_CORE_PROGRESS_H
#define GRADECHO_CORE_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ge_progress {
    const char *what; /* of what so many are done: "sample" */
    uint64_t first, total;
    double began, drawn; /* s */
    bool shown;
};

/* `first` of `total` are done already. Shows nothing before a quarter of a
 * second, and never where standard error is no terminal. */
void ge_progress_begin(struct ge_progress *progress, const char *what,
                       uint64_t first, uint64_t total);
void ge_progress_at(struct ge_progress *progress, uint64_t done);

/* Take the line away, for output that is no message; it comes back by itself,
 * unless this was the end. */
void ge_progress_clear(const struct ge_progress *progress);

/* The line, at most `width` columns; `seconds` since the beginning. Returns
 * `text`. */
const char *ge_progress_text(const struct ge_progress *progress, uint64_t done,
                             double seconds, char *text, size_t width);

#endif
