#include "ritz.h"

#include <lapacke.h>
#include <math.h>
#include <string.h>

#include "memory.h"

enum {
    STRIDE = 2,   /* a look costs as much as a pass over a small layer */
    WINDOW = 5,   /* steps in which the bulk's end must stand still */
    PATIENCE = 8, /* steps in which a mode must show that it converges */
    MARGIN = 2,   /* steps after a restart, which may bring up one more */
    WARM = 8,     /* steps beyond the converged modes, from a good start */
};
/* What standing still is: the largest of them by the smallest. */
static const double still = 1.05;
/* A mode at the bulk's end: by what factor it may lie above or below. */
static const double above = 1.03, below = 0.95;
/* Not falling: a residual's part that is left after STRIDE, PATIENCE steps. */
static const double flat = 0.4, stuck = 0.3;

/* Steps after which a mode 5 % above the bulk's end has come up that is in the
 * first vector with a twentieth of its fair share, 1/sqrt(n). Against the bulk
 * a step multiplies it by exp(acosh(2 1.05^2 - 1)). */
static size_t steps_to_surface(size_t cols)
{
    const double rate = acosh(2.0 * 1.05 * 1.05 - 1.0);

    return 2 + (size_t)ceil(log(2.0 * sqrt((double)cols) / 0.05) / rate);
}

bool ge_ritz_begin(struct ge_ritz *r, size_t cols, size_t wanted,
                   double tolerance, bool warm)
{
    const size_t most = 3 * wanted + GE_RITZ_SLACK;

    if (!ge_room_grow(&r->doubles, most * most + 8 * most + 1 + 2 * wanted,
                      sizeof(double)) ||
        !ge_room_grow(&r->sizes, most + 1, sizeof(size_t)))
        return false;
    r->wanted = wanted;
    r->most = most;
    r->tolerance = tolerance;
    r->need = steps_to_surface(cols);
    if (warm)
        r->need = ge_min_size(r->need, WARM);
    r->d = r->restarted = 0;

    double *number = r->doubles.at;

    r->diagonal = number;
    r->beside = r->diagonal + most;
    r->values = r->beside + most;
    r->before = r->values + most;
    r->work = r->before + most;             /* [2 most] */
    r->front_residual = r->work + 2 * most; /* [most + 1] */
    r->residuals = r->front_residual + most + 1;
    r->residuals_before = r->residuals + wanted;
    r->vectors = r->residuals_before + wanted;
    r->front = r->sizes.at;
    memset(r->residuals, 0, 2 * wanted * sizeof(double));
    return true;
}

void ge_ritz_free(struct ge_ritz *r)
{
    ge_room_free(&r->doubles);
    ge_room_free(&r->sizes);
}

void ge_ritz_add(struct ge_ritz *r, double diagonal, double beside)
{
    r->diagonal[r->d] = diagonal;
    r->beside[r->d] = beside;
    r->d++;
    if (beside == 0.0)
        r->restarted = r->d;
}

/* Eigenvalues of the first `size` rows and columns, in ascending order. */
static bool eigenvalues(struct ge_ritz *r, size_t size, double *values)
{
    memcpy(values, r->diagonal, size * sizeof(double));
    memcpy(r->work, r->beside, size * sizeof(double));
    return LAPACKE_dsterf_work((int)size, values, r->work) == 0;
}

/* The square of the last entry of the eigenvector that belongs to the i-th of
 * the values [d], from the values of the matrix without its last row and
 * column, `less` [d - 1], which lie between them (C. C. Paige, 1971). */
static double last_entry(const double *values, const double *less, size_t d,
                         size_t i)
{
    double square = 1.0;

    for (size_t j = 0; j + 1 < d; j++) {
        const double apart = values[i] - values[j < i ? j : j + 1];

        square *= apart != 0.0 ? fmax((values[i] - less[j]) / apart, 0.0) : 0.0;
    }
    return square;
}

/* The residual of mode k: sigma^2 is the k-th value from above. */
static double residual(const struct ge_ritz *r, double square, double last)
{
    const double beside = r->beside[r->d - 1];

    if (beside == 0.0)
        return 0.0;
    return square > 0.0 ? beside * last / square : 1.0;
}

static bool look(struct ge_ritz *r)
{
    const size_t d = r->d;

    if (!eigenvalues(r, d, r->values) || !eigenvalues(r, d - 1, r->before))
        return false;
    memcpy(r->residuals_before, r->residuals, r->wanted * sizeof(double));
    for (size_t k = 0; k < r->wanted; k++)
        r->residuals[k] =
            k < d
                ? residual(r, r->values[d - 1 - k],
                           sqrt(last_entry(r->values, r->before, d, d - 1 - k)))
                : 1.0;
    return true;
}

/* Mode k, the first that has not converged, is the end of a bulk. */
static bool in_the_bulk(const struct ge_ritz *r, size_t k)
{
    const double value = sqrt(fmax(r->values[r->d - 1 - k], 0.0));
    double least = (double)INFINITY, largest = 0.0, mean = 0.0;

    for (size_t i = r->d - WINDOW; i < r->d; i++) {
        const double end = sqrt(r->diagonal[i] + 2.0 * r->beside[i]);

        least = fmin(least, end);
        largest = fmax(largest, end);
        mean += end / WINDOW;
    }
    return largest < still * least && value < above * mean &&
           value > below * mean &&
           r->residuals[k] > flat * r->residuals_before[k];
}

static bool enough(const struct ge_ritz *r, size_t k)
{
    const size_t d = r->d;

    if (d < r->wanted || d < r->restarted + MARGIN)
        return false;
    if (k == r->wanted)
        return true;
    if (d < GE_RITZ_LEAST || d < k + r->need)
        return false;
    if (in_the_bulk(r, k))
        return true;
    return d >= r->restarted + PATIENCE && d >= r->wanted + PATIENCE &&
           r->front[d - PATIENCE] == k &&
           r->residuals[k] > stuck * r->front_residual[d - PATIENCE];
}

bool ge_ritz_done(struct ge_ritz *r, bool *done)
{
    const size_t d = r->d;
    size_t k = 0;

    *done = d == r->most;
    if (*done || d < 2 || d + STRIDE < r->wanted ||
        d % STRIDE != r->wanted % STRIDE)
        return true;
    if (!look(r))
        return false;
    while (k < ge_min_size(r->wanted, d) && r->residuals[k] < r->tolerance)
        k++;
    r->front[d] = k;
    r->front_residual[d] = k < r->wanted ? r->residuals[k] : 0.0;
    *done = enough(r, k);
    return true;
}

bool ge_ritz_vectors(struct ge_ritz *r)
{
    const int d = (int)r->d;

    memcpy(r->values, r->diagonal, r->d * sizeof(double));
    memcpy(r->before, r->beside, r->d * sizeof(double));
    if (LAPACKE_dsteqr_work(LAPACK_COL_MAJOR, 'I', d, r->values, r->before,
                            r->vectors, d, r->work) != 0)
        return false;
    for (size_t k = 0; k < ge_min_size(r->wanted, r->d); k++)
        r->residuals[k] = residual(r, r->values[r->d - 1 - k],
                                   fabs(ge_ritz_vector(r, k)[r->d - 1]));
    return true;
}
