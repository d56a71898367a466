/* How often entries are read that do not lie in memory: a file of gradients in
 * chunks, which HDF5 may have to decompress, is not read for each of the passes
 * that an SVD makes. */
#include <hdf5.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "engine.h"
#include "mpi_check.h"
#include "temp_name.h"

/* Larger than what is copied in any case. */
enum { REPLICAS = 2, ROWS = 520, COLS = 600, ENTRIES = ROWS * COLS };

/* Of this rank. */
static size_t entries_read;
static gradecho_status (*really_read)(struct ge_source *source, size_t j,
                                      size_t layer, size_t first, size_t count,
                                      float *out);

static gradecho_status counting_read(struct ge_source *source, size_t j,
                                     size_t layer, size_t first, size_t count,
                                     float *out)
{
    entries_read += count;
    return really_read(source, j, layer, first, count, out);
}

/* One sample of one layer. */
static void make_file(const char *path, bool in_chunks)
{
    static float values[REPLICAS * ENTRIES];
    const hsize_t dims[] = {1, REPLICAS, ROWS, COLS};
    const hsize_t chunk[] = {1, 1, 64, COLS};
    const hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    const hid_t links = H5Pcreate(H5P_LINK_CREATE);
    const hid_t storage = H5Pcreate(H5P_DATASET_CREATE);
    const hid_t space = H5Screate_simple(4, dims, NULL);

    H5Pset_create_intermediate_group(links, 1);
    if (in_chunks)
        H5Pset_chunk(storage, 4, chunk);
    const hid_t dataset = H5Dcreate2(file, "gradients/w", H5T_NATIVE_FLOAT,
                                     space, links, storage, H5P_DEFAULT);

    for (size_t i = 0; i < REPLICAS * ENTRIES; i++)
        values[i] = (float)number_of(1, i);
    NEED(H5Dwrite(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT,
                  values) >= 0);
    H5Dclose(dataset);
    H5Sclose(space);
    H5Pclose(storage);
    H5Pclose(links);
    NEED(H5Fclose(file) >= 0);
}

/* Entries that this rank reads for a sample with echoes. */
static size_t reads(struct ranks *r, bool in_chunks)
{
    char path[200];
    int made = -1;
    struct ge_config config;
    struct ge_source *source = NULL;
    struct ge_view view;
    ge_engine *engine = NULL;
    struct ge_row row;
    gradecho_status local = GRADECHO_OK;

    temp_name(path, sizeof path, "costly");
    made = mkstemp(path);
    NEED(made >= 0 && close(made) == 0);
    make_file(path, in_chunks);
    NEED(ge_config_init(&config) == GRADECHO_OK);
    NEED(ge_config_set(&config, "layers.max_modes=4") == GRADECHO_OK);
    NEED(ge_source_open_file(r->comm, path, &source) == GRADECHO_OK);
    struct ge_source_ops counting = *source->ops;

    really_read = counting.read;
    counting.read = counting_read;
    source->ops = &counting;
    ge_layers_select(&source->facts.layers, &config);
    NEED(ge_engine_create(r->comm, &config, source, &engine) == GRADECHO_OK);
    const struct ge_dimensions dims = ge_engine_dimensions(engine);
    NEED(ge_row_init(&row, &dims) == GRADECHO_OK);
    source->ops->look(source, 0.0, &view);
    entries_read = 0;
    CHECK(r, ge_engine_measure(engine, 0, 0, &row, &local) == GRADECHO_OK);
    CHECK(r, local == GRADECHO_OK);
    if (r->rank == 0) /* it was one with echoes */
        CHECK(r, row.values[GE_ECHO][0] == row.values[GE_ECHO][0]);
    ge_row_fini(&row);
    ge_engine_destroy(&engine);
    ge_source_close(&source);
    ge_config_fini(&config);
    unlink(path);
    return entries_read;
}

/* For the mean and for the noise, if the rank has several replicas, for the
 * echoes, and for those of another replica with it. */
static void a_file_in_chunks_is_read_a_few_times(struct ranks *r)
{
    const size_t here = (size_t)(REPLICAS / r->size) * ENTRIES;
    const size_t read = reads(r, true);

    CHECK(r, read >= 2 * here && read <= 4 * here);
}

static void what_is_mapped_is_not_read(struct ranks *r)
{
    CHECK(r, reads(r, false) == 0);
}

int main(int argc, char **argv)
{
    static const struct mpi_test tests[] = {
        MPI_TEST(a_file_in_chunks_is_read_a_few_times),
        MPI_TEST(what_is_mapped_is_not_read),
    };

    return mpi_run(&argc, &argv, tests, COUNT_OF(tests));
}
