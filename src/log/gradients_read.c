/*
 * The entries of a file of gradients: where they lie, if the file has them as
 * the engine wants them, or read and converted by HDF5.
 *
 * A dataset of single precision that is stored in one piece is used from the
 * mapped file: nothing is copied, and a file that is larger than the memory
 * passes through the system's page cache. Whoever may write the file can cut it
 * off meanwhile; then the guard (core/guard.h) puts zeros there, and
 * ge_gradients_intact() says so.
 */
#include <stdalign.h>

#include "gradients_private.h"
#include "memory.h"

/* Chunks of the layer being read that stay in memory: with HDF5's default of
 * 1 MiB a compressed chunk would be decompressed again for every piece. */
#define CACHE_BYTES ((size_t)32 << 20)
#define CACHE_SLOTS 4099U

/* ---- where they lie ---- */

uint64_t ge_gradients_place(hid_t dataset, uint64_t entries)
{
    gradecho_status status = GRADECHO_OK;
    const hid_t type = H5Dget_type(dataset);
    /* Neither chunked nor compact, nor without storage. */
    const haddr_t place = H5Dget_offset(dataset);
    /* Order of bytes, width and all: what needs no conversion. */
    const bool fits = type >= 0 && H5Tequal(type, H5T_NATIVE_FLOAT) > 0 &&
                      place != HADDR_UNDEF && place % alignof(float) == 0 &&
                      H5Dget_storage_size(dataset) / sizeof(float) == entries;
    hid_t closing = type;

    ge_h5_close("", &closing, H5Tclose, &status);
    (void)H5Eclear2(H5E_DEFAULT); /* it is read instead, or refused there */
    return fits && status >= GRADECHO_OK ? place : 0;
}

uint64_t ge_gradients_layer_bytes(const ge_gradients *file, size_t layer)
{
    return file->layers[layer].rows * file->layers[layer].cols * sizeof(float);
}

void ge_gradients_map(ge_gradients *file)
{
    const uint64_t planes = file->facts.samples * file->facts.replicas;
    void *handle = NULL;
    bool any = false;

    for (size_t i = 0; i < file->count; i++)
        any = any || file->layers[i].place != 0;
    if (!any)
        return;
    /* The file that HDF5 has open, whatever lies at its path by now. */
    if (H5Fget_vfd_handle(file->file, H5P_DEFAULT, &handle) < 0) {
        (void)H5Eclear2(H5E_DEFAULT);
        return;
    }
    if (!ge_mapped_open(&file->map, *(const int *)handle))
        return;
    for (size_t i = 0; i < file->count; i++) {
        struct ge_gradients_layer *layer = &file->layers[i];
        const uint64_t bytes = planes * ge_gradients_layer_bytes(file, i);

        if (bytes > file->map.bytes || layer->place > file->map.bytes - bytes)
            layer->place = 0; /* a damaged file: HDF5 decides */
    }
}

bool ge_gradients_find(const ge_gradients *file, uint64_t sample,
                       uint32_t replica, size_t layer, size_t *at)
{
    const uint64_t place = file->layers[layer].place;

    if (file->map.base == NULL || place == 0 || sample >= file->facts.samples ||
        replica >= file->facts.replicas)
        return false;
    *at = (size_t)(place + (sample * file->facts.replicas + replica) *
                               ge_gradients_layer_bytes(file, layer));
    return true;
}

const float *ge_gradients_direct(const ge_gradients *file, uint64_t sample,
                                 uint32_t replica, size_t layer)
{
    size_t at = 0;

    if (!ge_mapped_intact(&file->map) ||
        !ge_gradients_find(file, sample, replica, layer, &at))
        return NULL;
    return (const float *)(const void *)(file->map.base + at);
}

bool ge_gradients_intact(const ge_gradients *file)
{
    return ge_mapped_intact(&file->map);
}

gradecho_status ge_gradients_check(const ge_gradients *file)
{
    gradecho_status status = GRADECHO_OK;

    GE_FAIL_IF(!ge_mapped_intact(&file->map), GRADECHO_E_INPUT,
               "%s was cut off while it was read, or its disk fails",
               file->path);
fail:
    return status;
}

/* ---- read ---- */

static gradecho_status open_layer(ge_gradients *file, size_t layer)
{
    gradecho_status status = GRADECHO_OK;
    hid_t group = H5I_INVALID_HID, access = H5I_INVALID_HID;

    if (file->dataset >= 0 && file->current == layer)
        return status; /* open already */
    ge_h5_close(file->path, &file->dataset, H5Dclose, &status);
    OPEN_H5(file->path, access, H5Pcreate(H5P_DATASET_ACCESS));
    TRY_H5(file->path, H5Pset_chunk_cache(access, CACHE_SLOTS, CACHE_BYTES,
                                          H5D_CHUNK_CACHE_W0_DEFAULT));
    OPEN_H5(file->path, group,
            H5Gopen2(file->file, GE_GRADIENTS_ROOT, H5P_DEFAULT));
    OPEN_H5(file->path, file->dataset,
            H5Dopen2(group, file->layers[layer].name, access));
    file->current = layer;
fail:
    ge_h5_close(file->path, &group, H5Gclose, &status);
    ge_h5_close(file->path, &access, H5Pclose, &status);
    return status;
}

/* `rows` x `cols` entries from [row, col] on. */
static gradecho_status read_box(ge_gradients *file, const uint64_t index[2],
                                uint64_t row, uint64_t col, uint64_t rows,
                                uint64_t cols, float *out)
{
    gradecho_status status = GRADECHO_OK;
    const int rank = file->layers[file->current].rank;
    const bool plane = rank == GE_GRADIENTS_RANK_MAX;
    const hsize_t start[GE_GRADIENTS_RANK_MAX] = {index[0], index[1],
                                                  plane ? row : col, col};
    const hsize_t box[GE_GRADIENTS_RANK_MAX] = {1, 1, plane ? rows : cols,
                                                cols};
    hid_t space = H5I_INVALID_HID, memory = H5I_INVALID_HID;

    OPEN_H5(file->path, space, H5Dget_space(file->dataset));
    TRY_H5(file->path,
           H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, box, NULL));
    /* A box here as well: for another shape HDF5 looks up each entry. */
    OPEN_H5(file->path, memory, H5Screate_simple(rank, box, NULL));
    TRY_H5(file->path, H5Dread(file->dataset, H5T_NATIVE_FLOAT, memory, space,
                               H5P_DEFAULT, out));
fail:
    ge_h5_close(file->path, &memory, H5Sclose, &status);
    ge_h5_close(file->path, &space, H5Sclose, &status);
    return status;
}

gradecho_status ge_gradients_read(ge_gradients *file, uint64_t sample,
                                  uint32_t replica, size_t layer,
                                  uint64_t first, uint64_t count, float *out)
{
    gradecho_status status = GRADECHO_OK;
    const uint64_t index[2] = {sample, replica};
    const struct ge_gradients_layer *at = NULL;

    GE_FAIL_IF(sample >= file->facts.samples ||
                   replica >= file->facts.replicas || layer >= file->count,
               GRADECHO_E_ARG, "%s: no sample %llu, replica %u, layer %zu",
               file->path, (unsigned long long)sample, replica, layer);
    at = &file->layers[layer];
    GE_FAIL_IF(
        first > at->rows * at->cols || count > at->rows * at->cols - first,
        GRADECHO_E_ARG, "%s: layer %s: no entries %llu + %llu", file->path,
        at->name, (unsigned long long)first, (unsigned long long)count);
    GE_TRY(ge_gradients_check(file));
    GE_TRY(open_layer(file, layer));

    /* At most three boxes: the rest of a row, whole rows, part of a row. */
    while (count > 0) {
        const uint64_t row = first / at->cols, col = first % at->cols;
        const bool whole = col == 0 && count >= at->cols;
        const uint64_t rows = whole ? count / at->cols : 1;
        const uint64_t left = at->cols - col;
        const uint64_t cols = whole ? at->cols : left < count ? left : count;

        GE_TRY(read_box(file, index, row, col, rows, cols, out));
        out += rows * cols;
        first += rows * cols;
        count -= rows * cols;
    }
fail:
    return status;
}
