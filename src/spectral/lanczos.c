#include "lanczos.h"

#include <cblas.h>
#include <float.h>
#include <lapacke.h>
#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "room.h"
#include "try.h"

enum {
    PATIENCE = 8, /* steps in which a mode must show that it converges */
    MARGIN = 2,   /* steps after the last wanted mode: one more may come up */
    SLACK = 64,   /* steps beyond three for each wanted mode, at most */
};
/* How far a residual must have fallen within PATIENCE steps. */
static const double progress = 0.3;

struct ge_lanczos {
    struct ge_room left, right; /* the bases */
    struct ge_room floats, doubles, integers, front, panel;
};

/* One run. The first `d` columns of each basis are there. */
struct run {
    const struct ge_matrix *a;
    float *panel; /* scratch for its rows */
    size_t m, n, most, wanted, d;
    float *u, *v; /* [most x m], [most + 1 x n], each vector contiguous */
    float *c;     /* [most] */
    double *alpha, *beta; /* [most] each: B's diagonal and superdiagonal, the
                             last beta outside of B */
    double *values, *upper, *last; /* [most] each; of B's SVD */
    double *p, *z, *work;
    double *residual; /* [most + 1] of the first mode above the tolerance */
    size_t *front;    /* [most + 1] which one that was */
    size_t event;     /* step at which something new was last seen */
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
    ge_room_free(&(*lanczos)->doubles);
    ge_room_free(&(*lanczos)->integers);
    ge_room_free(&(*lanczos)->front);
    ge_room_free(&(*lanczos)->panel);
    free(*lanczos);
    *lanczos = NULL;
}

static double norm(const float *x, size_t length)
{
    double sum = 0.0;

    for (size_t i = 0; i < length; i++)
        sum += (double)x[i] * (double)x[i];
    return sqrt(sum);
}

/* x -= Q' (Q x), twice: once leaves what rounding put back. */
static void orthogonalise(const float *q, size_t count, size_t length, float *c,
                          float *x)
{
    for (int pass = 0; pass < 2 && count > 0; pass++) {
        cblas_sgemv(CblasRowMajor, CblasNoTrans, (int)count, (int)length, 1.0F,
                    q, (int)length, x, 1, 0.0F, c, 1);
        cblas_sgemv(CblasRowMajor, CblasTrans, (int)count, (int)length, -1.0F,
                    q, (int)length, c, 1, 1.0F, x, 1);
    }
}

static void divide(float *x, size_t length, double by)
{
    for (size_t i = 0; i < length; i++)
        x[i] = (float)((double)x[i] / by);
}

/* A repeatable vector with something of every direction in it. */
static void scatter(struct run *r, float *x, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        r->seed = r->seed * 6364136223846793005ULL + 1442695040888963407ULL;
        x[i] = (float)((double)(r->seed >> 11) * 0x1p-53 - 0.5);
    }
}

/* Make x, what is left of a product after orthogonalisation, the next vector of
 * the basis q and give its length. Where nothing is left, the space is used up:
 * any other direction goes on, with length 0. */
static double next_vector(struct run *r, const float *q, size_t count,
                          size_t length, double scale, float *x)
{
    double left = norm(x, length);

    if (left > 8.0 * (double)FLT_EPSILON * scale) {
        divide(x, length, left);
        return left;
    }
    r->event = r->d;
    for (int attempt = 0; attempt < 3; attempt++) {
        scatter(r, x, length);
        divide(x, length, norm(x, length));
        orthogonalise(q, count, length, r->c, x);
        left = norm(x, length);
        if (left > 1e-3) /* else the basis fills the space but for rounding */
            break;
    }
    divide(x, length, left > 0.0 ? left : 1.0);
    return 0.0;
}

static void first_vector(struct run *r, const struct ge_modes *start)
{
    if (start == NULL) {
        scatter(r, r->v, r->n);
    } else {
        memset(r->v, 0, r->n * sizeof(float));
        for (size_t k = 0; k < start->count; k++)
            cblas_saxpy((int)r->n, 1.0F, start->v + k * r->n, 1, r->v, 1);
    }
    const double length = norm(r->v, r->n);

    if (isfinite(length) && length > 0.0)
        divide(r->v, r->n, length);
    else
        r->v[0] = 1.0F;
}

/* u = A v. */
static void multiply(const struct run *r, const float *v, float *u)
{
    const size_t most = ge_matrix_panel_rows(r->a);

    for (size_t first = 0; first < r->m; first += most) {
        const size_t rows = ge_min_size(most, r->m - first);
        const float *panel = ge_matrix_panel(r->a, first, rows, r->panel);

        cblas_sgemv(CblasRowMajor, CblasNoTrans, (int)rows, (int)r->n, 1.0F,
                    panel, (int)r->n, v, 1, 0.0F, u + first, 1);
    }
}

/* v = A' u. */
static void multiply_transposed(const struct run *r, const float *u, float *v)
{
    const size_t most = ge_matrix_panel_rows(r->a);

    for (size_t first = 0; first < r->m; first += most) {
        const size_t rows = ge_min_size(most, r->m - first);
        const float *panel = ge_matrix_panel(r->a, first, rows, r->panel);

        cblas_sgemv(CblasRowMajor, CblasTrans, (int)rows, (int)r->n, 1.0F,
                    panel, (int)r->n, u + first, 1, first > 0 ? 1.0F : 0.0F, v,
                    1);
    }
}

/* One more column on each side. */
static void step(struct run *r)
{
    const size_t j = r->d, m = r->m, n = r->n;
    float *u = r->u + j * m, *v = r->v + j * n, *next = v + n;
    double scale = 0.0;

    for (size_t i = 0; i < j; i++)
        scale = fmax(scale, fmax(r->alpha[i], r->beta[i]));
    multiply(r, v, u);
    scale = fmax(scale, norm(u, m));
    orthogonalise(r->u, j, m, r->c, u);
    r->alpha[j] = next_vector(r, r->u, j, m, scale, u);
    r->d = j + 1;
    multiply_transposed(r, u, next);
    scale = fmax(scale, norm(next, n));
    orthogonalise(r->v, r->d, n, r->c, next);
    r->beta[j] = next_vector(r, r->v, r->d, n, scale, next);
}

/* Singular values of B, and the last entries of its left vectors. */
static bool ritz(struct run *r)
{
    const int d = (int)r->d;

    memcpy(r->values, r->alpha, r->d * sizeof(double));
    memcpy(r->upper, r->beta, r->d * sizeof(double));
    memset(r->last, 0, r->d * sizeof(double));
    r->last[d - 1] = 1.0;
    return LAPACKE_dbdsqr_work(LAPACK_COL_MAJOR, 'U', d, 0, 1, 0, r->values,
                               r->upper, NULL, 1, r->last, 1, NULL, 1,
                               r->work) == 0;
}

static double relative_residual(const struct run *r, size_t k)
{
    const double value = r->values[k];

    if (r->beta[r->d - 1] == 0.0)
        return 0.0;
    return value > 0.0 ? r->beta[r->d - 1] * fabs(r->last[k]) / value : 1.0;
}

/* After ritz(): nothing is to be gained by going on. */
static bool done(struct run *r, double tolerance)
{
    const size_t d = r->d;
    size_t k = 0;

    while (k < ge_min_size(r->wanted, d) && relative_residual(r, k) < tolerance)
        k++;
    r->front[d] = k;
    r->residual[d] = k < d ? relative_residual(r, k) : 0.0;
    if (k > r->front[d - 1])
        r->event = d;
    if (d < r->wanted)
        return false;
    if (k == r->wanted)
        return d >= r->event + MARGIN;
    return d >= r->event + PATIENCE && r->front[d - PATIENCE] == k &&
           r->residual[d] > progress * r->residual[d - PATIENCE];
}

static bool prepare(ge_lanczos *lanczos, struct run *r)
{
    const size_t most = r->most;

    if (!ge_room_grow(&lanczos->panel, ge_matrix_scratch(r->a),
                      sizeof(float)) ||
        !ge_room_grow(&lanczos->left, most * r->m, sizeof(float)) ||
        !ge_room_grow(&lanczos->right, (most + 1) * r->n, sizeof(float)) ||
        !ge_room_grow(&lanczos->floats, most * (r->wanted + 1),
                      sizeof(float)) ||
        !ge_room_grow(&lanczos->doubles, 5 * most * most + 10 * most + 1,
                      sizeof(double)) ||
        !ge_room_grow(&lanczos->integers, 8 * most, sizeof(lapack_int)) ||
        !ge_room_grow(&lanczos->front, most + 1, sizeof(size_t)))
        return false;
    r->panel = lanczos->panel.at;
    r->u = lanczos->left.at;
    r->v = lanczos->right.at;
    r->c = lanczos->floats.at;
    r->front = lanczos->front.at;

    double *number = lanczos->doubles.at;

    r->alpha = number;
    r->beta = r->alpha + most;
    r->residual = r->beta + most;
    r->values = r->residual + most + 1;
    r->upper = r->values + most;
    r->last = r->upper + most;
    r->work = r->last + most; /* [3 most^2 + 4 most] */
    r->p = r->work + 3 * most * most + 4 * most;
    r->z = r->p + most * most;
    r->residual[0] = 1.0;
    r->front[0] = 0;
    return true;
}

/* vectors [count x length] = P' Q: the first columns of a small factor, turned
 * by the basis. In LAPACK's order, column k of `small` is P's k-th. */
static void expand(const struct run *r, bool transposed, const double *small,
                   const float *basis, size_t length, const ge_lanczos *l,
                   float *vectors)
{
    const size_t d = r->d;
    float *narrow = l->floats.at;

    for (size_t k = 0; k < r->wanted; k++)
        for (size_t i = 0; i < d; i++)
            narrow[k * d + i] =
                (float)(transposed ? small[i * d + k] : small[k * d + i]);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)r->wanted,
                (int)length, (int)d, 1.0F, narrow, (int)d, basis, (int)length,
                0.0F, vectors, (int)length);
}

/* From B = P S Z' to the modes of A. */
static bool collect(struct run *r, const ge_lanczos *l, struct ge_modes *modes)
{
    const int d = (int)r->d;

    memcpy(r->values, r->alpha, r->d * sizeof(double));
    memcpy(r->upper, r->beta, r->d * sizeof(double));
    if (LAPACKE_dbdsdc_work(LAPACK_COL_MAJOR, 'U', 'I', d, r->values, r->upper,
                            r->p, d, r->z, d, NULL, NULL, r->work,
                            l->integers.at) != 0)
        return false;
    expand(r, false, r->p, r->u, r->m, l, modes->u);
    expand(r, true, r->z, r->v, r->n, l, modes->v); /* LAPACK gives Z' */
    for (size_t k = 0; k <= r->wanted; k++)
        modes->s[k] = k < r->d ? (float)r->values[k] : 0.0F;
    for (size_t k = 0; k < r->wanted; k++) {
        r->last[k] = r->p[k * r->d + r->d - 1];
        modes->r[k] = (float)relative_residual(r, k);
    }
    return true;
}

size_t ge_lanczos_most_steps(size_t count)
{
    return 3 * count + SLACK;
}

gradecho_status ge_lanczos_leading(ge_lanczos *lanczos,
                                   const struct ge_matrix *a,
                                   const struct ge_modes *start,
                                   double tolerance, struct ge_modes *modes,
                                   size_t *steps)
{
    gradecho_status status = GRADECHO_OK;
    struct run r = {.a = a,
                    .m = modes->rows,
                    .n = modes->cols,
                    .wanted = modes->count,
                    .most = ge_lanczos_most_steps(modes->count)};

    GE_FAIL_IF(r.most > ge_min_size(r.m, r.n) || r.m > INT_MAX || r.n > INT_MAX,
               GRADECHO_E_ARG,
               "%zu modes of a %zu x %zu layer are not for this method",
               r.wanted, r.m, r.n);
    GE_FAIL_IF(!prepare(lanczos, &r), GRADECHO_E_NOMEM,
               "no memory for the SVD of a %zu x %zu layer", r.m, r.n);
    first_vector(&r, start);
    do {
        step(&r);
        GE_FAIL_IF(!ritz(&r), GRADECHO_E_NUMERIC,
                   "the SVD of a %zu x %zu layer did not converge", r.m, r.n);
    } while (!done(&r, tolerance) && r.d < r.most);
    GE_FAIL_IF(!collect(&r, lanczos, modes), GRADECHO_E_NUMERIC,
               "the SVD of a %zu x %zu layer did not converge", r.m, r.n);
    if (steps != NULL)
        *steps = r.d;
fail:
    return status;
}
