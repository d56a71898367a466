/* Gradients that are used from the mapped file: which are, and what becomes of
 * them when the file is cut off. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <hdf5.h>
#include <string.h>
#include <unistd.h>

#include "gradients.h"
#include "log_temp.h"
#include "message.h"

enum { SAMPLES = 2, REPLICAS = 3, ROWS = 32, COLS = 64 };
enum { ENTRIES = ROWS * COLS, ALL = SAMPLES * REPLICAS * ENTRIES };

static float value_at(uint64_t sample, uint64_t replica, uint64_t at)
{
    return (float)((sample * REPLICAS + replica) * ENTRIES + at) + 0.5F;
}

enum how { ONE_PIECE, CHUNKS, OTHER_ORDER, DOUBLES, NEVER_WRITTEN };

static void put(hid_t file, const char *name, enum how how)
{
    const hsize_t dims[4] = {SAMPLES, REPLICAS, ROWS, COLS};
    const hsize_t chunk[4] = {1, 1, 8, COLS};
    const hid_t links = H5Pcreate(H5P_LINK_CREATE);
    const hid_t create = H5Pcreate(H5P_DATASET_CREATE);
    const hid_t space = H5Screate_simple(4, dims, NULL);
    const hid_t type = how == OTHER_ORDER ? H5T_IEEE_F32BE
                       : how == DOUBLES   ? H5T_IEEE_F64LE
                                          : H5T_IEEE_F32LE;
    hid_t dataset = H5I_INVALID_HID;
    float *values = calloc(ALL, sizeof *values);

    assert_non_null(values);
    for (uint64_t i = 0; i < ALL; i++)
        values[i] = value_at(0, 0, i);
    if (how == CHUNKS)
        H5Pset_chunk(create, 4, chunk);
    H5Pset_create_intermediate_group(links, 1);
    dataset = H5Dcreate2(file, name, type, space, links, create, H5P_DEFAULT);
    assert_true(dataset >= 0);
    if (how != NEVER_WRITTEN)
        assert_true(H5Dwrite(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL,
                             H5P_DEFAULT, values) >= 0);
    H5Dclose(dataset);
    H5Sclose(space);
    H5Pclose(create);
    H5Pclose(links);
    free(values);
}

/* In the order of enum how. `user`: bytes before the HDF5 file in the file. */
static void make_file(const char *path, hsize_t user)
{
    const hid_t create = H5Pcreate(H5P_FILE_CREATE);
    hid_t file = H5I_INVALID_HID;

    H5Pset_userblock(create, user);
    file = H5Fcreate(path, H5F_ACC_TRUNC, create, H5P_DEFAULT);
    assert_true(file >= 0);
    put(file, "/gradients/a", ONE_PIECE);
    put(file, "/gradients/b", CHUNKS);
    put(file, "/gradients/c", OTHER_ORDER);
    put(file, "/gradients/d", DOUBLES);
    put(file, "/gradients/e", NEVER_WRITTEN);
    H5Fclose(file);
    H5Pclose(create);
}

static void what_needs_no_conversion_is_used_where_it_lies(void **state)
{
    const struct temp *temp = *state;

    for (hsize_t user = 0; user <= 1024; user += 512) {
        ge_gradients *file = NULL;

        make_file(temp->path, user);
        assert_int_equal(ge_gradients_open(temp->path, &file), GRADECHO_OK);
        ge_gradients_follow(file, 0, REPLICAS);
        for (uint64_t s = 0; s < SAMPLES; s++)
            for (uint32_t r = 0; r < REPLICAS; r++)
                for (size_t layer = ONE_PIECE; layer <= NEVER_WRITTEN;
                     layer++) {
                    float read[ENTRIES];
                    const float *direct = NULL;

                    ge_gradients_use(file, s, r, layer, 0, ENTRIES);
                    direct = ge_gradients_direct(file, s, r, layer);
                    assert_true((direct != NULL) == (layer == ONE_PIECE));
                    assert_int_equal(
                        ge_gradients_read(file, s, r, layer, 0, ENTRIES, read),
                        GRADECHO_OK);
                    for (uint64_t i = 0; i < ENTRIES; i++)
                        assert_true(read[i] == (layer == NEVER_WRITTEN
                                                    ? 0.0F
                                                    : value_at(s, r, i)));
                    if (direct != NULL)
                        assert_memory_equal(direct, read, sizeof read);
                }
        for (uint64_t s = 0; s < SAMPLES; s++)
            ge_gradients_release(file, s);
        assert_true(ge_gradients_direct(file, 1, 2, 0)[7] == value_at(1, 2, 7));
        assert_null(ge_gradients_direct(file, SAMPLES, 0, 0));
        assert_null(ge_gradients_direct(file, 0, REPLICAS, 0));
        assert_true(ge_gradients_intact(file));
        ge_gradients_close(&file);
    }
}

static void a_file_that_is_cut_off_meanwhile_ends_the_run_not_the_process(
    void **state)
{
    static const float zeros[ENTRIES];
    const struct temp *temp = *state;
    ge_gradients *file = NULL;
    const float *last = NULL;
    float out[1];

    make_file(temp->path, 0);
    assert_int_equal(ge_gradients_open(temp->path, &file), GRADECHO_OK);
    ge_gradients_follow(file, 0, REPLICAS);
    last = ge_gradients_direct(file, SAMPLES - 1, REPLICAS - 1, 0);
    assert_non_null(last);
    assert_int_equal(truncate(temp->path, 4096), 0);
    assert_memory_equal(last, zeros, sizeof zeros);
    assert_false(ge_gradients_intact(file));
    assert_null(ge_gradients_direct(file, 0, 0, 0));
    ge_gradients_use(file, 0, 0, 0, 0, ENTRIES);
    ge_gradients_release(file, 0);

    (void)ge_message_capture(1);
    assert_int_equal(ge_gradients_check(file), GRADECHO_E_INPUT);
    assert_non_null(strstr(ge_message_last(), temp->path));
    assert_int_equal(ge_gradients_read(file, 0, 0, 0, 0, 1, out),
                     GRADECHO_E_INPUT);
    (void)ge_message_capture(0);
    ge_gradients_close(&file);
}

int main(void)
{
#define TEMP_TEST(f) \
    cmocka_unit_test_setup_teardown(f, temp_setup, temp_teardown)
    const struct CMUnitTest tests[] = {
        TEMP_TEST(what_needs_no_conversion_is_used_where_it_lies),
        TEMP_TEST(
            a_file_that_is_cut_off_meanwhile_ends_the_run_not_the_process),
    };

    return cmocka_run_group_tests_name("gradients, mapped", tests, NULL, NULL);
}
