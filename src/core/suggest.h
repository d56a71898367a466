/*
 * suggest.h - what a mistyped word was meant to be.
 */
#ifndef GRADECHO_CORE_SUGGEST_H
#define GRADECHO_CORE_SUGGEST_H

#include <stddef.h>

enum { GE_SUGGEST_MAX = 128 }; /* bytes of a word, terminator included */

/* Letters to insert, leave out, change, or swap with their neighbour until one
 * word is the other (optimal string alignment). Case does not count. What is
 * longer than GE_SUGGEST_MAX is cut. */
size_t ge_edit_distance(const char *a, const char *b);

/* Start with {.word = what was typed}; offer what there is; ask. */
struct ge_suggestion {
    const char *word;
    size_t distance; /* of the best one */
    char best[GE_SUGGEST_MAX];
};

/* A candidate, by its distance, or by one that the caller knows better. The
 * first of several that are equally near stays. A candidate that begins with
 * the word is one letter away. */
void ge_suggest(struct ge_suggestion *s, const char *candidate);
void ge_suggest_at(struct ge_suggestion *s, const char *candidate,
                   size_t distance);

/* The nearest candidate, if that can be what was meant: a third of the word may
 * be wrong, and one letter. Else NULL. */
const char *ge_suggested(const struct ge_suggestion *s);

/* The names that come nearest to a glob that matches none of them, whole or at
 * one of their ends: start with {.glob = ...}; offer names; ask. */
struct ge_near {
    const char *glob;
    const char *name[3]; /* borrowed, nearest first */
    size_t distance[3], count;
};

void ge_near_offer(struct ge_near *near, const char *name);

/* "there is a, b, c", what is no character as a question mark; if none was offered "there is none". Returns `text`. */
const char *ge_near_text(const struct ge_near *near, char *text, size_t size);

#endif
