/*
 * Opening a log again: to append to it, or to close what a killed writer left
 * open.
 *
 * Nothing is copied and nothing is written twice: the file is opened in SWMR
 * mode from the first byte that changes, so that HDF5 orders its writes as it
 * does for a log that grows. At every instant the file is a log that a killed
 * writer has left, and a kill leaves just that.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "log_file.h"
#include "reader.h"
#include "writer_private.h"

/* ---- is it whole? ---- */

/* Chunks, counted from the last committed row, that are looked up. */
#define CHUNKS_CHECKED 16

/* Every chunk that holds one of the first `rows` rows lies in the file. A file
 * that was cut off has its index, which comes first, and not all of these.
 *
 * A log's space is handed out from its front to its end, so that a dataset's
 * last chunks lie highest. Only these are looked up, because HDF5 goes through
 * the whole index each time: all of a million rows would take a minute. */
static gradecho_status check_chunks(const char *path, const char *name,
                                    hid_t dataset, int rank,
                                    const hsize_t dims[GE_RANK_MAX],
                                    uint64_t rows, uint64_t bytes)
{
    gradecho_status status = GRADECHO_OK;
    hid_t create = H5I_INVALID_HID;
    hsize_t chunk[GE_RANK_MAX] = {1, 1, 1}, at[GE_RANK_MAX] = {0};

    OPEN_H5(path, create, H5Dget_create_plist(dataset));
    GE_FAIL_IF(H5Pget_layout(create) != H5D_CHUNKED ||
                   H5Pget_chunk(create, rank, chunk) != rank,
               GRADECHO_E_INPUT, "log %s: dataset %s does not grow", path,
               name);
    if (rows / chunk[0] > CHUNKS_CHECKED)
        at[0] = (rows / chunk[0] - CHUNKS_CHECKED) * chunk[0];
    for (; at[0] < rows; at[0] += chunk[0])
        for (at[1] = 0; at[1] == 0 || at[1] < dims[1]; at[1] += chunk[1])
            for (at[2] = 0; at[2] == 0 || at[2] < dims[2]; at[2] += chunk[2]) {
                haddr_t place = HADDR_UNDEF;
                hsize_t size = 0;

                TRY_H5(path, H5Dget_chunk_info_by_coord(dataset, at, NULL,
                                                        &place, &size));
                GE_FAIL_IF(place == HADDR_UNDEF || size > bytes ||
                               place > bytes - size,
                           GRADECHO_E_INPUT,
                           "log %s is damaged: dataset %s ends before row "
                           "%" PRIu64 " of %" PRIu64,
                           path, name, (uint64_t)at[0], rows);
            }
fail:
    ge_h5_close(path, &create, H5Pclose, &status);
    return status;
}

static gradecho_status check_dataset(const char *path, hid_t file,
                                     const char *name, uint64_t rows,
                                     uint64_t bytes)
{
    gradecho_status status = GRADECHO_OK;
    hid_t dataset = H5I_INVALID_HID;
    hsize_t dims[GE_RANK_MAX] = {0};
    htri_t exists = 0;
    int rank = 0;

    TRY_H5(path, exists = H5Lexists(file, name, H5P_DEFAULT));
    if (exists == 0)
        return GRADECHO_OK;
    OPEN_H5(path, dataset, H5Dopen2(file, name, H5P_DEFAULT));
    GE_TRY(ge_h5_shape(path, name, dataset, GE_RANK_MAX, &rank, dims));
    GE_FAIL_IF(dims[0] < rows, GRADECHO_E_INPUT,
               "log %s is damaged: dataset %s has %" PRIu64
               " rows where step has %" PRIu64,
               path, name, (uint64_t)dims[0], rows);
    GE_TRY(check_chunks(path, name, dataset, rank, dims, rows, bytes));
fail:
    ge_h5_close(path, &dataset, H5Dclose, &status);
    return status;
}

/* All committed rows are there; *marked: as open for writing. */
static gradecho_status check_whole(const char *path, uint64_t rows,
                                   bool *marked)
{
    gradecho_status status = GRADECHO_OK;
    hid_t file = H5I_INVALID_HID;
    struct stat about;
    int before = 0;

    GE_FAIL_IF(stat(path, &about) != 0, GRADECHO_E_INPUT, "log %s: %s", path,
               strerror(errno));
    before = ge_message_capture(1); /* the first open has warned */
    status = ge_h5_open("log", path, &file, marked);
    (void)ge_message_capture(before);
    GE_FAIL_IF(status < GRADECHO_OK, status, "%s", ge_message_last());
    GE_TRY(check_dataset(path, file, "step", rows, (uint64_t)about.st_size));
    for (int i = 0; i < GE_FIELDS; i++)
        GE_TRY(check_dataset(path, file, ge_fields[i].name, rows,
                             (uint64_t)about.st_size));
fail:
    ge_h5_close(path, &file, H5Fclose, &status);
    /* What HDF5 cannot read is the file's fault. */
    return status == GRADECHO_E_HDF5 ? GRADECHO_E_INPUT : status;
}

/* ---- does it fit? ---- */

static gradecho_status check_layers(const struct ge_log_spec *spec,
                                    const struct ge_log_facts *facts)
{
    gradecho_status status = GRADECHO_OK;

    GE_FAIL_IF(facts->dims.layers != spec->dims.layers, GRADECHO_E_INPUT,
               "log %s does not fit: it has %zu layers, the gradients have "
               "%zu; use another path",
               spec->path, facts->dims.layers, spec->dims.layers);
    for (size_t l = 0; l < facts->dims.layers; l++) {
        const struct ge_log_layer *old = &facts->layers[l];
        const struct ge_log_layer *new = &spec->layers[l];

        GE_FAIL_IF(strcmp(old->name, new->name) != 0, GRADECHO_E_INPUT,
                   "log %s does not fit: its layer %zu is %s, that of the "
                   "gradients is %s; use another path",
                   spec->path, l, old->name, new->name);
        GE_FAIL_IF(
            old->rows != new->rows || old->cols != new->cols, GRADECHO_E_INPUT,
            "log %s does not fit: its layer %s is %" PRIu64 " x %" PRIu64
            ", that of the gradients is %" PRIu64 " x %" PRIu64
            "; use another path",
            spec->path, old->name, old->rows, old->cols, new->rows, new->cols);
    }
fail:
    return status;
}

static gradecho_status check_fit(const struct ge_log_spec *spec,
                                 const struct ge_log_facts *facts)
{
    gradecho_status status = GRADECHO_OK;

    GE_FAIL_IF(facts->world_size != spec->world_size, GRADECHO_E_INPUT,
               "log %s does not fit: it is of %" PRId64
               " trainers, now there are %" PRIu32 "; use another path",
               spec->path, facts->world_size, spec->world_size);
    GE_TRY(check_layers(spec, facts));
    GE_FAIL_IF(facts->dims.modes != spec->dims.modes, GRADECHO_E_INPUT,
               "log %s does not fit: it has room for %zu modes, "
               "layers.max_modes is %zu; make them equal, or use another path",
               spec->path, facts->dims.modes, spec->dims.modes);
    GE_FAIL_IF(facts->dims.replicas < spec->dims.replicas, GRADECHO_E_INPUT,
               "log %s does not fit: it has room for %zu replicas, now there "
               "are %zu; use another path",
               spec->path, facts->dims.replicas, spec->dims.replicas);
    GE_FAIL_IF(facts->restarts < 0, GRADECHO_E_INPUT,
               "log %s was begun by another version of gradecho (%s), which "
               "measured other things: it can be read but not continued",
               spec->path, facts->version);
fail:
    return status;
}

/* What the log says of itself; that it fits `spec`, unless that is NULL; and
 * that it is whole. Reads only. *ended: how its last writer left it. */
static gradecho_status examine(ge_log_writer *log,
                               const struct ge_log_spec *spec,
                               enum ge_log_end *ended, bool *marked)
{
    gradecho_status status = GRADECHO_OK;
    const struct ge_log_facts *facts = NULL;
    struct ge_log_past *past = &log->past;
    ge_log_reader *reader = NULL;
    double dropped = -1.0;

    GE_TRY(ge_log_open(log->path, &reader));
    facts = ge_log_reader_facts(reader);
    *ended = facts->end;
    log->dims = facts->dims;
    past->restarts = facts->restarts;
    if (spec != NULL)
        GE_TRY(check_fit(spec, facts));
    GE_TRY(ge_log_refresh(reader, &past->rows));
    if (past->rows > 0) {
        GE_TRY(ge_log_steps(reader, past->rows - 1, 1, &past->step));
        GE_TRY(ge_log_read(reader, GE_DROPPED, past->rows - 1, 1, &dropped));
    }
    past->dropped = dropped > 0.0 ? (int64_t)dropped : 0;
    ge_log_reader_close(&reader); /* HDF5 opens no file in two ways at once */
    GE_TRY(check_whole(log->path, past->rows, marked));
fail:
    ge_log_reader_close(&reader);
    return status;
}

/* ---- opening it for writing ---- */

static gradecho_status open_fields(ge_log_writer *log, bool all)
{
    gradecho_status status = GRADECHO_OK;
    H5G_info_t root;

    TRY_H5(log->path, H5Gget_info(log->file, &root));
    for (int i = -1; i < GE_FIELDS; i++) {
        const char *name = i < 0 ? "step" : ge_fields[i].name;
        const enum ge_shape shape = i < 0 ? GE_PER_STEP : ge_fields[i].shape;
        const size_t size = i >= 0 && ge_fields[i].type == GE_F32 ? 4 : 8;
        hsize_t row[GE_RANK_MAX];
        htri_t exists = 0;

        TRY_H5(log->path, exists = H5Lexists(log->file, name, H5P_DEFAULT));
        GE_FAIL_IF(all && (exists == 0 || root.nlinks != GE_LAYOUT_OBJECTS),
                   GRADECHO_E_INPUT,
                   "log %s was begun by another version of gradecho, which "
                   "measured other things: it can be read but not continued",
                   log->path);
        if (exists == 0)
            continue;
        ge_layout_row(shape, &log->dims, row);
        GE_TRY(ge_layout_open(log->path, log->file, name, row, size,
                              i < 0 ? &log->step : &log->fields[i]));
    }
fail:
    return status;
}

static gradecho_status open_file(ge_log_writer *log, bool marked)
{
    gradecho_status status = GRADECHO_OK;
    const hbool_t yes = true;
    hid_t access = H5I_INVALID_HID;

    GE_TRY(ge_log_writer_access(log->path, &access));
    /* HDF5's own lock, which it would take for a moment only, fails when
     * somebody is just reading. Writers have ours. */
    TRY_H5(log->path, H5Pset_file_locking(access, false, true));
    if (marked) {
        /* Not in HDF5's manual, but what its own h5clear does: forget that the
         * file is open for writing, and that it may be shorter or longer than
         * its superblock says. */
        TRY_H5(log->path, H5Pset(access, "clear_status_flags", &yes));
        TRY_H5(log->path, H5Pset(access, "skip_eof_check", &yes));
    }
    OPEN_H5(log->path, log->file,
            H5Fopen(log->path, H5F_ACC_RDWR | H5F_ACC_SWMR_WRITE, access));
    /* Without this HDF5 would go by the superblock's end of file, and write
     * over, or cut off, all that lies behind it. */
    if (marked)
        TRY_H5(log->path, H5Fincrement_filesize(log->file, 0));
fail:
    ge_h5_close(log->path, &access, H5Pclose, &status);
    return status;
}

static gradecho_status lock_and_examine(const char *path,
                                        const struct ge_log_spec *spec,
                                        ge_log_writer **made,
                                        enum ge_log_end *ended, bool *marked)
{
    gradecho_status status = GRADECHO_OK;
    ge_log_writer *log = ge_log_writer_new(path);

    *made = log;
    GE_FAIL_IF(log == NULL, GRADECHO_E_NOMEM, "log %s: out of memory", path);
    ge_h5_quiet();
    GE_TRY(ge_log_file_lock(path, &log->lock));
    ge_log_file_sweep(path);
    GE_TRY(examine(log, spec, ended, marked));
    log->written = log->committed = log->past.rows;
fail:
    return status;
}

gradecho_status ge_log_check_resume(const char *path)
{
    gradecho_status status = GRADECHO_OK;
    ge_log_writer *log = NULL;
    enum ge_log_end ended = GE_LOG_OPEN;
    bool marked = false;

    GE_TRY(lock_and_examine(path, NULL, &log, &ended, &marked));
fail:
    ge_log_writer_destroy(log, &status);
    return status;
}

gradecho_status ge_log_resume(const struct ge_log_spec *spec,
                              ge_log_writer **writer)
{
    gradecho_status status = GRADECHO_OK;
    ge_log_writer *log = NULL;
    enum ge_log_end ended = GE_LOG_OPEN;
    bool marked = false;

    GE_TRY(ge_log_check_spec(spec));
    GE_TRY(lock_and_examine(spec->path, spec, &log, &ended, &marked));
    log->flush_every = spec->flush_every;
    log->past.restarts++;
    GE_TRY(ge_log_writer_prepare(log));
    GE_TRY(open_file(log, marked));
    GE_TRY(open_fields(log, true));
    GE_TRY(ge_log_writer_cut(log));
    GE_TRY(ge_h5_change_int(log->path, log->file, GE_ATTRIBUTE_RESTARTS,
                            log->past.restarts));
    GE_TRY(ge_h5_change_int(log->path, log->file, GE_ATTRIBUTE_CLEAN_CLOSE,
                            GE_LOG_OPEN));
    TRY_H5(log->path, H5Fflush(log->file, H5F_SCOPE_LOCAL));
    *writer = log;
    return GRADECHO_OK;
fail:
    ge_log_writer_destroy(log, &status);
    return status;
}

gradecho_status ge_log_recover(const char *path, uint64_t *rows)
{
    gradecho_status status = GRADECHO_OK;
    ge_log_writer *log = NULL;
    enum ge_log_end ended = GE_LOG_OPEN;
    bool marked = false;

    GE_TRY(lock_and_examine(path, NULL, &log, &ended, &marked));
    *rows = log->past.rows;
    if (!marked && ended != GE_LOG_OPEN) {
        status = GRADECHO_END;
        goto fail;
    }
    GE_TRY(open_file(log, marked));
    GE_TRY(open_fields(log, false));
    GE_TRY(ge_log_writer_end(&log, GE_LOG_RECOVERED));
    return GRADECHO_OK;
fail:
    ge_log_writer_destroy(log, &status);
    return status;
}
