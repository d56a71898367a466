/*
 * blocks.h - averages over the samples of a run and their errors, where
 * neighbouring samples are not independent.
 *
 * Pure; a fixed size, so that a window of any length is one pass. A window is
 * cut into GE_BLOCKS blocks of neighbouring samples; the error is the jackknife
 * over blocks. What is correlated over less than a block is thus counted once;
 * what drifts through the window counts as error, which is cautious.
 */
#ifndef GRADECHO_NOISE_BLOCKS_H
#define GRADECHO_NOISE_BLOCKS_H

#include <stddef.h>
#include <stdint.h>

enum {
    GE_BLOCKS = 16,
    GE_BLOCKS_LEAST = 4 /* with samples in them, for an error to be told */
};

/* Sums over samples of two numbers. Zero-initialise. */
struct ge_blocks {
    double count[GE_BLOCKS], x[GE_BLOCKS], y[GE_BLOCKS];
};

struct ge_average {
    double value, se;
    double low, high; /* of single blocks */
    size_t blocks;    /* that hold samples */
};

/* Add sample `index` of the `window` that the blocks divide; one with a missing
 * number is passed over. */
void ge_blocks_add(struct ge_blocks *blocks, uint64_t index, uint64_t window,
                   double x, double y);

/* sum x / sum y. A block whose y is not positive has no bound: high is
 * INFINITY. All NaN without samples; se is NaN with fewer than
 * GE_BLOCKS_LEAST blocks. */
struct ge_average ge_blocks_ratio(const struct ge_blocks *blocks);

/* The averages of x and of y. */
struct ge_average ge_blocks_mean_x(const struct ge_blocks *blocks);
struct ge_average ge_blocks_mean_y(const struct ge_blocks *blocks);

/* a - b in units of its standard error, as the normal deviate that is as
 * unlikely: with few blocks an error is itself uncertain (Student's t, Welch's
 * degrees of freedom, Wallace's transformation). NaN if an error is not
 * known; 0 where nothing differs. */
double ge_average_difference(const struct ge_average *a,
                             const struct ge_average *b);

#endif
