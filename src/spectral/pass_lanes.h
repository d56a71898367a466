/*
 * pass_lanes.h - the pass by vectors of LANES floats, as NAME(pass).
 *
 * Included by pass.c once for each width of registers, so without a guard: gcc
 * takes a wider vector apart by way of the stack, four times slower.
 */

typedef float NAME(vec) __attribute__((vector_size(LANES * sizeof(float)),
                                       aligned(sizeof(float)), may_alias));

/* u = P v; `rows` is a literal, 1 or GROUP, wherever this is inlined, so that
 * the sums stay in registers. */
static ALWAYS_INLINE void NAME(dots)(const float *p, size_t rows, size_t cols,
                                     const float *v, float *u)
{
    NAME(vec) even[GROUP] = {{0}}, odd[GROUP] = {{0}};
    size_t j = 0;

    for (; j + LANES + LANES <= cols; j += LANES + LANES) {
#pragma GCC unroll 4
        for (size_t i = 0; i < rows; i++) {
            const float *at = p + i * cols + j;

            even[i] += *(const NAME(vec) *)at * *(const NAME(vec) *)(v + j);
            odd[i] += *(const NAME(vec) *)(at + LANES) *
                      *(const NAME(vec) *)(v + j + LANES);
        }
    }
#pragma GCC unroll 4
    for (size_t i = 0; i < rows; i++) {
        const NAME(vec) both = even[i] + odd[i];
        float total = 0.0F;

        for (size_t k = 0; k < LANES; k++)
            total += both[k];
        for (size_t k = j; k < cols; k++)
            total += p[i * cols + k] * v[k];
        u[i] = total;
    }
}

/* w += sum_i c_i (row i of p); `ahead`: meanwhile, fetch as many rows that come
 * after these. */
static ALWAYS_INLINE void NAME(add_rows)(const float *p, size_t rows,
                                         size_t cols, const float *c, float *w,
                                         bool ahead)
{
    size_t j = 0;

    for (; j + LANES <= cols; j += LANES) {
        NAME(vec) sum = *(const NAME(vec) *)(w + j);

#pragma GCC unroll 4
        for (size_t i = 0; i < rows; i++) {
            if (ahead && j % LINE == 0)
                __builtin_prefetch(p + (rows + i) * cols + j);
            sum += c[i] * *(const NAME(vec) *)(p + i * cols + j);
        }
        *(NAME(vec) *)(w + j) = sum;
    }
    for (; j < cols; j++)
        for (size_t i = 0; i < rows; i++)
            w[j] += c[i] * p[i * cols + j];
}

/* A few rows: their products with v and their sum, which leaves the memory time
 * to bring the next few (`ahead`). What is not fetched so is read row by row: a
 * stream that the hardware fetches. */
static ALWAYS_INLINE void NAME(few)(size_t rows, bool ahead, const float *p,
                                    size_t cols, const float *v, float scale,
                                    float *u, float *w)
{
    float c[GROUP];

    if (ahead)
        NAME(dots)(p, rows, cols, v, u);
    else
        for (size_t i = 0; i < rows; i++)
            NAME(dots)(p + i * cols, 1, cols, v, u + i);
#pragma GCC unroll 4
    for (size_t i = 0; i < rows; i++)
        c[i] = scale * u[i];
    NAME(add_rows)(p, rows, cols, c, w, ahead);
}

static ALWAYS_INLINE void NAME(pass)(const float *p, size_t rows, size_t cols,
                                     const float *v, float scale, float *u,
                                     float *w)
{
    /* These rows, the next ones, v and w. */
    const bool fit = cols <= FIRST_LEVEL / sizeof(float) / (GROUP + GROUP + 2);
    size_t i = 0;

    for (; i + GROUP <= rows; i += GROUP) {
        const bool ahead = fit && i + GROUP + GROUP <= rows;

        NAME(few)(GROUP, ahead, p + i * cols, cols, v, scale, u + i, w);
    }
    for (; i < rows; i++)
        NAME(few)(1, false, p + i * cols, cols, v, scale, u + i, w);
}
