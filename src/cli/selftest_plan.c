/*
 * What the selftest measures, and the bounds that hold: groups of cases, each
 * the product of shapes and numbers of replicas.
 */
#include <math.h>

#include "memory.h"
#include "selftest.h"

/* ---- spectra ---- */

/* Singular values far apart: the bounds are about these. */
static const double apart_echoes[] = {0.97, 0.90, 0.78, 0.50};
static const double steep_echoes[] = {0.985, 0.94, 0.65};
/* Close ones mix. */
static const double crowded_echoes[] = {0.98, 0.96, 0.93, 0.88, 0.81,
                                        0.73, 0.64, 0.53, 0.42, 0.30};
static const double single_echo[] = {0.60};

static const struct ge_selftest_spectrum apart = {"apart", apart_echoes, 4};
static const struct ge_selftest_spectrum steep = {"steep", steep_echoes, 3};
static const struct ge_selftest_spectrum crowded = {"crowded", crowded_echoes,
                                                    10};
static const struct ge_selftest_spectrum single = {"one mode", single_echo, 1};
static const struct ge_selftest_spectrum nothing = {"nothing", NULL, 0};

/* ---- checks ---- */

#define ALL 2, SIZE_MAX
#define FEW 2, 8
#define MANY 8, SIZE_MAX
#define AT_MOST(x) 0.0, (x)
#define AT_LEAST(x) (x), (double)INFINITY
#define TOLD -(double)INFINITY, (double)INFINITY
#define STRONG 0.6, 1.1, false
#define CLEAR 0.6, 1.1, true
#define ANY -1.0, 1.1, false

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* Isotropic noise, modes far apart. The first NEAR_NOISE ones need a mode near
 * the noise. With few replicas the own draws of a mode near the noise are
 * farther from the law than the law's own error: told, not judged. */
enum { NEAR_NOISE = 7 };
static const struct ge_selftest_check accuracy[] = {
    {GE_SELFTEST_ECHO, FEW, 0.4, 0.6, false, AT_MOST(0.03)},
    {GE_SELFTEST_ECHO, MANY, 0.4, 0.6, false, AT_MOST(0.02)},
    {GE_SELFTEST_S, ALL, 0.4, 0.6, false, TOLD},
    {GE_SELFTEST_GAIN, ALL, 0.4, 0.6, false, TOLD},
    {GE_SELFTEST_EXACT, FEW, 0.4, 0.6, false, TOLD},
    {GE_SELFTEST_COVERAGE, 3, SIZE_MAX, 0.4, 0.6, false, TOLD},
    {GE_SELFTEST_SPREAD, MANY, 0.4, 0.6, false, 0.5, 2.0},
    {GE_SELFTEST_ECHO, FEW, STRONG, AT_MOST(0.015)},
    {GE_SELFTEST_ECHO, MANY, STRONG, AT_MOST(0.012)},
    {GE_SELFTEST_S, FEW, STRONG, AT_MOST(0.04)},
    {GE_SELFTEST_S, MANY, STRONG, AT_MOST(0.02)},
    {GE_SELFTEST_GAIN, ALL, STRONG, AT_MOST(0.02)},
    {GE_SELFTEST_EXACT, FEW, STRONG, AT_MOST(0.02)},
    {GE_SELFTEST_EXACT, MANY, 0.4, 1.1, false, AT_MOST(0.02)},
    {GE_SELFTEST_COVERAGE, MANY, 0.3, 1.1, false, AT_LEAST(0.85)},
    {GE_SELFTEST_SPREAD, MANY, 0.6, 0.85, false, 0.5, 2.0},
    {GE_SELFTEST_SPREAD, MANY, 0.85, 1.1, false, 0.5, 2.0},
    {GE_SELFTEST_ERROR, MANY, 0.4, 1.1, false, TOLD},
};

/* Other shapes, some of them small: errors are larger in proportion. */
static const struct ge_selftest_check told[] = {
    {GE_SELFTEST_ECHO, ALL, STRONG, TOLD},
    {GE_SELFTEST_ECHO, ALL, 0.4, 0.6, false, TOLD},
    {GE_SELFTEST_S, ALL, STRONG, TOLD},
    {GE_SELFTEST_GAIN, ALL, STRONG, TOLD},
    {GE_SELFTEST_EXACT, ALL, 0.4, 1.1, false, TOLD},
    {GE_SELFTEST_COVERAGE, MANY, 0.3, 1.1, false, AT_LEAST(0.85)},
};

/* Modes that mix. With few replicas the draw of the noise moves the true echo
 * itself by more than the bound, and the estimate scatters with it: told, not
 * judged. */
static const struct ge_selftest_check mixed[] = {
    {GE_SELFTEST_ECHO, FEW, STRONG, TOLD},
    {GE_SELFTEST_ECHO, FEW, 0.4, 0.6, false, TOLD},
    {GE_SELFTEST_ECHO, MANY, STRONG, AT_MOST(0.012)},
    {GE_SELFTEST_ECHO, MANY, 0.4, 0.6, false, AT_MOST(0.02)},
    {GE_SELFTEST_CLUSTER, FEW, STRONG, TOLD},
    {GE_SELFTEST_CLUSTER, MANY, STRONG, AT_MOST(0.012)},
    {GE_SELFTEST_CLUSTER, MANY, 0.4, 0.6, false, AT_MOST(0.02)},
    {GE_SELFTEST_REVERB, MANY, STRONG, AT_MOST(0.012)},
    {GE_SELFTEST_REVERB, MANY, 0.4, 0.6, false, AT_MOST(0.02)},
    {GE_SELFTEST_S, FEW, STRONG, AT_MOST(0.04)},
    {GE_SELFTEST_S, MANY, STRONG, AT_MOST(0.02)},
    {GE_SELFTEST_COVERAGE, MANY, 0.3, 1.1, false, AT_LEAST(0.85)},
    {GE_SELFTEST_GAIN, ALL, STRONG, AT_MOST(0.02)},
};

/* Noise that is not isotropic: the measured echo holds, the isotropic law does
 * not, and misfit_exact says so. Such noise has singular values of its own far
 * above its bulk, which can lie next to a planted one: the bound is about modes
 * that are clear of them, and with fewer than 6 replicas nothing is judged. */
#define SOME 2, 6
#define ENOUGH 6, SIZE_MAX
static const struct ge_selftest_check uneven[] = {
    {GE_SELFTEST_ECHO, ENOUGH, CLEAR, AT_MOST(0.03)},
    {GE_SELFTEST_ECHO, ALL, STRONG, TOLD},
    {GE_SELFTEST_ECHO, ALL, 0.4, 0.6, false, TOLD},
    {GE_SELFTEST_GAIN, ALL, STRONG, TOLD},
    {GE_SELFTEST_EXACT, ALL, STRONG, TOLD},
    {GE_SELFTEST_MISFIT, ENOUGH, CLEAR, AT_LEAST(3.0)},
    {GE_SELFTEST_MISFIT, SOME, STRONG, TOLD},
    {GE_SELFTEST_COVERAGE, MANY, 0.3, 1.1, false, AT_LEAST(0.85)},
    {GE_SELFTEST_FOUND, ALL, STRONG, TOLD},
    {GE_SELFTEST_CLEAR, ALL, STRONG, TOLD},
};

static const struct ge_selftest_check unbiased[] = {
    {GE_SELFTEST_SIGMA2, ALL, ANY, AT_MOST(0.003)},
};

static const struct ge_selftest_check silent[] = {
    {GE_SELFTEST_SILENT, ALL, ANY, AT_LEAST(0.90)},
};

static const struct ge_selftest_check found[] = {
    {GE_SELFTEST_FOUND, ALL, ANY, AT_LEAST(0.95)},
};

/* Where the noise is not isotropic the echo of a mode of a given singular value
 * is what the draw of the noise leaves of it: modes that came out near nothing
 * are not the ones to be found. */
static const struct ge_selftest_check found_loud[] = {
    {GE_SELFTEST_FOUND, ALL, 0.5, 1.1, false, AT_LEAST(0.95)},
    {GE_SELFTEST_FOUND, ALL, ANY, TOLD},
};

/* ---- groups ---- */

struct shape {
    size_t rows, cols;
};

static const struct shape bounds[] = {{256, 512}, {512, 256}};
static const struct shape aspects[] = {{64, 640}, {640, 64}, {300, 40}};
static const struct shape small[] = {{64, 64}, {300, 40}, {128, 256}};
static const struct shape smallest[] = {{64, 64}};
static const struct shape smaller[] = {{300, 40}, {128, 256}};

static const size_t replicas[] = {2, 8, 4, 16};
static const size_t middle[] = {4, 8};
static const size_t more[] = {8, 6, 4, 2};

/* The first shapes and replicas of a list are the more telling ones: an effort
 * takes so many of each, and so many samples; 0: none. */
struct plan {
    size_t shapes, replicas, samples;
};

struct group {
    const struct ge_selftest_spectrum *spectrum;
    enum ge_planted_noise noise;
    double log_sigma, uneven, strength;
    const struct shape *shapes;
    const size_t *replicas;
    struct plan plan[3]; /* by effort */
    const struct ge_selftest_check *checks;
    size_t count;
    bool no_echo;
};

#define CHECKS(list) .checks = (list), .count = COUNT(list)

static const struct group groups[] = {
    {&apart,
     GE_PLANTED_ISOTROPIC,
     0.0,
     0.0,
     1.0,
     bounds,
     replicas,
     {{1, 2, 8}, {2, 2, 12}, {2, 4, 32}},
     CHECKS(accuracy)},
    {&steep,
     GE_PLANTED_ISOTROPIC,
     0.0,
     0.0,
     1.0,
     bounds,
     replicas,
     {{0, 0, 0}, {1, 2, 12}, {2, 4, 32}},
     .checks = accuracy + NEAR_NOISE,
     .count = COUNT(accuracy) - NEAR_NOISE},
    {&apart,
     GE_PLANTED_ISOTROPIC,
     0.0,
     0.0,
     1.0,
     aspects,
     replicas,
     {{0, 0, 0}, {3, 2, 8}, {3, 4, 32}},
     CHECKS(told)},
    {&crowded,
     GE_PLANTED_ISOTROPIC,
     0.0,
     0.0,
     1.0,
     bounds,
     replicas,
     {{0, 0, 0}, {2, 2, 8}, {2, 4, 32}},
     CHECKS(mixed)},
    {&apart,
     GE_PLANTED_SCALED,
     0.8,
     0.0,
     2.0,
     bounds,
     more,
     {{0, 0, 0}, {2, 4, 6}, {2, 4, 32}},
     CHECKS(uneven)},
    {&steep,
     GE_PLANTED_MULTIPLICATIVE,
     0.0,
     0.8,
     4.0,
     bounds,
     more,
     {{0, 0, 0}, {1, 4, 8}, {2, 4, 32}},
     CHECKS(uneven)},
    {&apart,
     GE_PLANTED_ISOTROPIC,
     0.0,
     0.0,
     1.0,
     bounds,
     replicas,
     {{2, 2, 16}, {2, 4, 24}, {2, 4, 256}},
     CHECKS(unbiased),
     .no_echo = true},
    {&nothing,
     GE_PLANTED_ISOTROPIC,
     0.0,
     0.0,
     1.0,
     small,
     middle,
     {{2, 2, 40}, {3, 2, 40}, {3, 2, 400}},
     CHECKS(silent)},
    {&nothing,
     GE_PLANTED_SCALED,
     1.0,
     0.0,
     1.0,
     smallest,
     middle,
     {{1, 2, 120}, {1, 2, 300}, {1, 2, 1000}},
     CHECKS(silent)},
    {&nothing,
     GE_PLANTED_SCALED,
     1.0,
     0.0,
     1.0,
     smaller,
     middle,
     {{0, 0, 0}, {2, 2, 120}, {2, 2, 400}},
     CHECKS(silent)},
    {&single,
     GE_PLANTED_ISOTROPIC,
     0.0,
     0.0,
     1.0,
     small,
     middle,
     {{2, 2, 40}, {3, 2, 40}, {3, 2, 400}},
     CHECKS(found)},
    {&single,
     GE_PLANTED_SCALED,
     1.0,
     0.0,
     2.0,
     small,
     middle,
     {{2, 2, 40}, {3, 2, 60}, {3, 2, 400}},
     CHECKS(found_loud)},
};

bool ge_selftest_plan(size_t index, enum ge_selftest_effort effort,
                      uint64_t seed, struct ge_selftest_case *out)
{
    size_t left = index;

    for (size_t i = 0; i < COUNT(groups); i++) {
        const struct group *g = &groups[i];
        const struct plan *plan = &g->plan[effort];
        const size_t cases = plan->shapes * plan->replicas;

        if (left >= cases) {
            left -= cases;
            continue;
        }
        *out = (struct ge_selftest_case){
            .spectrum = g->spectrum,
            .rows = g->shapes[left / plan->replicas].rows,
            .cols = g->shapes[left / plan->replicas].cols,
            .replicas = g->replicas[left % plan->replicas],
            .noise = g->noise,
            .log_sigma = g->log_sigma,
            .uneven = g->uneven,
            .strength = g->strength,
            .samples = plan->samples,
            .echo = !g->no_echo,
            .seed = seed * 1000 + index, /* every case draws its own */
            .checks = g->checks,
            .count = g->count,
        };
        return true;
    }
    return false;
}
