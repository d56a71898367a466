/*
 * source_planted.h - gradients that are made up in memory, so that their truth
 * is known: a planted gradient plus noise, sample by sample.
 *
 * Every sample is a new draw of everything: singular vectors, the profile of
 * the noise, the noise. What is drawn depends on the seed, the number of the
 * sample and the number of the replica alone: it is the same however replicas
 * are spread over ranks. Local, but for the open function. Main thread.
 */
#ifndef GRADECHO_MONITOR_SOURCE_PLANTED_H
#define GRADECHO_MONITOR_SOURCE_PLANTED_H

#include "modes.h"
#include "source.h"

/* How the standard deviation of the noise is spread over the entries. */
enum ge_planted_noise {
    GE_PLANTED_ISOTROPIC,     /* evenly */
    GE_PLANTED_SCALED,        /* a row's factor times a column's, lognormal */
    GE_PLANTED_MULTIPLICATIVE /* |G_ij| plus a floor */
};

struct ge_planted {
    size_t rows, cols;
    size_t replicas; /* K, over all ranks */
    size_t modes;    /* rank r of the gradient; 0: there is none */
    const double *s; /* [modes] singular values, descending, [g]; borrowed */
    double uneven;   /* log-sigma by which entries of the singular vectors of
                        one gradient differ in size; 0: all alike */
    enum ge_planted_noise noise;
    double log_sigma; /* SCALED: of a factor */
    double floor;     /* MULTIPLICATIVE: over the root mean square of G */
    double sigma2;    /* noise variance, mean over the entries, [g]^2: exact in
                         every sample whatever the profile */
    uint64_t samples;
    uint64_t seed;
};

/* Collective. One layer, "planted"; replicas are spread over ranks in blocks.
 * \param source  written on success; release with ge_source_close()
 * \return GRADECHO_E_NOMEM  the same on all ranks */
GRADECHO_MUST_CHECK gradecho_status ge_source_open_planted(
    ge_comm *comm, const struct ge_planted *planted, struct ge_source **source);

/* The truth about the sample at the front, after a look that was READY; valid
 * until the look after the sample's release.
 * The gradient is [rows x cols]. Both belong to the source. */
const struct ge_modes *ge_planted_modes(const struct ge_source *source);
const float *ge_planted_gradient(const struct ge_source *source);

#endif
