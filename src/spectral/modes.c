#include "modes.h"

#include <cblas.h>
#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "try.h"

/* Each part begins on an aligned place: see GE_ALIGNMENT. */
static size_t padded(size_t floats)
{
    return ge_padded(floats, sizeof(float));
}

size_t ge_modes_floats(const struct ge_modes *modes)
{
    return padded(modes->count * modes->rows) +
           padded(modes->count * modes->cols) + padded(modes->count + 1) +
           padded(modes->count);
}

struct ge_modes ge_modes_view(const struct ge_modes *like, float *block)
{
    struct ge_modes view = *like;

    view.block = block;
    view.u = block;
    view.v = view.u + padded(view.count * view.rows);
    view.s = view.v + padded(view.count * view.cols);
    view.r = view.s + padded(view.count + 1);
    return view;
}

gradecho_status ge_modes_init(struct ge_modes *modes, size_t rows, size_t cols,
                              size_t count)
{
    gradecho_status status = GRADECHO_OK;

    *modes = (struct ge_modes){.rows = rows, .cols = cols, .count = count};
    modes->block = ge_alloc_aligned(ge_modes_floats(modes), sizeof(float));
    GE_FAIL_IF(modes->block == NULL, GRADECHO_E_NOMEM,
               "no memory for %zu modes of a %zu x %zu layer", count, rows,
               cols);
    *modes = ge_modes_view(modes, modes->block);
fail:
    return status;
}

void ge_modes_fini(struct ge_modes *modes)
{
    free(modes->block);
    *modes = (struct ge_modes){0};
}

double ge_modes_floor(const struct ge_modes *modes)
{
    return 4.0 * (double)FLT_EPSILON *
           sqrt((double)ge_max_size(modes->rows, modes->cols)) *
           (double)modes->s[0];
}

static double dot(const float *a, const float *b, size_t count)
{
    double sum = 0.0;

    for (size_t i = 0; i < count; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

/* c [a_count x b_count] = A B' of two lists of vectors of one length. */
static void gram(const float *a, size_t a_count, const float *b, size_t b_count,
                 size_t length, float *c)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)a_count,
                (int)b_count, (int)length, 1.0F, a, (int)length, b, (int)length,
                0.0F, c, (int)b_count);
}

static void take(const struct ge_modes *from, size_t i, float sign,
                 struct ge_modes *to, size_t k)
{
    for (size_t j = 0; j < from->rows; j++)
        to->u[k * to->rows + j] = sign * from->u[i * from->rows + j];
    memcpy(to->v + k * to->cols, from->v + i * from->cols,
           from->cols * sizeof(float));
    to->s[k] = from->s[i];
    to->r[k] = from->r[i];
}

/* Greedy: the best pair of all is settled first, so that a strong mode never
 * loses its partner to a weak one. overlap [r x f] is used up. */
static void settle(const struct ge_modes *reference,
                   const struct ge_modes *found, float *overlap,
                   struct ge_modes *matched)
{
    const size_t r = reference->count, f = found->count;

    for (size_t round = 0; round < r; round++) {
        size_t at = 0, partner = 0;
        float most = -1.0F;

        for (size_t k = 0; k < r; k++) {
            for (size_t j = 0; j < f; j++) {
                if (!(fabsf(overlap[k * f + j]) > most))
                    continue;
                most = fabsf(overlap[k * f + j]);
                at = k;
                partner = j;
            }
        }
        take(found, partner, overlap[at * f + partner] < 0.0F ? -1.0F : 1.0F,
             matched, at);
        for (size_t j = 0; j < f; j++)
            overlap[at * f + j] = (float)NAN; /* never > most */
        for (size_t k = 0; k < r; k++)
            overlap[k * f + partner] = (float)NAN;
    }
}

gradecho_status ge_modes_match(const struct ge_modes *reference,
                               const struct ge_modes *found,
                               struct ge_modes *matched)
{
    gradecho_status status = GRADECHO_OK;
    const size_t pairs = reference->count * found->count;
    float *left = ge_alloc_aligned(pairs, sizeof(float));
    float *right = ge_alloc_aligned(pairs, sizeof(float));

    GE_FAIL_IF(left == NULL || right == NULL, GRADECHO_E_NOMEM,
               "no memory to match modes");
    gram(reference->u, reference->count, found->u, found->count,
         reference->rows, left);
    gram(reference->v, reference->count, found->v, found->count,
         reference->cols, right);
    for (size_t i = 0; i < pairs; i++)
        left[i] *= right[i];
    settle(reference, found, left, matched);
fail:
    free(left);
    free(right);
    return status;
}

void ge_modes_overlap(const struct ge_modes *a, const struct ge_modes *b,
                      int shift, double *z)
{
    for (size_t k = 0; k < a->count; k++) {
        const size_t j = k + (size_t)shift; /* wraps if there is none before */

        z[k] = j >= a->count
                   ? 0.0
                   : dot(a->u + k * a->rows, b->u + j * a->rows, a->rows) *
                         dot(a->v + k * a->cols, b->v + j * a->cols, a->cols);
    }
}

/* What the modes see of a matrix, read once, panel by panel. */
struct images {
    float *left;  /* A v_k, [count x rows of a panel] */
    float *right; /* A' u_k, [count x cols], NULL if not asked for */
    float *panel;
};

static bool images_init(struct images *i, const struct ge_modes *modes,
                        const struct ge_matrix *a, bool both)
{
    const size_t scratch = ge_matrix_scratch(a);

    *i = (struct images){0};
    i->left =
        ge_alloc_aligned(modes->count * ge_matrix_panel_rows(a), sizeof(float));
    if (both)
        i->right = ge_alloc_aligned(modes->count * a->cols, sizeof(float));
    if (scratch > 0)
        i->panel = ge_alloc_aligned(scratch, sizeof(float));
    return i->left != NULL && (i->right != NULL || !both) &&
           (i->panel != NULL || scratch == 0);
}

static void images_fini(struct images *i)
{
    free(i->left);
    free(i->right);
    free(i->panel);
}

/* Add one panel: to along[k] = u_k' A v_k, to square[k] = ||A v_k||^2 and to
 * the right images, where these are wanted. */
static void look(const struct images *i, const struct ge_modes *modes,
                 const float *panel, size_t first, size_t rows, double *along,
                 double *square)
{
    gram(modes->v, modes->count, panel, rows, modes->cols, i->left);
    for (size_t k = 0; k < modes->count; k++) {
        const float *image = i->left + k * rows;

        along[k] += dot(modes->u + k * modes->rows + first, image, rows);
        if (square != NULL)
            square[k] += dot(image, image, rows);
    }
    if (i->right != NULL) /* U' [count x rows] times the panel [rows x cols] */
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans,
                    (int)modes->count, (int)modes->cols, (int)rows, 1.0F,
                    modes->u + first, (int)modes->rows, panel, (int)modes->cols,
                    first > 0 ? 1.0F : 0.0F, i->right, (int)modes->cols);
}

static void look_at_all(const struct images *i, const struct ge_modes *modes,
                        const struct ge_matrix *a, double *along,
                        double *square)
{
    const size_t most = ge_matrix_panel_rows(a);

    memset(along, 0, modes->count * sizeof *along);
    if (square != NULL)
        memset(square, 0, modes->count * sizeof *square);
    for (size_t first = 0; first < a->rows; first += most) {
        const size_t rows = ge_min_size(most, a->rows - first);

        look(i, modes, ge_matrix_panel(a, first, rows, i->panel), first, rows,
             along, square);
    }
}

gradecho_status ge_modes_leak(const struct ge_modes *modes,
                              const struct ge_matrix *residual, double *left,
                              double *right, double *along)
{
    gradecho_status status = GRADECHO_OK;
    struct images i;

    GE_FAIL_IF(!images_init(&i, modes, residual, true), GRADECHO_E_NOMEM,
               "no memory for leaks");
    look_at_all(&i, modes, residual, along, left);
    for (size_t k = 0; k < modes->count; k++) {
        const float *image = i.right + k * modes->cols;
        const double inside =
            dot(modes->v + k * modes->cols, image, modes->cols);

        /* What is left of a sum of squares: not negative but for rounding. */
        left[k] = fmax(left[k] - along[k] * along[k], 0.0);
        right[k] = fmax(dot(image, image, modes->cols) - inside * inside, 0.0);
    }
fail:
    images_fini(&i);
    return status;
}

gradecho_status ge_modes_project(const struct ge_modes *modes,
                                 const struct ge_matrix *a, double *p)
{
    gradecho_status status = GRADECHO_OK;
    struct images i;

    GE_FAIL_IF(!images_init(&i, modes, a, false), GRADECHO_E_NOMEM,
               "no memory to project modes");
    look_at_all(&i, modes, a, p, NULL);
fail:
    images_fini(&i);
    return status;
}
