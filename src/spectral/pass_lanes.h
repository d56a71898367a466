/*
 * pass_lanes.h - the pass by vectors of LANES floats, as NAME(pass). HALF(name)
 * is what NAME(name) is for half as many lanes.
 *
 * Included by pass.c once for each width of registers, so without a guard: gcc
 * takes a wider vector apart by way of the stack, four times slower.
 */

typedef float NAME(vec) __attribute__((vector_size(LANES * sizeof(float)),
                                       aligned(sizeof(float)), may_alias));

/* The sum of the lanes, by halves: one by one they wait for each other. */
static ALWAYS_INLINE float NAME(total)(const NAME(vec) * x)
{
#if LANES > 4
    HALF(vec) half[2];

    memcpy(half, x, sizeof half);
    half[0] += half[1];
    return HALF(total)(half);
#else
    return ((*x)[0] + (*x)[2]) + ((*x)[1] + (*x)[3]);
#endif
}

/* u = P v; `rows` is a literal, GROUP at most, wherever this is inlined, so
 * that the sums stay in registers. */
static ALWAYS_INLINE void NAME(dots)(const float *p, size_t rows, size_t cols,
                                     const float *v, float *u)
{
    NAME(vec) even[GROUP] = {{0}}, odd[GROUP] = {{0}};
    size_t j = 0;

    for (; j + LANES + LANES <= cols; j += LANES + LANES) {
        FOR_ROWS (i) {
            const float *at = p + i * cols + j;

            even[i] += *(const NAME(vec) *)at * *(const NAME(vec) *)(v + j);
            odd[i] += *(const NAME(vec) *)(at + LANES) *
                      *(const NAME(vec) *)(v + j + LANES);
        }
    }
    FOR_ROWS (i) {
        const NAME(vec) both = even[i] + odd[i];
        float total = NAME(total)(&both);

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

        FOR_ROWS (i) {
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
    FOR_ROWS (i)
        c[i] = scale * u[i];
    NAME(add_rows)(p, rows, cols, c, w, ahead);
}

/* From row i on, so many at a time; the first that is left. With `ahead` that
 * leaves those after which as many do not come. */
static ALWAYS_INLINE size_t NAME(all)(size_t group, bool ahead, size_t i,
                                      const float *p, size_t rows, size_t cols,
                                      const float *v, float scale, float *u,
                                      float *w)
{
    for (; i + (ahead ? group + group : group) <= rows; i += group)
        NAME(few)(group, ahead, p + i * cols, cols, v, scale, u + i, w);
    return i;
}

static ALWAYS_INLINE void NAME(pass)(const float *p, size_t rows, size_t cols,
                                     const float *v, float scale, float *u,
                                     float *w)
{
    const size_t room = FIRST_LEVEL / sizeof(float) / cols; /* in rows */
    size_t i = 0;

    /* For these rows, the next ones, v and w. */
    if (room >= GROUP + GROUP + 2)
        i = NAME(all)(GROUP, true, i, p, rows, cols, v, scale, u, w);
    else if (room >= PAIR + PAIR + 2)
        i = NAME(all)(PAIR, true, i, p, rows, cols, v, scale, u, w);
    i = NAME(all)(GROUP, false, i, p, rows, cols, v, scale, u, w);
    (void)NAME(all)(1, false, i, p, rows, cols, v, scale, u, w);
}
