#include "lanczos.h"

#include <cblas.h>
#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "pass.h"
#include "ritz.h"
#include "room.h"
#include "try.h"

/* How much of a first vector made of modes is of every other direction, too,
 * so that a mode that the start has not can come up. */
static const double scattered = 0.3;

/* By how much A may be larger or smaller than its start for that to tell the
 * scale of the first step. */
static const double far = 1e3;

struct ge_lanczos {
    struct ge_room left, right; /* the images, the basis */
    struct ge_room floats, panel;
    struct ge_ritz ritz;
};

/* One run: d vectors v, their images, and the next v. */
struct run {
    const struct ge_matrix *a;
    float *panel; /* scratch for its rows */
    size_t m, n, wanted;
    float *v, *y; /* [most + 1 x n], [most x m] A v; each vector contiguous */
    float *c;     /* [most] */
    struct ge_ritz *ritz;
    double scale;  /* largest norm met: what rounding errors are relative to */
    double near;   /* what A's norm may be, from the start; or 0 */
    size_t passes; /* times that A was read */
    uint64_t seed;
};

gradecho_status ge_lanczos_create(ge_lanczos **lanczos)
{
    gradecho_status status = GRADECHO_OK;
    ge_lanczos *made = ge_alloc(1, sizeof *made);

    GE_FAIL_IF(made == NULL, GRADECHO_E_NOMEM, "no memory for the SVD");
    *lanczos = made;
fail:
    return status;
}

void ge_lanczos_destroy(ge_lanczos **lanczos)
{
    if (*lanczos == NULL)
        return;
    ge_room_free(&(*lanczos)->left);
    ge_room_free(&(*lanczos)->right);
    ge_room_free(&(*lanczos)->floats);
    ge_room_free(&(*lanczos)->panel);
    ge_ritz_free(&(*lanczos)->ritz);
    free(*lanczos);
    *lanczos = NULL;
}

/* In double, in several sums: one alone waits for itself. */
static double norm(const float *x, size_t length)
{
    enum { SUMS = 16 };
    double sum[SUMS] = {0.0}, total = 0.0;
    size_t i = 0;

    for (; i + SUMS <= length; i += SUMS)
        for (size_t k = 0; k < SUMS; k++)
            sum[k] += (double)x[i + k] * (double)x[i + k];
    for (; i < length; i++)
        total += (double)x[i] * (double)x[i];
    for (size_t k = 0; k < SUMS; k++)
        total += sum[k];
    return sqrt(total);
}

/* x -= Q' (Q x); the length of what is left. A second time if much was taken
 * away, of which rounding leaves something. */
static double orthogonalise(const float *q, size_t count, size_t length,
                            float *c, float *x)
{
    double left = norm(x, length);

    for (int turn = 0; turn < 2 && count > 0; turn++) {
        cblas_sgemv(CblasRowMajor, CblasNoTrans, (int)count, (int)length, 1.0F,
                    q, (int)length, x, 1, 0.0F, c, 1);
        cblas_sgemv(CblasRowMajor, CblasTrans, (int)count, (int)length, -1.0F,
                    q, (int)length, c, 1, 1.0F, x, 1);
        left = norm(x, length);
        if (norm(c, count) < 0.1 * left)
            break;
    }
    return left;
}

static void multiply_by(float *x, size_t length, double factor)
{
    for (size_t i = 0; i < length; i++)
        x[i] = (float)((double)x[i] * factor);
}

/* A repeatable vector of length 1 with something of every direction in it. */
static void scatter(struct run *r, float *x, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        r->seed = r->seed * 6364136223846793005ULL + 1442695040888963407ULL;
        x[i] = (float)((double)(r->seed >> 11) * 0x1p-53 - 0.5);
    }
    multiply_by(x, length, 1.0 / norm(x, length));
}

/* Make x, of which `left` was left by orthogonalisation, the next vector of
 * the basis q and give its length. Where nothing is left but errors, the space
 * is used up: any other direction goes on, with length 0. */
static double next_vector(struct run *r, const float *q, size_t count,
                          size_t length, double left, double errors, float *x)
{
    if (left > errors) {
        multiply_by(x, length, 1.0 / left);
        return left;
    }
    for (int attempt = 0; attempt < 3; attempt++) {
        scatter(r, x, length);
        left = orthogonalise(q, count, length, r->c, x);
        if (left > 1e-3) /* else the basis fills the space but for rounding */
            break;
    }
    multiply_by(x, length, left > 0.0 ? 1.0 / left : 1.0);
    return 0.0;
}

static void first_vector(struct run *r, const struct ge_modes *start)
{
    float *sum = r->v + r->n; /* the place of the second */

    scatter(r, r->v, r->n);
    if (start == NULL)
        return;
    memset(sum, 0, r->n * sizeof *sum);
    for (size_t k = 0; k < start->count; k++)
        cblas_saxpy((int)r->n, 1.0F, start->v + k * r->n, 1, sum, 1);

    const double length = norm(sum, r->n);

    if (!isfinite(length) || length <= 0.0)
        return;
    multiply_by(r->v, r->n, scattered);
    cblas_saxpy((int)r->n, (float)(1.0 / length), sum, 1, r->v, 1);
    multiply_by(r->v, r->n, 1.0 / norm(r->v, r->n));
}

/* u = A v. */
static void multiply(struct run *r, const float *v, float *u)
{
    const size_t most = ge_matrix_panel_rows(r->a);

    for (size_t first = 0; first < r->m; first += most) {
        const size_t rows = ge_min_size(most, r->m - first);
        const float *panel = ge_matrix_panel(r->a, first, rows, r->panel);

        cblas_sgemv(CblasRowMajor, CblasNoTrans, (int)rows, (int)r->n, 1.0F,
                    panel, (int)r->n, v, 1, 0.0F, u + first, 1);
    }
    r->passes++;
}

/* v = A' u. */
static void multiply_transposed(struct run *r, const float *u, float *v)
{
    const size_t most = ge_matrix_panel_rows(r->a);

    for (size_t first = 0; first < r->m; first += most) {
        const size_t rows = ge_min_size(most, r->m - first);
        const float *panel = ge_matrix_panel(r->a, first, rows, r->panel);

        cblas_sgemv(CblasRowMajor, CblasTrans, (int)rows, (int)r->n, 1.0F,
                    panel, (int)r->n, u + first, 1, first > 0 ? 1.0F : 0.0F, v,
                    1);
    }
    r->passes++;
}

/* u = A v and w = scale A' u, A read once. */
static void multiply_both(struct run *r, const float *v, float scale, float *u,
                          float *w)
{
    const size_t most = ge_matrix_panel_rows(r->a);

    memset(w, 0, r->n * sizeof *w);
    for (size_t first = 0; first < r->m; first += most) {
        const size_t rows = ge_min_size(most, r->m - first);

        ge_pass(ge_matrix_panel(r->a, first, rows, r->panel), rows, r->n, v,
                scale, u + first, w);
    }
    r->passes++;
}

/* The power of two next to 1 / x: multiplying by it is exact, and squares of
 * very large or small numbers stay within single precision. */
static float unit_of(double x)
{
    return (float)ldexp(1.0, -ilogb(x));
}

/* One more vector. */
static void step(struct run *r)
{
    const size_t j = r->ritz->d, m = r->m, n = r->n;
    float *y = r->y + j * m, *v = r->v + j * n, *next = v + n;
    /* The first step tells how large A is, if the start does not. */
    const double known = j > 0 ? r->scale : r->near;
    bool both = known >= (double)FLT_MIN;
    float scale = both ? unit_of(known) : 1.0F;

    if (both)
        multiply_both(r, v, scale, y, next);
    else
        multiply(r, v, y);

    const double length = norm(y, m), square = length * length;

    r->scale = fmax(r->scale, length);
    if (j == 0 && both) /* not so if A is of another size */
        both = length > known / far && length < known * far;
    if (!both) {
        scale = length >= (double)FLT_MIN ? unit_of(length) : 1.0F;
        multiply_by(y, m, (double)scale);
        multiply_transposed(r, y, next);
        multiply_by(y, m, 1.0 / (double)scale);
    }
    /* Next, in units of 1 / scale: A'A v less what is known to be there. */
    r->scale =
        fmax(r->scale,
             length > 0.0 ? norm(next, n) / ((double)scale * length) : 0.0);
    cblas_saxpy((int)n, -(float)((double)scale * square), v, 1, next, 1);
    if (j > 0)
        cblas_saxpy((int)n, -(float)((double)scale * r->ritz->beside[j - 1]),
                    v - n, 1, next, 1);

    const double left = orthogonalise(r->v, j + 1, n, r->c, next);
    const double errors =
        8.0 * (double)FLT_EPSILON * r->scale * length * (double)scale;

    ge_ritz_add(r->ritz, square,
                next_vector(r, r->v, j + 1, n, left, errors, next) /
                    (double)scale);
}

static bool prepare(ge_lanczos *lanczos, double tolerance, bool warm,
                    struct run *r)
{
    struct ge_ritz *ritz = &lanczos->ritz;

    if (!ge_ritz_begin(ritz, r->n, r->wanted, tolerance, warm) ||
        !ge_room_grow(&lanczos->panel, ge_matrix_scratch(r->a),
                      sizeof(float)) ||
        !ge_room_grow(&lanczos->left, ritz->most * r->m, sizeof(float)) ||
        !ge_room_grow(&lanczos->right, (ritz->most + 1) * r->n,
                      sizeof(float)) ||
        !ge_room_grow(&lanczos->floats, ritz->most * (r->wanted + 1),
                      sizeof(float)))
        return false;
    r->ritz = ritz;
    r->panel = lanczos->panel.at;
    r->y = lanczos->left.at;
    r->v = lanczos->right.at;
    r->c = lanczos->floats.at;
    return true;
}

/* to [count x length] = Z' Q: eigenvectors of the small matrix, turned by the
 * vectors of the large one. */
static void expand(const struct run *r, size_t count, const float *q,
                   size_t length, float *to)
{
    const size_t d = r->ritz->d;

    for (size_t k = 0; k < count; k++)
        for (size_t i = 0; i < d; i++)
            r->c[k * d + i] = (float)ge_ritz_vector(r->ritz, k)[i];
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)count,
                (int)length, (int)d, 1.0F, r->c, (int)d, q, (int)length, 0.0F,
                to, (int)length);
}

/* v = V z, u = A v / s with s its length: no worse than A itself is known,
 * where the root of T's value would be that only for the strongest. */
static void collect(struct run *r, struct ge_modes *modes)
{
    const size_t d = r->ritz->d, m = r->m;
    const double errors = 8.0 * (double)FLT_EPSILON * r->scale;

    expand(r, r->wanted, r->v, r->n, modes->v);
    expand(r, r->wanted, r->y, m, modes->u);
    for (size_t k = 0; k < r->wanted; k++) {
        float *u = modes->u + k * m;

        modes->s[k] = (float)next_vector(r, modes->u, k, m,
                                         orthogonalise(modes->u, k, m, r->c, u),
                                         errors, u);
        if (k > 0) /* but for rounding, they are in order */
            modes->s[k] = fminf(modes->s[k], modes->s[k - 1]);
        modes->r[k] = (float)r->ritz->residuals[k];
    }
    modes->s[r->wanted] = 0.0F;
    if (d > r->wanted)
        modes->s[r->wanted] =
            fminf((float)sqrt(fmax(r->ritz->values[d - 1 - r->wanted], 0.0)),
                  modes->s[r->wanted - 1]);
}

size_t ge_lanczos_most_steps(size_t count)
{
    return 3 * count + GE_RITZ_SLACK;
}

gradecho_status ge_lanczos_leading(ge_lanczos *lanczos,
                                   const struct ge_matrix *a,
                                   const struct ge_modes *start,
                                   double tolerance, struct ge_modes *modes,
                                   size_t *passes)
{
    gradecho_status status = GRADECHO_OK;
    bool done = false;
    struct run r = {
        .a = a, .m = modes->rows, .n = modes->cols, .wanted = modes->count};

    GE_FAIL_IF(ge_lanczos_most_steps(r.wanted) > ge_min_size(r.m, r.n) ||
                   r.m > INT_MAX || r.n > INT_MAX,
               GRADECHO_E_ARG,
               "%zu modes of a %zu x %zu layer are not for this method",
               r.wanted, r.m, r.n);
    GE_FAIL_IF(!prepare(lanczos, tolerance, start != NULL, &r),
               GRADECHO_E_NOMEM, "no memory for the SVD of a %zu x %zu layer",
               r.m, r.n);
    first_vector(&r, start);
    r.near = start != NULL ? (double)start->s[0] : 0.0;
    while (!done) {
        step(&r);
        GE_FAIL_IF(!ge_ritz_done(r.ritz, &done), GRADECHO_E_NUMERIC,
                   "the SVD of a %zu x %zu layer did not converge", r.m, r.n);
    }
    GE_FAIL_IF(!ge_ritz_vectors(r.ritz), GRADECHO_E_NUMERIC,
               "the SVD of a %zu x %zu layer did not converge", r.m, r.n);
    collect(&r, modes);
    if (passes != NULL)
        *passes = r.passes;
fail:
    return status;
}
