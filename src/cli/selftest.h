/*
 * selftest.h - `gradecho selftest`: planted gradients through the monitor's own
 * engine, against stated bounds. cmd_selftest.c runs the plan of
 * selftest_plan.c; selftest_measure.c measures one case, selftest_check.c
 * judges and prints it.
 */
#ifndef GRADECHO_CLI_SELFTEST_H
#define GRADECHO_CLI_SELFTEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "comm.h"
#include "source_planted.h"

/* ---- what is planned ---- */

/* Planted modes by the echo that they have under isotropic noise; `strength`
 * turns them up where the noise is not isotropic and its bulk is wider. */
struct ge_selftest_spectrum {
    const char *name;
    const double *echo; /* [modes], descending */
    size_t modes;
};

/* Quantities that a check can be about. */
enum ge_selftest_what {
    GE_SELFTEST_ECHO,     /* root mean square error of echo */
    GE_SELFTEST_REVERB,   /* of echo_reverb */
    GE_SELFTEST_CLUSTER,  /* of echo_cluster */
    GE_SELFTEST_S,        /* of s_est over the planted value */
    GE_SELFTEST_GAIN,     /* of gain */
    GE_SELFTEST_EXACT,    /* of echo_exact */
    GE_SELFTEST_COVERAGE, /* part of echoes within 2 standard errors */
    GE_SELFTEST_ERROR,    /* mean standard error over root mean square error */
    GE_SELFTEST_SPREAD,   /* mean standard error over the standard deviation of
                             echo over samples, about each mode's own mean */
    GE_SELFTEST_MISFIT,   /* misfit_exact over root mean square error of echo */
    GE_SELFTEST_SIGMA2,   /* bias of sigma2 over the planted value */
    GE_SELFTEST_SILENT,   /* part of samples without a signal mode */
    GE_SELFTEST_FOUND,    /* part of modes that pass as signal */
    GE_SELFTEST_CLEAR     /* part of modes that are clear, see below */
};

/* One check: over modes with a true echo in [from, to), at a number of
 * replicas in [replicas_from, replicas_to), what is measured must be in
 * [least, most]. Without bounds (both infinite) it is told and not judged. */
struct ge_selftest_check {
    enum ge_selftest_what what;
    size_t replicas_from, replicas_to;
    double from, to;
    bool clear; /* over clear modes only: signal, and away from others by three
                   times the noise along them */
    double least, most;
};

/* One case: so many samples of one kind, each drawn afresh. */
struct ge_selftest_case {
    const struct ge_selftest_spectrum *spectrum;
    size_t rows, cols, replicas;
    enum ge_planted_noise noise;
    double log_sigma, uneven, strength;
    size_t samples;
    bool echo; /* false: noise statistics only */
    uint64_t seed;
    const struct ge_selftest_check *checks; /* [count] */
    size_t count;
};

enum ge_selftest_effort {
    GE_SELFTEST_QUICK,
    GE_SELFTEST_NORMAL,
    GE_SELFTEST_THOROUGH
};

/* Fill in case number `index` of the plan; false behind the last one. */
bool ge_selftest_plan(size_t index, enum ge_selftest_effort effort,
                      uint64_t seed, struct ge_selftest_case *out);

/* ---- what is found ---- */

/* One planted mode of one sample: what is true, and what the row says. */
struct ge_selftest_point {
    double s, truth, gain_truth, cluster_truth;
    double echo, echo_se, s_est, gain, exact, reverb, cluster;
    bool signal, clear;
};

struct ge_selftest_sample {
    double sigma2; /* over the planted value */
    double misfit_exact;
    double signal_modes;
};

struct ge_selftest_result {
    struct ge_selftest_point *points;   /* [samples x modes], owned */
    struct ge_selftest_sample *samples; /* [samples], owned */
    size_t point_count, sample_count;
};

/* Called after every sample, on rank 0. */
typedef void ge_selftest_progress(void *context, size_t samples_done);

/* Collective. Measure one case.
 *
 * \param result  rank 0: filled on success, to be released with
 *                ge_selftest_result_fini(); elsewhere empty
 * \return GRADECHO_E_NOMEM, _E_NUMERIC the same on all ranks;
 *         GRADECHO_E_MPI, _E_TIMEOUT: no further collective is possible */
GRADECHO_MUST_CHECK gradecho_status
ge_selftest_measure(ge_comm *comm, const struct ge_selftest_case *c,
                    ge_selftest_progress *progress, void *context,
                    struct ge_selftest_result *result);
void ge_selftest_result_fini(struct ge_selftest_result *result);

/* ---- how it is judged ---- */

struct ge_selftest_tally {
    size_t checks, outside;
};

/* One line for each check of the case that applies, and the title line. */
void ge_selftest_print_title(void);
void ge_selftest_judge(const struct ge_selftest_case *c,
                       const struct ge_selftest_result *result,
                       struct ge_selftest_tally *tally);

#endif
