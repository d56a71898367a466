/* Files of gradients: what is read, and what is refused in plain words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <hdf5.h>
#include <math.h>

#include "gradients.h"
#include "log_temp.h"
#include "message.h"

enum { SAMPLES = 3, REPLICAS = 2 };

/* Value of an entry: exact in single precision, different at each place. */
static double entry(int layer, uint64_t sample, uint64_t replica, uint64_t at)
{
    return 0.5 *
           (double)(((uint64_t)layer * 10 + sample * 3 + replica) * 4096 + at);
}

static void put(hid_t file, const char *name, hid_t type, hid_t memory,
                int rank, const hsize_t *dims, const void *values)
{
    const hid_t links = H5Pcreate(H5P_LINK_CREATE);
    const hid_t space =
        rank > 0 ? H5Screate_simple(rank, dims, NULL) : H5Screate(H5S_SCALAR);
    hid_t dataset = H5I_INVALID_HID;

    H5Pset_create_intermediate_group(links, 1);
    dataset =
        H5Dcreate2(file, name, type, space, links, H5P_DEFAULT, H5P_DEFAULT);
    assert_true(dataset >= 0);
    if (values != NULL)
        assert_true(H5Dwrite(dataset, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT,
                             values) >= 0);
    H5Dclose(dataset);
    H5Sclose(space);
    H5Pclose(links);
}

/* A layer of the known content; rank 3 if `rows` is 0. */
static void put_layer(hid_t file, const char *name, int layer, hid_t type,
                      hsize_t rows, hsize_t cols)
{
    const hsize_t four[4] = {SAMPLES, REPLICAS, rows, cols};
    const hsize_t three[3] = {SAMPLES, REPLICAS, cols};
    const hsize_t plane = (rows > 0 ? rows : 1) * cols;
    double *values = calloc(plane * SAMPLES * REPLICAS, sizeof *values);

    assert_non_null(values);
    for (uint64_t s = 0; s < SAMPLES; s++)
        for (uint64_t r = 0; r < REPLICAS; r++)
            for (uint64_t i = 0; i < plane; i++)
                values[(s * REPLICAS + r) * plane + i] = entry(layer, s, r, i);
    put(file, name, type, H5T_NATIVE_DOUBLE, rows > 0 ? 4 : 3,
        rows > 0 ? four : three, values);
    free(values);
}

static void put_batch_size(hid_t file, double size)
{
    const hid_t space = H5Screate(H5S_SCALAR);
    const hid_t attribute = H5Acreate2(file, "batch_size", H5T_IEEE_F64LE,
                                       space, H5P_DEFAULT, H5P_DEFAULT);

    assert_true(H5Awrite(attribute, H5T_NATIVE_DOUBLE, &size) >= 0);
    H5Aclose(attribute);
    H5Sclose(space);
}

static hid_t make(const char *path)
{
    const hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);

    assert_true(file >= 0);
    return file;
}

/* Layers, in the order of their names: 0 conv/w, 1 fc1.bias, 2 fc1.weight */
static void make_good(const char *path)
{
    const hid_t file = make(path);
    const hsize_t samples = SAMPLES;
    const int steps[SAMPLES] = {5, 10, 15};

    put_layer(file, "/gradients/fc1.weight", 2, H5T_IEEE_F64BE, 7, 5);
    put_layer(file, "/gradients/fc1.bias", 1, H5T_IEEE_F32LE, 0, 11);
    put_layer(file, "/gradients/conv/w", 0, H5T_IEEE_F32LE, 4, 9);
    put(file, "/step", H5T_STD_I32LE, H5T_NATIVE_INT, 1, &samples, steps);
    put_batch_size(file, 32.0);
    H5Fclose(file);
}

static void facts_and_order_of_layers(void **state)
{
    const struct temp *temp = *state;
    ge_gradients *file = NULL;
    const struct ge_gradients_facts *facts = NULL;

    make_good(temp->path);
    assert_int_equal(ge_gradients_open(temp->path, &file), GRADECHO_OK);
    facts = ge_gradients_facts(file);
    assert_int_equal(facts->samples, SAMPLES);
    assert_int_equal(facts->replicas, REPLICAS);
    assert_true(facts->batch_size == 32.0);
    assert_int_equal(facts->layer_count, 3);
    assert_string_equal(facts->layers[0].name, "conv/w");
    assert_string_equal(facts->layers[1].name, "fc1.bias");
    assert_string_equal(facts->layers[2].name, "fc1.weight");
    assert_int_equal(facts->layers[0].rows, 4);
    assert_int_equal(facts->layers[0].cols, 9);
    assert_int_equal(facts->layers[1].rows, 1);
    assert_int_equal(facts->layers[1].cols, 11);
    assert_int_equal(ge_gradients_step(file, 2), 15);
    ge_gradients_close(&file);
    assert_null(file);
    ge_gradients_close(&file);
}

static void steps_and_batch_size_are_optional(void **state)
{
    const struct temp *temp = *state;
    ge_gradients *file = NULL;
    const hid_t made = make(temp->path);

    put_layer(made, "/gradients/a", 0, H5T_IEEE_F32LE, 2, 2);
    H5Fclose(made);
    assert_int_equal(ge_gradients_open(temp->path, &file), GRADECHO_OK);
    assert_true(isnan(ge_gradients_facts(file)->batch_size));
    assert_int_equal(ge_gradients_step(file, 2), 2);
    ge_gradients_close(&file);
}

/* Every start and length, and nothing is written beyond. */
static void every_part_of_a_layer_reads_back(void **state)
{
    const struct temp *temp = *state;
    ge_gradients *file = NULL;
    const struct ge_gradients_facts *facts = NULL;

    make_good(temp->path);
    assert_int_equal(ge_gradients_open(temp->path, &file), GRADECHO_OK);
    facts = ge_gradients_facts(file);
    for (size_t layer = 0; layer < 3; layer++) {
        const uint64_t n =
            facts->layers[layer].rows * facts->layers[layer].cols;
        const uint64_t s = layer % SAMPLES, r = layer % REPLICAS;

        for (uint64_t first = 0; first <= n; first++)
            for (uint64_t count = 0; count <= n - first; count++) {
                float out[64];

                out[count] = -7.0F;
                assert_int_equal(ge_gradients_read(file, s, (uint32_t)r, layer,
                                                   first, count, out),
                                 GRADECHO_OK);
                for (uint64_t i = 0; i < count; i++)
                    assert_true((double)out[i] ==
                                entry((int)layer, s, r, first + i));
                assert_true(out[count] == -7.0F);
            }
    }
    /* Layers in turn, as a monitor reads them. */
    for (uint64_t s = 0; s < SAMPLES; s++)
        for (uint32_t r = 0; r < REPLICAS; r++)
            for (size_t layer = 0; layer < 3; layer++) {
                float out[2];

                assert_int_equal(
                    ge_gradients_read(file, s, r, layer, 3, 2, out),
                    GRADECHO_OK);
                assert_true((double)out[1] == entry((int)layer, s, r, 4));
            }
    ge_gradients_close(&file);
}

static void a_read_outside_is_refused(void **state)
{
    const struct temp *temp = *state;
    ge_gradients *file = NULL;
    float out[64];

    make_good(temp->path);
    assert_int_equal(ge_gradients_open(temp->path, &file), GRADECHO_OK);
    (void)ge_message_capture(1);
    assert_int_equal(ge_gradients_read(file, 3, 0, 0, 0, 1, out),
                     GRADECHO_E_ARG);
    assert_int_equal(ge_gradients_read(file, 0, 2, 0, 0, 1, out),
                     GRADECHO_E_ARG);
    assert_int_equal(ge_gradients_read(file, 0, 0, 3, 0, 1, out),
                     GRADECHO_E_ARG);
    assert_int_equal(ge_gradients_read(file, 0, 0, 0, 30, 7, out),
                     GRADECHO_E_ARG);
    assert_int_equal(ge_gradients_read(file, 0, 0, 0, 1, UINT64_MAX, out),
                     GRADECHO_E_ARG);
    (void)ge_message_capture(0);
    ge_gradients_close(&file);
}

static void two_dimensions(hid_t file)
{
    const hsize_t dims[] = {8, 4};

    put(file, "/gradients/bad", H5T_IEEE_F32LE, 0, 2, dims, NULL);
}

static void five_dimensions(hid_t file)
{
    const hsize_t dims[] = {SAMPLES, REPLICAS, 8, 4, 3};

    put(file, "/gradients/bad", H5T_IEEE_F32LE, 0, 5, dims, NULL);
}

static void a_scalar(hid_t file)
{
    put(file, "/gradients/bad", H5T_IEEE_F32LE, 0, 0, NULL, NULL);
}

static void integers(hid_t file)
{
    const hsize_t dims[] = {SAMPLES, REPLICAS, 4};

    put(file, "/gradients/bad", H5T_STD_I32LE, 0, 3, dims, NULL);
}

static void half_precision(hid_t file)
{
    const hsize_t dims[] = {SAMPLES, REPLICAS, 4};
    const hid_t half = H5Tcopy(H5T_IEEE_F32LE);

    assert_true(H5Tset_fields(half, 15, 10, 5, 0, 10) >= 0);
    assert_true(H5Tset_size(half, 2) >= 0);
    put(file, "/gradients/bad", half, 0, 3, dims, NULL);
    H5Tclose(half);
}

static void no_columns(hid_t file)
{
    const hsize_t dims[] = {SAMPLES, REPLICAS, 4, 0};

    put(file, "/gradients/bad", H5T_IEEE_F32LE, 0, 4, dims, NULL);
}

static void too_large(hid_t file)
{
    const hsize_t dims[] = {SAMPLES, REPLICAS, (hsize_t)1 << 31,
                            (hsize_t)1 << 31};
    const hsize_t chunk[] = {1, 1, 1, 1};
    const hid_t space = H5Screate_simple(4, dims, NULL);
    const hid_t create = H5Pcreate(H5P_DATASET_CREATE);
    hid_t dataset = H5I_INVALID_HID;

    H5Pset_chunk(create, 4, chunk);
    dataset = H5Dcreate2(file, "/gradients/bad", H5T_IEEE_F64LE, space,
                         H5P_DEFAULT, create, H5P_DEFAULT);
    assert_true(dataset >= 0);
    H5Dclose(dataset);
    H5Pclose(create);
    H5Sclose(space);
}

static void other_replicas(hid_t file)
{
    const hsize_t dims[] = {SAMPLES, REPLICAS + 1, 4};

    put(file, "/gradients/bad", H5T_IEEE_F32LE, 0, 3, dims, NULL);
}

static void other_samples(hid_t file)
{
    const hsize_t dims[] = {SAMPLES + 1, REPLICAS, 4};

    put(file, "/gradients/bad", H5T_IEEE_F32LE, 0, 3, dims, NULL);
}

static void a_soft_link(hid_t file)
{
    assert_true(H5Lcreate_soft("/gradients/a", file, "/gradients/bad",
                               H5P_DEFAULT, H5P_DEFAULT) >= 0);
}

static void a_type(hid_t file)
{
    const hid_t type = H5Tcopy(H5T_IEEE_F32LE);

    assert_true(H5Tcommit2(file, "/gradients/bad", type, H5P_DEFAULT,
                           H5P_DEFAULT, H5P_DEFAULT) >= 0);
    H5Tclose(type);
}

static void a_long_name(hid_t file)
{
    char name[400] = "/gradients/bad";

    memset(name + strlen(name), 'x', 300);
    put_layer(file, name, 0, H5T_IEEE_F32LE, 2, 2);
}

static void short_steps(hid_t file)
{
    const hsize_t dims[] = {SAMPLES - 1};

    put(file, "/step", H5T_STD_I32LE, 0, 1, dims, NULL);
}

static void real_steps(hid_t file)
{
    const hsize_t dims[] = {SAMPLES};

    put(file, "/step", H5T_IEEE_F64LE, 0, 1, dims, NULL);
}

static void negative_batch_size(hid_t file)
{
    put_batch_size(file, -1.0);
}

/* Its data are in another file: HDF5 would open whatever is named there. */
static void data_elsewhere(hid_t file)
{
    const hsize_t dims[] = {SAMPLES, REPLICAS, 4};
    const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
    const hid_t space = H5Screate_simple(3, dims, NULL);

    H5Pset_external(creation, "/dev/zero", 0, H5F_UNLIMITED);
    H5Dclose(H5Dcreate2(file, "/gradients/bad", H5T_IEEE_F32LE, space,
                        H5P_DEFAULT, creation, H5P_DEFAULT));
    H5Sclose(space);
    H5Pclose(creation);
}

/* A view of itself: reading it overflows HDF5's stack. */
static void a_view_of_itself(hid_t file)
{
    const hsize_t dims[] = {SAMPLES, REPLICAS, 4};
    const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
    const hid_t space = H5Screate_simple(3, dims, NULL);

    H5Pset_virtual(creation, space, ".", "/gradients/bad", space);
    H5Dclose(H5Dcreate2(file, "/gradients/bad", H5T_IEEE_F32LE, space,
                        H5P_DEFAULT, creation, H5P_DEFAULT));
    H5Sclose(space);
    H5Pclose(creation);
}

static void steps_elsewhere(hid_t file)
{
    assert_true(H5Lcreate_external("/dev/zero", "/step", file, "/step",
                                   H5P_DEFAULT, H5P_DEFAULT) >= 0);
}

/* Groups in groups: HDF5 calls itself for each. */
static void a_deep_group(hid_t file)
{
    char name[600] = "/gradients/bad";
    const hid_t links = H5Pcreate(H5P_LINK_CREATE);

    for (int i = 0; i < 200; i++)
        memcpy(name + strlen(name), "/g", 3);
    H5Pset_create_intermediate_group(links, 1);
    H5Gclose(H5Gcreate2(file, name, links, H5P_DEFAULT, H5P_DEFAULT));
    H5Pclose(links);
}

/* A good layer "a" and one thing that is wrong. */
static void each_refusal_names_file_and_layer(void **state)
{
    static const struct {
        void (*make)(hid_t file);
        const char *message; /* behind the path */
    } cases[] = {
        {two_dimensions,
         ": layer bad: shape [8, 4] must be [sample, replica, "},
        {five_dimensions, ": layer bad: shape [3, 2, 8, 4, 3] must be"},
        {a_scalar, ": layer bad: shape [] must be [sample, replica, "},
        {integers, ": layer bad: must be float32 or float64"},
        {half_precision, ": layer bad: must be float32 or float64"},
        {no_columns, ": layer bad: shape [3, 2, 4, 0] is empty or too large"},
        {too_large, ": layer bad: shape [3, 2, 2147483648, 2147483648] is"},
        {other_replicas, ": layer bad: 3 samples of 3 replicas, but layer a "
                         "has 3 of 2"},
        {other_samples, ": layer bad: 4 samples of 2 replicas, but layer a "
                        "has 3 of 2"},
        {a_soft_link, ": layer bad: is a soft or external link"},
        {a_type, ": layer bad: is not a dataset"},
        {a_long_name, "xxx: the name is longer than 255 bytes"},
        {data_elsewhere, ": layer bad: its data are in another dataset or"},
        {a_view_of_itself, ": layer bad: its data are in another dataset or"},
        {steps_elsewhere, ": dataset /step: is a soft or external link"},
        {a_deep_group, "g: the name is longer than 255 bytes"},
        {short_steps, ": /step must hold 3 integers"},
        {real_steps, ": /step must hold 3 integers"},
        {negative_batch_size, ": attribute batch_size must be positive"},
    };
    const struct temp *temp = *state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ge_gradients *file = NULL;
        const hid_t made = make(temp->path);
        gradecho_status status = GRADECHO_OK;

        put_layer(made, "/gradients/a", 0, H5T_IEEE_F32LE, 2, 2);
        cases[i].make(made);
        H5Fclose(made);
        (void)ge_message_capture(1);
        status = ge_gradients_open(temp->path, &file);
        (void)ge_message_capture(0);
        if (status != GRADECHO_E_INPUT ||
            strstr(ge_message_last(), cases[i].message) == NULL ||
            strstr(ge_message_last(), temp->path) == NULL)
            fail_msg("case %zu: status %d, \"%s\"", i, (int)status,
                     ge_message_last());
        assert_null(file);
        assert_int_equal(H5Fget_obj_count((hid_t)H5F_OBJ_ALL, H5F_OBJ_ALL), 0);
    }
}

static void check_open(const char *path, const char *message)
{
    ge_gradients *file = NULL;
    gradecho_status status = GRADECHO_OK;

    (void)ge_message_capture(1);
    status = ge_gradients_open(path, &file);
    (void)ge_message_capture(0);
    if (status != GRADECHO_E_INPUT ||
        strstr(ge_message_last(), message) == NULL)
        fail_msg("status %d, \"%s\" instead of \"%s\"", (int)status,
                 ge_message_last(), message);
}

static void files_without_layers_are_refused(void **state)
{
    const struct temp *temp = *state;
    const hsize_t dims[] = {SAMPLES, REPLICAS, 4};
    hid_t made = H5I_INVALID_HID;

    check_open(temp->path, "a.h5: No such file");
    temp_write(temp->path, "step,loss\n", 10);
    check_open(temp->path, "a.h5 is not an HDF5 file");
    temp_write(temp->path, "", 0);
    check_open(temp->path, "a.h5 is empty");
    H5Fclose(make(temp->path));
    check_open(temp->path, "a.h5: group /gradients is missing");
    made = make(temp->path);
    H5Gclose(
        H5Gcreate2(made, "/gradients", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    H5Fclose(made);
    check_open(temp->path, "a.h5: /gradients has no layers");
    made = make(temp->path);
    H5Lcreate_soft("/", made, "/gradients", H5P_DEFAULT, H5P_DEFAULT);
    H5Fclose(made);
    check_open(temp->path, "a.h5: group /gradients: is a soft or external");
    made = make(temp->path);
    put(made, "/gradients", H5T_IEEE_F32LE, 0, 3, dims, NULL);
    H5Fclose(made);
    check_open(temp->path, "a.h5: /gradients is not a group");
    make_good(temp->path);
    assert_int_equal(truncate(temp->path, temp_size(temp->path) / 2), 0);
    check_open(temp->path, "a.h5: H5Fopen: truncated file");
}

#define TEMP_TEST(f) \
    cmocka_unit_test_setup_teardown(f, temp_setup, temp_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEMP_TEST(facts_and_order_of_layers),
        TEMP_TEST(steps_and_batch_size_are_optional),
        TEMP_TEST(every_part_of_a_layer_reads_back),
        TEMP_TEST(a_read_outside_is_refused),
        TEMP_TEST(each_refusal_names_file_and_layer),
        TEMP_TEST(files_without_layers_are_refused),
    };

    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    return cmocka_run_group_tests_name("gradients", tests, NULL, NULL);
}
