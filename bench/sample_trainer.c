/*
 * sample_trainer.c - a trainer that only hands over: bench/sample starts one
 * for each rank.
 *
 *     bench_sample_trainer MODEL f32|bf16 SESSION RANK WORLD SAMPLES
 *
 * A slot is filled where it lies when it is first used (model.h) and handed
 * over as it is from then on, so that from the third sample on nothing but the
 * monitors runs.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "gradecho/handoff.h"
#include "model.h"

enum { SLOTS = 2 };

static _Noreturn void die(const char *why)
{
    fprintf(stderr, "bench_sample_trainer: %s\n", why);
    exit(1);
}

static gradecho *open_trainer(char **argv, const struct model *model, int bf16)
{
    struct gradecho_layer *layers = calloc(model->count, sizeof *layers);
    struct gradecho_options options = gradecho_options_default();
    gradecho *handle = NULL;

    if (layers == NULL)
        die("no memory");
    for (size_t l = 0; l < model->count; l++)
        layers[l] = (struct gradecho_layer){
            model->layer[l].name, model->layer[l].rows, model->layer[l].cols,
            bf16 ? GRADECHO_BF16 : GRADECHO_F32};
    options.session = argv[3];
    options.rank = (uint32_t)strtoul(argv[4], NULL, 10);
    options.world = (uint32_t)strtoul(argv[5], NULL, 10);
    options.slots = SLOTS;
    options.layers = layers;
    options.layer_count = model->count;
    if (gradecho_open(&options, &handle) < GRADECHO_OK)
        die(gradecho_message());
    free(layers);
    return handle;
}

/* The sample's place in memory; true if it was not used before. */
static int is_new(void *place, void **seen)
{
    for (int i = 0; i < SLOTS; i++) {
        if (seen[i] == place)
            return 0;
        if (seen[i] == NULL) {
            seen[i] = place;
            return 1;
        }
    }
    die("more slots than there should be");
}

static void hand_over(gradecho *handle, const struct model *model, int bf16,
                      uint64_t replica, void **seen)
{
    const struct gradecho_meta meta = {
        .loss = 1.0, .batch_size = 8, .gradient_scale = 1.0};
    int fill = 0;

    for (size_t l = 0; l < model->count; l++) {
        void *place = gradecho_place(handle, 0, l);

        if (l == 0)
            fill = is_new(place, seen);
        if (fill)
            model_fill(&model->layer[l], l, replica, 1.0, bf16, place);
    }
    if (gradecho_publish(handle, &meta) < GRADECHO_OK)
        die(gradecho_message());
}

int main(int argc, char **argv)
{
    const struct timespec pause = {.tv_nsec = 20000000};
    void *seen[SLOTS] = {NULL};

    if (argc != 7)
        die("usage: MODEL f32|bf16 SESSION RANK WORLD SAMPLES");
    const int bf16 = strcmp(argv[2], "bf16") == 0;
    const uint64_t rank = strtoull(argv[4], NULL, 10);
    const uint64_t world = strtoull(argv[5], NULL, 10);
    const int64_t samples = strtoll(argv[6], NULL, 10);
    struct model model = model_make(argv[1]);
    gradecho *handle = open_trainer(argv, &model, bf16);

    for (int64_t step = 0; step < samples;) {
        const gradecho_status status = gradecho_begin(handle, step);

        if (status == GRADECHO_OK) { /* a slot's noise is a slot's own */
            hand_over(handle, &model, bf16,
                      rank + world * (uint64_t)(step % SLOTS), seen);
            step++;
        } else if (status < GRADECHO_OK) {
            die(gradecho_message());
        } else {
            nanosleep(&pause, NULL);
        }
    }
    gradecho_close(&handle);
    model_free(&model);
    return 0;
}
