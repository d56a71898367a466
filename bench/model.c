#include "model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct size {
    const char *name;
    size_t blocks, width, words, context;
};

static const struct size sizes[] = {
    {"gpt2-small", 12, 768, 50257, 1024},
    {"gpt2-1.3b", 24, 2048, 50257, 2048},
    {"tiny", 2, 96, 1009, 64},
};

/* Words of a vocabulary in the proportion of GPT-2 small's. */
enum { WORDS_PER_WIDTH = 65 };

/* The size of that name, or of "BLOCKSxWIDTH"; false if there is none. */
static int find_size(const char *name, struct size *size)
{
    char *end = NULL;

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        if (strcmp(name, sizes[i].name) == 0) {
            *size = sizes[i];
            return 1;
        }
    }
    size->blocks = strtoul(name, &end, 10);
    if (*end != 'x')
        return 0;
    size->width = strtoul(end + 1, &end, 10);
    size->words = WORDS_PER_WIDTH * size->width;
    size->context = size->width;
    return *end == '\0' && size->blocks >= 1 && size->blocks <= 1000 &&
           size->width >= 1 && size->width <= 1 << 16;
}

static void add(struct model *model, const char *block, const char *name,
                size_t rows, size_t cols)
{
    struct model_layer *layer = &model->layer[model->count++];

    snprintf(layer->name, sizeof layer->name, "%s%s", block, name);
    layer->rows = rows;
    layer->cols = cols;
    model->entries += rows * cols;
}

struct model model_make(const char *name)
{
    struct size size = {0};
    struct model model = {0};

    if (find_size(name, &size))
        model.layer = calloc(12 * size.blocks + 4, sizeof *model.layer);
    if (model.layer == NULL) {
        fprintf(stderr, "bench: no model %s\n", name);
        exit(2);
    }
    const size_t d = size.width;

    add(&model, "", "wte.weight", size.words, d);
    add(&model, "", "wpe.weight", size.context, d);
    for (size_t i = 0; i < size.blocks; i++) {
        char block[8];

        snprintf(block, sizeof block, "h.%u.", (unsigned)(i % 1000));
        add(&model, block, "ln_1.weight", 1, d);
        add(&model, block, "ln_1.bias", 1, d);
        add(&model, block, "attn.c_attn.weight", d, 3 * d);
        add(&model, block, "attn.c_attn.bias", 1, 3 * d);
        add(&model, block, "attn.c_proj.weight", d, d);
        add(&model, block, "attn.c_proj.bias", 1, d);
        add(&model, block, "ln_2.weight", 1, d);
        add(&model, block, "ln_2.bias", 1, d);
        add(&model, block, "mlp.c_fc.weight", d, 4 * d);
        add(&model, block, "mlp.c_fc.bias", 1, 4 * d);
        add(&model, block, "mlp.c_proj.weight", 4 * d, d);
        add(&model, block, "mlp.c_proj.bias", 1, d);
    }
    add(&model, "", "ln_f.weight", 1, d);
    add(&model, "", "ln_f.bias", 1, d);
    return model;
}

void model_free(struct model *model)
{
    free(model->layer);
    *model = (struct model){0};
}

/* splitmix64. */
static uint64_t draw(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);

    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

/* Nearly normal, mean 0, variance 1: the sum of four uniform numbers. */
static float bell(uint64_t *state)
{
    const uint64_t z = draw(state);
    const uint64_t sum =
        (z & 0xFFFF) + (z >> 16 & 0xFFFF) + (z >> 32 & 0xFFFF) + (z >> 48);

    return ((float)sum - 131070.0F) * (1.7320508F / 65536.0F);
}

/* Vectors of about unit length, [MODEL_MODES x length]. */
static float *draw_vectors(uint64_t *state, size_t length)
{
    float *vectors = calloc(MODEL_MODES * length, sizeof *vectors);

    if (vectors == NULL)
        exit(1);
    for (size_t i = 0; i < MODEL_MODES * length; i++)
        vectors[i] = bell(state) / sqrtf((float)length);
    return vectors;
}

static void put_row(const float *row, size_t cols, int bf16, void *out,
                    size_t at)
{
    if (!bf16) {
        memcpy((float *)out + at, row, cols * sizeof *row);
        return;
    }
    for (size_t j = 0; j < cols; j++) {
        uint32_t bits = 0;

        memcpy(&bits, &row[j], sizeof bits);
        ((uint16_t *)out)[at + j] = (uint16_t)(bits >> 16);
    }
}

void model_fill(const struct model_layer *shape, size_t layer, uint64_t replica,
                double noise, int bf16, void *out)
{
    const size_t rows = shape->rows, cols = shape->cols;
    uint64_t truth = layer * 1000003, state = truth + (replica + 1) * 7919;
    float *u = draw_vectors(&truth, rows), *v = draw_vectors(&truth, cols);
    float *row = calloc(cols, sizeof *row);
    const double end = 1e-3 * (sqrt((double)rows) + sqrt((double)cols));
    const float size = (float)(1e-3 * noise);

    if (row == NULL)
        exit(1);
    for (size_t i = 0; i < rows; i++) {
        for (size_t j = 0; j < cols; j++)
            row[j] = size * bell(&state);
        for (size_t k = 0; k < MODEL_MODES; k++) {
            const double s =
                end * 30.0 *
                pow(1.3 / 30.0, (double)k / (double)(MODEL_MODES - 1));
            const float by = (float)s * u[k * rows + i];

            for (size_t j = 0; j < cols; j++)
                row[j] += by * v[k * cols + j];
        }
        put_row(row, cols, bf16, out, i * cols);
    }
    free(row);
    free(u);
    free(v);
}
