/*
 * log_check.h - steps that tests of the log share; include after cmocka.h.
 */
#ifndef LOG_CHECK_H
#define LOG_CHECK_H

#include <sys/wait.h>

#include "log_fixture.h"
#include "log_temp.h"
#include "message.h"
#include "reader.h"

#define TEMP_TEST(f) \
    cmocka_unit_test_setup_teardown(f, temp_setup, temp_teardown)

static const struct ge_dimensions small = {
    .layers = 3, .modes = 4, .replicas = 5};

/* What a test writes with. */
struct writing {
    struct ge_log_layer *layers;
    struct ge_row row;
    ge_log_writer *log;
};

static inline struct writing start(const char *path, struct ge_dimensions dims,
                                   uint32_t flush_every)
{
    struct writing w = {.layers = fixture_layers(dims.layers)};
    struct ge_log_spec spec = fixture_spec(path, dims, w.layers);

    spec.flush_every = flush_every;
    assert_non_null(w.layers);
    assert_int_equal(ge_row_init(&w.row, &dims), GRADECHO_OK);
    assert_int_equal(ge_log_create(&spec, &w.log), GRADECHO_OK);
    return w;
}

static inline gradecho_status append(struct writing *w, uint64_t row)
{
    fixture_fill(&w->row, row);
    return ge_log_append(w->log, &w->row);
}

static inline void stop(struct writing *w)
{
    assert_int_equal(ge_log_close(&w->log), GRADECHO_OK);
    assert_null(w->log);
    ge_row_fini(&w->row);
    free(w->layers);
}

/* A closed log of n rows. */
static inline void make_log(const char *path, struct ge_dimensions dims,
                            uint64_t n)
{
    struct writing w = start(path, dims, 1);

    for (uint64_t i = 0; i < n; i++)
        assert_int_equal(append(&w, i), GRADECHO_OK);
    stop(&w);
}

static inline int same(double a, double b)
{
    return a == b || (isnan(a) && isnan(b));
}

/* Rows of the log are those of the fixture, row for row and bit for bit. */
static inline void check_rows(ge_log_reader *log, uint64_t first, uint64_t end)
{
    struct ge_row row;

    assert_int_equal(ge_row_init(&row, &ge_log_reader_facts(log)->dims),
                     GRADECHO_OK);
    for (uint64_t i = first; i < end; i++) {
        assert_int_equal(ge_log_read_row(log, i, &row), GRADECHO_OK);
        assert_int_equal(row.step, fixture_step(i));
        for (size_t f = 0; f < GE_FIELDS; f++) {
            const size_t count = ge_shape_count(ge_fields[f].shape, &row.dims);

            for (size_t j = 0; j < count; j++)
                if (!same(row.values[f][j], fixture_value(f, i, j)))
                    fail_msg("row %d, %s[%zu]: %g instead of %g", (int)i,
                             ge_fields[f].name, j, row.values[f][j],
                             fixture_value(f, i, j));
        }
    }
    ge_row_fini(&row);
}

static inline uint64_t rows_of(ge_log_reader *log)
{
    uint64_t rows = 0;

    assert_int_equal(ge_log_refresh(log, &rows), GRADECHO_OK);
    return rows;
}

/* Log at `path` as another process sees it: -1 if it cannot be opened. */
static inline int rows_elsewhere(const char *path)
{
    int status = 0;
    const pid_t child = fork();

    if (child == 0) {
        ge_log_reader *log = NULL;
        uint64_t rows = 255;

        if (ge_log_open(path, &log) == GRADECHO_OK &&
            ge_log_refresh(log, &rows) != GRADECHO_OK)
            rows = 255;
        _exit((int)rows);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status) == 255 ? -1 : WEXITSTATUS(status);
}

#endif
