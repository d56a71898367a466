#include "matrix.h"

#include "memory.h"

enum {
    PANEL_BYTES = 256 << 10, /* leaves room for the vectors in 1 MB or 512 KB */
    PANEL_STEP = 16,         /* rows: a panel is as aligned as the matrix */
};

size_t ge_matrix_panel_rows(const struct ge_matrix *a)
{
    const size_t fit = PANEL_BYTES / sizeof(float) / a->cols;
    const size_t rows = ge_max_size(fit / PANEL_STEP, 1) * PANEL_STEP;

    return ge_min_size(rows, a->rows);
}

size_t ge_matrix_scratch(const struct ge_matrix *a)
{
    return a->whole != NULL ? 0 : ge_matrix_panel_rows(a) * a->cols;
}

const float *ge_matrix_panel(const struct ge_matrix *a, size_t first,
                             size_t count, float *scratch)
{
    if (a->whole != NULL)
        return a->whole + first * a->cols;
    a->read(a->context, first, count, scratch);
    return scratch;
}
