#include "schema.h"

#include <math.h>
#include <stdlib.h>

#include "memory.h"
#include "try.h"

#define FIELD_INFO(id, name, shape, type, units, text) \
    [GE_##id] = {name, shape, type, units, text},

const struct ge_field_info ge_fields[GE_FIELDS] = {GE_FIELD_MAP(FIELD_INFO)};

#undef FIELD_INFO

#define RULE_NAME(id, name) [GE_RULE_##id] = (name),

const char *const ge_rule_names[GE_RULES] = {GE_RULE_MAP(RULE_NAME)};

#undef RULE_NAME

bool ge_rule_raised(double bits, enum ge_rule rule)
{
    return bits > 0.0 && bits < 0x1p53 &&
           (((unsigned long long)bits >> rule) & 1) != 0;
}

size_t ge_shape_count(enum ge_shape shape, const struct ge_dimensions *dims)
{
    switch (shape) {
    case GE_PER_STEP:
        return 1;
    case GE_PER_PAIR:
        return 2;
    case GE_PER_LAYER:
        return dims->layers;
    case GE_PER_MODE:
        return dims->layers * dims->modes;
    case GE_PER_REPLICA:
        return dims->layers * dims->replicas;
    case GE_SHAPES:
        break;
    }
    return 0;
}

/* Values of all fields; false if that or a field's count does not fit. */
static bool count_values(const struct ge_dimensions *dims, size_t *total)
{
    uint64_t modes = 0, replicas = 0, sum = 0;

    if (!ge_mul_u64(dims->layers, dims->modes, &modes) ||
        !ge_mul_u64(dims->layers, dims->replicas, &replicas) ||
        modes > SIZE_MAX || replicas > SIZE_MAX)
        return false;
    for (size_t i = 0; i < GE_FIELDS; i++)
        if (!ge_add_u64(sum, ge_shape_count(ge_fields[i].shape, dims), &sum))
            return false;
    *total = (size_t)sum;
    return sum <= SIZE_MAX / sizeof(double);
}

gradecho_status ge_row_init(struct ge_row *row,
                            const struct ge_dimensions *dims)
{
    gradecho_status status = GRADECHO_OK;
    double *block = NULL;
    size_t total = 0;

    if (count_values(dims, &total))
        block = ge_alloc_aligned(total, sizeof *block);
    GE_FAIL_IF(block == NULL, GRADECHO_E_NOMEM,
               "out of memory for a log row of %zu layers, %zu modes and "
               "%zu replicas",
               dims->layers, dims->modes, dims->replicas);

    *row = (struct ge_row){.dims = *dims, .block = block};
    for (size_t i = 0; i < GE_FIELDS; i++) {
        row->values[i] = block;
        block += ge_shape_count(ge_fields[i].shape, dims);
    }
    ge_row_clear(row);
fail:
    return status;
}

void ge_row_fini(struct ge_row *row)
{
    if (row == NULL)
        return;
    free(row->block);
    *row = (struct ge_row){.step = -1};
}

void ge_row_clear(struct ge_row *row)
{
    row->step = -1;
    for (size_t i = 0; i < GE_FIELDS; i++) {
        const double missing = ge_fields[i].type == GE_I64 ? -1.0 : (double)NAN;
        const size_t count = ge_shape_count(ge_fields[i].shape, &row->dims);

        for (size_t j = 0; j < count; j++)
            row->values[i][j] = missing;
    }
}
