/*
 * fuzz.h - what the fuzz targets share.
 *
 * A target is one file fuzz_NAME.c that defines fuzz_once(). Built for
 * libFuzzer (preset fuzz), fuzz_libfuzzer.c hands it what the fuzzer makes up;
 * in every other build fuzz_replay.c hands it the stored corpus.
 */
#ifndef GRADECHO_TESTS_FUZZ_H
#define GRADECHO_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* One execution. Whatever the bytes are, it returns, leaves nothing behind,
 * and calls fuzz_fail() where the code under test breaks its word. */
void fuzz_once(const uint8_t *data, size_t size);

/* A finding that no sanitizer would see: stop here. */
#define FUZZ_CHECK(condition) \
    do {                      \
        if (!(condition))     \
            abort();          \
    } while (0)

/* For a status that may be anything. */
static inline void fuzz_any(int status)
{
    (void)status;
}

/* The input as a stream of decisions; at its end, zeros. */
struct fuzz_bytes {
    const uint8_t *at;
    size_t left;
};

static inline uint8_t fuzz_u8(struct fuzz_bytes *in)
{
    if (in->left == 0)
        return 0;
    in->left--;
    return *in->at++;
}

static inline uint64_t fuzz_number(struct fuzz_bytes *in, int bytes)
{
    uint64_t value = 0;

    for (int i = 0; i < bytes; i++)
        value |= (uint64_t)fuzz_u8(in) << (8 * i);
    return value;
}

static inline uint32_t fuzz_u16(struct fuzz_bytes *in)
{
    return (uint32_t)fuzz_number(in, 2);
}

/* Up to `most` bytes of the input, however many are left. */
static inline const uint8_t *fuzz_take(struct fuzz_bytes *in, size_t most,
                                       size_t *count)
{
    const uint8_t *from = in->at;

    *count = most < in->left ? most : in->left;
    in->at += *count;
    in->left -= *count;
    return from;
}

#endif
