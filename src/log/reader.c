#include "reader.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "log_file.h"
#include "log_layout.h"
#include "memory.h"

/* A damaged file may claim any size; ours stay far below. */
#define NAME_BYTES_MAX 4096U
#define NAMES_BYTES_MAX ((uint64_t)1 << 30)
#define ROW_VALUES_MAX ((uint64_t)1 << 26)

/* Rows that a byte of /step's storage may stand for: 8 bytes are one, and
 * deflate, should somebody have repacked the log, makes of 1032 bytes no less
 * than one. */
#define ROWS_PER_BYTE 1032U

struct ge_log_reader {
    char *path;
    hid_t file, step, fields[GE_FIELDS]; /* a field may be missing */
    bool live;                           /* opened in SWMR mode */
    uint64_t rows;                       /* committed, as last seen */
    /* Rows that were committed when the field was last refreshed. HDF5 keeps
     * chunks: later rows of a chunk in memory are stale until the next one. */
    uint64_t fresh[GE_FIELDS];
    struct ge_log_facts facts;
    char *session, *created, *version, *config, *names;
    struct ge_log_layer *layers;
};

/* Open a dataset by name; *dataset stays invalid if the file lacks it. */
static gradecho_status open_dataset(const ge_log_reader *log, const char *name,
                                    hid_t *dataset)
{
    return ge_h5_open_dataset(log->path, log->file, "dataset ", name,
                              H5P_DEFAULT, dataset);
}

static gradecho_status open_required(const ge_log_reader *log, const char *name,
                                     int rank, hsize_t dims[GE_RANK_MAX],
                                     hid_t *dataset)
{
    gradecho_status status = GRADECHO_OK;
    int found = 0;

    GE_TRY(open_dataset(log, name, dataset));
    GE_FAIL_IF(*dataset < 0, GRADECHO_E_INPUT, "log %s: dataset %s is missing",
               log->path, name);
    GE_TRY(ge_h5_shape(log->path, name, *dataset, GE_RANK_MAX, &found, dims));
    GE_FAIL_IF(found != rank, GRADECHO_E_INPUT,
               "log %s: dataset %s has %d dimensions instead of %d", log->path,
               name, found, rank);
fail:
    return status;
}

static gradecho_status read_root(ge_log_reader *log)
{
    gradecho_status status = GRADECHO_OK;
    struct {
        const char *name;
        char **text;
    } texts[] = {{GE_ATTRIBUTE_SESSION, &log->session},
                 {GE_ATTRIBUTE_CREATED, &log->created},
                 {GE_ATTRIBUTE_VERSION, &log->version},
                 {GE_ATTRIBUTE_CONFIG, &log->config}};
    int64_t version = 0, clean = 0;
    htri_t exists = 0;

    TRY_H5(log->path, exists = H5Aexists(log->file, GE_ATTRIBUTE_SCHEMA));
    GE_FAIL_IF(
        exists == 0, GRADECHO_E_INPUT,
        "%s is not a gradecho log: gradecho monitor and replay write those",
        log->path);
    GE_TRY(ge_h5_read_int(log->path, log->file, GE_ATTRIBUTE_SCHEMA, &version));
    GE_FAIL_IF(version != GE_SCHEMA_VERSION, GRADECHO_E_INPUT,
               "log %s has schema version %lld; this gradecho reads version %d",
               log->path, (long long)version, GE_SCHEMA_VERSION);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        GE_TRY(ge_h5_read_text(log->path, log->file, texts[i].name,
                               texts[i].text));
    GE_TRY(ge_h5_read_int(log->path, log->file, GE_ATTRIBUTE_WORLD_SIZE,
                          &log->facts.world_size));
    GE_TRY(
        ge_h5_read_int(log->path, log->file, GE_ATTRIBUTE_CLEAN_CLOSE, &clean));
    log->facts.end = clean == GE_LOG_CLOSED || clean == GE_LOG_RECOVERED
                         ? (enum ge_log_end)clean
                         : GE_LOG_OPEN;
    log->facts.restarts = -1;
    TRY_H5(log->path, exists = H5Aexists(log->file, GE_ATTRIBUTE_RESTARTS));
    if (exists > 0)
        GE_TRY(ge_h5_read_int(log->path, log->file, GE_ATTRIBUTE_RESTARTS,
                              &log->facts.restarts));
    log->facts.session = log->session;
    log->facts.created = log->created;
    log->facts.version = log->version;
    log->facts.config = log->config;
fail:
    return status;
}

static gradecho_status read_dimensions(ge_log_reader *log)
{
    static const char *const names[3] = {"layer", "mode", "replica"};
    gradecho_status status = GRADECHO_OK;
    size_t lengths[3] = {0};

    for (int i = 0; i < 3; i++) {
        hsize_t dims[GE_RANK_MAX] = {0};
        hid_t dataset = H5I_INVALID_HID;

        status = open_required(log, names[i], 1, dims, &dataset);
        ge_h5_close(log->path, &dataset, H5Dclose, &status);
        GE_TRY(status);
        GE_FAIL_IF(dims[0] == 0 || dims[0] > ROW_VALUES_MAX, GRADECHO_E_INPUT,
                   "log %s: dataset %s has an impossible length of %llu",
                   log->path, names[i], (unsigned long long)dims[0]);
        lengths[i] = (size_t)dims[0];
    }
    /* None of the lengths has more than 32 bits: the products fit. */
    GE_FAIL_IF((uint64_t)lengths[0] * lengths[1] > ROW_VALUES_MAX ||
                   (uint64_t)lengths[0] * lengths[2] > ROW_VALUES_MAX,
               GRADECHO_E_INPUT,
               "log %s: %zu layers, %zu modes and %zu replicas cannot be right",
               log->path, lengths[0], lengths[1], lengths[2]);
    log->facts.dims = (struct ge_dimensions){
        .layers = lengths[0], .modes = lengths[1], .replicas = lengths[2]};
fail:
    return status;
}

static gradecho_status read_names(ge_log_reader *log)
{
    gradecho_status status = GRADECHO_OK;
    const size_t count = log->facts.dims.layers;
    hid_t dataset = H5I_INVALID_HID, type = H5I_INVALID_HID;
    H5T_class_t class = H5T_NO_CLASS;
    size_t width = 0;

    GE_TRY(open_dataset(log, "layer", &dataset));
    GE_TRY(ge_h5_type(log->path, dataset, &class, &width));
    GE_FAIL_IF(class != H5T_STRING || width == 0 || width > NAME_BYTES_MAX ||
                   (uint64_t)count * (width + 1) > NAMES_BYTES_MAX,
               GRADECHO_E_INPUT,
               "log %s: dataset layer does not hold names of fixed length",
               log->path);
    log->names = ge_alloc(count, width + 1);
    log->layers = ge_alloc(count, sizeof *log->layers);
    GE_FAIL_IF(log->names == NULL || log->layers == NULL, GRADECHO_E_NOMEM,
               "log %s: out of memory", log->path);
    /* One byte more than in the file, so that each name is terminated. */
    GE_TRY(ge_h5_text_type(log->path, width + 1, &type));
    TRY_H5(log->path,
           H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, log->names));
    for (size_t i = 0; i < count; i++)
        log->layers[i].name = log->names + i * (width + 1);
    log->facts.layers = log->layers;
fail:
    ge_h5_close(log->path, &type, H5Tclose, &status);
    ge_h5_close(log->path, &dataset, H5Dclose, &status);
    return status;
}

/* /rows or /cols. */
static gradecho_status read_lengths(ge_log_reader *log, const char *name,
                                    bool columns)
{
    gradecho_status status = GRADECHO_OK;
    const size_t count = log->facts.dims.layers;
    hsize_t dims[GE_RANK_MAX] = {0};
    hid_t dataset = H5I_INVALID_HID;
    uint64_t *lengths = ge_alloc(count, sizeof *lengths);

    GE_FAIL_IF(lengths == NULL, GRADECHO_E_NOMEM, "log %s: out of memory",
               log->path);
    GE_TRY(open_required(log, name, 1, dims, &dataset));
    GE_FAIL_IF(dims[0] != count, GRADECHO_E_INPUT,
               "log %s: dataset %s has %llu values for %zu layers", log->path,
               name, (unsigned long long)dims[0], count);
    TRY_H5(log->path, H5Dread(dataset, H5T_NATIVE_UINT64, H5S_ALL, H5S_ALL,
                              H5P_DEFAULT, lengths));
    for (size_t i = 0; i < count; i++)
        *(columns ? &log->layers[i].cols : &log->layers[i].rows) = lengths[i];
fail:
    ge_h5_close(log->path, &dataset, H5Dclose, &status);
    free(lengths);
    return status;
}

/* Open a field's dataset, if there is one, and check that it fits. */
static gradecho_status open_field(ge_log_reader *log, enum ge_field field)
{
    gradecho_status status = GRADECHO_OK;
    const struct ge_field_info *info = &ge_fields[field];
    hsize_t row[GE_RANK_MAX], dims[GE_RANK_MAX] = {0};
    const int rank = ge_layout_row(info->shape, &log->facts.dims, row);
    H5T_class_t class = H5T_NO_CLASS;
    size_t size = 0;
    int found = 0;
    bool fits = false;

    GE_TRY(open_dataset(log, info->name, &log->fields[field]));
    if (log->fields[field] < 0)
        return status;
    GE_TRY(ge_h5_shape(log->path, info->name, log->fields[field], GE_RANK_MAX,
                       &found, dims));
    GE_TRY(ge_h5_type(log->path, log->fields[field], &class, &size));
    fits = found == rank && (class == H5T_INTEGER || class == H5T_FLOAT);
    for (int i = 1; i < rank; i++)
        fits = fits && dims[i] == row[i];
    GE_FAIL_IF(!fits, GRADECHO_E_INPUT,
               "log %s: dataset %s does not have the shape and type of its "
               "schema",
               log->path, info->name);
fail:
    return status;
}

/* Rows that were never written cost nothing to claim, and a reader that goes
 * through them would not come to an end. */
static gradecho_status check_rows(const ge_log_reader *log)
{
    gradecho_status status = GRADECHO_OK;
    const uint64_t stored = H5Dget_storage_size(log->step);

    GE_FAIL_IF(log->rows / ROWS_PER_BYTE > stored, GRADECHO_E_INPUT,
               "log %s: it claims %llu rows, but holds %llu bytes of steps",
               log->path, (unsigned long long)log->rows,
               (unsigned long long)stored);
fail:
    return status;
}

static gradecho_status read_file(ge_log_reader *log)
{
    gradecho_status status = GRADECHO_OK;
    hsize_t dims[GE_RANK_MAX] = {0};
    uint64_t rows = 0;

    GE_TRY(ge_h5_open("log", log->path, &log->file, &log->live));
    log->facts.held = ge_log_file_is_held(log->path);
    GE_TRY(read_root(log));
    GE_TRY(read_dimensions(log));
    GE_TRY(read_names(log));
    GE_TRY(read_lengths(log, "rows", false));
    GE_TRY(read_lengths(log, "cols", true));
    GE_TRY(open_required(log, "step", 1, dims, &log->step));
    for (int i = 0; i < GE_FIELDS; i++)
        GE_TRY(open_field(log, (enum ge_field)i));
    GE_TRY(ge_log_refresh(log, &rows));
    GE_TRY(check_rows(log));
fail:
    return status;
}

gradecho_status ge_log_open(const char *path, ge_log_reader **reader)
{
    gradecho_status status = GRADECHO_OK;
    ge_log_reader *log = ge_alloc(1, sizeof *log);

    GE_FAIL_IF(log == NULL, GRADECHO_E_NOMEM, "log %s: out of memory", path);
    log->file = log->step = H5I_INVALID_HID;
    for (int i = 0; i < GE_FIELDS; i++)
        log->fields[i] = H5I_INVALID_HID;
    log->path = strdup(path);
    GE_FAIL_IF(log->path == NULL, GRADECHO_E_NOMEM, "log %s: out of memory",
               path);
    GE_TRY(read_file(log));
    *reader = log;
    return GRADECHO_OK;
fail:
    ge_log_reader_close(&log);
    /* HDF5 cannot make sense of the file: that is the file's fault. */
    return status == GRADECHO_E_HDF5 ? GRADECHO_E_INPUT : status;
}

bool ge_log_is_held(const char *path)
{
    return ge_log_file_is_held(path);
}

void ge_log_reader_close(ge_log_reader **reader)
{
    gradecho_status status = GRADECHO_OK;
    ge_log_reader *log = *reader;

    *reader = NULL;
    if (log == NULL)
        return;
    for (int i = GE_FIELDS; i-- > 0;)
        ge_h5_close(log->path, &log->fields[i], H5Dclose, &status);
    ge_h5_close(log->path, &log->step, H5Dclose, &status);
    ge_h5_close(log->path, &log->file, H5Fclose, &status);
    free(log->layers);
    free(log->names);
    free(log->config);
    free(log->version);
    free(log->created);
    free(log->session);
    free(log->path);
    free(log);
}

const struct ge_log_facts *ge_log_reader_facts(const ge_log_reader *reader)
{
    return &reader->facts;
}

gradecho_status ge_log_refresh(ge_log_reader *reader, uint64_t *rows)
{
    gradecho_status status = GRADECHO_OK;
    hsize_t dims[GE_RANK_MAX] = {0};
    int rank = 0;

    if (reader->live)
        TRY_H5(reader->path, H5Drefresh(reader->step));
    GE_TRY(ge_h5_shape(reader->path, "step", reader->step, 1, &rank, dims));
    reader->rows = dims[0];
    *rows = dims[0];
fail:
    return status;
}

/* Rows first .. first + count - 1 of an open dataset. */
static gradecho_status read_rows(const ge_log_reader *log, const char *name,
                                 hid_t dataset, enum ge_shape shape,
                                 uint64_t first, uint64_t count, hid_t type,
                                 void *out)
{
    gradecho_status status = GRADECHO_OK;
    const hsize_t start[GE_RANK_MAX] = {first, 0, 0};
    hsize_t box[GE_RANK_MAX], dims[GE_RANK_MAX] = {0};
    const int rank = ge_layout_row(shape, &log->facts.dims, box);
    hid_t memory = H5I_INVALID_HID, space = H5I_INVALID_HID;
    int found = 0;

    box[0] = count;
    GE_TRY(ge_h5_shape(log->path, name, dataset, GE_RANK_MAX, &found, dims));
    GE_FAIL_IF(dims[0] < first + count, GRADECHO_E_INPUT,
               "log %s: dataset %s has %llu rows where step has %llu",
               log->path, name, (unsigned long long)dims[0],
               (unsigned long long)log->rows);
    OPEN_H5(log->path, space, H5Dget_space(dataset));
    TRY_H5(log->path,
           H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, box, NULL));
    OPEN_H5(log->path, memory, H5Screate_simple(rank, box, NULL));
    TRY_H5(log->path, H5Dread(dataset, type, memory, space, H5P_DEFAULT, out));
fail:
    ge_h5_close(log->path, &memory, H5Sclose, &status);
    ge_h5_close(log->path, &space, H5Sclose, &status);
    return status;
}

static gradecho_status check_range(const ge_log_reader *log, uint64_t first,
                                   uint64_t count)
{
    gradecho_status status = GRADECHO_OK;

    GE_FAIL_IF(first > log->rows || count > log->rows - first, GRADECHO_E_INPUT,
               "log %s: rows %llu and the following %llu are not all among its "
               "%llu rows",
               log->path, (unsigned long long)first, (unsigned long long)count,
               (unsigned long long)log->rows);
fail:
    return status;
}

gradecho_status ge_log_steps(ge_log_reader *reader, uint64_t first,
                             uint64_t count, int64_t *steps)
{
    gradecho_status status = GRADECHO_OK;

    GE_TRY(check_range(reader, first, count));
    if (count > 0)
        GE_TRY(read_rows(reader, "step", reader->step, GE_PER_STEP, first,
                         count, H5T_NATIVE_INT64, steps));
fail:
    return status;
}

gradecho_status ge_log_read(ge_log_reader *reader, enum ge_field field,
                            uint64_t first, uint64_t count, double *values)
{
    gradecho_status status = GRADECHO_OK;
    const struct ge_field_info *info = &ge_fields[field];
    const size_t width = ge_shape_count(info->shape, &reader->facts.dims);
    const hid_t dataset = reader->fields[field];

    GE_TRY(check_range(reader, first, count));
    if (count == 0)
        return status;
    if (dataset < 0) {
        for (uint64_t i = 0; i < count * width; i++)
            values[i] = info->type == GE_I64 ? -1.0 : (double)NAN;
        return status;
    }
    if (reader->live && first + count > reader->fresh[field]) {
        TRY_H5(reader->path, H5Drefresh(dataset));
        reader->fresh[field] = reader->rows;
    }
    GE_TRY(read_rows(reader, info->name, dataset, info->shape, first, count,
                     H5T_NATIVE_DOUBLE, values));
fail:
    return status;
}

gradecho_status ge_log_read_row(ge_log_reader *reader, uint64_t index,
                                struct ge_row *row)
{
    gradecho_status status = GRADECHO_OK;
    const struct ge_dimensions *dims = &reader->facts.dims;
    int64_t step = -1;

    GE_FAIL_IF(
        row->dims.layers != dims->layers || row->dims.modes != dims->modes ||
            row->dims.replicas != dims->replicas,
        GRADECHO_E_ARG, "log %s: a row of other dimensions", reader->path);
    GE_TRY(ge_log_steps(reader, index, 1, &step));
    for (int i = 0; i < GE_FIELDS; i++)
        GE_TRY(ge_log_read(reader, (enum ge_field)i, index, 1, row->values[i]));
    row->step = step;
fail:
    return status;
}
