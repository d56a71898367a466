/*
 * char_text.h - the text that char_lm learns: read, encoded, shuffled.
 */
#ifndef CHAR_TEXT_H
#define CHAR_TEXT_H

#include <stddef.h>
#include <stdint.h>

/* A longer text is refused: its length has to fit the int of one MPI call. */
#define TEXT_MAX ((size_t)1 << 30)

struct text {
    unsigned char *symbol; /* [length], owned; free with text_free() */
    size_t length;
    size_t vocabulary; /* distinct symbols, 1 to 256, after text_encode() */
    double entropy;    /* of single symbols, nats: what a model that knows
                          only how often each occurs would lose */
};

/* Read the bytes of `path`; NULL: the licence texts that every Debian system
 * carries, else README.md and docs/ under `source`.
 * \return 0, or -1 after one line on standard error; *text is then empty */
int text_read(struct text *text, const char *path, const char *source);

/* Replace each byte by its index among the bytes that occur. */
void text_encode(struct text *text);

/* Shuffle the first `length` symbols in blocks of `block`. */
void text_shuffle(struct text *text, size_t length, size_t block,
                  uint64_t seed);

void text_free(struct text *text);

#endif
