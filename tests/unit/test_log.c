/* The log: written, read back, and refused in plain words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <hdf5.h>

#include "log_check.h"

static void every_field_reads_back_as_written(void **state)
{
    const struct temp *temp = *state;
    ge_log_reader *log = NULL;
    const struct ge_log_facts *facts = NULL;
    double pairs[6] = {0};
    int64_t steps[40];

    make_log(temp->path, small, 40);
    assert_int_equal(ge_log_open(temp->path, &log), GRADECHO_OK);
    facts = ge_log_reader_facts(log);
    assert_string_equal(facts->session, "s\xc3\xa9"
                                        "ance");
    assert_string_equal(facts->config, "");
    assert_string_equal(facts->created + strlen(facts->created) - 1, "Z");
    assert_int_equal(strlen(facts->created), 20);
    assert_int_equal(facts->world_size, 4);
    assert_int_equal(facts->end, GE_LOG_CLOSED);
    assert_memory_equal(&facts->dims, &small, sizeof small);
    assert_string_equal(facts->layers[2].name, "block.2.weight");
    assert_int_equal(facts->layers[2].rows, 4);
    assert_int_equal(facts->layers[2].cols, 7);

    assert_int_equal(rows_of(log), 40);
    check_rows(log, 0, 40);
    assert_int_equal(ge_log_steps(log, 0, 40, steps), GRADECHO_OK);
    assert_int_equal(steps[39], fixture_step(39));
    assert_int_equal(ge_log_read(log, GE_CORRELATION_PAIR, 15, 3, pairs),
                     GRADECHO_OK);
    for (size_t i = 0; i < 6; i++)
        assert_true(pairs[i] ==
                    fixture_value(GE_CORRELATION_PAIR, 15 + i / 2, i % 2));
    ge_log_reader_close(&log);
    assert_null(log);
}

static void a_row_that_exceeds_a_chunk_reads_back(void **state)
{
    const struct temp *temp = *state;
    const struct ge_dimensions wide = {
        .layers = 20000, .modes = 16, .replicas = 1};
    ge_log_reader *log = NULL;
    const size_t count = (size_t)20000 * 16;
    double *values = calloc(count, sizeof *values);

    assert_non_null(values);
    make_log(temp->path, wide, 3);
    assert_int_equal(ge_log_open(temp->path, &log), GRADECHO_OK);
    assert_int_equal(ge_log_read(log, GE_ECHO, 1, 1, values), GRADECHO_OK);
    for (size_t i = 0; i < count; i++)
        assert_true(same(values[i], fixture_value(GE_ECHO, 1, i)));
    ge_log_reader_close(&log);
    free(values);
}

static void an_empty_log_and_a_long_configuration_are_fine(void **state)
{
    const struct temp *temp = *state;
    const size_t length = 200000;
    struct ge_log_layer *layers = fixture_layers(small.layers);
    struct ge_log_spec spec = fixture_spec(temp->path, small, layers);
    char *config = calloc(length + 1, 1);
    ge_log_writer *writer = NULL;
    ge_log_reader *log = NULL;

    assert_non_null(layers);
    assert_non_null(config);
    memset(config, 'x', length);
    spec.config = config;
    spec.session = "";
    assert_int_equal(ge_log_create(&spec, &writer), GRADECHO_OK);
    assert_int_equal(rows_elsewhere(temp->path), 0);
    assert_int_equal(ge_log_close(&writer), GRADECHO_OK);
    assert_int_equal(ge_log_open(temp->path, &log), GRADECHO_OK);
    assert_string_equal(ge_log_reader_facts(log)->config, config);
    assert_string_equal(ge_log_reader_facts(log)->session, "");
    assert_int_equal(ge_log_reader_facts(log)->end, GE_LOG_CLOSED);
    assert_int_equal(rows_of(log), 0);
    ge_log_reader_close(&log);
    free(config);
    free(layers);
}

static void rows_appear_at_every_flush(void **state)
{
    const struct temp *temp = *state;
    struct writing w = start(temp->path, small, 4);

    for (uint64_t i = 0; i < 11; i++) {
        assert_int_equal(append(&w, i), GRADECHO_OK);
        assert_int_equal(ge_log_rows(w.log), (i + 1) / 4 * 4);
        assert_int_equal(rows_elsewhere(temp->path), (i + 1) / 4 * 4);
    }
    stop(&w); /* commits the rest */
    assert_int_equal(rows_elsewhere(temp->path), 11);
}

struct refusal {
    const char *what;
    gradecho_status status;
    const char *message; /* part of it */
};

static void check_refusal(gradecho_status status, struct refusal expected)
{
    if (status != expected.status ||
        strstr(ge_message_last(), expected.message) == NULL)
        fail_msg("%s: status %d, \"%s\"", expected.what, (int)status,
                 ge_message_last());
}

static void create_refuses_in_plain_words(void **state)
{
    const struct temp *temp = *state;
    struct ge_log_layer *layers = fixture_layers(small.layers);
    const struct ge_log_spec good = fixture_spec(temp->path, small, layers);
    char nowhere[300], expected[400];
    ge_log_writer *log = NULL;

    assert_non_null(layers);
    make_log(temp->path, small, 1);
    const long long size = temp_size(temp->path);
    snprintf(nowhere, sizeof nowhere, "%s/none/a.h5", temp->folder);
    (void)ge_message_capture(1);

    struct ge_log_spec spec = good;
    snprintf(expected, sizeof expected,
             "log %s exists; use --resume, --overwrite or another path",
             temp->path);
    check_refusal(ge_log_create(&spec, &log),
                  (struct refusal){"exists", GRADECHO_E_EXISTS, expected});
    check_refusal(ge_log_check(temp->path, false),
                  (struct refusal){"check", GRADECHO_E_EXISTS, expected});
    assert_int_equal(ge_log_check(temp->path, true), GRADECHO_OK);
    spec.path = nowhere;
    check_refusal(ge_log_create(&spec, &log),
                  (struct refusal){"no folder", GRADECHO_E_SYS,
                                   "none/a.h5 cannot be created: No such"});
    spec.path = temp->folder;
    spec.overwrite = true;
    check_refusal(ge_log_create(&spec, &log),
                  (struct refusal){"a folder", GRADECHO_E_EXISTS,
                                   "exists and is not a file"});
    spec.path = temp->path;
    spec.dims.layers = 0;
    check_refusal(ge_log_create(&spec, &log),
                  (struct refusal){"no layers", GRADECHO_E_ARG, "0 layers"});
    spec.dims = (struct ge_dimensions){3, 0, 5};
    check_refusal(ge_log_create(&spec, &log),
                  (struct refusal){"no modes", GRADECHO_E_ARG, "0 modes"});
    spec.dims = (struct ge_dimensions){3, 4, SIZE_MAX};
    check_refusal(ge_log_create(&spec, &log),
                  (struct refusal){"overflow", GRADECHO_E_ARG, "3 layers"});
    spec = good;
    spec.overwrite = true;
    spec.flush_every = 0;
    check_refusal(ge_log_create(&spec, &log),
                  (struct refusal){"never flush", GRADECHO_E_ARG, "flushes"});
    assert_null(log);
    assert_int_equal(temp_size(temp->path), size); /* the old one lives */

    spec.flush_every = 1;
    assert_int_equal(ge_log_create(&spec, &log), GRADECHO_OK);
    assert_int_equal(rows_elsewhere(temp->path), 0);
    assert_int_equal(ge_log_close(&log), GRADECHO_OK);
    (void)ge_message_capture(0);
    free(layers);
}

static void a_row_of_other_dimensions_is_refused(void **state)
{
    const struct temp *temp = *state;
    const struct ge_dimensions other = {.layers = 3, .modes = 4, .replicas = 6};
    struct writing w = start(temp->path, small, 1);
    struct ge_row row;

    (void)ge_message_capture(1);
    assert_int_equal(ge_row_init(&row, &other), GRADECHO_OK);
    check_refusal(ge_log_append(w.log, &row),
                  (struct refusal){"row", GRADECHO_E_ARG, "does not fit"});
    (void)ge_message_capture(0);
    ge_row_fini(&row);
    stop(&w);
}

/* Change a finished log behind the reader's back. */
static hid_t reopen(const char *path)
{
    const hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);

    assert_true(file >= 0);
    return file;
}

static void set_schema(const char *path, int version)
{
    const hid_t file = reopen(path);
    const hid_t attribute = H5Aopen(file, "gradecho_schema", H5P_DEFAULT);

    assert_true(H5Awrite(attribute, H5T_NATIVE_INT, &version) >= 0);
    H5Aclose(attribute);
    H5Fclose(file);
}

static void drop(const char *path, const char *attribute, const char *dataset)
{
    const hid_t file = reopen(path);

    if (attribute != NULL)
        assert_true(H5Adelete(file, attribute) >= 0);
    if (dataset != NULL)
        assert_true(H5Ldelete(file, dataset, H5P_DEFAULT) >= 0);
    H5Fclose(file);
}

static void open_refuses_in_plain_words(void **state)
{
    const struct temp *temp = *state;
    static const char text[4096] = "loss,step\n";
    ge_log_reader *log = NULL;
    const char *path = temp->path;
    char expected[300];

    (void)ge_message_capture(1);
    check_refusal(
        ge_log_open(path, &log),
        (struct refusal){"missing", GRADECHO_E_INPUT, "a.h5: No such file"});
    check_refusal(ge_log_open(temp->folder, &log),
                  (struct refusal){"folder", GRADECHO_E_INPUT,
                                   "is not a file but a directory"});
    temp_write(path, "", 0);
    check_refusal(ge_log_open(path, &log),
                  (struct refusal){"empty", GRADECHO_E_INPUT, "is empty"});
    temp_write(path, text, 10);
    check_refusal(
        ge_log_open(path, &log),
        (struct refusal){"short text", GRADECHO_E_INPUT, "not an HDF5 file"});
    temp_write(path, text, sizeof text);
    check_refusal(
        ge_log_open(path, &log),
        (struct refusal){"text", GRADECHO_E_INPUT, "not an HDF5 file"});

    unlink(path);
    make_log(path, small, 2);
    set_schema(path, 7);
    check_refusal(ge_log_open(path, &log),
                  (struct refusal){"other schema", GRADECHO_E_INPUT,
                                   "a.h5 has schema version 7; this gradecho "
                                   "reads version 1"});
    drop(path, "gradecho_schema", NULL);
    snprintf(expected, sizeof expected, "%s is not a gradecho log", path);
    check_refusal(ge_log_open(path, &log),
                  (struct refusal){"stranger", GRADECHO_E_INPUT, expected});

    unlink(path);
    make_log(path, small, 2);
    drop(path, "config", NULL);
    check_refusal(
        ge_log_open(path, &log),
        (struct refusal){"attribute", GRADECHO_E_INPUT, "attribute config"});
    unlink(path);
    make_log(path, small, 2);
    drop(path, NULL, "cols");
    check_refusal(
        ge_log_open(path, &log),
        (struct refusal){"dataset", GRADECHO_E_INPUT, "dataset cols"});
    (void)ge_message_capture(0);
    assert_null(log);
}

/* Valid HDF5 that would have the reader follow it out of the file, or count for
 * ever. */
static void claims_that_a_log_cannot_keep_are_refused(void **state)
{
    const struct temp *temp = *state;
    const hsize_t rows = (hsize_t)1 << 40;
    ge_log_reader *log = NULL;
    const hsize_t most = H5S_UNLIMITED, chunk = 64;
    const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
    const hid_t space = H5Screate_simple(1, &rows, &most);
    hid_t file = H5I_INVALID_HID;

    (void)ge_message_capture(1);
    make_log(temp->path, small, 2);
    drop(temp->path, NULL, "echo");
    file = reopen(temp->path);
    assert_true(H5Lcreate_external("/dev/zero", "/echo", file, "echo",
                                   H5P_DEFAULT, H5P_DEFAULT) >= 0);
    H5Fclose(file);
    check_refusal(ge_log_open(temp->path, &log),
                  (struct refusal){"link", GRADECHO_E_INPUT,
                                   "dataset echo: is a soft or external"});
    unlink(temp->path);
    make_log(temp->path, small, 2);
    drop(temp->path, NULL, "step");
    file = reopen(temp->path);
    H5Pset_chunk(creation, 1, &chunk); /* allocated when written: never */
    H5Dclose(H5Dcreate2(file, "step", H5T_STD_I64LE, space, H5P_DEFAULT,
                        creation, H5P_DEFAULT));
    H5Fclose(file);
    H5Sclose(space);
    H5Pclose(creation);
    check_refusal(ge_log_open(temp->path, &log),
                  (struct refusal){"rows", GRADECHO_E_INPUT,
                                   "it claims 1099511627776 rows, but holds"});
    (void)ge_message_capture(0);
    assert_null(log);
}

static void a_field_that_an_older_log_lacks_is_missing(void **state)
{
    const struct temp *temp = *state;
    ge_log_reader *log = NULL;
    double values[3] = {0};

    make_log(temp->path, small, 2);
    drop(temp->path, NULL, "sigma2");
    drop(temp->path, NULL, "signal_modes");
    assert_int_equal(ge_log_open(temp->path, &log), GRADECHO_OK);
    assert_int_equal(ge_log_read(log, GE_SIGMA2, 0, 1, values), GRADECHO_OK);
    assert_true(isnan(values[0]) && isnan(values[2]));
    assert_int_equal(ge_log_read(log, GE_SIGNAL_MODES, 0, 1, values),
                     GRADECHO_OK);
    assert_true(values[0] == -1.0 && values[2] == -1.0);
    ge_log_reader_close(&log);
}

static void rows_beyond_the_commit_mark_are_refused(void **state)
{
    const struct temp *temp = *state;
    ge_log_reader *log = NULL;
    int64_t steps[4];
    double values[4];

    make_log(temp->path, small, 3);
    assert_int_equal(ge_log_open(temp->path, &log), GRADECHO_OK);
    (void)ge_message_capture(1);
    assert_int_equal(ge_log_steps(log, 0, 4, steps), GRADECHO_E_INPUT);
    assert_int_equal(ge_log_steps(log, UINT64_MAX, 2, steps), GRADECHO_E_INPUT);
    assert_int_equal(ge_log_read(log, GE_LOSS, 3, 1, values), GRADECHO_E_INPUT);
    (void)ge_message_capture(0);
    assert_int_equal(ge_log_read(log, GE_LOSS, 3, 0, values), GRADECHO_OK);
    ge_log_reader_close(&log);
}

/* Identifiers of a type are numbered in turn: all that were given out between
 * two of ours must be closed. */
static void check_closed(hid_t first, hid_t last)
{
    assert_true(first >= 0 && last > first);
    for (hid_t id = first + 1; id < last; id++)
        assert_true(H5Iis_valid(id) <= 0);
}

static void no_identifier_is_left_open(void **state)
{
    const struct temp *temp = *state;
    hid_t spaces[2], types[2], lists[2];
    ge_log_reader *log = NULL;

    for (int i = 0; i < 2; i++) {
        spaces[i] = H5Screate(H5S_SCALAR);
        types[i] = H5Tcopy(H5T_C_S1);
        lists[i] = H5Pcreate(H5P_FILE_ACCESS);
        if (i == 1)
            break;
        make_log(temp->path, small, 2);
        assert_int_equal(ge_log_open(temp->path, &log), GRADECHO_OK);
        check_rows(log, 0, 2);
        ge_log_reader_close(&log);
        drop(temp->path, "session", NULL);
        (void)ge_message_capture(1);
        assert_int_equal(ge_log_open(temp->path, &log), GRADECHO_E_INPUT);
        (void)ge_message_capture(0);
    }
    /* Files, datasets, attributes: none; the two are the types above. */
    assert_int_equal(H5Fget_obj_count((hid_t)H5F_OBJ_ALL, H5F_OBJ_ALL), 2);
    check_closed(spaces[0], spaces[1]);
    check_closed(types[0], types[1]);
    check_closed(lists[0], lists[1]);
    for (int i = 0; i < 2; i++) {
        H5Pclose(lists[i]);
        H5Tclose(types[i]);
        H5Sclose(spaces[i]);
    }
}

static void row_values_share_one_block(void **state)
{
    struct ge_row row;
    const struct ge_dimensions absurd = {
        .layers = SIZE_MAX / 2, .modes = 4, .replicas = 4};

    (void)state;
    assert_int_equal(ge_row_init(&row, &small), GRADECHO_OK);
    assert_ptr_equal(row.values[0], row.block);
    assert_ptr_equal(row.values[GE_REPLICA_NOISE] - small.layers * small.modes,
                     row.values[GE_REPLICA_NOISE - 1]);
    assert_int_equal(row.step, -1);
    assert_true(isnan(row.values[GE_LOSS][0]));
    assert_true(row.values[GE_CORRELATION_PAIR][1] == -1.0);
    ge_row_fini(&row);
    assert_null(row.block);
    (void)ge_message_capture(1);
    assert_int_equal(ge_row_init(&row, &absurd), GRADECHO_E_NOMEM);
    (void)ge_message_capture(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(row_values_share_one_block),
        TEMP_TEST(every_field_reads_back_as_written),
        TEMP_TEST(a_row_that_exceeds_a_chunk_reads_back),
        TEMP_TEST(an_empty_log_and_a_long_configuration_are_fine),
        TEMP_TEST(rows_appear_at_every_flush),
        TEMP_TEST(create_refuses_in_plain_words),
        TEMP_TEST(a_row_of_other_dimensions_is_refused),
        TEMP_TEST(open_refuses_in_plain_words),
        TEMP_TEST(claims_that_a_log_cannot_keep_are_refused),
        TEMP_TEST(a_field_that_an_older_log_lacks_is_missing),
        TEMP_TEST(rows_beyond_the_commit_mark_are_refused),
        TEMP_TEST(no_identifier_is_left_open),
    };

    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
