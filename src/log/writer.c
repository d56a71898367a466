#include "writer.h"

#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log_file.h"
#include "memory.h"
#include "writer_private.h"

/* More values than this in one field of one row is a mistake of the caller. */
#define ROW_VALUES_MAX ((uint64_t)1 << 31)

/* Blocks from so many bytes on begin at multiples of this, which divides a
 * page and which hardly any block of metadata exceeds. */
#define ALIGNED_FROM 64
#define ALIGNMENT 1024

gradecho_status ge_log_check_spec(const struct ge_log_spec *spec)
{
    gradecho_status status = GRADECHO_OK;
    const struct ge_dimensions *dims = &spec->dims;
    uint64_t modes = 0, replicas = 0;

    GE_FAIL_IF(dims->layers == 0 || dims->modes == 0 || dims->replicas == 0 ||
                   !ge_mul_u64(dims->layers, dims->modes, &modes) ||
                   !ge_mul_u64(dims->layers, dims->replicas, &replicas) ||
                   modes > ROW_VALUES_MAX || replicas > ROW_VALUES_MAX,
               GRADECHO_E_ARG,
               "log %s: cannot hold %zu layers, %zu modes and %zu replicas",
               spec->path, dims->layers, dims->modes, dims->replicas);
    GE_FAIL_IF(spec->flush_every == 0, GRADECHO_E_ARG,
               "log %s: rows between flushes must be at least 1", spec->path);
fail:
    return status;
}

gradecho_status ge_log_writer_access(const char *path, hid_t *access)
{
    gradecho_status status = GRADECHO_OK;
    hid_t made = H5I_INVALID_HID;

    OPEN_H5(path, made, H5Pcreate(H5P_FILE_ACCESS));
    /* Pinned: what SWMR needs, and what every HDF5 since 1.10 reads. */
    TRY_H5(path, H5Pset_libver_bounds(made, H5F_LIBVER_V110, H5F_LIBVER_V110));
    TRY_H5(path, H5Pset_fclose_degree(made, H5F_CLOSE_SEMI));
    /* No block of metadata lies across two pages: a kill can end a write()
     * between two pages, and half a block is a dataset that nobody can open. */
    TRY_H5(path, H5Pset_alignment(made, ALIGNED_FROM, ALIGNMENT));
    *access = made;
    return GRADECHO_OK;
fail:
    ge_h5_close(path, &made, H5Pclose, &status);
    return status;
}

static gradecho_status create_file(ge_log_writer *log, const char *growing)
{
    gradecho_status status = GRADECHO_OK;
    hid_t access = H5I_INVALID_HID;

    GE_TRY(ge_log_writer_access(log->path, &access));
    OPEN_H5(log->path, log->file,
            H5Fcreate(growing, H5F_ACC_TRUNC, H5P_DEFAULT, access));
fail:
    ge_h5_close(log->path, &access, H5Pclose, &status);
    return status;
}

gradecho_status ge_log_writer_prepare(ge_log_writer *log)
{
    gradecho_status status = GRADECHO_OK;
    size_t widest = 1;

    for (int i = 0; i < GE_SHAPES; i++) {
        hsize_t row[GE_RANK_MAX];
        const int rank = ge_layout_row((enum ge_shape)i, &log->dims, row);

        OPEN_H5(log->path, log->memory[i], H5Screate_simple(rank, row, NULL));
    }
    for (int i = 0; i < GE_FIELDS; i++)
        if (ge_fields[i].type == GE_I64)
            widest = ge_max_size(
                widest, ge_shape_count(ge_fields[i].shape, &log->dims));
    log->integers = ge_alloc(widest, sizeof *log->integers);
    log->room = log->flush_every < 1024 ? log->flush_every : 1024;
    log->waiting = ge_alloc(log->room, sizeof *log->waiting);
    GE_FAIL_IF(log->integers == NULL || log->waiting == NULL, GRADECHO_E_NOMEM,
               "log %s: out of memory", log->path);
fail:
    return status;
}

void ge_log_writer_destroy(ge_log_writer *log, gradecho_status *status)
{
    if (log == NULL)
        return;
    for (int i = GE_SHAPES; i-- > 0;)
        ge_h5_close(log->path, &log->memory[i], H5Sclose, status);
    for (int i = GE_FIELDS; i-- > 0;)
        ge_h5_close(log->path, &log->fields[i], H5Dclose, status);
    ge_h5_close(log->path, &log->step, H5Dclose, status);
    ge_h5_close(log->path, &log->file, H5Fclose, status);
    if (log->lock >= 0)
        close(log->lock);
    free(log->waiting);
    free(log->integers);
    free(log->path);
    free(log);
}

ge_log_writer *ge_log_writer_new(const char *path)
{
    ge_log_writer *log = ge_alloc(1, sizeof *log);

    if (log == NULL)
        return NULL;
    log->path = strdup(path);
    if (log->path == NULL) {
        free(log);
        return NULL;
    }
    log->lock = -1;
    log->past.step = -1;
    log->file = log->step = H5I_INVALID_HID;
    for (int i = 0; i < GE_FIELDS; i++)
        log->fields[i] = H5I_INVALID_HID;
    for (int i = 0; i < GE_SHAPES; i++)
        log->memory[i] = H5I_INVALID_HID;
    return log;
}

gradecho_status ge_log_create(const struct ge_log_spec *spec,
                              ge_log_writer **writer)
{
    gradecho_status status = GRADECHO_OK;
    ge_log_writer *log = NULL;
    char *growing = NULL;

    ge_h5_quiet();
    GE_TRY(ge_log_check_spec(spec));
    log = ge_log_writer_new(spec->path);
    GE_FAIL_IF(log == NULL, GRADECHO_E_NOMEM, "log %s: out of memory",
               spec->path);
    log->dims = spec->dims;
    log->flush_every = spec->flush_every;
    GE_TRY(ge_log_check(spec->path, spec->overwrite));
    ge_log_file_sweep(spec->path);
    GE_TRY(ge_log_file_begin(spec->path, &growing, &log->lock));
    GE_TRY(create_file(log, growing));
    GE_TRY(ge_layout_create(log->file, spec, &log->step, log->fields));
    GE_TRY(ge_log_writer_prepare(log));
    TRY_H5(log->path, H5Fstart_swmr_write(log->file));
    GE_TRY(ge_log_file_publish(growing, spec->path, spec->overwrite));
    free(growing);
    *writer = log;
    return GRADECHO_OK;
fail:
    ge_log_writer_destroy(log, &status);
    if (growing != NULL)
        unlink(growing);
    free(growing);
    return status;
}

/* Grow a dataset by `count` rows behind row first - 1; where it is already as
 * long, this does nothing, so a retry is sound. */
static gradecho_status grow(ge_log_writer *log, hid_t dataset,
                            enum ge_shape shape, uint64_t first, uint64_t count)
{
    gradecho_status status = GRADECHO_OK;
    hsize_t extent[GE_RANK_MAX];

    ge_layout_row(shape, &log->dims, extent);
    extent[0] = first + count;
    TRY_H5(log->path, H5Dset_extent(dataset, extent));
    return GRADECHO_OK;
fail:
    /* HDF5 has the new length but not all of its chunks: back, so that the
     * next try makes them. */
    extent[0] = first;
    if (H5Dset_extent(dataset, extent) < 0)
        (void)H5Eclear2(H5E_DEFAULT); /* told above */
    return status;
}

/* Write `count` rows from `first` on, the last of the dataset. */
static gradecho_status write_rows(ge_log_writer *log, hid_t dataset,
                                  enum ge_shape shape, uint64_t first,
                                  uint64_t count, hid_t memory, hid_t type,
                                  const void *values)
{
    gradecho_status status = GRADECHO_OK;
    const hsize_t start[GE_RANK_MAX] = {first, 0, 0};
    hsize_t box[GE_RANK_MAX];
    hid_t space = H5I_INVALID_HID;

    ge_layout_row(shape, &log->dims, box);
    box[0] = count;
    GE_TRY(grow(log, dataset, shape, first, count));
    OPEN_H5(log->path, space, H5Dget_space(dataset));
    TRY_H5(log->path,
           H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, box, NULL));
    TRY_H5(log->path,
           H5Dwrite(dataset, type, memory, space, H5P_DEFAULT, values));
fail:
    ge_h5_close(log->path, &space, H5Sclose, &status);
    return status;
}

static gradecho_status write_field(ge_log_writer *log, enum ge_field field,
                                   const double *values)
{
    const struct ge_field_info *info = &ge_fields[field];
    const size_t count = ge_shape_count(info->shape, &log->dims);
    const hid_t memory = log->memory[info->shape];

    if (info->type != GE_I64)
        return write_rows(log, log->fields[field], info->shape, log->written, 1,
                          memory, H5T_NATIVE_DOUBLE, values);
    /* What HDF5 makes of NaN as an integer is not written anywhere. */
    for (size_t i = 0; i < count; i++)
        log->integers[i] =
            fabs(values[i]) < 0x1p63 ? (int64_t)values[i] : INT64_C(-1);
    return write_rows(log, log->fields[field], info->shape, log->written, 1,
                      memory, H5T_NATIVE_INT64, log->integers);
}

/* Make room for one more waiting step. */
static gradecho_status reserve_waiting(ge_log_writer *log)
{
    gradecho_status status = GRADECHO_OK;
    const uint64_t waiting = log->written - log->committed;
    int64_t *more = NULL;

    if (waiting < log->room)
        return GRADECHO_OK;
    more = ge_alloc(2 * log->room, sizeof *more);
    GE_FAIL_IF(more == NULL, GRADECHO_E_NOMEM, "log %s: out of memory",
               log->path);
    memcpy(more, log->waiting, log->room * sizeof *more);
    free(log->waiting);
    log->waiting = more;
    log->room *= 2;
fail:
    return status;
}

/* A commit failed half-way: no row in /step that has no step yet. */
static void retract(const ge_log_writer *log)
{
    const hsize_t extent[GE_RANK_MAX] = {log->committed, 1, 1};

    if (H5Dset_extent(log->step, extent) < 0)
        (void)H5Eclear2(H5E_DEFAULT); /* told already that the log is ill */
}

/* Show the waiting rows to readers and hand them to the system. */
static gradecho_status commit(ge_log_writer *log)
{
    gradecho_status status = GRADECHO_OK, closed = GRADECHO_OK;
    const uint64_t count = log->written - log->committed;
    const hsize_t length = count;
    hid_t memory = H5I_INVALID_HID;

    if (count == 0)
        return GRADECHO_OK;
    /* Two flushes: within one, HDF5 writes the datasets in any order. And
     * H5Fflush, not H5Dflush: only that also commits the end-of-file mark,
     * without which recovery would cut the file off. */
    TRY_H5(log->path, H5Fflush(log->file, H5F_SCOPE_LOCAL));
    OPEN_H5(log->path, memory, H5Screate_simple(1, &length, NULL));
    GE_TRY(write_rows(log, log->step, GE_PER_STEP, log->committed, count,
                      memory, H5T_NATIVE_INT64, log->waiting));
    TRY_H5(log->path, H5Fflush(log->file, H5F_SCOPE_LOCAL));
    log->committed = log->written;
fail:
    /* Told if it fails, but what is committed is: the caller takes the rows
     * back if this function fails. */
    ge_h5_close(log->path, &memory, H5Sclose, &closed);
    if (status < GRADECHO_OK && log->committed < log->written)
        retract(log);
    return status;
}

gradecho_status ge_log_append(ge_log_writer *writer, const struct ge_row *row)
{
    gradecho_status status = GRADECHO_OK;
    ge_log_writer *log = writer;
    const uint64_t before = log->written;

    GE_FAIL_IF(row->dims.layers != log->dims.layers ||
                   row->dims.modes != log->dims.modes ||
                   row->dims.replicas != log->dims.replicas,
               GRADECHO_E_ARG,
               "log %s: a row of %zu layers, %zu modes and %zu replicas does "
               "not fit",
               log->path, row->dims.layers, row->dims.modes,
               row->dims.replicas);
    GE_TRY(reserve_waiting(log));
    for (int i = 0; i < GE_FIELDS; i++)
        GE_TRY(write_field(log, (enum ge_field)i, row->values[i]));
    log->waiting[log->written - log->committed] = row->step;
    log->written++;
    if (log->written - log->committed >= log->flush_every)
        GE_TRY(commit(log));
    return GRADECHO_OK;
fail: /* the next append takes this row's place */
    log->written = before;
    return status;
}

gradecho_status ge_log_flush(ge_log_writer *writer)
{
    return commit(writer);
}

uint64_t ge_log_rows(const ge_log_writer *writer)
{
    return writer->committed;
}

uint64_t ge_log_waiting(const ge_log_writer *writer)
{
    return writer->written - writer->committed;
}

const struct ge_log_past *ge_log_past(const ge_log_writer *writer)
{
    return &writer->past;
}

struct ge_dimensions ge_log_dimensions(const ge_log_writer *writer)
{
    return writer->dims;
}

gradecho_status ge_log_writer_cut(ge_log_writer *log)
{
    gradecho_status status = GRADECHO_OK;

    for (int i = 0; i < GE_FIELDS; i++) {
        hsize_t dims[GE_RANK_MAX] = {0};
        int rank = 0;

        if (log->fields[i] < 0) /* an older log, being recovered */
            continue;
        GE_TRY(ge_h5_shape(log->path, ge_fields[i].name, log->fields[i],
                           GE_RANK_MAX, &rank, dims));
        if (dims[0] <= log->committed)
            continue;
        dims[0] = log->committed;
        TRY_H5(log->path, H5Dset_extent(log->fields[i], dims));
    }
    log->written = log->committed;
fail:
    return status;
}

/* Whatever HDF5 writes from now on is half of the truth, and its H5Fclose()
 * would mark that as whole: let the writes fail. What remains is the log as a
 * killed writer leaves it: readable, and `gradecho recover` closes it. */
static void abandon(const ge_log_writer *log)
{
    const int none = open("/dev/null", O_RDONLY | O_CLOEXEC);
    void *handle = NULL;

    if (none >= 0 && H5Fget_vfd_handle(log->file, H5P_DEFAULT, &handle) >= 0)
        (void)dup3(none, *(const int *)handle, O_CLOEXEC);
    if (none >= 0)
        close(none);
}

/* All that closing writes, written. */
static gradecho_status finish(ge_log_writer *log, enum ge_log_end end)
{
    gradecho_status status = GRADECHO_OK;

    GE_TRY(ge_log_writer_cut(log));
    GE_TRY(
        ge_h5_change_int(log->path, log->file, GE_ATTRIBUTE_CLEAN_CLOSE, end));
    TRY_H5(log->path, H5Fflush(log->file, H5F_SCOPE_LOCAL));
fail:
    return status;
}

gradecho_status ge_log_writer_end(ge_log_writer **writer, enum ge_log_end end)
{
    gradecho_status status = GRADECHO_OK, closed = GRADECHO_OK;
    ge_log_writer *log = *writer;
    char reason[GE_MESSAGE_MAX] = "";
    int before = 0;

    *writer = NULL;
    before = ge_message_capture(1);
    status = finish(log, end);
    if (status < GRADECHO_OK) {
        memcpy(reason, ge_message_last(), sizeof reason);
        abandon(log);
    }
    ge_log_writer_destroy(log, &closed);
    (void)ge_message_capture(before);
    if (status >= GRADECHO_OK && closed < GRADECHO_OK)
        ge_error("%s", ge_message_last());
    if (status < GRADECHO_OK)
        ge_error("%.400s; the committed rows are safe: when the log can be "
                 "written again, close it by gradecho recover",
                 reason);
    return status < GRADECHO_OK ? status : closed;
}

gradecho_status ge_log_close(ge_log_writer **writer)
{
    gradecho_status status = GRADECHO_OK, ended = GRADECHO_OK;

    if (writer == NULL || *writer == NULL)
        return GRADECHO_OK;
    status = commit(*writer);
    ended = ge_log_writer_end(writer, GE_LOG_CLOSED);
    return status < GRADECHO_OK ? status : ended;
}
