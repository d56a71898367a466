/*
 * The reader of gradient files: what it accepts it can read, in any piece, into
 * memory of just that size.
 */
#include "fuzz.h"

#include <math.h>
#include <stdio.h>

#include "forge.h"
#include "gradients.h"
#include "message.h"

static void forge_layers(hid_t file, struct fuzz_bytes *in)
{
    static const char *const names[] = {"a", "block.0/weight", "b/c/d", "e"};
    const uint8_t shape = fuzz_u8(in);
    const int layers = shape % 5, doubles = shape >> 7;
    hid_t links = H5Pcreate(H5P_LINK_CREATE), group = H5I_INVALID_HID;

    H5Pset_create_intermediate_group(links, 1);
    if (shape % 16 < 14)
        group = H5Gcreate2(file, "gradients", links, H5P_DEFAULT, H5P_DEFAULT);
    else if (shape % 16 == 14)
        H5Lcreate_soft("/", file, "gradients", H5P_DEFAULT, H5P_DEFAULT);
    H5Gclose(group);
    group = H5Gopen2(file, "gradients", H5P_DEFAULT);
    for (int i = 0; i < layers && i < 4; i++) {
        struct forge_plan plan = {.name = names[i],
                                  .type =
                                      doubles ? H5T_IEEE_F64LE : H5T_IEEE_F32LE,
                                  .rank = 3 + (shape >> 5) % 2,
                                  .dims = {2, 3, 4, 5}};
        char folder[32];

        snprintf(folder, sizeof folder, "%s", names[i]);
        if (strrchr(folder, '/') != NULL) {
            *strrchr(folder, '/') = '\0';
            H5Gclose(
                H5Gcreate2(group, folder, links, H5P_DEFAULT, H5P_DEFAULT));
        }
        forge_dataset(group, &plan, in);
    }
    H5Gclose(group);
    H5Pclose(links);
}

static const char *forge(struct fuzz_bytes *in)
{
    const uint8_t what = fuzz_u8(in);
    hid_t file = forge_begin(what >> 4);
    const struct forge_plan steps = {
        .name = "step", .type = H5T_STD_I64LE, .rank = 1, .dims = {2}};

    forge_layers(file, in);
    if ((what & 2) != 0)
        forge_dataset(file, &steps, in);
    if ((what & 4) != 0)
        forge_attribute(file, "batch_size", 32, NULL, in);
    return forge_finish(file, in);
}

static void read_all(ge_gradients *file)
{
    const struct ge_gradients_facts *facts = ge_gradients_facts(file);
    const uint64_t samples = facts->samples;

    FUZZ_CHECK(samples > 0 && facts->replicas > 0 && facts->layer_count > 0);
    FUZZ_CHECK(isnan(facts->batch_size) || facts->batch_size > 0.0);
    (void)ge_gradients_step(file, 0);
    (void)ge_gradients_step(file, samples - 1);
    for (size_t l = 0; l < facts->layer_count; l++) {
        const struct ge_log_layer *layer = &facts->layers[l];
        const uint64_t entries = layer->rows * layer->cols;
        const uint64_t count = entries < 1000 ? entries : 1000;
        float *room = malloc((size_t)count * sizeof *room);

        FUZZ_CHECK(room != NULL && strlen(layer->name) > 0);
        FUZZ_CHECK(layer->rows > 0 && layer->cols > 0);
        fuzz_any(ge_gradients_read(file, 0, 0, l, 0, count, room));
        fuzz_any(ge_gradients_read(file, samples - 1, facts->replicas - 1, l,
                                   entries - count, count, room));
        if (count > 2)
            fuzz_any(ge_gradients_read(file, 0, 0, l, 1, count - 2, room));
        FUZZ_CHECK(ge_gradients_read(file, 0, 0, l, entries, 1, room) ==
                   GRADECHO_E_ARG);
        free(room);
    }
}

void fuzz_once(const uint8_t *data, size_t size)
{
    struct fuzz_bytes in = {data, size};
    const char *path = forge(&in);
    ge_gradients *file = NULL;

    const gradecho_status status = ge_gradients_open(path, &file);

    FUZZ_CHECK((status == GRADECHO_OK) == (file != NULL));
    FUZZ_CHECK(status == GRADECHO_OK || status == GRADECHO_E_INPUT ||
               status == GRADECHO_E_NOMEM);
    if (file != NULL) {
        read_all(file);
        ge_gradients_close(&file);
    }
    FUZZ_CHECK(H5Fget_obj_count((hid_t)H5F_OBJ_ALL, H5F_OBJ_ALL) <= 0);
}
