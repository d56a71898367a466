#include "log_layout.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "memory.h"

#include "gradecho/version.h"

#include <hdf5_hl.h>

/* Rows of a chunk. Few, since every commit writes the chunk being filled again,
 * and fewer where they are long; many enough that the index stays small. Rows
 * of a few bytes share a page, or reading /step would be one disk access for 16
 * numbers. bench/log shows what each costs. */
#define CHUNK_ROWS 16
#define CHUNK_BYTES_MIN 4096U
#define CHUNK_BYTES_SHARED (64U << 10) /* by several rows */
#define CHUNK_BYTES_MAX (1U << 20)

enum scale { LAYER, MODE, REPLICA, PAIR, STEP, SCALES };

struct layout {
    hid_t file;
    const struct ge_log_spec *spec;
    hid_t scales[SCALES];
};

int ge_layout_row(enum ge_shape shape, const struct ge_dimensions *dims,
                  hsize_t row[GE_RANK_MAX])
{
    row[0] = row[1] = row[2] = 1;
    switch (shape) {
    case GE_PER_PAIR:
        row[1] = 2;
        return 2;
    case GE_PER_LAYER:
        row[1] = dims->layers;
        return 2;
    case GE_PER_MODE:
        row[1] = dims->layers;
        row[2] = dims->modes;
        return 3;
    case GE_PER_REPLICA:
        row[1] = dims->layers;
        row[2] = dims->replicas;
        return 3;
    case GE_PER_STEP:
    case GE_SHAPES:
        break;
    }
    return 1;
}

static gradecho_status write_root(const struct layout *layout)
{
    gradecho_status status = GRADECHO_OK;
    const struct ge_log_spec *spec = layout->spec;
    const char *path = spec->path;
    const hid_t file = layout->file;
    const time_t now = time(NULL);
    struct tm utc;
    char created[sizeof "-2147483648-12-31T23:59:60Z"] = "";

    if (gmtime_r(&now, &utc) != NULL)
        strftime(created, sizeof created, "%Y-%m-%dT%H:%M:%SZ", &utc);

    GE_TRY(ge_h5_write_int(path, file, GE_ATTRIBUTE_SCHEMA, GE_SCHEMA_VERSION));
    GE_TRY(
        ge_h5_write_text(path, file, GE_ATTRIBUTE_VERSION, GRADECHO_VERSION));
    GE_TRY(ge_h5_write_text(path, file, GE_ATTRIBUTE_SESSION, spec->session));
    GE_TRY(ge_h5_write_text(path, file, GE_ATTRIBUTE_CREATED, created));
    GE_TRY(
        ge_h5_write_int(path, file, GE_ATTRIBUTE_WORLD_SIZE, spec->world_size));
    GE_TRY(ge_h5_write_text(path, file, GE_ATTRIBUTE_CONFIG, spec->config));
    GE_TRY(ge_h5_write_int(path, file, GE_ATTRIBUTE_CLEAN_CLOSE, GE_LOG_OPEN));
    GE_TRY(ge_h5_write_int(path, file, GE_ATTRIBUTE_RESTARTS, 0));
fail:
    return status;
}

static gradecho_status describe(const struct layout *layout, hid_t dataset,
                                const char *units, const char *long_name)
{
    gradecho_status status = GRADECHO_OK;

    GE_TRY(ge_h5_write_text(layout->spec->path, dataset, "units", units));
    GE_TRY(
        ge_h5_write_text(layout->spec->path, dataset, "long_name", long_name));
fail:
    return status;
}

/* A dataset of one fixed dimension, written at once and left open. */
static gradecho_status create_fixed(const struct layout *layout,
                                    const char *name, hsize_t count,
                                    hid_t stored, hid_t given,
                                    const void *values, hid_t *dataset)
{
    gradecho_status status = GRADECHO_OK;
    const char *path = layout->spec->path;
    hid_t space = H5I_INVALID_HID;

    OPEN_H5(path, space, H5Screate_simple(1, &count, NULL));
    OPEN_H5(path, *dataset,
            H5Dcreate2(layout->file, name, stored, space, H5P_DEFAULT,
                       H5P_DEFAULT, H5P_DEFAULT));
    TRY_H5(path,
           H5Dwrite(*dataset, given, H5S_ALL, H5S_ALL, H5P_DEFAULT, values));
fail:
    ge_h5_close(path, &space, H5Sclose, &status);
    return status;
}

/* A scale that only counts: 0, 1, 2, ... */
static gradecho_status create_index(struct layout *layout, enum scale scale,
                                    const char *name, size_t count,
                                    const char *long_name)
{
    gradecho_status status = GRADECHO_OK;
    int32_t *index = ge_alloc(count, sizeof *index);

    GE_FAIL_IF(index == NULL, GRADECHO_E_NOMEM, "log %s: out of memory",
               layout->spec->path);
    for (size_t i = 0; i < count; i++)
        index[i] = (int32_t)i;
    GE_TRY(create_fixed(layout, name, count, H5T_STD_I32LE, H5T_NATIVE_INT32,
                        index, &layout->scales[scale]));
    TRY_H5(layout->spec->path, H5DSset_scale(layout->scales[scale], name));
    GE_TRY(describe(layout, layout->scales[scale], "1", long_name));
fail:
    free(index);
    return status;
}

static gradecho_status create_names(struct layout *layout)
{
    gradecho_status status = GRADECHO_OK;
    const struct ge_log_spec *spec = layout->spec;
    hid_t type = H5I_INVALID_HID;
    char *names = NULL;
    size_t width = 1;

    for (size_t i = 0; i < spec->dims.layers; i++)
        width = ge_max_size(width, strlen(spec->layers[i].name) + 1);
    names = ge_alloc(spec->dims.layers, width);
    GE_FAIL_IF(names == NULL, GRADECHO_E_NOMEM, "log %s: out of memory",
               spec->path);
    for (size_t i = 0; i < spec->dims.layers; i++)
        memcpy(names + i * width, spec->layers[i].name,
               strlen(spec->layers[i].name));

    GE_TRY(ge_h5_text_type(spec->path, width, &type));
    GE_TRY(create_fixed(layout, "layer", spec->dims.layers, type, type, names,
                        &layout->scales[LAYER]));
    TRY_H5(spec->path, H5DSset_scale(layout->scales[LAYER], "layer"));
    GE_TRY(describe(layout, layout->scales[LAYER], "1",
                    "name of the parameter tensor"));
fail:
    ge_h5_close(spec->path, &type, H5Tclose, &status);
    free(names);
    return status;
}

/* /rows or /cols. */
static gradecho_status create_lengths(const struct layout *layout,
                                      const char *name, bool columns,
                                      const char *long_name)
{
    gradecho_status status = GRADECHO_OK;
    const struct ge_log_spec *spec = layout->spec;
    uint64_t *lengths = ge_alloc(spec->dims.layers, sizeof *lengths);
    hid_t dataset = H5I_INVALID_HID;

    GE_FAIL_IF(lengths == NULL, GRADECHO_E_NOMEM, "log %s: out of memory",
               spec->path);
    for (size_t i = 0; i < spec->dims.layers; i++)
        lengths[i] = columns ? spec->layers[i].cols : spec->layers[i].rows;
    GE_TRY(create_fixed(layout, name, spec->dims.layers, H5T_STD_U64LE,
                        H5T_NATIVE_UINT64, lengths, &dataset));
    TRY_H5(spec->path, H5DSattach_scale(dataset, layout->scales[LAYER], 0));
    GE_TRY(describe(layout, dataset, "1", long_name));
fail:
    ge_h5_close(spec->path, &dataset, H5Dclose, &status);
    free(lengths);
    return status;
}

/* Chunk shape for rows of `row` and items of `size` bytes. */
static void choose_chunk(const hsize_t row[GE_RANK_MAX], size_t size,
                         hsize_t chunk[GE_RANK_MAX])
{
    const hsize_t line = row[2] * size, bytes = row[1] * line;

    memcpy(chunk, row, GE_RANK_MAX * sizeof *chunk);
    chunk[0] = CHUNK_ROWS;
    while (chunk[0] * bytes < CHUNK_BYTES_MIN)
        chunk[0] *= 2;
    while (chunk[0] > 1 && chunk[0] * bytes > CHUNK_BYTES_SHARED)
        chunk[0] /= 2;
    if (bytes > CHUNK_BYTES_MAX)
        chunk[1] = line < CHUNK_BYTES_MAX ? CHUNK_BYTES_MAX / line : 1;
}

/* Access properties under which all chunks of the row being appended stay in
 * memory: one that is thrown out would be read back for the next row. */
static gradecho_status size_cache(const char *path, hid_t access,
                                  const hsize_t row[GE_RANK_MAX],
                                  const hsize_t chunk[GE_RANK_MAX], size_t size)
{
    gradecho_status status = GRADECHO_OK;
    const hsize_t chunks = (row[1] + chunk[1] - 1) / chunk[1];
    const hsize_t bytes = chunk[0] * chunk[1] * chunk[2] * size;

    /* Twice: the chunks of the next rows come before these are let go. The
     * slots outnumber them because a hash collision throws out, too. */
    TRY_H5(path, H5Pset_chunk_cache(access, (size_t)(8 * chunks + 1),
                                    (size_t)(2 * chunks * bytes),
                                    H5D_CHUNK_CACHE_W0_DEFAULT));
fail:
    return status;
}

gradecho_status ge_layout_open(const char *path, hid_t file, const char *name,
                               const hsize_t row[GE_RANK_MAX], size_t size,
                               hid_t *dataset)
{
    gradecho_status status = GRADECHO_OK;
    hsize_t chunk[GE_RANK_MAX];
    hid_t access = H5I_INVALID_HID;

    choose_chunk(row, size, chunk);
    OPEN_H5(path, access, H5Pcreate(H5P_DATASET_ACCESS));
    GE_TRY(size_cache(path, access, row, chunk, size));
    OPEN_H5(path, *dataset, H5Dopen2(file, name, access));
fail:
    ge_h5_close(path, &access, H5Pclose, &status);
    return status;
}

/* An empty dataset that grows along the step dimension. */
static gradecho_status create_growing(const struct layout *layout,
                                      const char *name, int rank,
                                      const hsize_t row[GE_RANK_MAX],
                                      hid_t stored, const void *fill,
                                      hid_t given, hid_t *dataset)
{
    gradecho_status status = GRADECHO_OK;
    const char *path = layout->spec->path;
    const hsize_t dims[GE_RANK_MAX] = {0, row[1], row[2]};
    const hsize_t limit[GE_RANK_MAX] = {H5S_UNLIMITED, row[1], row[2]};
    hsize_t chunk[GE_RANK_MAX];
    hid_t space = H5I_INVALID_HID, create = H5I_INVALID_HID;
    hid_t access = H5I_INVALID_HID;
    size_t size = 0;

    GE_TRY(ge_h5_type_size(path, stored, &size));
    choose_chunk(row, size, chunk);
    OPEN_H5(path, space, H5Screate_simple(rank, dims, limit));
    OPEN_H5(path, create, H5Pcreate(H5P_DATASET_CREATE));
    TRY_H5(path, H5Pset_chunk(create, rank, chunk));
    TRY_H5(path, H5Pset_fill_value(create, given, fill));
    /* A chunk takes its place on the disk when the dataset grows into it, not
     * when it is flushed: HDF5 never finds a chunk again whose first write
     * failed in a flush (the disk was full for a while). */
    TRY_H5(path, H5Pset_alloc_time(create, H5D_ALLOC_TIME_EARLY));
    TRY_H5(path, H5Pset_fill_time(create, H5D_FILL_TIME_ALLOC));
    OPEN_H5(path, access, H5Pcreate(H5P_DATASET_ACCESS));
    GE_TRY(size_cache(path, access, row, chunk, size));
    OPEN_H5(path, *dataset,
            H5Dcreate2(layout->file, name, stored, space, H5P_DEFAULT, create,
                       access));
fail:
    ge_h5_close(path, &access, H5Pclose, &status);
    ge_h5_close(path, &create, H5Pclose, &status);
    ge_h5_close(path, &space, H5Sclose, &status);
    return status;
}

static gradecho_status create_step(struct layout *layout)
{
    static const int64_t missing = -1;
    gradecho_status status = GRADECHO_OK;
    hsize_t row[GE_RANK_MAX];
    const int rank = ge_layout_row(GE_PER_STEP, &layout->spec->dims, row);

    GE_TRY(create_growing(layout, "step", rank, row, H5T_STD_I64LE, &missing,
                          H5T_NATIVE_INT64, &layout->scales[STEP]));
    TRY_H5(layout->spec->path, H5DSset_scale(layout->scales[STEP], "step"));
    GE_TRY(describe(layout, layout->scales[STEP], "1", "training step"));
fail:
    return status;
}

/* What the bits of a field mean, as the CF conventions write it. */
static gradecho_status describe_rules(const struct layout *layout,
                                      hid_t dataset)
{
    gradecho_status status = GRADECHO_OK;
    const char *path = layout->spec->path;
    const hsize_t count = GE_RULES;
    int64_t masks[GE_RULES];
    char names[32 * GE_RULES] = "";
    hid_t space = H5I_INVALID_HID, attribute = H5I_INVALID_HID;

    for (int i = 0; i < GE_RULES; i++) {
        masks[i] = INT64_C(1) << i;
        snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s",
                 i > 0 ? " " : "", ge_rule_names[i]);
    }
    GE_TRY(ge_h5_write_text(path, dataset, "flag_meanings", names));
    OPEN_H5(path, space, H5Screate_simple(1, &count, NULL));
    OPEN_H5(path, attribute,
            H5Acreate2(dataset, "flag_masks", H5T_STD_I64LE, space, H5P_DEFAULT,
                       H5P_DEFAULT));
    TRY_H5(path, H5Awrite(attribute, H5T_NATIVE_INT64, masks));
fail:
    ge_h5_close(path, &attribute, H5Aclose, &status);
    ge_h5_close(path, &space, H5Sclose, &status);
    return status;
}

static gradecho_status create_field(const struct layout *layout,
                                    const struct ge_field_info *field,
                                    hid_t *dataset)
{
    static const enum scale second[GE_SHAPES] = {[GE_PER_PAIR] = PAIR,
                                                 [GE_PER_LAYER] = LAYER,
                                                 [GE_PER_MODE] = LAYER,
                                                 [GE_PER_REPLICA] = LAYER};
    gradecho_status status = GRADECHO_OK;
    const double missing = field->type == GE_I64 ? -1.0 : (double)NAN;
    const char *path = layout->spec->path;
    hsize_t row[GE_RANK_MAX];
    const int rank = ge_layout_row(field->shape, &layout->spec->dims, row);
    const hid_t stored = field->type == GE_I64   ? H5T_STD_I64LE
                         : field->type == GE_F32 ? H5T_IEEE_F32LE
                                                 : H5T_IEEE_F64LE;

    GE_TRY(create_growing(layout, field->name, rank, row, stored, &missing,
                          H5T_NATIVE_DOUBLE, dataset));
    TRY_H5(path, H5DSattach_scale(*dataset, layout->scales[STEP], 0));
    if (rank > 1)
        TRY_H5(path, H5DSattach_scale(*dataset,
                                      layout->scales[second[field->shape]], 1));
    if (rank > 2)
        TRY_H5(path,
               H5DSattach_scale(
                   *dataset,
                   layout->scales[field->shape == GE_PER_MODE ? MODE : REPLICA],
                   2));
    GE_TRY(describe(layout, *dataset, field->units, field->long_name));
    if (field == &ge_fields[GE_ALARMS] || field == &ge_fields[GE_LAYER_ALARMS])
        GE_TRY(describe_rules(layout, *dataset));
fail:
    return status;
}

gradecho_status ge_layout_create(hid_t file, const struct ge_log_spec *spec,
                                 hid_t *step, hid_t fields[GE_FIELDS])
{
    gradecho_status status = GRADECHO_OK;
    struct layout layout = {.file = file, .spec = spec};

    for (int i = 0; i < SCALES; i++)
        layout.scales[i] = H5I_INVALID_HID;

    GE_TRY(write_root(&layout));
    GE_TRY(create_step(&layout));
    GE_TRY(create_names(&layout));
    GE_TRY(create_lengths(&layout, "rows", false, "rows of the layer"));
    GE_TRY(create_lengths(&layout, "cols", true, "columns of the layer"));
    GE_TRY(create_index(&layout, MODE, "mode", spec->dims.modes,
                        "index of the singular mode, largest first"));
    GE_TRY(create_index(&layout, REPLICA, "replica", spec->dims.replicas,
                        "index of the replica"));
    GE_TRY(create_index(&layout, PAIR, "pair", 2,
                        "first and second replica of a pair"));
    for (size_t i = 0; i < GE_FIELDS; i++)
        GE_TRY(create_field(&layout, &ge_fields[i], &fields[i]));
    *step = layout.scales[STEP];
    layout.scales[STEP] = H5I_INVALID_HID;
fail:
    for (int i = SCALES; i-- > 0;)
        ge_h5_close(spec->path, &layout.scales[i], H5Dclose, &status);
    return status;
}
