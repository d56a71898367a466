#include "svd.h"

#include <cblas.h>
#include <lapacke.h>
#include <limits.h>
#include <math.h>
#include <string.h>

#include "lanczos.h"
#include "room.h"
#include "try.h"

struct ge_svd {
    double tolerance;
    ge_lanczos *lanczos;
    struct ge_room matrix, left, right, values, work, iwork;
};

gradecho_status ge_svd_create(int threads, double tolerance, ge_svd **svd)
{
    gradecho_status status = GRADECHO_OK;
    ge_svd *made = ge_alloc(1, sizeof *made);

    GE_FAIL_IF(made == NULL, GRADECHO_E_NOMEM, "no memory for the SVD");
    made->tolerance = tolerance;
    GE_TRY(ge_lanczos_create(&made->lanczos));
    /* A second BLAS thread spins for 0.1 s after each call: on the training's
     * cores. Only who asks for more than one gets it. */
    openblas_set_num_threads(threads);
    *svd = made;
    made = NULL;
fail:
    free(made);
    return status;
}

void ge_svd_destroy(ge_svd **svd)
{
    if (*svd == NULL)
        return;
    ge_lanczos_destroy(&(*svd)->lanczos);
    ge_room_free(&(*svd)->matrix);
    ge_room_free(&(*svd)->left);
    ge_room_free(&(*svd)->right);
    ge_room_free(&(*svd)->values);
    ge_room_free(&(*svd)->work);
    ge_room_free(&(*svd)->iwork);
    free(*svd);
    *svd = NULL;
}

/* LAPACK sees the row-major matrix as its transpose A' [cols x rows, column
 * major] = V S U': its left vectors are our v, contiguous, and its right ones
 * our u, in the rows of VT [least x rows, column major]. */
static void collect(const ge_svd *svd, size_t least, struct ge_modes *modes)
{
    const float *left = svd->left.at, *right = svd->right.at;

    const float *values = svd->values.at;

    memcpy(modes->s, values, modes->count * sizeof(float));
    modes->s[modes->count] = modes->count < least ? values[modes->count] : 0.0F;
    for (size_t k = 0; k < modes->count; k++)
        modes->r[k] = (float)NAN;
    memcpy(modes->v, left, modes->count * modes->cols * sizeof(float));
    for (size_t k = 0; k < modes->count; k++)
        for (size_t i = 0; i < modes->rows; i++)
            modes->u[k * modes->rows + i] = right[i * least + k];
}

/* LAPACK destroys what it is given. */
static void gather(const struct ge_matrix *a, float *copy)
{
    if (a->whole != NULL)
        memcpy(copy, a->whole, a->rows * a->cols * sizeof *copy);
    else
        a->read(a->context, 0, a->rows, copy);
}

static gradecho_status exact(ge_svd *svd, const struct ge_matrix *a,
                             struct ge_modes *modes)
{
    gradecho_status status = GRADECHO_OK;
    const size_t m = modes->rows, n = modes->cols;
    const size_t least = ge_min_size(m, n);
    float best = 0.0F;
    lapack_int info = 0;

    GE_FAIL_IF(m > INT_MAX || n > INT_MAX || m * least > INT_MAX ||
                   n * least > INT_MAX,
               GRADECHO_E_INPUT,
               "a %zu x %zu layer is too large for LAPACK; exclude it from "
               "the echo by layers.exclude",
               m, n);
    GE_FAIL_IF(!ge_room_grow(&svd->matrix, m * n, sizeof(float)) ||
                   !ge_room_grow(&svd->left, n * least, sizeof(float)) ||
                   !ge_room_grow(&svd->right, m * least, sizeof(float)) ||
                   !ge_room_grow(&svd->values, least, sizeof(float)) ||
                   !ge_room_grow(&svd->iwork, 8 * least, sizeof(lapack_int)),
               GRADECHO_E_NOMEM, "no memory for the SVD of a %zu x %zu layer",
               m, n);
    gather(a, svd->matrix.at);

    info = LAPACKE_sgesdd_work(LAPACK_COL_MAJOR, 'S', (int)n, (int)m,
                               svd->matrix.at, (int)n, svd->values.at,
                               svd->left.at, (int)n, svd->right.at, (int)least,
                               &best, -1, svd->iwork.at);
    GE_FAIL_IF(info != 0 || !(best >= 1.0F && best < 2e9F), GRADECHO_E_INPUT,
               "LAPACK refuses a %zu x %zu layer", m, n);
    /* `best` is a rounded float: one ulp more covers the true size. */
    const size_t size = (size_t)best + (size_t)best / 1000000 + 1;
    GE_FAIL_IF(!ge_room_grow(&svd->work, size, sizeof(float)), GRADECHO_E_NOMEM,
               "no memory for the SVD of a %zu x %zu layer", m, n);
    info = LAPACKE_sgesdd_work(LAPACK_COL_MAJOR, 'S', (int)n, (int)m,
                               svd->matrix.at, (int)n, svd->values.at,
                               svd->left.at, (int)n, svd->right.at, (int)least,
                               svd->work.at, (int)size, svd->iwork.at);
    GE_FAIL_IF(info != 0, GRADECHO_E_NUMERIC,
               "the SVD of a %zu x %zu layer did not converge (info %d)", m, n,
               (int)info);
    collect(svd, least, modes);
fail:
    return status;
}

gradecho_status ge_svd_leading(ge_svd *svd, const struct ge_matrix *a,
                               const struct ge_modes *start,
                               struct ge_modes *modes)
{
    const size_t least = ge_min_size(modes->rows, modes->cols);

    if (svd->tolerance <= 0.0 || least < ge_lanczos_most_steps(modes->count))
        return exact(svd, a, modes);
    return ge_lanczos_leading(svd->lanczos, a, start, svd->tolerance, modes,
                              NULL);
}

/* Nanoseconds, in proportion, of bench/svd: a complete SVD takes a third of one
 * for each entry and line of the shorter side, a truncated one some tens of
 * passes over the entries, three in all, and the same for the vectors. */
double ge_svd_cost(const ge_svd *svd, size_t rows, size_t cols, size_t count)
{
    const double entries = (double)rows * (double)cols;
    const double least = (double)ge_min_size(rows, cols);

    if (svd->tolerance <= 0.0 || least < (double)ge_lanczos_most_steps(count))
        return entries * least / 3.0;
    return 3.0 * entries;
}
