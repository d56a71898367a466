#include "gradients.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gradients_private.h"
#include "memory.h"

#include "gradecho/handoff.h"

static void free_gradients(ge_gradients *file, gradecho_status *status)
{
    if (file == NULL)
        return;
    ge_mapped_close(&file->map);
    ge_h5_close(file->path, &file->dataset, H5Dclose, status);
    ge_h5_close(file->path, &file->file, H5Fclose, status);
    for (size_t i = 0; i < file->count; i++)
        free(file->layers[i].name);
    free(file->layers);
    free(file->shown);
    free(file->steps);
    ge_gradients_unfollow(file);
    free(file->path);
    free(file);
}

/* "[2, 3, 4]" for messages, cut where it does not fit. */
static void print_shape(int rank, const hsize_t *dims, char *text, size_t size)
{
    FILE *out = fmemopen(text, size, "w");

    if (out == NULL)
        return;
    for (int i = 0; i < rank; i++)
        fprintf(out, "%s%llu", i > 0 ? ", " : "", (unsigned long long)dims[i]);
    fclose(out);
}

/* Samples and replicas come from the first layer; the others must agree. */
static gradecho_status check_counts(ge_gradients *file, const char *name,
                                    const hsize_t *dims)
{
    gradecho_status status = GRADECHO_OK;
    struct ge_gradients_facts *facts = &file->facts;

    if (file->count == 0) {
        GE_FAIL_IF(dims[1] > UINT32_MAX, GRADECHO_E_INPUT,
                   "%s: layer %s: %llu replicas are too many", file->path, name,
                   (unsigned long long)dims[1]);
        facts->samples = dims[0];
        facts->replicas = (uint32_t)dims[1];
    }
    GE_FAIL_IF(dims[0] != facts->samples || dims[1] != facts->replicas,
               GRADECHO_E_INPUT,
               "%s: layer %s: %llu samples of %llu replicas, but layer %s has "
               "%llu of %u",
               file->path, name, (unsigned long long)dims[0],
               (unsigned long long)dims[1], file->layers[0].name,
               (unsigned long long)facts->samples, facts->replicas);
fail:
    return status;
}

static gradecho_status check_dataset(ge_gradients *file, const char *name,
                                     hid_t dataset,
                                     struct ge_gradients_layer *layer)
{
    gradecho_status status = GRADECHO_OK;
    hid_t space = H5I_INVALID_HID;
    hsize_t dims[H5S_MAX_RANK] = {0};
    char shape[256] = "";
    H5T_class_t class = H5T_NO_CLASS;
    uint64_t entries = 1;
    size_t size = 0;
    int rank = 0;

    OPEN_H5(file->path, space, H5Dget_space(dataset));
    TRY_H5(file->path, rank = H5Sget_simple_extent_dims(space, dims, NULL));
    print_shape(rank, dims, shape, sizeof shape);
    GE_FAIL_IF(rank < GE_GRADIENTS_RANK_MIN || rank > GE_GRADIENTS_RANK_MAX,
               GRADECHO_E_INPUT,
               "%s: layer %s: shape [%s] must be [sample, replica, rows, cols] "
               "or [sample, replica, n]",
               file->path, name, shape);
    GE_TRY(ge_h5_type(file->path, dataset, &class, &size));
    GE_FAIL_IF(class != H5T_FLOAT || (size != 4 && size != 8), GRADECHO_E_INPUT,
               "%s: layer %s: must be float32 or float64", file->path, name);
    for (int i = 0; i < rank; i++)
        GE_FAIL_IF(dims[i] == 0 || !ge_mul_u64(entries, dims[i], &entries) ||
                       entries > INT64_MAX / sizeof(double),
                   GRADECHO_E_INPUT,
                   "%s: layer %s: shape [%s] is empty or too large", file->path,
                   name, shape);
    GE_TRY(check_counts(file, name, dims));
    layer->rank = rank;
    layer->rows = rank == GE_GRADIENTS_RANK_MAX ? dims[2] : 1;
    layer->cols = dims[rank - 1];
    layer->place = ge_gradients_place(dataset, entries);
fail:
    ge_h5_close(file->path, &space, H5Sclose, &status);
    return status;
}

static gradecho_status add_layer(ge_gradients *file, const char *name,
                                 hid_t dataset)
{
    gradecho_status status = GRADECHO_OK;
    struct ge_gradients_layer layer = {0};

    GE_TRY(ge_h5_check_stored(file->path, "layer ", name, dataset));
    GE_TRY(check_dataset(file, name, dataset, &layer));
    if (file->count == file->room) {
        const size_t room = 2 * file->room + 64;
        struct ge_gradients_layer *more =
            reallocarray(file->layers, room, sizeof *more);

        GE_FAIL_IF(more == NULL, GRADECHO_E_NOMEM, "%s: out of memory",
                   file->path);
        file->layers = more;
        file->room = room;
    }
    layer.name = strdup(name);
    GE_FAIL_IF(layer.name == NULL, GRADECHO_E_NOMEM, "%s: out of memory",
               file->path);
    file->layers[file->count++] = layer;
fail:
    return status;
}

static gradecho_status visit_object(ge_gradients *file, hid_t group,
                                    const char *name, H5L_type_t link)
{
    gradecho_status status = GRADECHO_OK;
    hid_t object = H5I_INVALID_HID;
    H5I_type_t type = H5I_BADID;

    /* Groups, too: that bounds how deep they are nested. */
    GE_FAIL_IF(strlen(name) > GRADECHO_NAME_MAX, GRADECHO_E_INPUT,
               "%s: layer %s: the name is longer than %d bytes", file->path,
               name, GRADECHO_NAME_MAX);
    /* A link may lead out of /gradients, or out of the file. */
    GE_FAIL_IF(link != H5L_TYPE_HARD, GRADECHO_E_INPUT,
               "%s: layer %s: is a soft or external link; store the data "
               "itself",
               file->path, name);
    OPEN_H5(file->path, object, H5Oopen(group, name, H5P_DEFAULT));
    type = H5Iget_type(object);
    if (type == H5I_DATASET)
        GE_TRY(add_layer(file, name, object));
    else
        GE_FAIL_IF(type != H5I_GROUP, GRADECHO_E_INPUT,
                   "%s: layer %s: is not a dataset", file->path, name);
fail:
    ge_h5_close(file->path, &object, H5Oclose, &status);
    return status;
}

static herr_t visit(hid_t group, const char *name, const H5L_info_t *info,
                    void *data)
{
    ge_gradients *file = data;

    file->visit = visit_object(file, group, name, info->type);
    return file->visit < GRADECHO_OK ? -1 : 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct ge_gradients_layer *)a)->name,
                  ((const struct ge_gradients_layer *)b)->name);
}

static gradecho_status find_layers(ge_gradients *file)
{
    gradecho_status status = GRADECHO_OK;
    bool exists = false;
    H5O_info_t about;
    herr_t visited = 0;

    GE_TRY(ge_h5_check_link(file->path, file->file, "group ", GE_GRADIENTS_ROOT,
                            &exists));
    GE_FAIL_IF(
        !exists, GRADECHO_E_INPUT,
        "%s: group %s is missing: a dataset for each layer goes under it",
        file->path, GE_GRADIENTS_ROOT);
    TRY_H5(file->path, H5Oget_info_by_name(file->file, GE_GRADIENTS_ROOT,
                                           &about, H5P_DEFAULT));
    GE_FAIL_IF(about.type != H5O_TYPE_GROUP, GRADECHO_E_INPUT,
               "%s: %s is not a group", file->path, GE_GRADIENTS_ROOT);
    visited = H5Lvisit_by_name(file->file, GE_GRADIENTS_ROOT, H5_INDEX_NAME,
                               H5_ITER_INC, visit, file, H5P_DEFAULT);
    GE_TRY(file->visit); /* told already */
    if (visited < 0)
        GE_TRY(ge_h5_failed(file->path, "H5Lvisit_by_name"));
    GE_FAIL_IF(file->count == 0, GRADECHO_E_INPUT,
               "%s: %s has no layers: a dataset for each goes under it",
               file->path, GE_GRADIENTS_ROOT);
    qsort(file->layers, file->count, sizeof *file->layers, by_name);
    file->shown = ge_alloc(file->count, sizeof *file->shown);
    GE_FAIL_IF(!file->shown, GRADECHO_E_NOMEM, "%s: out of memory", file->path);
    for (size_t i = 0; i < file->count; i++)
        file->shown[i] = (struct ge_log_layer){.name = file->layers[i].name,
                                               .rows = file->layers[i].rows,
                                               .cols = file->layers[i].cols};
    file->facts.layers = file->shown;
    file->facts.layer_count = file->count;
fail:
    return status;
}

static gradecho_status read_batch_size(ge_gradients *file)
{
    gradecho_status status = GRADECHO_OK;
    double size = (double)NAN;
    htri_t exists = 0;

    TRY_H5(file->path, exists = H5Aexists(file->file, "batch_size"));
    if (exists > 0) {
        GE_TRY(ge_h5_read_double(file->path, file->file, "batch_size", &size));
        GE_FAIL_IF(!(size > 0.0) || isinf(size), GRADECHO_E_INPUT,
                   "%s: attribute batch_size must be positive, not %g",
                   file->path, size);
    }
    file->facts.batch_size = size;
fail:
    return status;
}

static gradecho_status read_steps(ge_gradients *file)
{
    gradecho_status status = GRADECHO_OK;
    hid_t dataset = H5I_INVALID_HID;
    hsize_t length = 0;
    H5T_class_t class = H5T_NO_CLASS;
    size_t size = 0;
    int rank = 0;

    GE_TRY(ge_h5_open_dataset(file->path, file->file, "dataset ", "/step",
                              H5P_DEFAULT, &dataset));
    if (dataset < 0)
        return status;
    GE_TRY(ge_h5_shape(file->path, "/step", dataset, 1, &rank, &length));
    GE_TRY(ge_h5_type(file->path, dataset, &class, &size));
    GE_FAIL_IF(rank != 1 || length != file->facts.samples ||
                   class != H5T_INTEGER,
               GRADECHO_E_INPUT, "%s: /step must hold %llu integers",
               file->path, (unsigned long long)file->facts.samples);
    file->steps = ge_alloc((size_t)length, sizeof *file->steps);
    GE_FAIL_IF(file->steps == NULL, GRADECHO_E_NOMEM, "%s: out of memory",
               file->path);
    TRY_H5(file->path, H5Dread(dataset, H5T_NATIVE_INT64, H5S_ALL, H5S_ALL,
                               H5P_DEFAULT, file->steps));
fail:
    ge_h5_close(file->path, &dataset, H5Dclose, &status);
    return status;
}

gradecho_status ge_gradients_open(const char *path, ge_gradients **file)
{
    gradecho_status status = GRADECHO_OK;
    ge_gradients *opened = ge_alloc(1, sizeof *opened);
    bool live = false;

    GE_FAIL_IF(opened == NULL, GRADECHO_E_NOMEM, "%s: out of memory", path);
    opened->file = opened->dataset = H5I_INVALID_HID;
    opened->map = GE_MAPPED_NONE;
    opened->path = strdup(path);
    GE_FAIL_IF(!opened->path, GRADECHO_E_NOMEM, "%s: out of memory", path);
    GE_TRY(ge_h5_open("gradients", path, &opened->file, &live));
    GE_FAIL_IF(
        live, GRADECHO_E_INPUT,
        "%s is being written, or its writer was killed: wait, or write it anew",
        path);
    GE_TRY(find_layers(opened));
    GE_TRY(read_batch_size(opened));
    GE_TRY(read_steps(opened));
    ge_gradients_map(opened);
    *file = opened;
    return GRADECHO_OK;
fail:
    free_gradients(opened, &status);
    /* HDF5 cannot make sense of the file: that is the file's fault. */
    return status == GRADECHO_E_HDF5 ? GRADECHO_E_INPUT : status;
}

void ge_gradients_close(ge_gradients **file)
{
    gradecho_status status = GRADECHO_OK;

    free_gradients(*file, &status);
    *file = NULL;
}

const struct ge_gradients_facts *ge_gradients_facts(const ge_gradients *file)
{
    return &file->facts;
}

int64_t ge_gradients_step(const ge_gradients *file, uint64_t sample)
{
    return file->steps != NULL ? file->steps[sample] : (int64_t)sample;
}
